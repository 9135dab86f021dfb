"""Who votes in the replicated log: the next change that brings members nearer to what is wanted.

Wanted: an odd number of voters, as many as there may be (5 unless an operator set it otherwise),
never more than there are nodes to vote; all other nodes observe.  An even number would need one
more to agree and survive no more losses.

    what is found                                        what is done
    the leader's node is to go, or is being emptied      another voter leads; if none can, an
                                                         observer is promoted first
    a member was removed from the cluster                out; one that the cluster state does not
                                                         know yet is left alone
    a voter lost its log and asks to be let in           demoted: then the log comes to it again
    a node is no member yet                              it observes
    a voter is offline or failed, an observer is ready   demoted; then the observer is promoted
    too few voters, observers are ready                  promoted: two, from an odd number on
    too many voters                                      demoted: who is not there first, never the
                                                         leader

Invariants
  - One member at a time, and never the leader.
  - No change makes living voters fewer than a majority, if they are one.
  - A voter that is away stays one if nobody can take its place: demoting it would win nothing when
    it comes back soon.  One that `failed` stays too while fewer than three others could vote: a
    dead third voter is better than commands on one disk only.
  - From any state the changes come to an end.

A node is living if it is present in the cluster state (state.py); ready: living, not being emptied,
and its log is nearly the leader's.  Pure; membership_keeper.py carries it out.

Source: Raft thesis §4.1, §4.2.1 (catching up before voting), §6.2; docs/internals/cluster.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from paas.node import limits
from paas.node.lifecycle import NodeState
from paas.node.state import Node

COPIES_MIN = 3
"""Voters that are not given up for failed ones, so that commands stay on two disks."""


class Configuration(Protocol):
    @property
    def voters(self) -> Sequence[str]: ...

    @property
    def observers(self) -> Sequence[str]: ...


class Follower(Protocol):
    """What the leader knows of another member."""

    @property
    def match_index(self) -> int: ...

    @property
    def heard_s(self) -> float:
        """Seconds since it last answered."""
        ...

    @property
    def connected(self) -> bool: ...

    @property
    def returned(self) -> bool:
        """It lost its log; as a voter it is as good as off (paas/raft/returning.py)."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """Have these members; they differ in one name from those there are."""

    voters: tuple[str, ...]
    observers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Have another voter lead."""

    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class Members:
    """What is found, sorted into what matters."""

    voters: tuple[str, ...]
    observers: tuple[str, ...]
    leader: str
    nodes: Mapping[str, Node]
    caught_up: Collection[str]
    removed: Collection[str]

    def leaving(self, name: str) -> bool:
        node = self.nodes.get(name)
        return name in self.removed or (node is not None and node.state is NodeState.DESTROYING)

    def living(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and node.present

    def failed(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and node.state is NodeState.FAILED

    def draining(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and node.draining

    def able(self, name: str) -> bool:
        """Could lead, or vote, now and for some time."""
        return self.living(name) and not self.draining(name) and name in self.caught_up

    @property
    def ready(self) -> list[str]:
        return [name for name in self.observers if self.able(name)]

    def without(self, name: str, reason: str) -> Change:
        voters = tuple(v for v in self.voters if v != name)
        return Change(voters, tuple(o for o in self.observers if o != name), f"{name} {reason}")

    def observing(self, name: str, reason: str) -> Change:
        change = self.without(name, reason)
        return Change(change.voters, tuple(sorted([*change.observers, name])), change.reason)

    def voting(self, name: str, reason: str) -> Change:
        change = self.without(name, reason)
        return Change(tuple(sorted([*change.voters, name])), change.observers, change.reason)


def caught_up(followers: Mapping[str, Follower], last_index: int) -> list[str]:
    """The members whose log is nearly the leader's, and that answer."""
    return [
        name
        for name, follower in followers.items()
        if follower.connected
        and not follower.returned
        and follower.match_index > 0  # it has answered, not only become a member just now
        and follower.heard_s <= limits.CAUGHT_UP_S
        and last_index - follower.match_index <= limits.CAUGHT_UP_ENTRIES
    ]


def next_change(
    configuration: Configuration,
    nodes: Sequence[Node],
    followers: Mapping[str, Follower],
    *,
    leader: str,
    last_index: int,
    wanted_max: int = limits.VOTERS_DEFAULT,
    removed: Collection[str] = (),
) -> Change | Transfer | None:
    """What the leader is to do next about the members; None: nothing.

    `followers` and `last_index` as the leader knows them; `removed`: names of former nodes.
    """
    if not nodes:
        return None  # a log that nobody has joined yet
    members = Members(
        tuple(configuration.voters),
        tuple(configuration.observers),
        leader,
        {node.name: node for node in nodes},
        [leader, *caught_up(followers, last_index)],
        removed,
    )
    return (
        _hand_over(members)
        or _out(members)
        or _let_in(members, followers)
        or _admit(members)
        or _replace(members)
        or _adjust(members, wanted_max)
    )


def _hand_over(members: Members) -> Change | Transfer | None:
    leader = members.leader
    if not (members.leaving(leader) or members.draining(leader)):
        return None
    reason = "is to be removed" if members.leaving(leader) else "is being emptied"
    for name in members.voters:
        if name != leader and members.able(name):
            return Transfer(name, f"{leader} leads and {reason}")
    if members.ready:
        return members.voting(members.ready[0], f"can lead: {leader} {reason}")
    return None


def _out(members: Members) -> Change | None:
    """Who is to be removed votes no more, and hears of its removal before it goes."""
    for name in members.voters:
        if members.leaving(name) and name != members.leader:
            return members.observing(name, "is being removed from the cluster")
    for name in members.observers:
        if name in members.removed:
            return members.without(name, "was removed from the cluster")
    return None


def _let_in(members: Members, followers: Mapping[str, Follower]) -> Change | None:
    for name in members.voters:
        if name in followers and followers[name].returned:
            return members.observing(name, "lost its log and begins anew")
    return None


def _admit(members: Members) -> Change | None:
    known = {*members.voters, *members.observers}
    for name in sorted(members.nodes):
        if name not in known and not members.leaving(name):
            return members.observing(name, "is new")
    return None


def _replace(members: Members) -> Change | None:
    """Demote a voter that is not there for an observer that can take its place."""
    if not members.ready:
        return None
    for name in members.voters:
        if not members.living(name) and name != members.leader:
            return members.observing(name, f"is away, {members.ready[0]} can vote instead")
    return None


def _adjust(members: Members, wanted_max: int) -> Change | None:
    wanted, count = wanted_voters(members, wanted_max), len(members.voters)
    ready = members.ready
    if count < wanted and len(ready) >= 1 + count % 2:
        return members.voting(ready[0], "has caught up")
    if count <= wanted:
        return None
    for name in sorted(sorted(members.voters, reverse=True), key=partial(_worth, members)):
        rest = [other for other in members.voters if other != name]
        if name != members.leader and (not members.living(name) or has_majority(members, rest)):
            return members.observing(name, f"is one voter more than {wanted}")
    return None


def _worth(members: Members, name: str) -> tuple[bool, bool, bool]:
    """Who is demoted first: given up, away, being emptied."""
    return not members.failed(name), members.living(name), not members.draining(name)


def wanted_voters(members: Members, wanted_max: int) -> int:
    """The largest odd number of voters that there are nodes for."""
    staying = [name for name in members.voters if not members.leaving(name)]
    failed = sum(members.failed(name) for name in staying)
    observing = sum(members.living(o) and not members.draining(o) for o in members.observers)
    count = len(staying) - failed + observing
    if count < COPIES_MIN:
        count = min(count + failed, COPIES_MIN)
    count = min(count, wanted_max)
    return max(count - 1 + count % 2, 1)


def has_majority(members: Members, voters: Sequence[str]) -> bool:
    """Are the living ones of these voters more than half of them?"""
    return 2 * sum(members.living(name) for name in voters) > len(voters)


def refusal_to_remove(configuration: Configuration, nodes: Sequence[Node], name: str) -> str:
    """Why the log could not do without this node; empty if it can."""
    if name not in configuration.voters:
        return ""
    by_name = {node.name: node for node in nodes}
    members = Members(tuple(configuration.voters), (), "", by_name, (), ())
    rest = [voter for voter in configuration.voters if voter != name]
    if not rest:
        return f"{name} is the only voter: drain it first, and another one takes its place"
    if has_majority(members, rest):
        return ""
    away = sum(not members.living(voter) for voter in rest)
    return f"{away} of {len(rest)} voters that would be left cannot be reached"
