"""Each invariant of the consensus simulation notices what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from paas.raft.configuration import encode, make
from paas.sim.consensus.invariants import NAMES, Invariants
from paas.sim.replicas import Broken

Entry = tuple[bytes, int, int]


@dataclass
class FakeReplica:
    """What the invariants see of a replica."""

    entries: list[Entry]
    term: int = 1
    commit_index: int = 1
    applied_index: int = 1
    is_leader: bool = False
    voted_for: str | None = None

    @property
    def journal(self) -> Any:
        return SimpleNamespace(entries=self.entries, voted_for=self.voted_for, dirty=False)

    @property
    def first_index(self) -> int:
        return self.entries[0][1]

    @property
    def last_index(self) -> int:
        return self.entries[-1][1]

    def term_at(self, index: int) -> int | None:
        return next((e[2] for e in self.entries if e[1] == index), None)


@dataclass
class FakeMember:
    name: str
    replica: FakeReplica
    appended: list[Entry] = field(default_factory=list)
    objects: Any = field(default_factory=lambda: SimpleNamespace(digest=0, repeated=0, applied={}))


def log(*terms: int, first: int = 1, word: str = "") -> list[Entry]:
    return [(b"\x00" + word.encode(), first + n, term) for n, term in enumerate(terms)]


def member(name: str, entries: list[Entry], **more: Any) -> FakeMember:
    return FakeMember(name, FakeReplica(entries, **more), appended=list(entries[1:]))


class Watch:
    """Invariants with members a and b, looked at in turn."""

    def __init__(self, *members: FakeMember) -> None:
        self.invariants = Invariants()
        for one in members:
            self.invariants.booted(one.name, one.replica)  # type: ignore[arg-type]
        self.members = members

    def look(self, one: FakeMember, now_s: float = 0.0) -> None:
        replica = one.replica
        place = replica.term, replica.commit_index, replica.applied_index, replica.last_index
        self.invariants.check(one, place, now_s)  # type: ignore[arg-type]


def two_leaders() -> None:
    a, b = (member(n, log(0, 1), is_leader=True) for n in "ab")
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)


def two_entries_of_one_term() -> None:
    a, b = member("a", log(0, 1, 1)), member("b", log(0, 1, 1, word="other"))
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)


def committed_changes() -> None:
    a = member("a", log(0, 1, 1), commit_index=3)
    b = member("b", log(0, 1, 2), commit_index=3, term=2)
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)


def commit_goes_back() -> None:
    a = member("a", log(0, 1, 1), commit_index=3)
    watch = Watch(a)
    watch.look(a)
    a.replica.commit_index = 2
    watch.look(a)


def applied_beyond_commit() -> None:
    a = member("a", log(0, 1, 1), commit_index=2, applied_index=3)
    Watch(a).look(a)


def commit_beyond_the_log() -> None:
    a = member("a", log(0, 1), commit_index=9)
    Watch(a).look(a)


def leader_without_a_committed_entry() -> None:
    a = member("a", log(0, 1, 1), commit_index=3)
    b = member("b", log(0, 1), term=2, is_leader=True)
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)


def committed_by_a_later_term() -> tuple[Watch, FakeMember]:
    """a leads term 3 and commits an entry of term 1; b has it not."""
    a = member("a", log(0, 1, 1, 3), commit_index=4, term=3, is_leader=True)
    b = member("b", log(0, 1))
    watch = Watch(a, b)
    watch.look(a)
    return watch, b


def leader_without_what_an_earlier_term_committed() -> None:
    watch, b = committed_by_a_later_term()
    b.replica.term, b.replica.is_leader = 4, True
    watch.look(b)


def term_forgotten_in_a_restart() -> None:
    a = member("a", log(0, 1), term=4)
    watch = Watch(a)
    watch.look(a)
    a.replica.term = 3
    watch.invariants.booted("a", a.replica)  # type: ignore[arg-type]


def vote_forgotten_in_a_restart() -> None:
    a = member("a", log(0, 1), term=4, voted_for="b")
    watch = Watch(a)
    watch.look(a)
    a.replica.voted_for = None
    watch.invariants.booted("a", a.replica)  # type: ignore[arg-type]


def second_vote_in_a_term() -> None:
    a = member("a", log(0, 1), term=4, voted_for="b")
    watch = Watch(a)
    watch.look(a)
    a.replica.voted_for = "c"
    watch.look(a)


def two_configurations_under_way() -> None:
    change = encode(make("ab"))
    a = member("a", [*log(0, 1), (change, 3, 1), (encode(make("a")), 4, 1)])
    Watch(a).look(a)


def states_differ() -> None:
    a, b = (member(n, log(0, 1), commit_index=2, applied_index=2) for n in "ab")
    b.objects.digest = 1
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)


def applied_twice() -> None:
    a = member("a", log(0, 1), commit_index=2, applied_index=2)
    a.objects.repeated = 1
    Watch(a).look(a)


def told_and_not_there() -> None:
    a = member("a", log(0, 1))
    Watch(a).invariants.acknowledged(a, "c1:1")  # type: ignore[arg-type]


def confirmed_too_late() -> None:
    a = member("a", log(0, 1), term=2, is_leader=True)
    watch = Watch(a)
    watch.look(a, 5.0)
    watch.invariants.confirmed("b", 1, asked_s=4.0)  # was asked before: may be
    watch.invariants.confirmed("b", 1, asked_s=6.0)


def not_converged() -> None:
    Invariants().require("converged", False, "states differ")


STORIES: list[tuple[str, Callable[[], None]]] = [
    ("one-leader", two_leaders),
    ("log-matching", two_entries_of_one_term),
    ("committed-fixed", committed_changes),
    ("indices-monotonic", commit_goes_back),
    ("indices-monotonic", applied_beyond_commit),
    ("indices-monotonic", commit_beyond_the_log),
    ("leader-complete", leader_without_a_committed_entry),
    ("leader-complete", leader_without_what_an_earlier_term_committed),
    ("term-vote-kept", term_forgotten_in_a_restart),
    ("term-vote-kept", vote_forgotten_in_a_restart),
    ("term-vote-kept", second_vote_in_a_term),
    ("one-configuration", two_configurations_under_way),
    ("state-equal", states_differ),
    ("applied-once", applied_twice),
    ("acknowledged-kept", told_and_not_there),
    ("confirmed-leads", confirmed_too_late),
    ("converged", not_converged),
]


@pytest.mark.parametrize(("name", "story"), STORIES, ids=[s.__name__ for _, s in STORIES])
def test_it_is_noticed_and_named(name: str, story: Callable[[], None]) -> None:
    with pytest.raises(Broken, match=f"^{name}: "):
        story()


def test_every_invariant_is_told_of_or_judged_at_the_end() -> None:
    assert {name for name, _ in STORIES} | {"linearizable", "leader-kept"} == set(NAMES)


def test_a_healthy_pair_passes_and_is_counted() -> None:
    a = member("a", log(0, 1, 1), commit_index=3, applied_index=3, is_leader=True)
    b = member("b", log(0, 1, 1), commit_index=2, applied_index=2)
    watch = Watch(a, b)
    watch.look(a)
    watch.look(b)
    b.replica.term, b.replica.voted_for = 2, "b"
    watch.look(b)
    evaluated = watch.invariants.evaluated
    assert evaluated["committed-fixed"] == 5
    assert evaluated["log-matching"] == 4
    assert evaluated["one-leader"] == 1


def test_votes_of_an_old_term_may_come_late() -> None:
    watch, b = committed_by_a_later_term()
    b.replica.term, b.replica.is_leader = 2, True
    watch.look(b)
    assert watch.invariants.evaluated["one-leader"] == 2


def test_an_empty_disk_may_vote_anew() -> None:
    a = member("a", log(0, 1), term=4, voted_for="b")
    watch = Watch(a)
    watch.look(a)
    a.replica.term, a.replica.voted_for = 0, None
    watch.invariants.booted("a", a.replica, empty=True)  # type: ignore[arg-type]
    watch.look(a)
