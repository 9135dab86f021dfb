"""The hub's part in going into components: where to, who may, and what ends what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from paas.base.errors import PlatformError
from paas.entry import messages
from paas.entry.agent import Entry
from paas.entry.policy import POLICY
from paas.hub.access import CHANNEL
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Context, Dispatcher, check_policy
from paas.rpc.peer import Peer
from paas.rpc.stream_messages import Opened, Opening
from paas.rpc.streams import Stream, Streams
from paas.testing.pair import Pairs
from paas.wire.registry import Method

ENTER: Method[Opening, Opened] = Method(99_991, "test.enter", Opening, Opened, False)
HERE, FAR, NOWHERE, ENDED = ("a" * 40), ("b" * 40), ("c" * 40), ("d" * 40)


@dataclass
class Placed:
    id: str
    node: str
    ended: bool = False

    @property
    def short(self) -> str:
        return self.id[:8]


class Register:
    """Implements `entry.agent.Directory`."""

    async def find(self, target: str, *, timeout_s: float) -> Placed:
        places = {HERE: "n1", FAR: "n2", NOWHERE: "n3", ENDED: "n1", "greeter": "n1"}
        if target not in places:
            raise PlatformError("no-such-target", f"no {target}")
        component = HERE if target == "greeter" else target
        return Placed(component, places[target], ended=target == ENDED)


@dataclass
class Node:
    """A hub and the container controller behind it, which answers with what it was sent."""

    name: str
    nursery: trio.Nursery
    pairs: Pairs
    links: dict[str, Peer] = field(default_factory=dict)
    orders: list[Any] = field(default_factory=list)
    told: list[messages.Terminal] = field(default_factory=list)
    entered: list[tuple[str, str, str]] = field(default_factory=list)
    inside: int = 0

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(self.nursery, SystemClock(), on_bug=_raise)
        self.streams = Streams(self.nursery)
        self.entry = Entry(
            node=self.name,
            directory=Register(),
            containers=self,
            links=self,
            streams=self.streams,
            nursery=self.nursery,
            entered=lambda *facts: self.entered.append(facts),
        )
        self.entry.register(self.dispatcher)
        behind = Dispatcher(self.nursery, SystemClock(), on_bug=_raise)
        theirs = Streams(self.nursery)
        theirs.register(behind)

        async def enter(params: Opening, context: Context) -> Opened:
            stream = theirs.accept(context.peer, params)
            self.nursery.start_soon(self._echo, stream)
            return Opened(window=stream.window)

        behind.task(ENTER, enter)
        self.controller, _ = self.pairs.join(self.dispatcher, behind)
        self.controller.info["role"] = "containers"

    def peer(self, node: str) -> Peer | None:
        return self.links.get(node)

    async def enter(self, params: Opening, *, timeout_s: float) -> Stream:
        self.orders.append(params)
        if getattr(params, "command", None) == ["refuse"]:
            raise PlatformError("failed", "not in here")
        stream, _ = await self.streams.open(
            self.controller, ENTER, Opening(stream=0), timeout_s=timeout_s
        )
        return stream

    async def terminal(self, stream: Stream, params: messages.Terminal) -> None:
        self.told.append(params)

    async def _echo(self, stream: Stream) -> None:
        self.inside += 1
        try:
            async with stream:
                while (piece := await stream.receive()) is not None:
                    await stream.send(piece[1], 1)
                stream.end({"code": 0})
        except PlatformError:
            return
        finally:
            self.inside -= 1


def _raise(_name: str, exc: Exception) -> None:
    raise exc


@dataclass
class World:
    """An operator at n1, which knows n2 and cannot reach n3."""

    operator: Peer
    streams: Streams
    one: Node
    two: Node


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        pairs = Pairs(nursery)
        one, two = Node("n1", nursery, pairs), Node("n2", nursery, pairs)
        to_two, to_one = pairs.join(one.dispatcher, two.dispatcher)
        for peer, node in ((to_two, "n2"), (to_one, "n1")):
            peer.info.update(node=node, roles=frozenset({"hub"}))
        one.links["n2"], two.links["n1"] = to_two, to_one
        mine = Dispatcher(nursery, SystemClock(), on_bug=_raise)
        streams = Streams(nursery)
        streams.register(mine)
        operator, at_hub = pairs.join(mine, one.dispatcher)
        at_hub.info.update(roles=frozenset({"operator"}), token="t1")
        yield World(operator, streams, one, two)
        nursery.cancel_scope.cancel()


async def execute(w: World, component: str, *command: str) -> Stream:
    params = messages.Exec(stream=0, component=component, command=list(command or ("cat",)))
    stream, _ = await w.streams.open(w.operator, messages.EXEC, params, timeout_s=10.0)
    return stream


@pytest.mark.parametrize("component", [HERE, FAR, "greeter"])
async def test_bytes_go_to_where_the_component_is(component: str) -> None:
    async with world() as w:
        stream = await execute(w, component)
        await stream.send(b"hello")
        assert await stream.receive() == (1, b"hello")
        stream.end()
        assert await stream.receive() is None
        assert stream.result == {"code": 0}
        where, other = (w.two, w.one) if component == FAR else (w.one, w.two)
        assert [order.component for order in where.orders] == [HERE if component != FAR else FAR]
        assert not other.orders
        assert w.one.entered == [(where.orders[0].component, "controller.exec", "t1")]
        assert not w.two.entered, "told by the hub that the operator is at"


@pytest.mark.parametrize(
    ("component", "code"),
    [("nobody", "no-such-target"), (NOWHERE, "not-available"), (ENDED, "not-available")],
)
async def test_what_cannot_be_entered_is_refused_and_leaves_nothing(
    component: str, code: str
) -> None:
    async with world() as w:
        with pytest.raises(PlatformError) as caught:
            await execute(w, component)
        assert caught.value.code == code
        assert w.one.streams.statistics()["streams"] == 0


async def test_a_refusal_inside_reaches_the_caller() -> None:
    async with world() as w:
        for component in (HERE, FAR):
            with pytest.raises(PlatformError, match="not in here"):
                await execute(w, component, "refuse")
        await wait_all_tasks_blocked()
        assert w.one.streams.statistics()["streams"] == 0
        assert w.two.streams.statistics()["streams"] == 0


async def test_a_hub_that_is_asked_by_a_hub_passes_nothing_on() -> None:
    async with world() as w:
        params = messages.Exec(stream=0, component=HERE, command=["id"])
        with pytest.raises(PlatformError, match="not on this node any more"):
            await w.one.streams.open(w.one.links["n2"], messages.EXEC, params, timeout_s=5.0)


@pytest.mark.parametrize("component", [HERE, FAR])
async def test_a_caller_that_goes_ends_what_is_inside(component: str) -> None:
    async with world() as w:
        await execute(w, component)
        await wait_all_tasks_blocked()
        assert w.one.inside + w.two.inside == 1
        w.operator.close()
        await wait_all_tasks_blocked()
        assert w.one.inside + w.two.inside == 0
        assert not w.one.entry._onward
        assert not w.two.entry._onward


async def test_the_loss_of_the_other_node_is_told_to_the_caller() -> None:
    async with world() as w:
        stream = await execute(w, FAR)
        w.one.links["n2"].close()
        with pytest.raises(PlatformError) as caught:
            await stream.receive()
        assert caught.value.code == "unavailable"


@pytest.mark.parametrize("component", [HERE, FAR])
async def test_sizes_and_signals_follow_the_stream(component: str) -> None:
    async with world() as w:
        stream = await execute(w, component)
        order = messages.Terminal(stream=stream.number, rows=10, columns=20, signal="INT")
        await w.operator.call(messages.TERMINAL, order)
        (told,) = (w.two if component == FAR else w.one).told
        assert (told.rows, told.columns, told.signal) == (10, 20, "INT")
        with pytest.raises(PlatformError, match="no command"):
            await w.operator.call(messages.TERMINAL, messages.Terminal(stream=99, rows=1))


def test_every_method_has_a_row_and_is_for_operators_only() -> None:
    names = {m.name for m in (messages.EXEC, messages.CONNECT, messages.FILES, messages.TERMINAL)}
    check_policy(names | {f"stream.{n}" for n in ("data", "credit", "end", "reset")}, POLICY)
    assert all(rule.roles == {"operator", "hub"} for rule in POLICY.values())
    assert names - {"controller.terminal"} <= CHANNEL, "one HTTP answer carries no stream"
