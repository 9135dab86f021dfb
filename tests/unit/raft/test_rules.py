"""Each rule by itself, on a log that is only figures; the stories are in test_scenarios.py."""

from __future__ import annotations

import pytest

from paas.raft.messages import (
    AppendEntries,
    AppendSnapshot,
    NextIndex,
    RequestVote,
    ResponseVote,
)
from paas.raft.rules import Rules, SafetyViolation
from paas.raft.snapshot import Chunk


class Log:
    """Entries 3..8 of terms 1, 1, 1, 2, 2, 2; committed up to 5."""

    term = 2
    commit_index = 5
    applied_index = 4
    first_index = 3
    last_index = 8

    def term_at(self, index: int) -> int | None:
        return {3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2}.get(index)

    def is_member(self, peer: str) -> bool:
        return peer in {"b", "c", "observer"}

    def is_voter(self, peer: str) -> bool:
        return peer in {"b", "c"}


def append(
    previous: tuple[int, int], *entries: tuple[int, int], commit: int = 0, sequence: int = 1
) -> AppendEntries:
    made = [(b"\0", index, term) for index, term in entries]
    return AppendEntries(2, commit, *previous, made, sequence)


def seen(rules: Rules, message: AppendEntries) -> AppendEntries:
    found = rules.incoming("b", message).message
    assert isinstance(found, AppendEntries)
    return found


def test_t1_an_acknowledgement_carries_our_term_and_one_of_another_term_is_dropped() -> None:
    rules = Rules(Log())
    sent = rules.outgoing("b", NextIndex(9, reset=False, success=True))
    assert isinstance(sent, NextIndex)
    assert sent.term == 2
    for term, kept in ((1, False), (2, True), (3, False)):
        message = NextIndex(9, reset=False, success=True, term=term)
        assert (rules.incoming("b", message).message is not None) == kept
    assert rules.incoming("stranger", sent).message is None


def test_t2_a_rejection_moves_nothing_when_its_append_is_older_than_the_last_rejection() -> None:
    rules = Rules(Log())
    sequences = []
    for _ in range(3):
        sent = rules.outgoing("b", append((8, 2)))
        assert isinstance(sent, AppendEntries)
        sequences.append(sent.sequence)
    resets = []
    for sequence in (*sequences, sequences[-1] + 1):
        if sequence > sequences[-1]:
            rules.outgoing("b", append((8, 2)))
        answer = rules.incoming("b", NextIndex(4, True, False, 2, sequence)).message
        assert isinstance(answer, NextIndex)
        resets.append(answer.reset)
    assert resets == [True, False, False, True]


def test_t2_the_answer_echoes_the_append() -> None:
    rules = Rules(Log())
    rules.incoming("b", append((8, 2), sequence=77))
    sent = rules.outgoing("b", NextIndex(9, reset=False, success=True))
    rules.finished()
    later = rules.outgoing("b", NextIndex(9, reset=False, success=True))
    assert isinstance(sent, NextIndex)
    assert isinstance(later, NextIndex)
    assert (sent.echo, later.echo) == (77, None)


def test_t3_a_rejection_inside_our_log_asks_for_what_follows_the_commit_index() -> None:
    rules = Rules(Log())
    for asked, sent in ((8, 6), (6, 6), (4, 4), (9, 9)):
        message = rules.outgoing("b", NextIndex(asked, reset=True, success=False))
        assert isinstance(message, NextIndex)
        assert message.next_index == sent


def test_t4_entries_that_are_held_are_taken_off() -> None:
    found = seen(Rules(Log()), append((4, 1), (5, 1), (6, 2), (7, 2), (8, 2), (9, 2)))
    assert (found.previous_index, found.previous_term) == (8, 2)
    assert [entry[1] for entry in found.entries] == [9]


def test_t4_nothing_new_confirms_no_more_than_was_compared() -> None:
    rules = Rules(Log())
    found = seen(rules, append((5, 1), (6, 2), commit=8))
    assert (found.previous_index, found.previous_term, found.entries) == (8, 2, [])
    assert found.commit_index == 6
    sent = rules.outgoing("b", NextIndex(9, reset=False, success=True))
    assert isinstance(sent, NextIndex)
    assert sent.next_index == 7


def test_t4_a_conflict_behind_the_commit_index_replaces_the_tail() -> None:
    found = seen(Rules(Log()), append((5, 1), (6, 2), (7, 1)))
    assert (found.previous_index, [entry[1] for entry in found.entries]) == (6, [7])


def test_t4_a_conflict_at_the_commit_index_ends_the_process() -> None:
    with pytest.raises(SafetyViolation):
        Rules(Log()).incoming("b", append((4, 1), (5, 2)))


def test_t4_what_does_not_fit_is_left_to_the_library() -> None:
    for message in (append((8, 1)), append((20, 2)), append((1, 1))):
        assert seen(Rules(Log()), message) == message
    nowhere = AppendEntries(2, 0, None, None, [], 1)
    assert seen(Rules(Log()), nowhere) == nowhere


def test_an_append_of_an_older_term_is_answered_with_ours_and_not_looked_at() -> None:
    old = AppendEntries(1, 0, 4, 1, [(b"\0", 5, 2)], 9)
    verdict = Rules(Log()).incoming("b", old)
    assert verdict.message is None
    answer = verdict.replies[0]
    assert isinstance(answer, NextIndex)
    assert (answer.term, answer.reset, answer.success) == (Log().term, False, False)


def chunk(index: int, term: int, *, last: bool = True) -> Chunk:
    return Chunk(b"data", True, last, index, term, b"digest", 4, 0)


def test_t5_a_snapshot_goes_out_without_a_commit_index() -> None:
    sent = Rules(Log()).outgoing("b", AppendSnapshot(2, 5, chunk(4, 1)))
    assert isinstance(sent, AppendSnapshot)
    assert (sent.commit_index, sent.sequence) == (0, 1)


@pytest.mark.parametrize(("index", "term"), [(7, 2), (4, 9), (2, 1)])
def test_t6_a_snapshot_that_is_held_or_passed_is_answered_with_where_to_go_on(
    index: int, term: int
) -> None:
    rules = Rules(Log())
    for last in (False, True):
        verdict = rules.incoming("b", AppendSnapshot(2, 5, chunk(index, term, last=last), 9))
        assert isinstance(verdict.message, AppendSnapshot)
        assert verdict.message.chunk is None
        answer = NextIndex(index + 1, True, True, 2, 9)
        heard = NextIndex(9, False, False, 2, 9)  # confirms nothing: the receiver lives
        assert verdict.replies == [answer if last else heard]


def test_t6_a_snapshot_ahead_of_us_is_taken() -> None:
    message = AppendSnapshot(2, 0, chunk(20, 2), 9)
    assert Rules(Log()).incoming("b", message).message == message
    empty = AppendSnapshot(2, 0, None, 9)
    assert Rules(Log()).incoming("b", empty).message == empty


def test_t7_one_vote_for_each_member_and_term() -> None:
    rules = Rules(Log())
    outcomes = [
        rules.incoming(peer, ResponseVote(term)).message is not None
        for peer, term in (("b", 2), ("b", 2), ("c", 2), ("stranger", 2), ("b", 3), ("b", 3))
    ]
    assert outcomes == [True, False, True, False, True, False]


def test_other_messages_pass() -> None:
    vote = RequestVote(3, 8, 2)
    assert Rules(Log()).incoming("b", vote).message == vote
    assert Rules(Log()).outgoing("b", vote) == vote
