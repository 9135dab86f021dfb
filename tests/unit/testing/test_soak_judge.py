"""The judge of a soak: a right history has nothing wrong, and each planted wrong is found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paas.testing.soak_judge import (
    ACCEPTED,
    ANSWERED,
    CODES,
    FAILED,
    GOT,
    GOT_CAST,
    HUB,
    RECORD,
    SENT,
    SENT_CAST,
    Excuses,
    History,
    Incarnation,
    Record,
    Trouble,
    Verdict,
    judge,
)

A, B = 0xA0, 0xB0
"""Epochs of component 0 and of component 1."""

KILL = [Trouble(1, 100.0, 101.0)]


def record(kind: int, peer: int, *numbers: int, code: str = "", said: int = 0, at: float) -> Record:
    four = (*numbers, 0, 0, 0, 0)[:4]
    return Record(kind, peer, CODES.index(code) if code else 0, said, *four, at)


def sent(number: int, at: float = 10.0) -> Record:
    return record(SENT, 1, A, number, at=at)


def got(number: int, epoch: int = A, to: int = 1, at: float = 10.1) -> Record:
    return record(GOT, 0, epoch, number, said=to, at=at)


def answered(
    number: int, about: int | None = None, *, by: int = B, to: int = 0, epoch: int = A
) -> Record:
    said = number if about is None else about
    return record(ANSWERED, 1, number, by, epoch, said, said=to, at=10.2)


def failed(number: int, code: str, at: float = 10.2) -> Record:
    return record(FAILED, 1, A, number, code=code, at=at)


def cast(number: int, at: float = 10.0) -> Record:
    return record(SENT_CAST, 1, A, number, at=at)


def accepted(number: int, at: float = 10.1) -> Record:
    return record(ACCEPTED, 1, A, number, at=at)


def got_cast(number: int) -> Record:
    return record(GOT_CAST, 0, A, number, said=1, at=10.1)


def verdict(
    sender: Sequence[Record],
    receiver: Sequence[Record],
    *,
    killed: float | None = None,
    troubles: Sequence[Trouble] = (),
    more: Sequence[Incarnation] = (),
) -> Verdict:
    lives = [Incarnation(0, A, sender, killed), Incarnation(1, B, receiver)]
    return judge([*lives, *more], troubles)


def wrong(*arguments: Sequence[Record], **more: object) -> set[str]:
    return set(verdict(*arguments, **more).wrong)  # type: ignore[arg-type]


def test_a_right_history_has_nothing_wrong() -> None:
    found = verdict(
        [sent(1), cast(2), sent(3), answered(1), accepted(2), answered(3)],
        [got(1), got_cast(2), got(3)],
    )
    assert found.wrong == {}
    assert (found.calls, found.answered, found.casts, found.accepted) == (2, 2, 1, 1)
    assert (found.arrived, found.pairs) == (3, 1)


@pytest.mark.parametrize(
    ("what", "sender", "receiver"),
    [
        ("wrong caller", [sent(1), answered(1, to=2)], [got(1)]),
        ("wrong caller", [sent(1), answered(1, epoch=0xA1)], [got(1)]),
        ("wrong answer", [sent(1), sent(2), answered(1, 2), answered(2)], [got(1), got(2)]),
        ("wrong answer", [sent(1), answered(1, by=0xB1)], [got(1)]),
        ("wrong answer", [sent(1), answered(1)], []),
        ("wrong answer", [sent(1), answered(1), answered(1)], [got(1)]),
        ("wrong answer", [cast(1), answered(1)], [got_cast(1)]),
        ("wrong answer", [sent(1), accepted(1)], [got(1)]),
        ("two ends", [sent(1), answered(1), failed(1, "timeout")], [got(1)]),
        ("no end", [sent(1)], [got(1)]),
        ("no end", [cast(1)], [got_cast(1)]),
        ("out of order", [sent(1), sent(2), answered(1), answered(2)], [got(2), got(1)]),
        ("twice", [sent(1), answered(1)], [got(1), got(1)]),
        ("never sent", [], [got(1)]),
        ("never sent", [sent(1), answered(1)], [got(1), got(7, epoch=0xC0)]),
        ("wrong receiver", [sent(1), answered(1)], [got(1, to=2)]),
        ("kind", [sent(1), answered(1)], [got_cast(1)]),
        ("lost", [cast(1), accepted(1)], []),
        ("unexplained", [sent(1), failed(1, "timeout")], [got(1)]),
        ("unexplained", [cast(1), failed(1, "limit-exceeded")], []),
    ],
)
def test_what_must_not_be_is_found(what: str, sender: list[Record], receiver: list[Record]) -> None:
    assert what in wrong(sender, receiver)


def test_casts_and_calls_are_in_one_order() -> None:
    sender = [cast(1), sent(2), accepted(1), answered(2)]
    assert wrong(sender, [got(2), got_cast(1)]) == {"out of order"}


def test_a_message_does_not_come_to_two_incarnations() -> None:
    second = Incarnation(1, 0xB1, [got(1)])
    assert wrong([sent(1), answered(1)], [got(1)], more=[second]) >= {"twice"}


def test_the_second_incarnation_begins_an_order_of_its_own() -> None:
    second = Incarnation(1, 0xB1, [got(2)])
    sender = [sent(1), answered(1), sent(2), answered(2, by=0xB1)]
    assert wrong(sender, [got(1)], more=[second]) == set()


def test_two_histories_of_one_epoch_are_no_histories() -> None:
    assert wrong([], [], more=[Incarnation(2, B, [])]) == {"histories"}


def test_who_was_killed_has_no_end_for_what_it_had_sent() -> None:
    found = verdict([sent(1), cast(2)], [got(1)], killed=11.0)
    assert found.wrong == {}
    assert found.unfinished == 2


def test_the_last_moment_of_a_killed_one_needs_no_other_excuse() -> None:
    sender = [sent(1, at=100.0), failed(1, "unknown-outcome", at=100.1)]
    assert wrong(sender, [got(1)], killed=100.05) == set()
    assert wrong(sender, [got(1)], killed=100.2) == {"unexplained"}


@pytest.mark.parametrize("code", CODES)
def test_errors_while_the_receiver_comes_back_are_explained(code: str) -> None:
    sender = [sent(1, at=99.9), failed(1, code, at=100.5)]
    assert wrong(sender, [], troubles=KILL) == set()
    assert wrong(sender, [], troubles=[Trouble(HUB, 100.0, 101.0)]) == set()


@pytest.mark.parametrize(
    "troubles", [[Trouble(2, 100.0, 101.0)], [Trouble(1, 90.0, 91.0)], [Trouble(1, 109.0, 111.0)]]
)
def test_another_kill_or_another_time_explains_nothing(troubles: list[Trouble]) -> None:
    sender = [sent(1, at=100.0), failed(1, "unknown-outcome", at=100.5)]
    assert wrong(sender, [], troubles=troubles) == {"unexplained"}


def test_an_error_of_another_code_is_never_explained() -> None:
    other = Record(FAILED, 1, 255, 0, A, 1, 0, 0, 100.5)
    assert wrong([sent(1, at=100.0), other], [], troubles=KILL) == {"unexplained"}


@pytest.mark.parametrize("code", ["not-available", "limit-exceeded", "no-such-target"])
def test_what_nobody_is_said_to_have_seen_has_not_arrived(code: str) -> None:
    sender = [sent(1, at=100.0), failed(1, code, at=100.1)]
    assert wrong(sender, [got(1)], troubles=KILL) == {"not unseen"}


def test_an_unknown_outcome_may_have_arrived_or_not() -> None:
    sender = [sent(1, at=100.0), failed(1, "unknown-outcome", at=100.1)]
    assert wrong(sender, [got(1)], troubles=KILL) == set()
    assert wrong(sender, [], troubles=KILL) == set()


def test_an_accepted_cast_may_be_lost_with_a_killed_receiver_only() -> None:
    sender = [cast(1, at=99.9), accepted(1, at=99.95)]
    found = verdict(sender, [], troubles=KILL)
    assert found.wrong == {}
    assert found.casts_lost == 1
    assert wrong(sender, [], troubles=[Trouble(2, 100.0, 101.0)]) == {"lost"}


def test_excuses_that_overlap_are_one() -> None:
    excuses = Excuses([Trouble(1, 10.0, 50.0), Trouble(1, 20.0, 21.0)])
    assert excuses.covers(1, 40.0, 41.0)
    assert not excuses.covers(1, 60.0, 61.0)
    assert not excuses.covers(2, 40.0, 41.0)


def test_a_history_that_is_cut_off_ends_before_that() -> None:
    whole = RECORD.pack(*sent(1)) + RECORD.pack(*sent(2))
    assert list(History(whole[:-1])) == [sent(1)]
    assert len(History(whole)) == 2


def test_only_so_many_findings_keep_their_words() -> None:
    found = verdict([sent(n) for n in range(1, 500)], [])
    assert found.wrong["no end"] == 499
    assert len(found.examples) == 100
