"""Who cancels whom on the way of a call: caller, hub, other hub, harness; and nothing is left."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import InvokeResult
from paas.hub.messages import CALL, FORWARD, Forward
from paas.hub.router import Router
from paas.hub.routes import Attachment
from paas.real.clock import SystemClock
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer, Sweeper
from paas.testing.pair import pairs
from paas.wire import codec
from tests.unit.hub.test_routes import Cluster, Node, Two, call


class Harness:
    """A played harness: keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Peer, Request]] = []

    def on_request(self, peer: Peer, request: Request) -> None:
        self.asked.append((peer, request))

    @property
    def cancelled(self) -> list[bool]:
        return [request.cancelled for _, request in self.asked]

    def attach(self, node: Node, name: str) -> None:
        ours, _ = node._maker.join(_nobody, self.on_request)
        node.cluster.states[name], node.cluster.nodes[name] = "available", node.name
        node.router.attach(name, ours, ready=True)


class World:
    """Two nodes, a component on each, and a caller on the first."""

    def __init__(self, two: Two) -> None:
        self.two = two
        self.here, self.there = Harness(), Harness()
        self.here.attach(two.a, "here")
        self.there.attach(two.b, "there")
        two.cluster.groups["g"] = ["here", "there"]
        self.caller = two.a.caller()
        self.answers: list[str] = []

    def ask(self, target: str, **more: Any) -> int:
        def answer(value: bytes | PlatformError) -> None:
            self.answers.append(value.code if isinstance(value, PlatformError) else "answered")

        params = codec.pack(call(target, **{"timeout": 30.0, **more}))
        identity = self.caller.send_request(CALL.name, params, answer, timeout_s=60.0)
        assert identity is not None
        return identity

    async def begun(self, *harnesses: Harness) -> None:
        await settled()
        assert all(harness.asked for harness in harnesses)

    def assert_nothing_waits(self) -> None:
        for node in (self.two.a, self.two.b):
            for attachment in node.router.attachments():
                assert attachment.waiting == 0
                assert attachment.peer.connection.waiting == 0
            for peer in node.peers.values():
                assert peer.connection.waiting == peer.connection.outstanding == 0


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with pairs() as maker:
        yield World(Two(maker))


async def test_the_caller_cancels_a_call_on_its_own_node(world: World) -> None:
    identity = world.ask("here")
    await world.begun(world.here)
    world.caller.abandon(identity)
    await settled()
    assert world.here.cancelled == [True]
    world.assert_nothing_waits()


async def test_the_caller_cancels_a_call_to_another_node(world: World) -> None:
    identity = world.ask("there")
    await world.begun(world.there)
    world.caller.abandon(identity)
    await settled()
    assert world.there.cancelled == [True]
    world.assert_nothing_waits()


async def test_the_caller_cancels_all_members_of_a_group(world: World) -> None:
    identity = world.ask("group:g", selector="all")
    await world.begun(world.here, world.there)
    peer, request = world.here.asked[0]
    peer.reply(request, InvokeResult())
    await settled()
    world.caller.abandon(identity)
    await settled()
    assert world.here.cancelled == [False], "it had answered"
    assert world.there.cancelled == [True]
    assert world.answers == ["cancelled"]
    world.assert_nothing_waits()


async def test_the_end_of_the_callers_connection_cancels_its_calls(world: World) -> None:
    for target in ("here", "there", "here"):
        world.ask(target)
    await world.begun(world.here, world.there)
    world.caller.close()
    await settled()
    assert world.here.cancelled == [True, True]
    assert world.there.cancelled == [True]
    world.assert_nothing_waits()


async def test_the_deadline_at_the_hub_cancels(world: World) -> None:
    world.ask("here", timeout=0.01)
    world.ask("there", timeout=0.01)
    with trio.fail_after(20.0):
        while world.answers != ["timeout", "timeout"]:
            await trio.testing.wait_all_tasks_blocked(0.01)
    await settled()
    assert world.here.cancelled == [True]
    assert world.there.cancelled == [True]
    world.assert_nothing_waits()


async def test_the_end_of_the_link_between_hubs_cancels_what_came_over_it(world: World) -> None:
    world.ask("there")
    world.ask("here")
    await world.begun(world.here, world.there)
    world.two.a.peers["b"].close()
    await settled()
    assert world.there.cancelled == [True]
    assert world.here.cancelled == [False]
    assert world.answers == ["unknown-outcome"]
    assert [a.waiting for a in world.two.b.router.attachments()] == [0]


async def test_an_answer_and_a_cancellation_that_meet_are_one_outcome(world: World) -> None:
    identity = world.ask("there")
    await world.begun(world.there)
    peer, request = world.there.asked[0]
    peer.reply(request, InvokeResult())
    world.caller.abandon(identity)
    await settled()
    assert world.answers == ["cancelled"]
    other = world.ask("there")
    await settled()
    peer, request = world.there.asked[1]
    peer.reply(request, InvokeResult())
    await settled()
    world.caller.abandon(other)
    await settled()
    assert world.answers == ["cancelled", "answered"]
    world.assert_nothing_waits()


async def test_another_callers_calls_cannot_be_hit(world: World) -> None:
    world.ask("here")
    await world.begun(world.here)
    stranger = world.two.a.caller("a-stranger")
    for number in range(100):
        stranger.notify_raw("rpc.cancel", codec.pack({"id": number}))
    await settled()
    assert world.here.cancelled == [False]


@pytest.mark.parametrize("target", ["here", "there"])
async def test_what_has_expired_is_sent_to_nobody(world: World, target: str) -> None:
    world.ask(target, timeout=None, deadline=1.0)
    await settled()
    assert world.answers == ["timeout"]
    assert world.here.asked == world.there.asked == []


@pytest.mark.parametrize("timeout", [0.0, -1.0])
async def test_what_has_expired_between_hubs_is_not_handed_to_the_harness(
    world: World, timeout: float
) -> None:
    message = Forward(component="there", operation="o", timeout=timeout)
    with pytest.raises(PlatformError):
        await world.two.a.peers["b"].call(FORWARD, message)
    late = Forward(component="there", operation="o", deadline=1.0)
    with pytest.raises(PlatformError) as caught:
        await world.two.a.peers["b"].call(FORWARD, late)
    assert caught.value.code == "timeout"
    assert world.there.asked == []


# -- 10,000 random steps ---------------------------------------------------------------------------


class Wire:
    """A link that keeps what is written until somebody takes it."""

    def __init__(self) -> None:
        self.closed = False
        self.queued_bytes = 0
        self._kept: list[bytes] = []

    async def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        if data and not self.closed:
            self._kept.append(data)

    def take(self) -> bytes:
        data = b"".join(self._kept)
        self._kept.clear()
        return data

    def close(self) -> None:
        self.closed = True


class End:
    """One connection to a router without tasks: the peer there, a connection core here."""

    def __init__(self, on_request: Any, sweeper: Sweeper, **info: Any) -> None:
        self.wire = Wire()
        self.core = Connection(Form.COMPACT)
        self.peer = Peer(self.wire, Connection(Form.COMPACT), sweeper, on_request)
        self.peer.info.update(info)
        self.asked: list[Request] = []
        self.open: list[int] = []

    def send(self, data: bytes) -> None:
        for request in self.peer.connection.receive(data):
            self.peer._handle(request)
        self.peer.link.write(self.peer.connection.take_outbox())

    def listen(self) -> None:
        self.asked += self.core.receive(self.wire.take())
        self.send(self.core.take_outbox())

    def hang_up(self) -> None:
        self.peer.close()
        self.peer._end()
        self.core.end(PlatformError("unknown-outcome"))


class Storm:
    """Callers and harnesses of one router that do what chance tells them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.cluster = Cluster()
        self.router = Router(self.cluster, SystemClock(), node="a")
        self.sweeper = Sweeper()
        self.past: list[End] = []
        self.attachments: list[Attachment] = []
        self.asked, self.outcomes = 0, 0
        self.callers = [self.caller() for _ in range(4)]
        self.cluster.groups["g"] = ["x", "y", "z"]
        self.harnesses = {name: self.harness(name) for name in ("x", "y", "z")}

    def caller(self) -> End:
        def on_request(peer: Peer, request: Request) -> None:
            try:
                self.router.call(peer, request)
            except PlatformError as exc:
                peer.fail(request, exc)

        return End(on_request, self.sweeper, component="the-caller")

    def harness(self, name: str) -> End:
        end = End(_nobody, self.sweeper)
        self.cluster.states[name], self.cluster.nodes[name] = "available", "a"
        self.router.attach(name, end.peer, ready=True)
        attachment = self.router.attachment(name)
        assert attachment is not None
        self.attachments.append(attachment)
        return end

    def step(self) -> None:
        end = self.chance.choice(self.callers)
        name = self.chance.choice("xyz")
        harness = self.harnesses[name]
        match self.chance.randrange(20):
            case 0 if self.chance.random() < 0.2:
                self.callers.remove(end)
                self.past.append(end)
                end.hang_up()
                self.callers.append(self.caller())
            case 1 if self.chance.random() < 0.2:
                self.router.detach(name, harness.peer)
                self.past.append(harness)
                harness.hang_up()
                self.harnesses[name] = self.harness(name)
            case 2:
                harness.peer.expire(trio.current_time() + self.chance.choice((0.0, 100.0)))
            case 3 | 4 | 5 | 6 | 7 | 8:
                self.ask(end)
            case 9 | 10 | 11 | 12 if end.open:
                identity = end.open.pop(self.chance.randrange(len(end.open)))
                end.send(end.core.abandon(identity))
            case 13:
                end.send(end.core.notify("rpc.cancel", codec.pack({"id": -1})))
            case _ if harness.asked:
                request = harness.asked.pop(self.chance.randrange(len(harness.asked)))
                harness.send(harness.core.reply(request, codec.pack(InvokeResult())))
        self.listen()

    def ask(self, end: End) -> None:
        def answer(_value: bytes | PlatformError) -> None:
            self.outcomes += 1

        self.asked += 1
        target = self.chance.choice(("x", "y", "z", "group:g"))
        selector = self.chance.choice(("any", "all")) if target == "group:g" else "any"
        params = codec.pack(call(target, selector=selector, timeout=50.0))
        identity, data = end.core.request(CALL.name, params, answer, 1e12)
        end.open.append(identity)
        end.send(data)

    def listen(self) -> None:
        for end in (*self.callers, *self.harnesses.values()):
            end.listen()

    def calm(self) -> None:
        """Everything that is still asked is answered."""
        for _ in range(3):
            for harness in self.harnesses.values():
                asked, harness.asked = harness.asked, []
                for request in asked:
                    harness.send(harness.core.reply(request, codec.pack(InvokeResult())))
            self.listen()


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_left_after_10_000_random_steps(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(10_000):
        storm.step()
    storm.calm()
    assert storm.outcomes == storm.asked > 1_000
    assert [a.waiting for a in storm.attachments] == [0] * len(storm.attachments)
    for end in (*storm.callers, *storm.harnesses.values(), *storm.past):
        connection = end.peer.connection
        assert connection.waiting == connection.outstanding == 0
        assert connection._theirs == {}
    for end in (*storm.callers, *storm.harnesses.values()):
        assert end.core.waiting == end.core.outstanding == 0
