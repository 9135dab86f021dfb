"""Restart policies, intensity, back-off, reasons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.controller.limits import RESTART_BACKOFF
from paas.controller.restarts import (
    Decision,
    History,
    Outcome,
    Policy,
    abnormal,
    decide,
    fatal,
    typed_reason,
)

NOW_MS = 1_000_000
O = Outcome  # noqa: E741


def decided(
    restart: str = "permanent",
    reason: str = "exit:1",
    *,
    history: History | None = None,
    wanted: bool = True,
    is_fatal: bool = False,
    max_restarts: int = 3,
    now_ms: int = NOW_MS,
) -> Decision:
    return decide(
        Policy(restart=restart, max_restarts=max_restarts, within_s=60),
        history or History(ready_ms=NOW_MS - 1),
        reason,
        wanted=wanted,
        is_fatal=is_fatal,
        now_ms=now_ms,
        fraction=0.0,
    )


@pytest.mark.parametrize(
    ("restart", "reason", "outcome"),
    [
        ("permanent", "normal", O.RESTART),
        ("permanent", "exit:1", O.RESTART),
        ("permanent", "signal:SIGKILL", O.RESTART),
        ("permanent", "destroyed", O.RESTART),
        ("transient", "normal", O.END),
        ("transient", "destroyed", O.END),
        ("transient", "out-of-memory", O.RESTART),
        ("transient", "node-lost", O.RESTART),
        ("temporary", "normal", O.END),
        ("temporary", "exit:1", O.END),
    ],
)
def test_the_policy_decides(restart: str, reason: str, outcome: Outcome) -> None:
    assert decided(restart, reason).outcome is outcome


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_what_is_not_wanted_any_more_ends(restart: str) -> None:
    assert decided(restart, "exit:1", wanted=False).outcome is O.END


def test_a_temporary_one_that_never_was_ready_has_failed() -> None:
    assert decided("temporary", "exit:1", history=History()).outcome is O.FAIL
    assert decided("temporary", "normal", history=History()).outcome is O.END


def test_more_than_max_restarts_within_the_window_is_too_many() -> None:
    ends = (NOW_MS - 3_000, NOW_MS - 2_000, NOW_MS - 1_000)
    refused = decided(history=History(ends_ms=ends, ready_ms=NOW_MS - 1))
    assert refused.outcome is O.FAIL
    assert "3 restarts within 60 s" in refused.gave_up
    old = (NOW_MS - 60_000, *ends[1:])
    assert decided(history=History(ends_ms=old, ready_ms=NOW_MS - 1)).outcome is O.RESTART


def test_no_restarts_allowed_means_the_first_end_is_a_failure() -> None:
    assert decided(max_restarts=0).outcome is O.FAIL


def test_slow_failures_in_a_row_fail_too() -> None:
    history = History(unready=3, ready_ms=0)
    refused = decided(history=history)
    assert refused.outcome is O.FAIL
    assert "without becoming available" in refused.gave_up
    assert decided(history=History(unready=2)).unready == 3


def test_a_fatal_end_is_not_repeated() -> None:
    assert decided(is_fatal=True).outcome is O.FAIL


def test_the_wait_grows_and_begins_anew_after_a_healthy_run() -> None:
    short = decided(history=History(attempt=4, ready_ms=NOW_MS - 59_999))
    assert (short.attempt, short.delay_s) == (5, RESTART_BACKOFF.delay_s(5, 0.0))
    healthy = decided(history=History(attempt=4, ready_ms=NOW_MS - 60_000))
    assert (healthy.attempt, healthy.delay_s) == (1, RESTART_BACKOFF.delay_s(1, 0.0))


@given(st.lists(st.integers(0, 120_000), min_size=1, max_size=60), st.integers(0, 5))
def test_never_more_than_max_restarts_in_any_window(gaps: list[int], most: int) -> None:
    now, history, granted = 0, History(ready_ms=1), []
    for gap in gaps:
        now += gap
        decision = decided(history=history, max_restarts=most, now_ms=now)
        if decision.outcome is O.RESTART:
            granted.append(now)
            history = History(
                ends_ms=decision.ends_ms, attempt=decision.attempt, ready_ms=max(now, 1)
            )
    for end in granted:
        assert len([g for g in granted if end - 60_000 < g <= end]) <= most


@pytest.mark.parametrize(
    ("word", "signal", "oom", "reason"),
    [
        ("normal", None, False, "normal"),
        ("exit:3", None, False, "exit:3"),
        ("signal:SIGSEGV", 11, False, "signal:SIGSEGV"),
        ("signal:SIGKILL", 9, True, "out-of-memory"),
        ("killed", 9, False, "signal:SIGKILL"),
        ("exec:no such file", None, False, "start-failed:no such file"),
        ("not-ready", None, False, "not-ready"),
        ("", None, False, "node-lost"),
        ("", 9, False, "signal:9"),
    ],
)
def test_words_of_the_container_become_reasons(
    word: str, signal: int | None, oom: bool, reason: str
) -> None:
    assert typed_reason(word, signal=signal, out_of_memory=oom) == reason


def test_kinds_of_reasons() -> None:
    assert not abnormal("normal")
    assert not abnormal("destroyed")
    assert abnormal("exit:0x")
    assert fatal("start-failed:x")
    assert not fatal("exit:127")
