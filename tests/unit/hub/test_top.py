"""`hub.top` and the hub's own attributes: what waits, how fast, who is slow, what was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.hub import limits, messages
from paas.hub.figures import NAMES, Figures
from paas.hub.top_messages import TOP, Top, TopResult
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.hub_in_memory import World, hub_world, settled
from paas.testing.pair import pairs
from paas.wire import codec


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with hub_world() as made:
        yield made


async def load(world: World, component: str, calls: int) -> None:
    """A component that answers nothing, if it is not there yet, and calls to it."""
    if not world.hub.attached(component):
        far = await world.component(component)
        far.peer.on_request = lambda _peer, _request: None
    caller = world.operator()
    body = codec.pack(messages.Call(target=f"name-{component}", operation="op"))
    for _ in range(calls):
        caller.peer.send_request(messages.CALL.name, body, lambda _value: None, timeout_s=60.0)
    await settled()


async def top(world: World, **params: object) -> TopResult:
    result: TopResult = await world.operator().call(TOP, Top(**params))  # type: ignore[arg-type]
    return result


async def test_components_are_shown_by_what_waits_for_them(world: World) -> None:
    await load(world, "a", 2)
    await load(world, "b", 5)
    await load(world, "c", 0)
    found = await top(world)
    shown = [(c.component, c.name, c.waiting, c.delivered) for c in found.components]
    assert shown == [("b", "name-b", 5, 5), ("a", "name-a", 2, 2), ("c", "name-c", 0, 0)]
    (node,) = found.nodes
    assert (node.node, node.attached, node.waiting, node.slow) == ("n1", 3, 7, [])
    assert node.parts["watches"]["watches"] == 0
    assert found.missing == []


async def test_the_list_is_sorted_and_cut_as_wanted(world: World) -> None:
    for name, calls in (("a", 3), ("b", 1), ("c", 2)):
        await load(world, name, calls)
    by_name = await top(world, sort="name", limit=2)
    assert [c.component for c in by_name.components] == ["a", "b"]
    by_count = await top(world, sort="delivered", limit=1)
    assert [c.component for c in by_count.components] == ["a"]
    assert (await top(world, limit=0)).components == []
    for wrong in (Top(sort="height"), Top(limit=-1), Top(limit=limits.TOP_COMPONENTS_MAX + 1)):
        assert (await world.operator().error(TOP, wrong)).code == "invalid"


async def test_refusals_are_counted_by_reason(world: World) -> None:
    await load(world, "a", limits.INVOCATIONS_MAX)
    operator = world.operator()
    for target, code in (
        ("name-a", "limit-exceeded"),
        ("name-a", "limit-exceeded"),
        ("nobody", "no-such-target"),
        ("group:none", "no-such-target"),
    ):
        params = messages.Call(target=target, operation="op")
        assert (await operator.error(messages.CALL, params)).code == code
    found = await top(world)
    assert found.nodes[0].refused == {"limit-exceeded": 2, "no-such-target": 2}
    assert found.components[0].refused == 2


async def test_a_component_that_falls_behind_is_called_slow(world: World) -> None:
    await load(world, "a", limits.SLOW_WAITING - 1)
    assert not (await top(world)).components[0].slow
    await load(world, "a", 1)
    found = await top(world)
    assert found.components[0].slow
    assert found.nodes[0].slow == ["a"]


async def test_rates_grow_with_what_is_delivered(world: World) -> None:
    await load(world, "a", 8)
    board = world.hub.routing.board
    await trio.sleep(0.01)
    board.sample()
    found = await top(world, sort="rate")
    assert found.components[0].rate_1s == found.components[0].rate_10s > 0
    assert found.nodes[0].rates_1s["calls"] > 0
    assert found.nodes[0].rates_1s["casts"] == 0
    for _ in range(10):
        await trio.sleep(0.002)
        board.sample()
    found = await top(world)
    assert found.components[0].rate_10s == 0


async def test_components_do_not_see_it(world: World) -> None:
    far = await world.component("a")
    assert (await far.error(TOP, Top())).code == "denied"


async def test_other_nodes_are_asked_and_missed_when_silent(world: World) -> None:
    def other(peer: Peer, request: Request) -> None:
        if request.method == TOP.name:
            asked.append(codec.unpack(request.params))
            local = world.hub.routing.board.here(Top())
            peer.reply(request, local)

    def silent(_peer: Peer, _request: Request) -> None:
        pass

    asked: list[dict[str, object]] = []
    await load(world, "a", 1)
    async with pairs() as maker:
        speaks, _ = maker.join(_nobody, other)
        rests, _ = maker.join(_nobody, silent)
        board = world.hub.routing.board
        board._links = _Links({"n2": speaks, "n3": rests})
        board.nodes = lambda: ["n1", "n2", "n3", "n4"]
        found = await world.operator().call(TOP, Top(timeout=0.5))
        assert found.missing == ["n3", "n4"]
        assert len(found.nodes) == 2
        assert len(found.components) == 2
        assert asked[0]["local"] is True
        only_here = await world.operator().call(TOP, Top(local=True))
        assert (len(only_here.nodes), only_here.missing) == (1, [])


class _Links:
    def __init__(self, peers: dict[str, Peer]) -> None:
        self._peers = peers

    def peer(self, node: str) -> Peer | None:
        return self._peers.get(node)

    def connected(self) -> list[str]:
        return list(self._peers)


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


async def test_the_hubs_attributes_of_a_component(world: World) -> None:
    figures = Figures(world.hub.router)
    assert figures.figures_of("a") == {}
    await load(world, "a", 3)
    found = figures.figures_of("a")
    assert tuple(found) == NAMES
    assert (found["hub.waiting"], found["hub.delivered"], found["hub.refused"]) == (3, 3, 0)
    assert found["hub.slow"] is False
    assert isinstance(found["hub.queued_bytes"], int)


async def test_who_may_call_whom_is_unknown_without_types(world: World) -> None:
    await load(world, "a", 0)
    params = messages.Allow(target="name-a", operation="op")
    assert (await world.operator().error(messages.ALLOW, params)).code == "unsupported"


async def test_the_hubs_attributes_are_read_by_name_and_set_by_nobody(world: World) -> None:
    from paas.hub.attribute_messages import GET_ATTRIBUTES, SET_ATTRIBUTES

    await load(world, "a", 3)
    operator = world.operator()

    async def read(**params: object) -> dict[str, object]:
        kind = GET_ATTRIBUTES.params
        answer = await operator.call(GET_ATTRIBUTES, kind(target="a", **params))
        return {name: codec.unpack(bytes(value)) for name, value in answer.attributes.items()}

    assert await read(names=["hub.waiting", "hub.slow"]) == {"hub.waiting": 3, "hub.slow": False}
    assert await read() == {}
    change = SET_ATTRIBUTES.params(target="a", attributes={"hub.waiting": b"\x00"})
    assert (await operator.error(SET_ATTRIBUTES, change)).code in ("denied", "invalid")
