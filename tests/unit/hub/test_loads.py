"""Loads and distances of other nodes: what is counted, heard and asked, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.loads import Loads, answer_loads, with_load
from paas.hub.messages import LOADS
from paas.hub.messages import Loads as AskLoads
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode


class HandClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def maker() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


def test_own_calls_are_counted_while_they_last(clock: HandClock) -> None:
    loads = Loads(clock)
    loads.began("a")
    loads.began("a")
    assert loads.of("a") == 2
    loads.ended("a")
    loads.ended("a")
    loads.ended("a")
    assert loads.of("a") == 0


def test_what_a_hub_says_includes_the_own_calls_of_that_moment(clock: HandClock) -> None:
    loads = Loads(clock)
    for _ in range(3):
        loads.began("a")
    loads.said("a", 10)
    assert loads.of("a") == 10
    loads.ended("a")
    assert loads.of("a") == 9
    loads.said("a", 1)
    assert loads.of("a") == 2, "own calls are known better than by hearsay"


def test_what_was_said_long_ago_counts_as_nothing(clock: HandClock) -> None:
    loads = Loads(clock)
    loads.said("a", 7)
    clock.at_s += limits.LOADS_STALE_S + 1
    loads.began("a")
    assert loads.of("a") == 1


def test_loads_of_components_that_never_end_are_bounded(clock: HandClock) -> None:
    loads = Loads(clock)
    for number in range(3 * limits.LOADS_KEPT_MAX):
        loads.said(f"c{number}", 1)
    assert len(loads._others) <= limits.LOADS_KEPT_MAX


@given(
    st.dictionaries(st.text(max_size=5), st.integers(0, 2**40), max_size=14), st.integers(0, 1000)
)
def test_an_answer_carries_the_load_and_is_otherwise_as_it_was(
    answer: dict[str, int], waiting: int
) -> None:
    packed = with_load(codec.pack(answer), waiting)
    assert codec.unpack(packed) == {**answer, "load": waiting}


@pytest.mark.parametrize(
    "answer", [b"", b"\xc0", b"\x93\x01\x02\x03", codec.pack({str(n): n for n in range(15)})]
)
def test_what_is_no_small_map_is_passed_on_unchanged(answer: bytes) -> None:
    assert with_load(answer, 3) == answer


def test_a_component_cannot_say_its_load_itself(clock: HandClock) -> None:
    loads = Loads(clock)
    loads.heard("a", with_load(codec.pack({"load": 0, "outputs": 1}), 9))
    assert loads.of("a") == 9


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"\x81", b"\xc1\xc1", codec.pack({"load": "many"}), codec.pack({"load": -5})),
        *(codec.pack([1]), b"\x81\xa4load\xff", PlatformError("timeout")),
    ],
)
def test_answers_that_say_nothing_useful_change_nothing(
    clock: HandClock, answer: bytes | PlatformError
) -> None:
    loads = Loads(clock)
    loads.heard("a", answer)
    assert loads.of("a") == 0


def test_only_attached_components_have_a_load() -> None:
    waiting = {"a": 3, "b": 0}
    answer = answer_loads(AskLoads(components=["a", "b", "elsewhere"]), waiting.get)
    assert answer.loads == {"a": 3, "b": 0}
    many = AskLoads(components=[f"c{n}" for n in range(limits.LOADS_ASKED_MAX + 5)])
    assert len(answer_loads(many, lambda _component: 1).loads) == limits.LOADS_ASKED_MAX


class Other:
    """The hub of another node; it takes `delay_s` by the clock of the test."""

    def __init__(self, clock: HandClock, delay_s: float = 0.0) -> None:
        self.asked: list[list[str]] = []
        self._clock, self._delay_s = clock, delay_s

    def __call__(self, peer: Peer, request: Request) -> None:
        assert request.method == LOADS.name
        params = decode(request.params, AskLoads)
        self.asked.append(params.components)
        self._clock.at_s += self._delay_s
        peer.reply(request, answer_loads(params, {"a": 4, "b": 6}.get))


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


async def test_a_hub_is_asked_once_a_second_at_most(clock: HandClock, maker: Pairs) -> None:
    other, loads = Other(clock), Loads(clock)
    peer, _ = maker.join(_nobody, other)
    for _ in range(50):
        loads.ask("n2", peer, ["a", "b"])
    await trio.testing.wait_all_tasks_blocked()
    assert other.asked == [["a", "b"]]
    assert (loads.of("a"), loads.of("b")) == (4, 6)
    clock.at_s += limits.LOADS_PERIOD_S
    loads.ask("n2", peer, ["a"])
    await trio.testing.wait_all_tasks_blocked()
    assert other.asked[1:] == [["a"]]


async def test_the_round_trip_is_measured_and_smoothed(clock: HandClock, maker: Pairs) -> None:
    other, loads = Other(clock, 0.010), Loads(clock)
    peer, _ = maker.join(_nobody, other)
    assert loads.distance_s("n2") == float("inf")
    loads.measure("n2", peer)
    loads.measure("n2", peer)
    await trio.testing.wait_all_tasks_blocked()
    assert other.asked == [[]]
    assert loads.distance_s("n2") == pytest.approx(0.010)
    clock.at_s += limits.DISTANCE_PERIOD_S
    other._delay_s = 0.020
    loads.measure("n2", peer)
    await trio.testing.wait_all_tasks_blocked()
    assert 0.010 < loads.distance_s("n2") < 0.015


async def test_a_node_that_does_not_answer_has_no_distance(clock: HandClock, maker: Pairs) -> None:
    loads = Loads(clock)
    peer, _ = maker.join(_nobody, Other(clock, 0.001))
    loads.measure("n2", peer)
    await trio.testing.wait_all_tasks_blocked()
    peer.close()
    clock.at_s += limits.DISTANCE_PERIOD_S
    loads.measure("n2", peer)
    await trio.testing.wait_all_tasks_blocked()
    assert loads.distance_s("n2") == float("inf")
