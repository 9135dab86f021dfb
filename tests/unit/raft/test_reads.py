"""Read index: rounds, their sharing, and what happens when the leader changes."""

from __future__ import annotations

import pytest

from paas.raft.limits import READ_REPEAT_S, READ_RETRY_S, READS_MAX
from paas.raft.messages import Message, ReadAnswer, ReadRequest
from paas.raft.reads import ReadOutcome, Reads


class Host:
    node = "a"
    voters: tuple[str, ...] = ("a", "b", "c")
    is_leader = True
    leader: str | None = "a"
    term = 4
    commit_index = 20
    applied_index = 20
    own_term_committed = True

    def __init__(self) -> None:
        self.posted: list[tuple[str, Message]] = []
        self.rounds = 0
        self.sequence = 100

    def begin_round(self) -> int:
        self.rounds += 1
        return self.sequence + 1

    def post(self, peer: str, message: Message) -> None:
        self.posted.append((peer, message))

    def follows(self, leader: str | None) -> None:
        self.is_leader, self.leader = False, leader


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def reads(host: Host) -> Reads:
    return Reads(host)


def test_a_majority_must_echo_an_append_sent_after_the_question(host: Host, reads: Reads) -> None:
    reads.echoed("b", 100)
    reads.ask(1)
    reads.advance(0.0)
    assert (host.rounds, reads.take()) == (1, [])
    reads.echoed("observer", 101)
    reads.echoed("b", 100)
    reads.advance(0.0)
    assert reads.take() == []
    reads.echoed("c", 102)
    reads.advance(0.0)
    assert reads.take() == [ReadOutcome(1, 20, 4)]


def test_the_index_is_that_of_the_rounds_beginning_and_must_be_applied(
    host: Host, reads: Reads
) -> None:
    host.applied_index = 15
    reads.ask(1)
    reads.ask(2, confirm=True)
    reads.advance(0.0)
    host.commit_index = 30
    reads.echoed("b", 101)
    reads.advance(0.0)
    assert reads.take() == [ReadOutcome(2, 20, 4)]
    host.applied_index = 19
    reads.advance(0.0)
    assert reads.take() == []
    host.applied_index = 20
    reads.advance(0.0)
    assert reads.take() == [ReadOutcome(1, 20, 4)]


def test_who_asks_during_a_round_shares_the_next_which_begins_at_once(
    host: Host, reads: Reads
) -> None:
    reads.ask(1)
    reads.advance(0.0)
    host.sequence = 101
    for number in range(2, 50):
        reads.ask(number)
    reads.requested("b", ReadRequest(7))
    reads.advance(0.0)
    assert host.rounds == 1
    reads.echoed("b", 101)
    reads.advance(0.0)
    assert [outcome.number for outcome in reads.take()] == [1]
    assert host.rounds == 2
    reads.echoed("c", 102)
    reads.advance(0.0)
    assert len(reads.take()) == 48
    assert host.posted == [("b", ReadAnswer(7, 20))]


def test_a_new_leader_waits_for_the_first_commit_of_its_term(host: Host, reads: Reads) -> None:
    host.own_term_committed = False
    reads.ask(1)
    reads.echoed("b", 500)
    reads.advance(0.0)
    assert (host.rounds, reads.take()) == (0, [])
    host.own_term_committed = True
    reads.advance(0.0)
    assert host.rounds == 1


def test_a_leader_alone_needs_nobody(host: Host, reads: Reads) -> None:
    host.voters = ("a",)
    reads.ask(1)
    reads.ask(2, confirm=True)
    reads.advance(0.0)
    assert {outcome.number for outcome in reads.take()} == {1, 2}


def test_a_deposed_leader_confirms_nothing_and_asks_the_next(host: Host, reads: Reads) -> None:
    reads.ask(1)
    reads.ask(2, confirm=True)
    reads.requested("c", ReadRequest(3))
    reads.advance(0.0)
    host.follows("b")
    host.term = 5
    reads.echoed("b", 200)
    reads.advance(0.0)
    assert reads.take() == [ReadOutcome(2, None, 4)]
    assert host.posted == [("c", ReadAnswer(3, None)), ("b", ReadRequest(1))]


def test_a_round_of_an_earlier_term_proves_nothing(host: Host, reads: Reads) -> None:
    reads.ask(1)
    reads.advance(0.0)
    host.term, host.sequence = 6, 300  # it lost and won the leadership between two steps
    reads.echoed("b", 200)
    reads.advance(0.0)
    assert (host.rounds, reads.take()) == (2, [])
    reads.echoed("b", 301)
    reads.advance(0.0)
    assert reads.take() == [ReadOutcome(1, 20, 6)]


def test_a_follower_asks_once_for_all_who_wait(host: Host, reads: Reads) -> None:
    host.follows("b")
    for number in range(5):
        reads.ask(number)
    reads.advance(1.0)
    reads.ask(5)
    reads.advance(1.0)
    assert host.posted == [("b", ReadRequest(1))]
    reads.answered("c", ReadAnswer(1, 7), 1.1)
    reads.answered("b", ReadAnswer(9, 7), 1.1)
    assert host.posted == [("b", ReadRequest(1))]
    reads.answered("b", ReadAnswer(1, 18), 1.1)
    reads.advance(1.1)
    assert [outcome.number for outcome in reads.take()] == [0, 1, 2, 3, 4]
    assert host.posted[1:] == [("b", ReadRequest(2))]


def test_a_refused_question_is_asked_again_after_a_pause(host: Host, reads: Reads) -> None:
    host.follows("b")
    reads.ask(1)
    reads.advance(1.0)
    reads.answered("b", ReadAnswer(1, None), 1.0)
    reads.advance(1.0)
    assert len(host.posted) == 1
    assert reads.next_look_s() == 1.0 + READ_RETRY_S
    reads.advance(1.0 + READ_RETRY_S)
    assert host.posted[1:] == [("b", ReadRequest(2))]


def test_a_question_is_repeated_when_nobody_answers_or_another_leads(
    host: Host, reads: Reads
) -> None:
    host.follows("b")
    reads.ask(1)
    reads.advance(1.0)
    assert reads.next_look_s() == 1.0 + READ_REPEAT_S
    reads.advance(1.0 + READ_REPEAT_S)
    host.follows("c")
    reads.advance(1.0 + READ_REPEAT_S)
    host.follows(None)
    reads.advance(1.0 + READ_REPEAT_S)
    requests = [("b", ReadRequest(1)), ("b", ReadRequest(2)), ("c", ReadRequest(3))]
    assert host.posted == requests
    host.is_leader, host.leader = True, "a"
    reads.advance(2.0)
    assert host.rounds == 1  # it leads itself now


def test_without_a_leader_nothing_is_sent_and_confirmation_fails(host: Host, reads: Reads) -> None:
    host.follows(None)
    reads.ask(1)
    reads.ask(2, confirm=True)
    reads.advance(1.0)
    assert (host.posted, reads.take()) == ([], [ReadOutcome(2, None, 4)])
    assert reads.next_look_s() is None


def test_who_does_not_lead_refuses_and_a_leader_refuses_too_many(host: Host, reads: Reads) -> None:
    for number in range(READS_MAX + 1):
        reads.requested("b", ReadRequest(number))
    assert host.posted == [("b", ReadAnswer(READS_MAX, None))]
    host.follows("c")
    reads.requested("b", ReadRequest(9_999))
    assert host.posted[-1] == ("b", ReadAnswer(9_999, None))
    reads.advance(0.0)
    assert len(host.posted) == READS_MAX + 2  # those that waited are refused, too


def test_a_forgotten_question_is_not_answered(host: Host, reads: Reads) -> None:
    host.applied_index = 0
    reads.ask(1)
    reads.forget(1)
    reads.ask(2)
    reads.advance(0.0)
    reads.echoed("b", 101)
    reads.advance(0.0)
    reads.forget(2)
    host.applied_index = 20
    reads.advance(0.0)
    assert reads.take() == []
