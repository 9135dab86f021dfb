"""Components that stand still: groups pass them over; who names one waits, and hears why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.harness.messages import INVOKE, Invoke, InvokeResult
from paas.hub.messages import CALL, Call
from paas.hub.router import Router
from paas.real.clock import SystemClock
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode


class Directory:
    """Two components, both in the group `g`, on this node."""

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return ["still", "awake"] if group == "g" else []

    def state(self, component: str) -> str:
        return "unavailable" if component == "still" else "available"

    def node(self, component: str) -> str:
        return ""


class World:
    """A router, a component that stands still, one that does not, and a caller."""

    def __init__(self, maker: Pairs) -> None:
        self.frozen: dict[str, None] = {"still": None}
        self.held: list[tuple[Peer, Request, Invoke]] = []
        self.arrived = trio.Event()
        self.router = Router(Directory(), SystemClock())
        self.router.frozen = self.frozen
        for name in ("still", "awake"):
            ours, _ = maker.join(_nobody, self._component(name))
            self.router.attach(name, ours, ready=True)
        ours, self.caller = maker.join(self._call, _nobody)
        ours.info["component"] = "the-caller"

    def _component(self, name: str) -> Any:
        def on_request(peer: Peer, request: Request) -> None:
            assert request.method == INVOKE.name
            invoke = decode(request.params, Invoke)
            if name in self.frozen:
                self.held.append((peer, request, invoke))
                self.arrived.set()
            else:
                peer.reply(request, InvokeResult(outputs=invoke.inputs))

        return on_request

    def _call(self, peer: Peer, request: Request) -> None:
        try:
            self.router.call(peer, request)
        except PlatformError as exc:
            peer.fail(request, exc)

    def thaw(self) -> None:
        self.frozen.clear()
        for peer, request, invoke in self.held:
            peer.reply(request, InvokeResult(outputs=invoke.inputs))


def _nobody(_peer: Peer, request: Request) -> None:
    raise AssertionError(request)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with pairs() as maker:
        yield World(maker)


def call(target: str, **more: Any) -> Call:
    return Call(target=target, operation="op", inputs=msgspec.Raw(codec.pack(1)), **more)


async def test_who_names_one_waits_until_it_goes_on(world: World) -> None:
    results: list[Any] = []

    async def ask() -> None:
        results.append(await world.caller.call(CALL, call("still"), timeout_s=20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(10):
            await world.arrived.wait()
        assert not results
        world.thaw()
    assert results[0].component == "still"


async def test_at_the_deadline_the_error_says_that_it_is_frozen(world: World) -> None:
    with pytest.raises(PlatformError) as caught:
        await world.caller.call(CALL, call("still", timeout=0.3), timeout_s=5)
    error = caught.value
    assert (error.code, error.data["reason"]) == ("timeout", "frozen")
    assert "paas thaw still" in error.hint


@pytest.mark.parametrize("selector", ["any", "hash:x", "least-loaded"])
async def test_groups_pass_it_over(world: World, selector: str) -> None:
    for _ in range(6):
        params = call("group:g", selector=selector)
        result = await world.caller.call(CALL, params, timeout_s=5)
        assert result.component == "awake"
    assert not world.held
    assert world.router.ready_members("g") == ["awake"]
    assert not world.router.is_ready("still")


async def test_it_is_a_member_like_others_when_it_goes_on(world: World) -> None:
    world.frozen.clear()
    assert world.router.ready_members("g") == ["still", "awake"]
    result = await world.caller.call(CALL, call("still"), timeout_s=5)
    assert result.component == "still"


async def test_one_that_is_not_attached_is_refused_at_once(world: World) -> None:
    world.frozen["gone"] = None
    with pytest.raises(PlatformError) as caught:
        await world.caller.call(CALL, call("gone"), timeout_s=5)
    assert caught.value.code == "not-available"
