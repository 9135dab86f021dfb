"""Access tokens in the cluster state: made, checked, revoked, forgotten; bounded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.hub import access_limits
from paas.hub.access import POLICY, READABLE, check_channel, with_readers
from paas.hub.access_state import (
    AccessTokenRevoked,
    AccessTokenState,
    CreateAccessToken,
    RevokeAccessToken,
)
from paas.identity import access_tokens
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine
from paas.rpc.dispatch import Rule

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class World:
    """The section in a machine."""

    def __init__(self) -> None:
        self.state = AccessTokenState()
        self.machine = Machine([self.state])
        self.events: list[Any] = []
        self._index = 0

    def apply(self, command: msgspec.Struct, at_ms: int = NOW_MS) -> Any:
        self._index += 1
        stamp = Stamp(at_ms, bytes(SEED_BYTES), "n1", self._index)
        applied = self.machine.apply(self._index, encode(command, stamp))
        self.events += applied.events
        if applied.error is not None:
            raise applied.error
        return applied.result

    def create(self, number: int = 0, *, at_ms: int = NOW_MS, **more: Any) -> str:
        token = access_tokens.make(number.to_bytes(access_tokens.ENTROPY_BYTES))
        facts = {"role": "operator", "expires_ms": at_ms + HOUR_MS, **more}
        self.apply(
            CreateAccessToken(token_id=token.id, digest=token.digest(), **facts), at_ms=at_ms
        )
        return token.reveal()


def test_a_token_is_good_until_it_expires() -> None:
    world = World()
    text = world.create(1 << 256, role="reader")
    entry = world.state.check(text, NOW_MS + HOUR_MS - 1)
    assert entry is not None
    assert entry.role == "reader"
    assert world.state.check(text, NOW_MS + HOUR_MS) is None


def test_who_knows_half_of_a_token_knows_nothing() -> None:
    world = World()
    text = world.create(1 << 256)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for shown in (wrong, "", text[:-1], world.state.tokens()[0].digest, "paasat1-" + "0" * 81):
        assert world.state.check(shown, NOW_MS) is None


def test_a_revoked_token_is_gone_and_announced() -> None:
    world = World()
    text = world.create(1 << 256)
    token = world.state.tokens()[0].id
    world.apply(RevokeAccessToken(token_id=token))
    assert world.state.check(text, NOW_MS) is None
    assert world.events == [AccessTokenRevoked(token=token)]
    with pytest.raises(PlatformError) as caught:
        world.apply(RevokeAccessToken(token_id=token))
    assert caught.value.code == "no-such-target"


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "king"},
        {"expires_ms": NOW_MS},
        {"expires_ms": NOW_MS + 400 * 86_400_000},
        {"note": "x" * 201},
        {"note": "a\nb"},
    ],
)
def test_a_wrong_token_is_not_made(wrong: dict[str, Any]) -> None:
    world = World()
    with pytest.raises(PlatformError) as caught:
        world.create(**wrong)
    assert caught.value.code == "invalid"
    assert world.state.tokens() == []


def test_there_is_a_limit_and_the_expired_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paas.hub.access_state.ACCESS_TOKENS_MAX", 2)
    world = World()
    for number in (1, 2):
        world.create(number << 256)
    with pytest.raises(PlatformError) as caught:
        world.create(3 << 256)
    assert caught.value.code == "limit-exceeded"
    world.create(4 << 256, at_ms=NOW_MS + HOUR_MS)
    assert len(world.state.tokens()) == 1
    assert access_limits.ACCESS_TOKENS_MAX > 2


def test_the_secret_is_in_neither_state_nor_snapshot() -> None:
    world = World()
    text = world.create(1 << 300)
    snapshot = world.state.snapshot()
    assert text.rpartition("-")[2] not in repr(snapshot)
    other = AccessTokenState()
    other.restore(snapshot)
    assert other.tokens() == world.state.tokens()
    assert other.check(text, NOW_MS) is not None


def test_readers_may_look_and_nothing_else() -> None:
    operator = Rule(frozenset({"operator"}))
    rules = with_readers({"hub.members": operator, "hub.call": operator, **POLICY})
    assert "reader" in rules["hub.members"].roles
    assert "reader" not in rules["hub.call"].roles
    assert not [name for name in POLICY if "reader" in rules[name].roles]
    verbs = ("create", "destroy", "set", "call", "cast", "signal", "revoke", "register", "drain")
    assert not [name for name in READABLE if name.partition(".")[2].startswith(verbs)]


def test_what_tells_more_later_needs_a_channel() -> None:
    check_channel("hub.watch", one_answer=False)
    check_channel("hub.call", one_answer=True)
    with pytest.raises(PlatformError) as caught:
        check_channel("hub.watch", one_answer=True)
    assert caught.value.code == "unsupported"
