"""Attributes, signals and their watches over several hubs; lost links; slow watchers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import lockstep_stream_pair

from paas.hub import attribute_limits
from paas.hub.attribute_messages import SET_ATTRIBUTES, SetAttributes
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.link import PeerCredentials
from paas.testing.hub_in_memory import settled
from paas.testing.hubs_in_memory import Harness, HubsWorld, hubs_world
from paas.wire import codec


@pytest.fixture
async def world() -> AsyncIterator[HubsWorld]:
    async with hubs_world("n1", "n2", "n3") as made:
        for component, node in (("a", "n1"), ("b", "n2"), ("c", "n3")):
            made.exists(component, node, groups=["g"])
        yield made


async def three(world: HubsWorld) -> list[Harness]:
    return [await world.harness(name, node) for name, node in zip("abc", world.nodes, strict=True)]


def told(harness: Harness) -> list[tuple[Any, ...]]:
    """What a component was told, in short."""
    return [
        (e["event"], e.get("component", ""), e.get("attributes", e.get("payload")))
        for e in harness.events
    ]


async def test_durable_attributes_are_read_everywhere_and_survive_the_end(world: HubsWorld) -> None:
    a, b, _ = await three(world)
    await a.ask("hub.set_attributes", attributes={"colour": "red", "size": 3})
    assert (await b.ask("hub.get_attributes", target="a"))["attributes"] == {
        "colour": "red",
        "size": 3,
    }
    world.ends("a")
    answer = await b.ask("hub.get_attributes", target="a", names=["size", "none"])
    assert answer["attributes"] == {"size": 3}


async def test_volatile_attributes_are_read_on_their_node_until_it_is_cut_off(
    world: HubsWorld,
) -> None:
    a, b, _ = await three(world)
    await a.ask("hub.set_attributes", attributes={"load": 0.5}, kind="volatile", object="o")
    await a.ask("hub.set_attributes", attributes={"colour": "red"}, object="o")
    answer = await b.ask("hub.get_attributes", target="a", object="o")
    assert answer["attributes"] == {"load": 0.5, "colour": "red"}
    assert "missing" not in answer
    world.unlink("n1", "n2")
    answer = await b.ask("hub.get_attributes", target="a", object="o")
    assert answer["attributes"] == {"colour": "red"}
    assert answer["missing"] == {"a": "not-available"}
    world.link("n1", "n2")
    world.ends("a")
    answer = await b.ask("hub.get_attributes", target="a", object="o")
    assert answer["attributes"] == {"colour": "red"}


async def test_members_and_aggregates_of_a_group(world: HubsWorld) -> None:
    a, b, c = await three(world)
    for number, harness in enumerate((a, b, c)):
        await harness.ask("hub.set_attributes", attributes={"load": number}, kind="volatile")
        await harness.ask("hub.set_attributes", attributes={"name": "x"})
    answer = await b.ask("hub.get_attributes", target="group:g", names=["load"])
    assert answer["members"] == {"a": {"load": 0}, "b": {"load": 1}, "c": {"load": 2}}
    for how, number in (("sum", 3), ("min", 0), ("max", 2), ("avg", 1), ("count", 3)):
        answer = await b.ask("hub.get_attributes", target="group:g", aggregate=how)
        assert answer["aggregates"]["load"] == number
        assert ("name" in answer["aggregates"]) == (how == "count")


async def test_an_operator_sets_anybody_s_and_a_component_its_own(world: HubsWorld) -> None:
    a, _, c = await three(world)
    far = world.operator("n1")
    attributes = {"mode": msgspec.Raw(codec.pack("slow"))}
    for kind in ("durable", "volatile"):
        params = SetAttributes(attributes=attributes, target="c", kind=kind)  # type: ignore[arg-type]
        await far.call(SET_ATTRIBUTES, params)
        answer = await a.ask("hub.get_attributes", target="c", kind=kind)
        assert answer["attributes"] == {"mode": "slow"}
    refused = await a.ask("hub.set_attributes", attributes={"x": 1}, target="c")
    assert refused["data"]["code"] == "denied"
    assert (await c.ask("hub.get_attributes"))["attributes"] == {"mode": "slow"}


async def test_a_watch_of_attributes_shows_both_kinds_wherever_they_are(world: HubsWorld) -> None:
    a, b, c = await three(world)
    await a.ask("hub.set_attributes", attributes={"load": 1}, kind="volatile")
    await a.ask("hub.set_attributes", attributes={"colour": "red"})
    result = await c.watch(attributes={"target": "a"})
    assert result["snapshot"] == {"load": 1, "colour": "red"}
    assert result["volatile"] is True
    group = await b.watch(attributes={"target": "group:g", "names": ["load"]})
    assert group["snapshot"] == {"a": {"load": 1}, "b": {}, "c": {}}
    await a.ask("hub.set_attributes", attributes={"load": 2, "other": 1}, kind="volatile")
    await a.ask("hub.set_attributes", attributes={"colour": None})
    await settled()
    assert told(c) == [
        ("changed", "a", {"load": 2, "other": 1}),
        ("changed", "a", {"colour": None}),
    ]
    assert told(b) == [("changed", "a", {"load": 2})]
    world.ends("a")
    await settled()
    assert told(c)[-1] == ("changed", "a", {"load": None, "other": None})


async def test_signals_reach_watchers_on_all_nodes_in_order(world: HubsWorld) -> None:
    a, b, c = await three(world)
    assert await a.ask("hub.signal", signal="on", payload=0) == {"watchers": 0}
    await b.watch(signals={"target": "a"})
    await c.watch(signals={"target": "group:g", "signal": "on"})
    await c.watch(signals={"target": "a", "object": "lamp"})
    await a.watch(signals={"target": "a", "signal": "off"})
    await settled()
    for number in range(50):
        answer = await a.ask("hub.signal", signal="on", payload={"n": number})
        assert answer == {"watchers": 2}
    assert await a.ask("hub.signal", signal="off", payload=None) == {"watchers": 2}
    assert await a.ask("hub.signal", signal="on", object="lamp") == {"watchers": 1}
    await settled()
    numbers = [("signal", "a", {"n": number}) for number in range(50)]
    assert told(b) == [*numbers, ("signal", "a", None)]
    assert told(c) == [*numbers, ("signal", "a", None)]
    assert c.events[0]["group"] == "g"
    assert [e["signal"] for e in a.events] == ["off"]


async def test_a_lost_link_is_a_gap_for_signals_and_a_snapshot_for_volatile_attributes(
    world: HubsWorld,
) -> None:
    a, b, c = await three(world)
    await a.ask("hub.set_attributes", attributes={"load": 1}, kind="volatile")
    await b.watch(signals={"target": "a"})
    await c.watch(attributes={"target": "group:g"})
    world.unlink("n1", "n2")
    world.unlink("n1", "n3")
    assert await a.ask("hub.signal", signal="lost") == {"watchers": 0}
    await a.ask("hub.set_attributes", attributes={"load": 2}, kind="volatile")
    await settled()
    assert told(b) == [] == told(c)
    world.link("n1", "n2")
    world.link("n1", "n3")
    await settled()
    assert [e["event"] for e in b.events] == ["gap"]
    assert [e["event"] for e in c.events] == ["resumed"]
    assert c.events[0]["data"]["snapshot"] == {"a": {"load": 2}, "b": {}, "c": {}}
    assert await a.ask("hub.signal", signal="heard") == {"watchers": 1}
    await settled()
    assert b.events[-1]["signal"] == "heard"


async def test_links_of_nodes_without_sources_disturb_nobody(world: HubsWorld) -> None:
    _, b, _ = await three(world)
    await b.watch(signals={"target": "a"})
    await b.watch(attributes={"target": "a"})
    world.unlink("n2", "n3")
    world.link("n2", "n3")
    await settled()
    assert b.events == []


async def test_a_restart_of_the_hub_loses_and_repeats_nothing_of_the_log(world: HubsWorld) -> None:
    a, b, _ = await three(world)
    await b.watch(attributes={"target": "a"})
    await b.watch(group="g")
    await a.ask("hub.set_attributes", attributes={"n": 1})
    await settled()
    world.restart("n2")
    await a.ask("hub.set_attributes", attributes={"n": 2})
    await a.ask("hub.leave", groups=["g"])
    await b.connect("n3")
    await settled()
    await a.ask("hub.set_attributes", attributes={"n": 3})
    await settled()
    assert told(b) == [
        ("changed", "a", {"n": 1}),
        ("changed", "a", {"n": 2}),
        ("left", "a", None),
        ("changed", "a", {"n": 3}),
    ]


async def test_a_component_that_does_not_read_catches_up_from_the_history(
    world: HubsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paas.harness.limits.CHANNEL_OUTBOX_BYTES_MAX", 2_000)
    a, b, _ = await three(world)
    await b.watch(attributes={"target": "a"})
    b.reading = False
    for number in range(60):
        await a.ask("hub.set_attributes", attributes={"n": number})
    await settled()
    assert b.channel.dropped_events > 10
    for _ in range(10):
        await b.read_again()
        await settled()
    assert told(b) == [("changed", "a", {"n": number}) for number in range(60)]


class Slow:
    """An operator who reads only when told to."""

    def __init__(self, world: HubsWorld) -> None:
        hub = world.nodes["n1"]
        self.stream, theirs = lockstep_stream_pair()
        self.connection = Connection(Form.COMPACT)
        peer = world.peer(theirs, hub.dispatcher, hub.hub.connection_closed)
        peer.info.update(credentials=PeerCredentials(1, 0, 0), roles=frozenset({"operator"}))
        self.link = peer.link
        self.answers: list[Any] = []
        self.events: list[dict[str, Any]] = []

    async def watch(self, **what: Any) -> None:
        body = codec.pack(what)
        _, data = self.connection.request("hub.watch", body, self.answers.append, 1e9)
        await self.stream.send_all(data)

    async def read(self) -> None:
        with trio.move_on_after(0.2):
            while True:
                data = bytes(await self.stream.receive_some(65_536))
                for request in self.connection.receive(data):
                    self.events.append(codec.unpack_own(request.params))


async def test_one_slow_watcher_costs_the_others_nothing(
    world: HubsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_limits, "WATCH_BYTES_MAX", 20_000)
    a, _, c = await three(world)
    slow = Slow(world)
    for watcher in (slow, c):
        await watcher.watch(attributes={"target": "a"})
        await watcher.watch(signals={"target": "a"})
    sent = 40
    for number in range(sent):
        text = f"{number:02}" * 700
        await a.ask("hub.set_attributes", attributes={"text": text})
        assert (await a.ask("hub.signal", signal="s", payload=text))["watchers"] == 2
    await settled()
    assert len(c.events) == 2 * sent
    assert slow.link.queued_bytes < 30_000
    dropped = world.nodes["n1"].hub.statistics()["dropped_events"]
    assert dropped > 40
    await slow.read()
    await trio.sleep(3 * attribute_limits.SWEEP_PERIOD_S)
    await slow.read()
    words = [event["event"] for event in slow.events]
    assert words.count("resumed") == words.count("gap") == 1
    resumed = slow.events[words.index("resumed")]
    assert resumed["data"]["snapshot"] == {"text": f"{sent - 1:02}" * 700}
    gap = slow.events[words.index("gap")]
    assert gap["data"]["dropped"] + words.count("signal") == sent
    await a.ask("hub.set_attributes", attributes={"text": "new"})
    await slow.read()
    assert slow.events[-1]["attributes"] == {"text": "new"}
