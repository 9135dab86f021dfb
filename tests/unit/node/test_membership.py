"""Members of the log: what is changed in which situation; and from any situation to a good end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.node import limits
from paas.node.lifecycle import NodeState
from paas.node.membership import (
    Change,
    Transfer,
    caught_up,
    next_change,
    refusal_to_remove,
)
from paas.node.state import Node

S = NodeState
LAST_INDEX = 50_000


@dataclass
class Configuration:
    voters: tuple[str, ...]
    observers: tuple[str, ...] = ()


@dataclass
class Follower:
    match_index: int = LAST_INDEX
    returned: bool = False
    heard_s: float = 0.01
    connected: bool = True


def node(name: str, state: NodeState = S.AVAILABLE, *, draining: bool = False) -> Node:
    return Node(name=name, state=state, since_ms=0, epoch=1, leased=True, draining=draining)


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in numbers)


def step(
    voters: Sequence[str],
    observers: Sequence[str],
    nodes: Sequence[Node],
    *,
    leader: str = "n1",
    wanted_max: int = 5,
    removed: Sequence[str] = (),
    late: Sequence[str] = (),
    returned: Sequence[str] = (),
) -> Change | Transfer | None:
    """The next change when all living nodes but the late ones have caught up."""
    by_name = {n.name: n for n in nodes}
    followers = {
        name: Follower(
            match_index=0 if name in late else LAST_INDEX,
            connected=name in by_name,
            returned=name in returned,
        )
        for name in (*voters, *observers)
        if name != leader
    }
    return next_change(
        Configuration(tuple(voters), tuple(observers)),
        nodes,
        followers,
        leader=leader,
        last_index=LAST_INDEX,
        wanted_max=wanted_max,
        removed=removed,
    )


def members_after(found: Change | Transfer | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert isinstance(found, Change)
    return found.voters, found.observers


def test_a_log_that_nobody_has_joined_and_a_node_alone_are_left_as_they_are() -> None:
    assert step(names(1), (), []) is None
    assert step(names(1), (), [node("n1")]) is None


@pytest.mark.parametrize("state", [S.PREPARING, S.INITIALIZING, S.AVAILABLE])
def test_a_new_node_observes_first(state: NodeState) -> None:
    found = step(names(1), (), [node("n1"), node("n2", state)])
    assert members_after(found) == (names(1), names(2))


def test_two_nodes_have_one_voter_and_three_have_three() -> None:
    nodes = [node(name) for name in names(1, 2, 3)]
    assert step(names(1), names(2), nodes[:2]) is None
    assert members_after(step(names(1), names(2, 3), nodes)) == (names(1, 2), names(3))
    assert members_after(step(names(1, 2), names(3), nodes)) == (names(1, 2, 3), ())
    assert step(names(1, 2, 3), (), nodes) is None


def test_nobody_votes_before_having_caught_up_and_one_alone_is_not_promoted() -> None:
    nodes = [node(name) for name in names(1, 2, 3)]
    assert step(names(1), names(2, 3), nodes, late=names(2, 3)) is None
    assert step(names(1), names(2, 3), nodes, late=names(2)) is None
    assert step(names(1, 2), names(3), nodes, late=names(3)) is None


@pytest.mark.parametrize(
    ("follower", "ready"),
    [
        (Follower(), True),
        (Follower(match_index=LAST_INDEX - limits.CAUGHT_UP_ENTRIES), True),
        (Follower(match_index=LAST_INDEX - limits.CAUGHT_UP_ENTRIES - 1), False),
        (Follower(heard_s=limits.CAUGHT_UP_S + 0.1), False),
        (Follower(connected=False), False),
        (Follower(returned=True), False),
    ],
)
def test_who_has_caught_up(follower: Follower, ready: bool) -> None:
    assert caught_up({"n2": follower}, LAST_INDEX) == (["n2"] if ready else [])


def test_who_never_answered_has_not_caught_up_however_short_the_log_is() -> None:
    assert caught_up({"n2": Follower(match_index=0)}, 5) == []
    assert caught_up({"n2": Follower(match_index=1)}, 5) == ["n2"]


def test_a_voter_that_is_away_is_replaced_and_observes_when_it_comes_back() -> None:
    nodes = [node("n1"), node("n2"), node("n3", S.OFFLINE), node("n4")]
    assert members_after(step(names(1, 2, 3), names(4), nodes)) == (names(1, 2), names(3, 4))
    assert members_after(step(names(1, 2), names(3, 4), nodes)) == (names(1, 2, 4), names(3))
    back = [node(name) for name in names(1, 2, 3, 4)]
    assert step(names(1, 2, 4), names(3), back) is None


@pytest.mark.parametrize("state", [S.OFFLINE, S.FAILED])
def test_a_third_voter_that_is_away_stays_when_nobody_can_take_its_place(state: NodeState) -> None:
    nodes = [node("n1"), node("n2"), node("n3", state)]
    assert step(names(1, 2, 3), (), nodes) is None
    assert step(names(1, 2, 3), names(4), [*nodes, node("n4")], late=names(4)) is None


def test_a_voter_that_lost_its_log_observes_until_it_has_it_again() -> None:
    nodes = [node(name) for name in names(1, 2, 3)]
    assert members_after(step(names(1, 2, 3), (), nodes, returned=names(3))) == (
        names(1, 2),
        names(3),
    )
    assert step(names(1, 2), names(3), nodes, returned=names(3)) is None
    assert members_after(step(names(1, 2), names(3), nodes)) == (names(1, 2, 3), ())


def test_five_voters_become_three_when_two_have_failed_and_not_when_they_are_offline() -> None:
    there = [node(name) for name in names(1, 2, 3)]
    offline = [*there, node("n4", S.OFFLINE), node("n5", S.OFFLINE)]
    assert step(names(1, 2, 3, 4, 5), (), offline) is None
    failed = [*there, node("n4", S.FAILED), node("n5", S.FAILED)]
    assert members_after(step(names(1, 2, 3, 4, 5), (), failed)) == (names(1, 2, 3, 4), names(5))
    assert members_after(step(names(1, 2, 3, 4), names(5), failed)) == (names(1, 2, 3), names(4, 5))


def test_a_removed_node_votes_no_more_then_is_out_and_one_not_known_yet_is_left_alone() -> None:
    nodes = [node("n1"), node("n2"), node("n4")]
    found = step(names(1, 2, 3), names(4), nodes, removed=["n3"])
    assert members_after(found) == (names(1, 2), names(3, 4))
    found = step(names(1, 2), names(3), nodes[:2], removed=["n3"])
    assert members_after(found) == (names(1, 2), ())
    assert step(names(1, 2, 3), (), [node("n1")]) is None


def test_a_node_that_is_being_removed_follows_the_log_until_that_is_done() -> None:
    nodes = [node("n1"), node("n2"), node("n3", S.DESTROYING)]
    assert members_after(step(names(1, 2, 3), (), nodes)) == (names(1, 2), names(3))
    found = step(names(1, 2), names(3), nodes)
    assert found is None or "n3" in members_after(found)[1]


def test_a_leader_that_is_to_go_hands_over_and_is_never_removed_itself() -> None:
    for leader in (node("n1", draining=True), node("n1", S.DESTROYING)):
        nodes = [leader, node("n2"), node("n3")]
        found = step(names(1, 2, 3), (), nodes)
        assert found == Transfer("n2", found.reason if isinstance(found, Transfer) else "")
        assert step(names(1, 2, 3), (), nodes, late=names(2)) == Transfer("n3", found.reason)


def test_an_only_voter_that_is_to_go_gets_a_successor_first() -> None:
    nodes = [node("n1", draining=True), node("n2")]
    assert members_after(step(names(1), names(2), nodes)) == (names(1, 2), ())
    assert isinstance(step(names(1, 2), (), nodes), Transfer)
    assert members_after(step(names(1, 2), (), nodes, leader="n2")) == (names(2), names(1))
    assert step(names(2), names(1), nodes, leader="n2") is None


def test_there_are_never_more_voters_than_wanted() -> None:
    nodes = [node(name) for name in names(1, 2, 3, 4, 5, 6)]
    found = step(names(1, 2, 3, 4, 5), names(6), nodes, wanted_max=3)
    assert members_after(found) == (names(1, 2, 3, 4), names(5, 6))
    assert step(names(1, 2, 3), names(4, 5, 6), nodes, wanted_max=3) is None
    assert step(names(1, 2, 3, 4, 5), names(6), nodes) is None


def test_removing_a_voter_is_refused_when_the_others_would_have_no_majority() -> None:
    three = Configuration(names(1, 2, 3))
    nodes = [node("n1"), node("n2"), node("n3", S.OFFLINE)]
    assert refusal_to_remove(three, nodes, "n3") == ""
    assert refusal_to_remove(three, nodes, "n9") == ""
    refusal = refusal_to_remove(three, nodes, "n2")
    assert refusal == "1 of 2 voters that would be left cannot be reached"
    assert "only voter" in refusal_to_remove(Configuration(names(1), names(2)), nodes, "n1")
    five = [node("n1"), node("n2"), node("n3"), node("n4", S.OFFLINE), node("n5", S.OFFLINE)]
    assert refusal_to_remove(Configuration(names(1, 2, 3, 4, 5)), five, "n3") != ""
    assert refusal_to_remove(Configuration(names(1, 2, 3, 4, 5)), five, "n5") == ""


# -- from any state ------------------------------------------------------------------------------


@dataclass
class Situation:
    nodes: list[Node]
    voters: tuple[str, ...]
    observers: tuple[str, ...]
    leader: str
    wanted_max: int


states = st.sampled_from(
    [S.AVAILABLE] * 5
    + [S.UNAVAILABLE, S.INITIALIZING, S.PREPARING, S.OFFLINE, S.OFFLINE]
    + [S.FAILED, S.DESTROYING]
)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any nodes, any members, and a leader that is there."""
    count = draw(st.integers(1, 8))
    nodes = [
        node(f"n{i}", draw(states), draining=draw(st.integers(0, 6)) == 0)
        for i in range(1, count + 1)
    ]
    roles = [draw(st.sampled_from(["voter", "voter", "observer", ""])) for _ in nodes]
    leader = draw(st.integers(0, count - 1))
    roles[leader] = "voter"
    if nodes[leader].state is not S.DESTROYING:
        nodes[leader] = node(f"n{leader + 1}", S.AVAILABLE, draining=nodes[leader].draining)
    by_role = {
        role: tuple(n.name for n, r in zip(nodes, roles, strict=True) if r == role)
        for role in ("voter", "observer")
    }
    wanted = draw(st.sampled_from([1, 3, 5]))
    return Situation(nodes, by_role["voter"], by_role["observer"], f"n{leader + 1}", wanted)


def changed(situation: Situation, found: Change | Transfer) -> Situation:
    if isinstance(found, Transfer):
        assert found.to in situation.voters
        assert found.to != situation.leader
        return Situation(
            situation.nodes,
            situation.voters,
            situation.observers,
            found.to,
            situation.wanted_max,
        )
    return Situation(
        situation.nodes, found.voters, found.observers, situation.leader, situation.wanted_max
    )


def living(situation: Situation) -> tuple[str, ...]:
    present = {n.name for n in situation.nodes if n.present}
    return tuple(v for v in situation.voters if v in present)


def has_majority(situation: Situation) -> bool:
    return 2 * len(living(situation)) > len(situation.voters)


def next_of(situation: Situation) -> Change | Transfer | None:
    return step(
        situation.voters,
        situation.observers,
        situation.nodes,
        leader=situation.leader,
        wanted_max=situation.wanted_max,
    )


def settle(situation: Situation) -> list[Situation]:
    """Every situation on the way to the end."""
    way = [situation]
    while (found := next_of(way[-1])) is not None:
        way.append(changed(way[-1], found))
        assert len(way) < 40, "no end"
    return way


@settings(max_examples=400, deadline=None)
@given(situations())
def test_the_changes_end_one_member_at_a_time_and_never_without_the_leader(
    situation: Situation,
) -> None:
    way = settle(situation)
    for before, after in pairwise(way):
        assert len(set(before.voters) ^ set(after.voters)) <= 1
        assert len(set(before.voters + before.observers) ^ set(after.voters + after.observers)) <= 1
        assert not set(after.voters) & set(after.observers)
        assert after.leader in after.voters
        assert after.voters == tuple(sorted(after.voters))


@settings(max_examples=400, deadline=None)
@given(situations())
def test_a_majority_of_living_voters_is_never_lost_on_the_way(situation: Situation) -> None:
    had = False
    for each in settle(situation):
        had = had or has_majority(each)
        assert has_majority(each) or not had


@settings(max_examples=400, deadline=None)
@given(situations())
def test_the_end_is_an_odd_number_of_voters_as_large_as_can_be(situation: Situation) -> None:
    end = settle(situation)[-1]
    by_name = {n.name: n for n in end.nodes}
    if by_name[end.leader].state is S.DESTROYING:
        return  # nobody can take over
    able = [n.name for n in end.nodes if n.present and not n.draining]
    members = set(end.voters) | set(end.observers)
    staying = {n.name for n in end.nodes if n.state is not S.DESTROYING}
    assert staying <= members <= {n.name for n in end.nodes}
    assert set(end.voters) <= staying, "who is to be removed hears of it, and votes no more"
    if has_majority(end):
        assert len(end.voters) % 2 == 1
        assert len(end.voters) <= end.wanted_max
    ready = set(able) - set(end.voters)
    if ready:
        assert set(end.voters) == set(living(end)), "who is away holds nobody's place"
        assert len(end.voters) + 2 > min(end.wanted_max, len(set(end.voters) | ready))
