"""The section of bundles: same commands, same state; every refusal changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle import digest, limits, state
from paas.bundle.signature import make_key, prehash, sign, verify
from paas.raft import command
from paas.raft.machine import Machine

KEY = make_key(bytes(range(40)))
OTHER = make_key(bytes(range(40, 80)))
DIGEST = digest.of(b"content")

TRUST = state.PublisherTrusted(key_id=KEY.public.key_id, public_key=KEY.public.text(), name="Ada")
STORE = state.BundleStored(digest=DIGEST, size=7, signature="text", publisher=KEY.public.key_id)


class Log:
    """A state machine with this section alone, and the commands it was given."""

    def __init__(self) -> None:
        self.section = state.BundleState()
        self.machine = Machine([self.section])
        self.index = 0

    def apply(self, cmd: msgspec.Struct) -> tuple[Any, ...]:
        self.index += 1
        stamp = command.Stamp(self.index * 10, bytes(16), "node", self.index)
        applied = self.machine.apply(self.index, command.encode(cmd, stamp))
        if applied.error is not None:
            raise applied.error
        return applied.events


def test_a_bundle_of_a_trusted_publisher_becomes_known() -> None:
    log = Log()
    assert log.apply(TRUST) == (state.PublisherChanged(key_id=KEY.public.key_id, trusted=True),)
    assert log.apply(STORE) == (
        state.BundleAdded(digest=DIGEST, size=7, publisher=KEY.public.key_id),
    )
    assert log.section.bundle(DIGEST) == state.Bundle(
        size=7, signature="text", publisher=KEY.public.key_id, since_ms=20
    )


def test_trusted_keys_verify_what_their_publishers_signed() -> None:
    log = Log()
    log.apply(TRUST)
    hashed = prehash([b"content"])
    assert verify(sign(KEY, hashed, ""), hashed, log.section.trusted()).key_id == KEY.public.key_id


def test_repeating_a_command_changes_nothing_and_tells_nobody() -> None:
    log = Log()
    for cmd in (TRUST, STORE):
        log.apply(cmd)
    before = log.section.snapshot()
    for cmd in (TRUST, STORE):
        assert log.apply(cmd) == ()
    assert log.section.snapshot() == before


def test_a_bundle_of_an_untrusted_or_revoked_publisher_is_refused() -> None:
    log = Log()
    with pytest.raises(PlatformError) as caught:
        log.apply(STORE)
    assert caught.value.code == "untrusted"
    log.apply(TRUST)
    assert log.apply(state.PublisherRevoked(key_id=KEY.public.key_id)) == (
        state.PublisherChanged(key_id=KEY.public.key_id, trusted=False),
    )
    assert log.apply(state.PublisherRevoked(key_id=KEY.public.key_id)) == ()
    with pytest.raises(PlatformError, match="is not trusted"):
        log.apply(STORE)
    assert log.section.snapshot() == {"bundles": {}, "publishers": {}}


def test_revoking_a_publisher_keeps_what_is_stored() -> None:
    log = Log()
    for cmd in (TRUST, STORE, state.PublisherRevoked(key_id=KEY.public.key_id)):
        log.apply(cmd)
    assert log.section.bundle(DIGEST).size == 7


def test_a_forgotten_bundle_is_unknown() -> None:
    log = Log()
    for cmd in (TRUST, STORE):
        log.apply(cmd)
    assert log.apply(state.BundleForgotten(digest=DIGEST)) == (state.BundleRemoved(digest=DIGEST),)
    assert log.apply(state.BundleForgotten(digest=DIGEST)) == ()
    with pytest.raises(PlatformError) as caught:
        log.section.bundle(DIGEST)
    assert caught.value.code == "no-such-bundle"


@pytest.mark.parametrize(
    ("cmd", "code"),
    [
        (msgspec.structs.replace(STORE, digest="x"), "invalid"),
        (msgspec.structs.replace(STORE, size=0), "limit-exceeded"),
        (msgspec.structs.replace(STORE, size=limits.BUNDLE_BYTES_MAX + 1), "limit-exceeded"),
        (msgspec.structs.replace(STORE, signature="x" * 5000), "limit-exceeded"),
        (msgspec.structs.replace(TRUST, public_key="x"), "invalid"),
        (msgspec.structs.replace(TRUST, key_id=OTHER.public.key_id), "invalid"),
        (
            msgspec.structs.replace(
                TRUST, public_key=make_key(bytes(range(8)) + bytes(32)).public.line()
            ),
            "conflict",
        ),
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing(cmd: msgspec.Struct, code: str) -> None:
    log = Log()
    log.apply(TRUST)
    before = log.section.snapshot()
    with pytest.raises(PlatformError) as caught:
        log.apply(cmd)
    assert caught.value.code == code
    assert log.section.snapshot() == before


@pytest.mark.parametrize(("limit", "cmd"), [("BUNDLES_MAX", STORE), ("PUBLISHERS_MAX", TRUST)])
def test_the_state_is_bounded(
    monkeypatch: pytest.MonkeyPatch, limit: str, cmd: msgspec.Struct
) -> None:
    log = Log()
    if limit == "BUNDLES_MAX":
        log.apply(TRUST)
    monkeypatch.setattr(limits, limit, 0)
    with pytest.raises(PlatformError) as caught:
        log.apply(cmd)
    assert caught.value.code == "limit-exceeded"


def _commands() -> st.SearchStrategy[msgspec.Struct]:
    keys = st.sampled_from([KEY, OTHER])
    contents = st.sampled_from([digest.of(b"a"), digest.of(b"b"), digest.of(b"c")])
    return st.one_of(
        keys.map(
            lambda k: state.PublisherTrusted(key_id=k.public.key_id, public_key=k.public.line())
        ),
        keys.map(lambda k: state.PublisherRevoked(key_id=k.public.key_id)),
        contents.map(lambda d: state.BundleForgotten(digest=d)),
        st.builds(
            lambda d, k: state.BundleStored(
                digest=d, size=1, signature="s", publisher=k.public.key_id
            ),
            contents,
            keys,
        ),
    )


@given(st.lists(_commands(), max_size=20))
def test_a_restored_snapshot_is_the_same_state(commands: list[msgspec.Struct]) -> None:
    log = Log()
    for cmd in commands:
        try:
            log.apply(cmd)
        except PlatformError as error:
            assert error.code == "untrusted"  # noqa: PT017
    data = log.machine.snapshot_bytes()
    copy = Log()
    copy.machine.restore_bytes(data)
    assert copy.machine.snapshot_bytes() == data
    assert copy.section.bundles == log.section.bundles
    assert copy.section.publishers == log.section.publishers
