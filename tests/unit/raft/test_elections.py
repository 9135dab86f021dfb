"""Pre-vote and the sticky leader, by themselves; times are given."""

from __future__ import annotations

import itertools

import pytest

from paas.raft.elections import Elections
from paas.raft.messages import Message, PreVote, PreVoteAnswer, RequestVote


class Host:
    node = "a"
    voters: tuple[str, ...] = ("a", "b", "c", "d", "e")
    knows_members = True
    is_leader = False
    term = 4
    last_index = 9
    last_term = 3

    def __init__(self) -> None:
        self.posted: list[tuple[str, Message]] = []
        self.heard_s = 0.0

    def quorum_heard_s(self) -> float:
        return self.heard_s

    def post(self, peer: str, message: Message) -> None:
        self.posted.append((peer, message))

    def learn_term(self, term: int) -> None:
        self.term = term


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def elections(host: Host) -> Elections:
    return Elections(host, shortest_s=0.4, longest_s=0.8, retry_s=0.1)


def grant(elections: Elections, peer: str, number: int = 1) -> None:
    elections.answered(peer, PreVoteAnswer(number, 4, True))


def test_a_majority_must_grant_before_the_library_stands(host: Host, elections: Elections) -> None:
    assert not elections.may_stand(10.0)
    question = PreVote(1, 5, 9, 3)
    assert host.posted == [(peer, question) for peer in "bcde"]
    grant(elections, "b")
    grant(elections, "b")
    assert not elections.may_stand(10.01)
    grant(elections, "c")
    assert elections.granted
    assert elections.may_stand(10.02)
    assert host.term == 4


def test_grants_of_strangers_and_of_older_rounds_do_not_count(elections: Elections) -> None:
    assert not elections.may_stand(10.0)
    for peer in "xyz":
        grant(elections, peer)
    for peer in "bcde":
        grant(elections, peer, number=7)
    assert not elections.may_stand(10.01)


@pytest.mark.parametrize(("field", "value"), [("term", 5), ("last_index", 10), ("last_term", 4)])
def test_a_round_counts_only_for_the_log_it_began_with(
    host: Host, elections: Elections, field: str, value: int
) -> None:
    elections.may_stand(10.0)
    grant(elections, "b")
    grant(elections, "c")
    setattr(host, field, value)
    assert not elections.may_stand(10.01)
    grant(elections, "b")  # of the first round
    grant(elections, "c")
    assert not elections.may_stand(10.02)


def test_hearing_a_leader_ends_the_round(elections: Elections) -> None:
    elections.may_stand(10.0)
    elections.heard(10.05)
    grant(elections, "b")
    grant(elections, "c")
    assert not elections.granted


def test_rounds_are_repeated_with_growing_pauses(host: Host, elections: Elections) -> None:
    now_s, began = 10.0, []
    while now_s < 14:
        count = len(host.posted)
        elections.may_stand(now_s)
        if len(host.posted) > count:
            began.append(now_s)
        now_s += 0.01
    pauses = [b - a for a, b in itertools.pairwise(began)]
    assert pauses[0] == pytest.approx(0.1, abs=0.02)
    assert max(pauses) == pytest.approx(0.8, abs=0.02)
    assert elections.next_look_s() == pytest.approx(began[-1] + 0.8)


def test_a_voter_that_is_alone_asks_nobody(host: Host, elections: Elections) -> None:
    host.voters = ("a",)
    assert elections.may_stand(10.0)
    assert host.posted == []


def test_who_does_not_vote_never_stands(host: Host, elections: Elections) -> None:
    for voters in ((), ("b",), ("b", "c", "d")):
        host.voters = voters
        assert not elections.may_stand(10.0)
    assert host.posted == []


@pytest.mark.parametrize(
    ("question", "granted"),
    [
        (PreVote(3, 5, 9, 3), True),
        (PreVote(3, 4, 9, 3), True),
        (PreVote(3, 5, 1, 4), True),
        (PreVote(3, 3, 9, 3), False),
        (PreVote(3, 5, 8, 3), False),
        (PreVote(3, 5, 99, 2), False),
    ],
)
def test_granted_is_what_would_be_voted_for_and_every_answer_carries_the_term(
    host: Host, elections: Elections, question: PreVote, granted: bool
) -> None:
    elections.asked("b", question, 10.0)
    assert host.posted == [("b", PreVoteAnswer(3, 4, granted))]


@pytest.mark.parametrize(("ago_s", "granted"), [(0.1, False), (0.39, False), (0.41, True)])
def test_nothing_is_granted_while_a_leader_lives(
    host: Host, elections: Elections, ago_s: float, granted: bool
) -> None:
    elections.heard(10.0 - ago_s)
    elections.asked("b", PreVote(1, 5, 9, 3), 10.0)
    assert host.posted == [("b", PreVoteAnswer(1, 4, granted))]
    assert elections.admits(RequestVote(5, 9, 3), 10.0) == granted
    assert elections.admits(RequestVote(5, 9, 3, transfer=True), 10.0)


@pytest.mark.parametrize(("ago_s", "granted"), [(0.1, False), (0.41, True)])
def test_a_leader_grants_nothing_as_long_as_it_hears_a_majority(
    host: Host, elections: Elections, ago_s: float, granted: bool
) -> None:
    host.is_leader, host.heard_s = True, 10.0 - ago_s
    elections.asked("b", PreVote(1, 5, 9, 3), 10.0)
    assert host.posted == [("b", PreVoteAnswer(1, 4, granted))]
    assert elections.admits(RequestVote(5, 9, 3), 10.0) == granted


def test_who_knows_no_members_neither_grants_nor_votes(host: Host, elections: Elections) -> None:
    host.knows_members = False
    elections.asked("b", PreVote(1, 5, 9, 3), 10.0)
    assert host.posted == [("b", PreVoteAnswer(1, 4, False))]
    assert not elections.admits(RequestVote(5, 9, 3), 10.0)
    assert not elections.admits(RequestVote(5, 9, 3, transfer=True), 10.0)


def test_a_stale_side_learns_the_term_from_the_answer_of_a_voter(
    host: Host, elections: Elections
) -> None:
    elections.answered("stranger", PreVoteAnswer(0, 9, False))
    assert host.term == 4
    elections.answered("b", PreVoteAnswer(0, 9, False))
    assert host.term == 9
