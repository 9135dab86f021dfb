"""Which configuration is in force: last, at any index, after cuts and snapshots."""

from __future__ import annotations

import msgspec
import pytest

from paas.base.errors import PlatformError, RemoteError
from paas.raft import configuration, messages
from paas.raft.configuration import (
    CONFIGURATION,
    NOBODY,
    Configuration,
    History,
    check_change,
    decode,
    encode,
    make,
)
from paas.raft.limits import COMMAND_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, VOTERS_MAX
from paas.raft.messages import AppendEntries


def payload(voters: str, observers: str = "") -> bytes:
    return encode(make(voters, observers))


def test_an_entry_holds_the_whole_configuration_sorted() -> None:
    made = decode(encode(make("cab", "ed")), 7)
    assert made == Configuration(("a", "b", "c"), ("d", "e"), 7)
    assert payload("abc") == payload("cba")


@pytest.mark.parametrize(
    ("voters", "observers"),
    [
        ([], []),
        (["a", "a"], []),
        (["a"], ["a"]),
        ([""], []),
        (["x" * (NAME_BYTES_MAX + 1)], []),
        ([f"n{i}" for i in range(VOTERS_MAX + 1)], []),
        (["a"], [f"n{i}" for i in range(MEMBERS_MAX)]),
    ],
)
def test_configurations_that_cannot_be_are_refused(voters: list[str], observers: list[str]) -> None:
    with pytest.raises(PlatformError) as caught:
        make(voters, observers)
    assert caught.value.code == "invalid"
    raw = bytes([CONFIGURATION]) + msgspec.msgpack.encode(
        {"voters": voters, "observers": observers}
    )
    entry = AppendEntries(3, 0, 1, 1, [(raw, 2, 3)])
    with pytest.raises(RemoteError):
        messages.decode(messages.encode(entry))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x80",
        msgspec.msgpack.encode({"voters": ["a"], "observers": [], "more": 1}),
        msgspec.msgpack.encode({"voters": [1], "observers": []}),
        msgspec.msgpack.encode({"voters": "a", "observers": []}),
    ],
)
def test_what_is_not_a_configuration_is_refused(raw: bytes) -> None:
    with pytest.raises(PlatformError):
        decode(bytes([CONFIGURATION]) + raw, 1)
    entry = AppendEntries(3, 0, 1, 1, [(bytes([CONFIGURATION]) + raw, 2, 3)])
    with pytest.raises(RemoteError):
        messages.decode(messages.encode(entry))


def test_the_largest_configuration_fits_into_an_entry() -> None:
    voters = [f"{i:0{NAME_BYTES_MAX}}" for i in range(VOTERS_MAX)]
    observers = [f"{i:0{NAME_BYTES_MAX}}" for i in range(VOTERS_MAX, MEMBERS_MAX)]
    assert len(encode(make(voters, observers))) <= COMMAND_BYTES_MAX


def test_the_last_one_appended_is_in_force_and_the_one_before_when_it_is_cut_off() -> None:
    history = History(make("a"))
    assert history.latest.voters == ("a",)
    assert history.appended(payload("ab"), 5)
    assert history.appended(payload("abc"), 9)
    assert not history.appended(b"\0command", 10)
    assert history.latest == Configuration(("a", "b", "c"), (), 9)
    assert not history.truncated(10)
    assert history.truncated(9)
    assert history.latest.index == 5
    assert history.truncated(2)
    assert history.latest == make("a")


def test_what_was_in_force_at_an_index_is_known_also_when_newer_ones_are_not_committed() -> None:
    history = History(make("a"))
    for index, voters in ((5, "ab"), (9, "abc")):
        history.appended(payload(voters), index)
    assert [history.at(i).index for i in (1, 4, 5, 8, 9, 99)] == [0, 0, 5, 5, 9, 9]


def test_forgetting_what_a_snapshot_holds_keeps_what_was_in_force_there() -> None:
    history = History(make("a"))
    for index, voters in ((5, "ab"), (9, "abc")):
        history.appended(payload(voters), index)
    history.forgotten(7)
    assert [history.at(i).index for i in (7, 8, 9)] == [5, 5, 9]
    history.truncated(0)
    assert history.latest.index == 5


def test_a_snapshot_replaces_everything_and_its_own_entries_change_nothing() -> None:
    history = History(make("a"))
    history.appended(payload("ab"), 5)
    base = make("xyz", index=20)
    history.replaced(base)
    assert history.latest == base
    assert not history.appended(payload("xyz"), 20)
    assert history.latest == base
    history.appended(payload("xyzw"), 22)
    assert history.latest.index == 22


def test_a_journal_is_read_for_its_configurations() -> None:
    history = History(NOBODY)
    history.read([(b"\x01", 1, 0), (payload("ab"), 2, 1), (b"\0x", 3, 1), (payload("abc"), 4, 1)])
    assert history.latest.voters == ("a", "b", "c")
    assert history.at(3).voters == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("abc", "abcd", True),
        ("abc", "ab", True),
        ("abc", "abc", True),
        ("abc", "abd", False),
        ("abc", "abcde", False),
        ("abc", "a", False),
        ("abc", "bc", False),
    ],
)
def test_one_voter_at_a_time_and_never_the_leader(old: str, new: str, allowed: bool) -> None:
    if allowed:
        check_change(make(old), make(new), "a")
        return
    with pytest.raises(PlatformError) as caught:
        check_change(make(old), make(new), "a")
    assert caught.value.code == "conflict"


def test_majorities_of_neighbouring_configurations_share_a_voter() -> None:
    def majorities(voters: str) -> list[set[str]]:
        picks = range(1 << len(voters))
        groups = [{v for i, v in enumerate(voters) if pick >> i & 1} for pick in picks]
        return [group for group in groups if 2 * len(group) > len(voters)]

    for size in range(1, 7):
        old = "abcdefg"[:size]
        new = "abcdefg"[: size + 1]
        configuration.check_change(make(old), make(new), "a")
        assert all(one & other for one in majorities(old) for other in majorities(new))
