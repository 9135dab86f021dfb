"""Selectors at work: routers of three nodes, members with different work and distance."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import Invoke, InvokeResult
from paas.hub.loads import answer_loads
from paas.hub.messages import CALL, CAST, FORWARD, LOADS, Call, Cast, Loads
from paas.hub.router import Router
from paas.hub.selection import parse
from paas.real.clock import SystemClock
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode

GROUP = "workers"


class Cluster:
    """What all nodes know."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.joined: list[str] = []
        self.attributes: dict[str, dict[str, bytes]] = {}

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return list(self.joined) if group == GROUP else []

    def state(self, component: str) -> str:
        return self.states[component]

    def node(self, component: str) -> str:
        return self.nodes[component]

    def of(self, component: str) -> Mapping[str, bytes]:
        return self.attributes.get(component, {})


class Node:
    """One node's router and its components."""

    def __init__(self, name: str, cluster: Cluster, maker: Pairs) -> None:
        self.name, self.cluster, self._maker = name, cluster, maker
        self.peers: dict[str, Peer] = {}
        self.far_s = 0.0
        """How long questions of other hubs take here."""
        self.router = Router(cluster, SystemClock(), node=name, links=self)
        self.router.chooser.attributes = cluster
        self.held: dict[str, list[tuple[Peer, Request]]] = {}

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return list(self.peers)

    def on_request(self, peer: Peer, request: Request) -> None:
        if request.method == LOADS.name:
            trio.lowlevel.spawn_system_task(self._say_loads, peer, request)
            return
        handlers = {
            CALL.name: self.router.call,
            CAST.name: self.router.cast,
            FORWARD.name: self.router.forward,
        }
        try:
            handlers[request.method](peer, request)
        except PlatformError as exc:
            peer.fail(request, exc)

    async def _say_loads(self, peer: Peer, request: Request) -> None:
        await trio.sleep(self.far_s)
        peer.reply(request, answer_loads(decode(request.params, Loads), self.router.waiting))

    def member(self, name: str, *, holds: bool = False) -> None:
        """A member of the group; one that holds answers when it is let."""

        def answer(peer: Peer, request: Request) -> None:
            invoke = decode(request.params, Invoke)
            if holds:
                self.held.setdefault(name, []).append((peer, request))
            elif not invoke.oneway:
                peer.reply(request, InvokeResult(outputs=invoke.inputs))

        ours, _ = self._maker.join(_nobody, answer)
        self.cluster.states[name], self.cluster.nodes[name] = "available", self.name
        self.cluster.joined.append(name)
        self.router.attach(name, ours, ready=True)

    def let(self, name: str) -> None:
        for peer, request in self.held.pop(name, []):
            peer.reply(request, InvokeResult())

    def caller(self) -> Peer:
        ours, theirs = self._maker.join(self.on_request, _nobody)
        ours.info["component"] = "the-caller"
        return theirs


class World:
    """Nodes a, b, c, each connected with each."""

    def __init__(self, maker: Pairs) -> None:
        self.cluster = Cluster()
        self.a, self.b, self.c = (Node(name, self.cluster, maker) for name in "abc")
        for one, other in ((self.a, self.b), (self.a, self.c), (self.b, self.c)):
            left, right = maker.join(one.on_request, other.on_request)
            one.peers[other.name], other.peers[one.name] = left, right
            left.info["node"], right.info["node"] = other.name, one.name


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with pairs() as maker:
        yield World(maker)


def call(selector: str) -> Call:
    return Call(
        target=f"group:{GROUP}", operation="echo", inputs=msgspec.Raw(b"\x80"), selector=selector
    )


async def chosen(caller: Peer, selector: str, count: int) -> Counter[str]:
    """Who answered so many calls, one after the other."""
    return Counter([str((await caller.call(CALL, call(selector))).component) for _ in range(count)])


async def code_of(caller: Peer, selector: str) -> str:
    with pytest.raises(PlatformError) as caught:
        await caller.call(CALL, call(selector))
    return caught.value.code


def send(caller: Peer, selector: str) -> None:
    """A call whose answer nobody looks at."""
    caller.send_request(CALL.name, codec.pack(call(selector)), lambda _value: None, timeout_s=60.0)


# -- any ----


async def test_any_is_fair_over_all_nodes(world: World) -> None:
    for node, name in ((world.a, "a1"), (world.b, "b1"), (world.b, "b2"), (world.c, "c1")):
        node.member(name)
    used = await chosen(world.a.caller(), "any", 40)
    assert used == {"a1": 10, "b1": 10, "b2": 10, "c1": 10}


# -- nearest ----


async def test_nearest_stays_on_the_node_and_is_fair_there(world: World) -> None:
    for node, name in ((world.b, "b1"), (world.a, "a1"), (world.a, "a2"), (world.c, "c1")):
        node.member(name)
    assert await chosen(world.a.caller(), "nearest", 20) == {"a1": 10, "a2": 10}
    world.a.router.set_ready("a1", False)
    assert await chosen(world.a.caller(), "nearest", 6) == {"a2": 6}


async def test_without_a_member_here_the_node_with_the_shortest_way_is_taken(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    class TrioTime(SystemClock):
        def monotonic_s(self) -> float:
            return trio.current_time()

    world.a.router._loads._clock = TrioTime()
    for node, name in ((world.b, "b1"), (world.c, "c1"), (world.c, "c2")):
        node.member(name)
    world.b.far_s, world.c.far_s = 0.030, 0.002
    caller = world.a.caller()
    first = await chosen(caller, "nearest", 9)
    assert set(first) == {"b1", "c1", "c2"}, "nothing is measured yet: all are as near"
    await trio.sleep(0.1)
    assert await chosen(caller, "nearest", 10) == {"c1": 5, "c2": 5}
    world.a.peers["c"].close()
    del world.a.peers["c"]
    assert await chosen(caller, "nearest", 2) == {"b1": 2}


# -- least-loaded ----


async def test_a_skewed_load_is_evened_out(world: World) -> None:
    """One member has work already; new calls go to the others until all have as much."""
    for name in ("a1", "a2", "a3"):
        world.a.member(name, holds=True)
    caller = world.a.caller()
    for _ in range(6):
        caller.send_request(
            CALL.name,
            codec.pack(Call(target="a1", operation="echo")),
            lambda _value: None,
            timeout_s=60.0,
        )
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(12):
        send(caller, "least-loaded")
    await trio.testing.wait_all_tasks_blocked()
    assert {name: len(held) for name, held in world.a.held.items()} == {"a1": 6, "a2": 6, "a3": 6}
    world.a.let("a2")
    await trio.testing.wait_all_tasks_blocked()
    send(caller, "least-loaded")
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.a.held["a2"]) == 1


async def test_calls_of_this_hub_in_flight_count_on_other_nodes_too(world: World) -> None:
    world.b.member("b1", holds=True)
    world.c.member("c1", holds=True)
    caller = world.a.caller()
    for _ in range(10):
        send(caller, "least-loaded")
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.b.held["b1"]) == len(world.c.held["c1"]) == 5
    world.b.let("b1")
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(4):
        send(caller, "least-loaded")
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.b.held["b1"]) == 4
    assert len(world.c.held["c1"]) == 5


async def test_what_others_send_to_a_member_is_learnt_from_its_hub(world: World) -> None:
    world.b.member("b1", holds=True)
    world.c.member("c1")
    busy = world.b.caller()
    for _ in range(20):
        busy.send_request(
            CALL.name,
            codec.pack(Call(target="b1", operation="echo")),
            lambda _value: None,
            timeout_s=60.0,
        )
    await trio.testing.wait_all_tasks_blocked()
    caller = world.a.caller()
    send(caller, "least-loaded")  # asks both hubs, and does not wait for what they say
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(0.01)
    await trio.testing.wait_all_tasks_blocked()
    assert world.a.router._loads.of("b1") >= 20
    assert await chosen(caller, "least-loaded", 10) == {"c1": 10}


async def test_the_load_is_in_the_answer_to_a_forwarded_call(world: World) -> None:
    world.b.member("b1")
    world.a.router._loads._asked_s["loads", "b"] = 1e18  # the hub is not asked
    world.b.router.attachment("b1").waiting = 5  # type: ignore[union-attr]
    assert await chosen(world.a.caller(), "least-loaded", 1) == {"b1": 1}
    assert world.a.router._loads.of("b1") == 5


async def test_members_with_the_same_load_take_turns(world: World) -> None:
    for node, name in ((world.a, "a1"), (world.b, "b1"), (world.c, "c1")):
        node.member(name)
    assert await chosen(world.a.caller(), "least-loaded", 12) == {"a1": 4, "b1": 4, "c1": 4}


# -- hash ----


async def test_every_hub_sends_a_key_to_the_same_member(world: World) -> None:
    for number in range(9):
        (world.a, world.b, world.c)[number % 3].member(f"m{number}")
    callers = [node.caller() for node in (world.a, world.b, world.c)]
    used = set()
    for key in range(30):
        answers = [(await chosen(caller, f"hash:{key}", 1)).popitem()[0] for caller in callers]
        assert len(set(answers)) == 1
        used.add(answers[0])
    assert len(used) > 5


async def test_keys_of_a_member_that_is_away_go_to_the_next_and_come_back(world: World) -> None:
    for number in range(6):
        world.a.member(f"m{number}")
    caller = world.a.caller()
    before = {k: (await chosen(caller, f"hash:{k}", 1)).popitem()[0] for k in range(60)}
    world.a.router.set_ready("m3", False)
    during = {k: (await chosen(caller, f"hash:{k}", 1)).popitem()[0] for k in range(60)}
    assert "m3" in before.values()
    assert {k for k in before if before[k] != during[k]} == {k for k in before if before[k] == "m3"}
    world.a.router.set_ready("m3", True)
    after = {k: (await chosen(caller, f"hash:{k}", 1)).popitem()[0] for k in range(60)}
    assert after == before


# -- attribute ----


async def test_members_with_the_attribute_take_turns(world: World) -> None:
    for node, name in ((world.a, "a1"), (world.b, "b1"), (world.c, "c1"), (world.c, "c2")):
        node.member(name)
    east, west = codec.pack("east"), codec.pack("west")
    world.cluster.attributes = {
        "a1": {"zone": west},
        "b1": {"zone": east, "other": west},
        "c2": {"zone": east},
    }
    caller = world.a.caller()
    assert await chosen(caller, 'attribute:zone="east"', 8) == {"b1": 4, "c2": 4}
    assert await code_of(caller, 'attribute:zone="north"') == "not-available"
    world.b.router.set_ready("b1", False)
    world.cluster.states["b1"] = "unavailable"
    assert await chosen(caller, 'attribute:zone="east"', 2) == {"c2": 2}


async def test_a_hub_without_attributes_says_so(world: World) -> None:
    world.a.member("a1")
    world.a.router.chooser.attributes = None
    assert await code_of(world.a.caller(), "attribute:n=1") == "unsupported"


# -- casts and lists ----


@pytest.mark.parametrize(
    ("selector", "accepted"),
    [("any", 1), ("all", 2), ("leader", 1), ("nearest", 1), ("least-loaded", 1), ("hash:x", 1)],
)
async def test_casts_take_the_same_selectors(world: World, selector: str, accepted: int) -> None:
    world.a.member("a1")
    world.b.member("b1")
    cast = Cast(target=f"group:{GROUP}", operation="note", selector=selector)
    assert (await world.a.caller().call(CAST, cast)).accepted == accepted


@pytest.mark.parametrize("selector", ["any", "nearest", "least-loaded", "hash:x"])
async def test_nobody_available_is_an_error_for_every_selector(world: World, selector: str) -> None:
    world.a.member("a1")
    world.a.router.set_ready("a1", False)
    assert await code_of(world.a.caller(), selector) == "not-available"
    world.cluster.joined.clear()
    assert await code_of(world.a.caller(), selector) == "no-such-target"


async def test_a_selector_picks_from_a_list_of_members(world: World) -> None:
    for node, name in ((world.b, "b1"), (world.a, "a1"), (world.a, "a2")):
        node.member(name)
    world.cluster.attributes = {"a2": {"n": b"\x01"}, "b1": {"n": b"\x01"}}

    def pick(selector: str) -> list[str]:
        return world.a.router.pick(GROUP, parse(selector))

    assert pick("all") == ["b1", "a1", "a2"]
    assert pick("leader") == ["b1"]
    assert pick("nearest") == ["a1"]
    assert pick("attribute:n=1") == ["b1", "a2"]
    assert pick("hash:k") == pick("hash:k")
    assert world.a.router.pick("empty", parse("any")) == []
