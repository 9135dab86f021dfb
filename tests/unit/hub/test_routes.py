"""Calls and casts between nodes: two routers, joined by a connection between their hubs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import Invoke, InvokeResult
from paas.hub import limits
from paas.hub.messages import CALL, CAST, FORWARD, Call, CallResult, Cast
from paas.hub.router import Router
from paas.real.clock import SystemClock
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-00"


class Cluster:
    """What both nodes know: who is where, who is in which group."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.groups: dict[str, list[str]] = {}

    def resolve(self, target: str) -> str:
        if target not in self.states:
            raise PlatformError("no-such-target")
        return target

    def members(self, group: str) -> list[str]:
        return self.groups.get(group, [])

    def state(self, component: str) -> str:
        return self.states[component]

    def node(self, component: str) -> str:
        return self.nodes[component]


class Node:
    """One node's router, its links, and components attached to it."""

    def __init__(self, name: str, cluster: Cluster, maker: Pairs) -> None:
        self.name, self.cluster, self._maker = name, cluster, maker
        self.peers: dict[str, Peer] = {}
        self.holds_lease = True
        self.seen: list[Invoke] = []
        self.router = Router(
            cluster, SystemClock(), node=name, links=self, may_run=lambda: self.holds_lease
        )

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def on_request(self, peer: Peer, request: Request) -> None:
        handlers = {
            CALL.name: self.router.call,
            CAST.name: self.router.cast,
            FORWARD.name: self.router.forward,
        }
        try:
            handlers[request.method](peer, request)
        except PlatformError as exc:
            peer.fail(request, exc)

    def component(self, name: str, *, silent: bool = False) -> Peer:
        def answer(peer: Peer, request: Request) -> None:
            invoke = decode(request.params, Invoke)
            self.seen.append(invoke)
            if not silent and not invoke.oneway:
                peer.reply(request, InvokeResult(outputs=invoke.inputs))

        ours, theirs = self._maker.join(_nobody, answer)
        self.cluster.states[name], self.cluster.nodes[name] = "available", self.name
        self.router.attach(name, ours, ready=True)
        return theirs

    def caller(self, component: str = "the-caller") -> Peer:
        ours, theirs = self._maker.join(self.on_request, _nobody)
        ours.info["component"] = component
        return theirs


class Two:
    """Two nodes whose hubs are connected."""

    def __init__(self, maker: Pairs) -> None:
        self.cluster = Cluster()
        self.a = Node("a", self.cluster, maker)
        self.b = Node("b", self.cluster, maker)
        self.a.peers["b"], self.b.peers["a"] = maker.join(self.a.on_request, self.b.on_request)


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with pairs() as maker:
        yield Two(maker)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def call(target: str, value: int = 1, **more: object) -> Call:
    return Call(target=target, operation="echo", inputs=_raw({"n": value}), **more)  # type: ignore[arg-type]


async def outcome(peer: Peer, params: Call) -> CallResult | str:
    try:
        return await peer.call(CALL, params)
    except PlatformError as exc:
        return exc.code


async def test_a_call_reaches_a_component_of_another_node(two: Two) -> None:
    two.b.component("c")
    result = await two.a.caller().call(CALL, call("c", 7, timeout=5.0, trace=TRACE))
    assert result.component == "c"
    assert codec.unpack(bytes(result.outputs)) == {"n": 7}  # type: ignore[arg-type]
    (seen,) = two.b.seen
    assert (seen.from_, seen.operation, seen.trace) == ("the-caller", "echo", TRACE)
    assert seen.deadline is not None


async def test_the_deadline_is_counted_by_the_clock_of_the_receiving_node(two: Two) -> None:
    class Ahead(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 600_000

    two.b.component("c")
    two.b.router._clock = Ahead()
    assert isinstance(await outcome(two.a.caller(), call("c", timeout=5.0)), CallResult)
    assert two.b.seen[0].deadline is not None
    assert two.b.seen[0].deadline > SystemClock().now_ms() / 1000 + 500


async def test_members_on_all_nodes_take_turns(two: Two) -> None:
    two.a.component("here")
    two.b.component("there")
    two.cluster.groups["g"] = ["here", "there"]
    caller = two.a.caller()
    answered = [(await caller.call(CALL, call("group:g"))).component for _ in range(4)]
    assert answered == ["here", "there", "here", "there"]


async def test_the_leader_of_a_group_is_who_joined_first_wherever_it_is(two: Two) -> None:
    two.a.component("second")
    two.b.component("first")
    two.cluster.groups["g"] = ["first", "second"]
    result = await two.a.caller().call(CALL, call("group:g", selector="leader"))
    assert result.component == "first"


async def test_no_other_member_stands_in_for_a_leader_that_is_not_available(two: Two) -> None:
    two.a.component("second")
    two.b.component("first")
    two.cluster.groups["g"] = ["first", "second"]
    two.cluster.states["first"] = "unavailable"
    assert await outcome(two.a.caller(), call("group:g", selector="leader")) == "not-available"


async def test_selector_all_gathers_answers_of_both_nodes(two: Two) -> None:
    two.a.component("here")
    two.b.component("there")
    two.cluster.groups["g"] = ["here", "there"]
    result = await two.a.caller().call(CALL, call("group:g", selector="all"))
    assert [r.component for r in sorted(result.replies, key=lambda r: r.component)] == [  # type: ignore[union-attr,arg-type]
        "here",
        "there",
    ]


async def test_casts_arrive_at_the_other_node_in_order(two: Two) -> None:
    two.b.component("c")
    caller = two.a.caller()
    for n in range(50):
        await caller.call(CAST, Cast(target="c", operation="note", inputs=_raw({"n": n})))
    await trio.testing.wait_all_tasks_blocked()
    assert [codec.unpack(bytes(i.inputs))["n"] for i in two.b.seen] == list(range(50))
    assert all(i.oneway for i in two.b.seen)


async def test_a_call_whose_link_breaks_has_an_unknown_outcome_and_is_not_sent_again(
    two: Two,
) -> None:
    two.b.component("c", silent=True)
    caller = two.a.caller()
    said: list[object] = []

    async def ask() -> None:
        said.append(await outcome(caller, call("c")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        two.a.peers["b"].close()
    assert said == ["unknown-outcome"]
    assert len(two.b.seen) == 1


async def test_a_component_on_a_node_out_of_reach_is_not_available(two: Two) -> None:
    two.b.component("c")
    del two.a.peers["b"]
    assert await outcome(two.a.caller(), call("c")) == "not-available"
    two.cluster.groups["g"] = ["c"]
    assert await outcome(two.a.caller(), call("group:g")) == "not-available"
    assert not two.a.router.is_ready("c")


async def test_what_has_moved_away_meanwhile_is_refused_by_the_node_it_left(two: Two) -> None:
    two.b.component("c")
    two.b.router.detach("c", two.b.router.peer("c"))  # type: ignore[arg-type]
    assert await outcome(two.a.caller(), call("c")) == "not-available"


async def test_without_its_lease_a_node_delivers_nothing_and_sends_nothing(two: Two) -> None:
    two.a.component("mine")
    two.b.component("c")
    two.a.holds_lease = False
    assert await outcome(two.a.caller("mine"), call("c")) == "not-available"
    assert await outcome(two.b.caller(), call("mine")) == "not-available"
    assert two.a.seen == []
    assert two.b.seen == []
    two.a.holds_lease = True
    assert isinstance(await outcome(two.b.caller(), call("mine")), CallResult)


async def test_a_link_that_is_slower_than_its_senders_refuses_more(two: Two) -> None:
    two.b.component("c")
    link = two.a.peers["b"].link
    link._outbox_bytes = limits.LINK_BYTES_MAX + 1  # type: ignore[attr-defined]
    assert await outcome(two.a.caller(), call("c")) == "limit-exceeded"
    assert two.b.seen == []
    assert two.a.router.refused == 1
