"""Who decides about an application dies in the middle of it: another one goes on, nothing twice.

Whole hubs on virtual time, three nodes: the real reconciler, log, ring and component controller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from paas.application import messages
from paas.application.looking import virtual_node_of
from paas.application.records import Application
from paas.base.errors import PlatformError
from paas.sim.platform.applications import (
    ask,
    insist,
    register,
    specification,
    strays_of,
)
from paas.sim.platform.clients import Client, Operator
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import Machine
from paas.sim.platform.mischief import Orders
from paas.sim.platform.story import Story

PATIENCE_S = 60.0


class Plot(Story):
    """A cluster where nothing goes wrong by itself, and one task."""

    def __init__(self, seed: int, task: Callable[[Shop], Awaitable[None]]) -> None:
        super().__init__(seed, nodes=3)
        self._task = task

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            cluster = self.cluster = Cluster(self.world, nursery)
            cluster.calm = True
            await self._begin(cluster, Orders(cluster, every_s=60.0, on_new=lambda _machine: None))
            await self._register(cluster, Client(cluster, 0, think_s=1.0, wanted=0))
            shop = Shop(cluster)
            await register(cluster, shop.operator)
            await self._task(shop)
            self.world.end()
            nursery.cancel_scope.cancel()


class Shop:
    """The application of the plot, and who looks at it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.operator = Operator(cluster)
        self.least: dict[str, int] = {}

    def machine(self, *, decides: bool) -> Machine:
        """The one that decides about the application, or another one."""
        ring = self.cluster.hubs()[0].states.ring
        name = ring.primary(virtual_node_of("shop"))
        machines = self.cluster.machines
        return next(m for m in machines.values() if (m.name == name) is decides)

    @property
    def application(self) -> Application | None:
        """As the replica has it that is furthest."""
        hubs = sorted(self.cluster.hubs(), key=lambda hub: hub.core.log.applied())
        return hubs[-1].states.applications.applications.get("shop") if hubs else None

    async def deploy(self, version: int, web: int, store: int) -> None:
        plain = specification("shop", version, web, store)
        params = messages.Deploy(specification=plain, timeout=5.0)
        await insist(self.cluster, self.operator, messages.DEPLOY, params)

    async def order(self, method: Any, params: Any) -> Any:
        return await ask(self.cluster, self.operator, method, params)

    async def until(self, holds: Callable[[Application | None], bool]) -> None:
        """Looks at every moment that members are not fewer than they must be."""
        end_s = self.cluster.world.now_s + PATIENCE_S
        while not holds(self.application):
            now = self.application
            assert self.cluster.world.now_s < end_s, f"{now and now.state} {now and now.members}"
            self.look()
            await trio.sleep(0.01)

    def look(self) -> None:
        application = self.application
        if application is None:
            return
        members = application.members.values()
        names = [(m.role, m.slot) for m in members]
        assert len(names) == len(set(names)), f"two of one name: {names}"
        for role, least in self.least.items():
            assert sum(m.available for m in application.of_role(role)) >= least

    async def available(self) -> Application:
        await self.until(lambda a: a is not None and a.state == "available")
        assert self.application is not None
        return self.application


def counts(application: Application) -> dict[str, int]:
    return {role: len(application.of_role(role)) for role in ("web", "store")}


async def _births(shop: Shop) -> None:
    await shop.deploy(1, web=6, store=2)
    await shop.until(lambda a: a is not None and len(a.members) >= 1)
    victim = shop.machine(decides=True)
    assert victim.crash_hub()
    application = await shop.available()
    assert counts(application) == {"web": 6, "store": 2}
    assert sum(application.births.values()) == 8, "somebody was born twice"
    assert strays_of(shop.cluster.hubs()[0], application) == []


@pytest.mark.parametrize("seed", range(3))
def test_its_hub_is_killed_while_members_are_born(seed: int) -> None:
    Plot(seed, _births).run()


async def _replacing(shop: Shop) -> None:
    await shop.deploy(1, web=3, store=1)
    await shop.available()
    shop.least = {"web": 3}
    await shop.deploy(2, web=3, store=1)
    for left in (3, 2, 1):
        await shop.until(lambda a, n=left: a is not None and _outdated(a) <= n)  # type: ignore[misc]
        shop.machine(decides=True).crash_hub()
        await trio.sleep(0.5)
    application = await shop.available()
    assert counts(application) == {"web": 3, "store": 1}
    assert _outdated(application) == 0
    assert sum(application.births.values()) == 8, "somebody was replaced twice"


def _outdated(application: Application) -> int:
    digests = {role.name: role.digest for role in application.specification.roles}
    return sum(m.digest != digests[m.role] for m in application.members.values())


@pytest.mark.parametrize("seed", range(2))
def test_its_hub_is_killed_again_and_again_while_members_are_replaced(seed: int) -> None:
    Plot(seed, _replacing).run()


async def _node_loss(shop: Shop) -> None:
    await shop.deploy(1, web=4, store=0)
    await shop.until(lambda a: a is not None and len(a.members) >= 2)
    shop.machine(decides=True).power_off()
    application = await shop.available()
    assert counts(application) == {"web": 4, "store": 0}
    nodes = {member.node for member in application.members.values()}
    assert shop.machine(decides=False).name in nodes


def test_its_node_loses_power_and_another_one_decides() -> None:
    Plot(5, _node_loss).run()


async def _whole_life(shop: Shop) -> None:
    operator = shop.operator
    await shop.deploy(1, web=3, store=1)
    await shop.available()
    scale = messages.Scale(application="shop", counts={"web": 1})
    await shop.order(messages.SCALE, scale)
    shop.machine(decides=True).crash_hub()
    assert counts(await shop.available()) == {"web": 1, "store": 1}
    await insist(shop.cluster, operator, messages.STOP, messages.Stop(application="shop"))
    await shop.until(lambda a: a is not None and a.state == "stopped")
    assert shop.application is not None
    assert shop.application.members == {}
    with pytest.raises(PlatformError) as caught:
        await shop.order(messages.SCALE, messages.Scale(application="shop", counts={"web": 999}))
    assert caught.value.data["field"] == "counts.web"
    await insist(shop.cluster, operator, messages.START, messages.Start(application="shop"))
    await shop.available()
    shop.machine(decides=True).crash_hub()
    destroy = messages.Destroy(application="shop", volumes=True)
    await insist(shop.cluster, operator, messages.DESTROY, destroy)
    await shop.until(lambda a: a is None)
    states = shop.cluster.hubs()[0].states
    assert strays_of(shop.cluster.hubs()[0]) == []
    assert [v.owner for v in states.volumes if v.owner.startswith("shop-")] == []
    assert list(states.gateway.routes()) == []


def test_from_its_birth_to_its_end() -> None:
    Plot(7, _whole_life).run()
