"""What is refused of attributes, signals and watches; what a watch continues from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import SIGNAL, Signal
from paas.testing.hub_in_memory import settled
from paas.testing.hubs_in_memory import HubsWorld, hubs_world


@pytest.fixture
async def world() -> AsyncIterator[HubsWorld]:
    async with hubs_world("n1") as made:
        made.exists("a", "n1", groups=["g"])
        made.exists("b", "n1")
        yield made


def code(answer: dict[str, Any]) -> tuple[str, str]:
    return answer["data"]["code"], answer["data"].get("field", "")


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"attributes": {}}, ("invalid", "attributes")),
        ({"attributes": {"": 1}}, ("invalid", "attributes")),
        ({"attributes": {"x" * 129: 1}}, ("invalid", "attributes")),
        ({"attributes": {"a\nb": 1}}, ("invalid", "attributes")),
        ({"attributes": {"hub.waiting": 1}}, ("invalid", "attributes.hub.waiting")),
        ({"attributes": {"x": 1}, "object": "o" * 129}, ("invalid", "object")),
        ({"attributes": {"x": 1}, "kind": "eternal"}, ("invalid", "kind")),
        ({"attributes": {"x": 1}, "ttl": 5}, ("invalid", "ttl")),
        ({"attributes": {"x": 1}, "ttl": 0, "kind": "volatile"}, ("invalid", "ttl")),
        ({"attributes": {"x": 1}, "ttl": 1e9, "kind": "volatile"}, ("invalid", "ttl")),
        (
            {"attributes": {"x": 1}, "kind": "volatile", "expect": {"x": 1}},
            ("invalid", "expect"),
        ),
        ({"attributes": {"x": 1}, "target": "group:g"}, ("no-such-target", "")),
        ({"attributes": {"x": 1}, "target": "nobody"}, ("no-such-target", "")),
        ({"attributes": {"x": 1}, "target": "b"}, ("denied", "")),
        ({"attributes": {"x": "y" * limits.DURABLE_CHANGE_BYTES_MAX}}, ("limit-exceeded", "")),
        (
            {"attributes": {"x": "y" * limits.VALUE_BYTES_MAX}, "kind": "volatile"},
            ("limit-exceeded", ""),
        ),
        ({"attributes": {"x": 1}, "expect": {"x": 2}}, ("conflict", "")),
    ],
)
async def test_what_cannot_be_set_is_refused_with_its_field(
    world: HubsWorld, params: dict[str, Any], wanted: tuple[str, str]
) -> None:
    a = await world.harness("a", "n1")
    assert code(await a.ask("hub.set_attributes", **params)) == wanted
    assert (await a.ask("hub.get_attributes"))["attributes"] == {}


async def test_values_as_large_as_they_may_be(world: HubsWorld) -> None:
    a = await world.harness("a", "n1")
    large = {"x": "y" * (limits.DURABLE_CHANGE_BYTES_MAX - 100)}
    assert (await a.ask("hub.set_attributes", attributes=large))["index"] > 0
    larger = {"v": "y" * (limits.VALUE_BYTES_MAX - 5)}
    assert (await a.ask("hub.set_attributes", attributes=larger, kind="volatile")) == {"index": 0}
    assert (await a.ask("hub.get_attributes"))["attributes"] == {**large, **larger}


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ({}, "group"),
        ({"group": "g", "attributes": {"target": "a"}}, "group"),
        ({"attributes": {"target": "a"}, "signals": {"target": "a"}}, "group"),
        ({"attributes": {"target": "group:a:b"}}, "groups"),
        ({"signals": {"target": "a", "signal": "s" * 129}}, "signal"),
        ({"attributes": {"target": "a", "kind": "x"}}, "attributes.kind"),
    ],
)
async def test_a_watch_says_what_is_wrong_with_it(
    world: HubsWorld, what: dict[str, Any], field: str
) -> None:
    a = await world.harness("a", "n1")
    assert code(await a.watch(**what)) == ("invalid", field)
    statistics = world.nodes["n1"].hub.statistics()
    assert (statistics["watches"], statistics["interests"]) == (0, 0)


async def test_signals_are_of_components_and_bounded(world: HubsWorld) -> None:
    a = await world.harness("a", "n1")
    assert code(await a.ask("hub.signal", signal="")) == ("invalid", "signal")
    large = "y" * limits.VALUE_BYTES_MAX
    assert code(await a.ask("hub.signal", signal="s", payload=large)) == ("limit-exceeded", "")
    far = world.operator("n1")
    with pytest.raises(PlatformError) as caught:
        await far.peer.call(SIGNAL, Signal(signal="s"))
    assert caught.value.code == "denied"


async def test_watches_leave_nothing_behind(world: HubsWorld) -> None:
    a = await world.harness("a", "n1")
    numbers = [
        (await a.watch(**what))["watch"]
        for what in (
            {"attributes": {"target": "group:g"}},
            {"attributes": {"target": "a", "kind": "durable"}},
            {"signals": {"target": "a"}},
        )
    ]
    hub = world.nodes["n1"].hub
    assert (hub.statistics()["watches"], hub.statistics()["interests"]) == (3, 2)
    for number in numbers[:2]:
        await a.ask("hub.unwatch", watch=number)
    await settled()
    assert (hub.statistics()["watches"], hub.statistics()["interests"]) == (1, 1)
    a.lose()
    await settled()
    assert (hub.statistics()["watches"], hub.statistics()["interests"]) == (0, 0)


async def test_a_component_continues_a_watch_of_an_earlier_life(world: HubsWorld) -> None:
    a, b = await world.harness("a", "n1"), await world.harness("b", "n1")
    index = (await a.ask("hub.set_attributes", attributes={"n": 0}))["index"]
    for number in (1, 2, 3):
        await a.ask("hub.set_attributes", attributes={"n": number})
    result = await b.watch(attributes={"target": "a"}, since=index)
    await settled()
    assert result["resumed"] is True
    assert [e["attributes"] for e in b.events] == [{"n": 1}, {"n": 2}, {"n": 3}]
    result = await b.watch(attributes={"target": "a"}, since=index, seen=2)
    await settled()
    assert [e["attributes"] for e in b.events if e["watch"] == result["watch"]] == [{"n": 3}]
    ahead = await b.watch(attributes={"target": "a"}, since=index + 100)
    await a.ask("hub.set_attributes", attributes={"n": 4})
    await settled()
    assert not [e for e in b.events if e["watch"] == ahead["watch"]], "it has seen more than we"


async def test_what_the_log_and_the_hub_know_is_never_mixed_up(world: HubsWorld) -> None:
    a, b = await world.harness("a", "n1"), await world.harness("b", "n1")
    await a.ask("hub.set_attributes", attributes={"x": "durable"})
    await a.ask("hub.set_attributes", attributes={"x": "volatile"}, kind="volatile", ttl=3_600)
    for kind in ("durable", "volatile"):
        answer = await b.ask("hub.get_attributes", target="a", kind=kind)
        assert answer["attributes"] == {"x": kind}
        result = await b.watch(attributes={"target": "a", "kind": kind})
        assert result["snapshot"] == {"x": kind}
    await a.ask("hub.set_attributes", attributes={"x": 1})
    await a.ask("hub.set_attributes", attributes={"x": 2}, kind="volatile")
    await settled()
    assert [(e["watch"], e["attributes"]["x"]) for e in b.events] == [(1, 1), (2, 2)]


async def test_a_time_to_live_ends_a_value_and_watchers_hear(world: HubsWorld) -> None:
    a, b = await world.harness("a", "n1"), await world.harness("b", "n1")
    await b.watch(attributes={"target": "a"})
    await a.ask("hub.set_attributes", attributes={"x": 1}, kind="volatile", ttl=60)
    hub = world.nodes["n1"].hub
    now_s = hub.attributes._clock.monotonic_s()
    for change in hub.desk.volatile.expire(now_s + 61):
        hub.signals.changed(change)
    await settled()
    assert [e["attributes"] for e in b.events] == [{"x": 1}, {"x": None}]
    assert (await b.ask("hub.get_attributes", target="a"))["attributes"] == {}
