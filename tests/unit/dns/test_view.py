"""The zone over the state of a controlled cluster: real sections and life-cycles, virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.assembly.dns_view import StateCluster
from paas.controller.commands import FreezeInstance, ThawInstance
from paas.dns import names, records
from paas.dns.cluster import ClusterZone
from paas.dns.state import DnsState, Entry
from paas.dns.zone import Sets
from paas.testing.controlled_node import ControlledCluster

ORIGIN = names.parse("paas.internal")


class World:
    """A cluster, its zone as `node` sees it, and the serial as the log would count it."""

    def __init__(self, cluster: ControlledCluster, node: str = "n1") -> None:
        self.cluster = cluster
        self.dns = DnsState()
        common = cluster.common
        self.view = StateCluster(
            node=node,
            controller=common.state,
            groups=common.groups,
            nodes=common.register,
            dns=self.dns,
        )
        self.zone = ClusterZone(ORIGIN, self.view, local=True)
        common.log.subscribe(self._count)

    def _count(self, index: int, _events: object) -> None:
        self.dns.serial = index

    def find(self, name: str) -> Sets | None:
        return self.zone.find(names.parse(name))

    def told(self, group: str) -> list[str]:
        """Ids of those that SRV records tell of, in their order."""
        sets = self.find(f"_http._tcp.{group}")
        found = () if not sets else sets[records.SRV].all
        return [data[7 : 7 + data[6]].decode() for data in found]


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> World:
    cluster = ControlledCluster(nursery)
    await cluster.start()
    await cluster["n1"].register()
    return World(cluster)


async def test_a_component_has_a_name_from_its_creation_and_data_while_it_is_available(
    world: World,
) -> None:
    [component] = await world.cluster.first.create(name="web", groups=["web"])
    sets = world.find("web.component")
    assert sets is not None
    assert sets[records.A].all == (b"\x0a\0\0\2",)
    assert sets == world.find(f"{component}.component")
    assert world.told("web.group") == world.told("default.app") == [component]
    await world.cluster.first.destroy(component)
    for name in ("web.component", f"{component}.component", "web.group", "default.app"):
        assert world.find(name) is None


async def test_those_on_the_askers_node_come_first(world: World) -> None:
    made = await world.cluster.first.create(count=3, groups=["web"])
    nodes = {component: world.cluster.first.get(component).node for component in made}
    assert sorted(nodes.values()) == ["n1", "n2", "n3"]
    for node in ("n1", "n2", "n3"):
        world.view.node = node
        world.dns.serial += 1
        assert nodes[world.told("web.group")[0]] == node
        assert sorted(world.told("web.group")) == sorted(made)


async def test_what_was_on_a_lost_node_is_told_no_more(world: World) -> None:
    made = await world.cluster.first.create(count=3, groups=["web"], restart="temporary")
    lost = next(c for c in made if world.cluster.first.get(c).node == "n2")
    await world.cluster.lose("n2")
    assert sorted(world.told("web.group")) == sorted(set(made) - {lost})
    sets = world.find("n2.node")
    assert sets is not None
    assert sets[records.TXT].all == (records.txt(b"state=offline"),)


async def test_a_frozen_component_is_there_without_data(world: World) -> None:
    [component] = await world.cluster.first.create(name="web")
    await world.cluster.common.log.propose(FreezeInstance(component=component))
    sets = world.find("web.component")
    assert sets is not None
    assert set(sets) == {records.TXT}
    await world.cluster.common.log.propose(ThawInstance(component=component))


async def test_records_of_a_component_are_told_while_it_is_available(world: World) -> None:
    [component] = await world.cluster.first.create(name="web")
    world.dns._entries["x.default.app"] = [
        Entry(records.A, b"1111", 60),
        Entry(records.A, b"2222", 5, component),
    ]
    sets = world.find("x.default.app")
    assert sets is not None
    assert (sets[records.A].ttl_s, set(sets[records.A].all)) == (5, {b"1111", b"2222"})
    await world.cluster.first.destroy(component)
    sets = world.find("x.default.app")
    assert sets is not None
    assert sets[records.A].all == (b"1111",)


async def test_every_name_that_is_listed_is_found(world: World) -> None:
    await world.cluster.first.create(count=3, name="web", groups=["web", "a.b"])
    world.dns.agents["n1"] = {"hub": ("192.0.2.1", 7420)}
    listed = list(world.zone.names())
    assert {(b"web-1", b"component"), (b"a", b"b", b"group"), (b"n3", b"node")} <= set(listed)
    assert {(b"hub", b"agent"), (b"_http", b"_tcp", b"web", b"group")} <= set(listed)
    assert all(world.zone.find(labels) is not None for labels in listed)
    assert world.find("b.group") == {}
    assert world.view.application_of(world.told("web.group")[0]) == "default"
