"""Links keep the transport's promise, and break it in no other way than by losing a connection."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from paas.sim.consensus.links import Links


class World:
    """Time and inboxes."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.up = {"a", "b"}
        self.seen: dict[str, list[tuple[str, int, bytes | None, bool]]] = {"a": [], "b": []}
        self.room = 1_000
        self.counted: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.links = Links(self)
        for name in "ab":
            self.links.join(name)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now_s + delay_s, self._number, action))

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
        self.now_s = end_s

    def alive(self, name: str) -> bool:
        return name in self.up

    def note(self, name: str, peer: str, epoch: int, data: bytes | None, up: bool) -> bool:
        if data is not None and len(self.messages(name)) >= self.room:
            return False
        self.seen[name].append((peer, epoch, data, up))
        return True

    def count(self, what: str) -> None:
        self.counted.append(what)

    def messages(self, name: str) -> list[int]:
        return [int(data) for _, _, data, _ in self.seen[name] if data is not None]

    def epochs(self, name: str) -> list[tuple[int, bool]]:
        return [(epoch, up) for _, epoch, data, up in self.seen[name] if data is None]

    def send(self, numbers: range) -> None:
        for number in numbers:
            self.links.send("a", "b", b"%d" % number)


@pytest.mark.parametrize("seed", range(10))
def test_messages_arrive_in_order_whatever_the_delay(seed: int) -> None:
    world = World(seed)
    world.links.delay_s = lambda source, target: world.random.random()
    for start in range(0, 50, 5):
        world.send(range(start, start + 5))
        world.run(world.random.random())
    world.run(5)
    assert world.messages("b") == list(range(50))


def test_a_broken_connection_loses_what_was_under_way_and_comes_back_with_a_larger_epoch() -> None:
    world = World()
    world.links.delay_s = lambda source, target: 0.1
    world.send(range(5))
    assert world.links.reset("a", "b")
    world.run(1)
    world.send(range(5, 7))
    world.run(1)
    assert world.messages("b") == [5, 6]
    (first, up), *rest = world.epochs("b")
    assert up
    assert rest == [(first, False), (first + 1, True)]


def test_late_messages_of_a_broken_connection_carry_its_epoch() -> None:
    world = World()
    world.links.delay_s = lambda source, target: 0.1
    world.links.late_chance = 1.0
    world.send(range(3))
    world.links.reset("a", "b")
    world.run(5)
    late = [epoch for _, epoch, data, _ in world.seen["b"] if data is not None]
    assert late == [1, 1, 1]
    assert world.counted == ["old-connection"] * 3


def test_one_direction_blocked_keeps_its_messages_and_lets_the_other_pass() -> None:
    world = World()
    undo = world.links.block([("a", "b")], silent=True)
    world.send(range(3))
    world.links.send("b", "a", b"7")
    world.run(0.5)
    assert world.messages("b") == []
    assert world.messages("a") == [7]
    undo()
    world.run(0.5)
    assert world.messages("b") == [0, 1, 2]


def test_a_silent_connection_is_given_up_and_made_anew_when_the_block_is_over() -> None:
    world = World()
    undo = world.links.block([("a", "b"), ("b", "a")], silent=True)
    world.send(range(3))
    world.run(10)
    assert not world.links.connected("a", "b")
    undo()
    world.run(1)
    assert world.links.connected("a", "b")
    assert world.messages("b") == []


def test_two_blocks_of_one_direction_end_with_the_second() -> None:
    world = World()
    first = world.links.block([("a", "b")], silent=True)
    second = world.links.block([("a", "b")], silent=True)
    world.send(range(1))
    first()
    world.run(0.2)
    assert world.messages("b") == []
    second()
    world.run(0.2)
    assert world.messages("b") == [0]


@pytest.mark.parametrize("drop", [False, True])
def test_a_full_inbox_costs_the_message_or_the_connection(drop: bool) -> None:
    world = World()
    world.links.drop_when_full = drop
    world.room = 2
    world.send(range(5))
    world.run(0.01)
    assert world.messages("b") == [0, 1]
    assert world.links.connected("a", "b") is drop
    assert "inbox-full" in world.counted


def test_nobody_connects_to_the_dead() -> None:
    world = World()
    world.up.discard("b")
    world.links.leave("b")
    world.run(2)
    assert not world.links.connected("a", "b")
    world.up.add("b")
    world.links.join("b")
    assert world.links.connected("a", "b")
