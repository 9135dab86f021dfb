"""One reason for every way to end."""

from __future__ import annotations

import dataclasses

import pytest

from paas.container.reaping import EndFacts, WaitStatus, judge, read_last_words, signal_name


def facts(
    exit_file: bytes = b"",
    wait: WaitStatus | None = None,
    component_kills: int = 0,
    harness_kills: int = 0,
) -> EndFacts:
    return EndFacts(exit_file, wait, component_kills, harness_kills, "log", 9)


@pytest.mark.parametrize(
    ("given", "reason", "code", "signal", "starved"),
    [
        (facts(b'{"code":0,"signal":null,"reason":""}'), "normal", 0, None, False),
        (facts(b'{"code":3}'), "exit:3", 3, None, False),
        (facts(b'{"signal":15}'), "signal:SIGTERM", None, 15, False),
        (facts(b'{"signal":9}', component_kills=1), "out-of-memory", None, 9, True),
        (facts(b'{"code":137}', component_kills=2), "out-of-memory", 137, None, True),
        (facts(b'{"code":1}', component_kills=1), "exit:1", 1, None, True),
        (facts(b'{"code":1,"reason":"not-ready"}'), "not-ready", 1, None, False),
        (facts(b'{"code":null,"signal":null,"reason":"exec:no such file"}'),
         "exec:no such file", None, None, False),
        (facts(wait=WaitStatus(signal=9)), "signal:SIGKILL", None, 9, False),
        (facts(wait=WaitStatus(code=70)), "harness:exit:70", None, None, False),
        (facts(wait=WaitStatus(code=0)), "harness:normal", None, None, False),
        (facts(wait=WaitStatus(signal=11)), "harness:signal:SIGSEGV", None, None, False),
        (facts(wait=WaitStatus(signal=9), harness_kills=1), "harness:out-of-memory",
         None, None, True),
        (facts(), "harness:gone", None, None, False),
        (facts(b'{"code":'), "harness:gone", None, None, False),
        (facts(b'{"code":"x"}', wait=WaitStatus(code=1)), "harness:exit:1", None, None, False),
    ],
)  # fmt: skip
def test_ends(
    given: EndFacts, reason: str, code: int | None, signal: int | None, starved: bool
) -> None:
    found = judge("c", 2, given)
    assert (found.reason, found.code, found.signal, found.out_of_memory) == (
        reason, code, signal, starved,
    )  # fmt: skip
    assert (found.component, found.incarnation, found.harness_log) == ("c", 2, "log")


def test_words_that_say_nothing_are_no_words() -> None:
    assert read_last_words(b"{}") is None
    assert read_last_words(b"") is None


def test_a_signal_without_a_name_is_a_number() -> None:
    assert signal_name(200) == "200"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (facts(wait=WaitStatus(signal=9)), "node-lost"),
        (facts(), "node-lost"),
        (facts(b'{"signal":9}', wait=WaitStatus(code=0)), "node-lost"),
        (facts(b'{"code":137}', wait=WaitStatus(code=0)), "node-lost"),
        (facts(b'{"code":3}', wait=WaitStatus(code=0)), "exit:3"),
        (facts(b'{"code":0}', wait=WaitStatus(code=0)), "normal"),
        (facts(b'{"signal":15}', wait=WaitStatus(code=0)), "signal:SIGTERM"),
    ],
)
def test_what_is_killed_without_a_lease_was_lost_with_the_node(
    given: EndFacts, reason: str
) -> None:
    assert judge("c", 2, dataclasses.replace(given, fenced=True)).reason == reason
