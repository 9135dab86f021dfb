"""The reconciler: what it does, what it waits for, what it says; on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.application import commands, limits
from paas.application.agent import Reconciler
from paas.application.looking import virtual_node_of
from paas.application.ports import Surroundings, TypeFacts
from paas.application.records import Application
from paas.application.specification import Requirement, Role
from paas.base.errors import PlatformError
from paas.controller.commands import EndInstance
from paas.gateway.messages import Route
from tests.unit.application.conftest import Cluster

WEB, STORE = Role(name="web", type="web@1", count=2), Role(name="store", type="store@1")
FRONT = Route(name="shop.front", application="shop", group="shop.web")


class Ring:
    def __init__(self, node: str = "n1") -> None:
        self.node = node

    def primary(self, number: int) -> str:
        assert number == virtual_node_of("shop")
        return self.node


class World:
    """Implements the ports: components are born at once, and end at once, unless told otherwise."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ring = Ring()
        self.all_decide = False
        self.error: PlatformError | None = None
        self.slow_s = 0.0
        self.is_born = True
        self.at_work = 0
        self.most_at_work = 0
        self.log: list[str] = []
        self.there: dict[str, Route] = {}
        self.members = 0
        self.owned_names: set[str] = set()
        self.troubles: list[str] = []
        self.reasons: dict[str, str] = {}
        self.routes_revision = 0

    def surroundings(self, node: str = "n1") -> Surroundings:
        return Surroundings(
            node=node,
            state=self.cluster.applications,
            log=self.cluster,
            components=Components(self),
            routes=Routes(self),
            volumes=Volumes(self),
            ring=Ring(node) if self.all_decide else self.ring,
            jitter=lambda: 0.5,
            on_trouble=lambda name, error: self.troubles.append(f"{name}: {error.code}"),
        )

    async def work(self, what: str) -> None:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await trio.sleep(self.slow_s)
            if self.error is not None:
                raise self.error
            self.log.append(what)
        finally:
            self.at_work -= 1

    async def until(self, holds: Callable[[], Any], timeout_s: float = 600.0) -> float:
        """How long it took."""
        began = trio.current_time()
        with trio.fail_after(timeout_s):
            while not holds():  # noqa: ASYNC110
                await trio.sleep(0.05)
        return trio.current_time() - began


class Components:
    def __init__(self, world: World) -> None:
        self._world = world

    def type(self, name: str) -> TypeFacts:
        return TypeFacts(name, "shop", False)

    def check(self, role: Role) -> None:
        pass

    async def create(self, application: Application, role: Role, slot: int) -> str:
        request = application.birth_request(role.name, slot)
        await self._world.work(f"create {role.name} {slot}")
        return self._world.cluster.born(
            role.name, slot, available=self._world.is_born, request=request
        )

    async def end(self, component: str, grace_s: float) -> None:
        await self._world.work(f"end {grace_s:g}")
        instance = self._world.cluster.controller.instances.get(component)
        assert instance is not None
        if instance.state == "failed":
            self._world.cluster.apply(EndInstance(component=component))
        else:
            self._world.cluster.end(component)

    def trouble(self, component: str) -> str:
        return self._world.reasons.get(component, "")

    def available(self, group: str) -> int:
        return self._world.members


class Routes:
    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def revision(self) -> int:
        return self._world.routes_revision

    def check(self, route: Route) -> Route:
        return route

    def of(self, application: str) -> Mapping[str, Route]:
        return self._world.there

    async def set(self, route: Route) -> None:
        await self._world.work(f"set {route.name}")
        self._world.there[route.name] = route
        self._world.routes_revision += 1

    async def remove(self, name: str, application: str) -> None:
        await self._world.work(f"remove {name} of {application}")
        del self._world.there[name]
        self._world.routes_revision += 1


class Volumes:
    def __init__(self, world: World) -> None:
        self._world = world

    def owned(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(self._world.owned_names & set(names))

    async def remove(self, owner: str) -> None:
        await self._world.work(f"forget files of {owner}")
        self._world.owned_names.discard(owner)


@pytest.fixture
def world(cluster: Cluster) -> World:
    return World(cluster)


@asynccontextmanager
async def running(world: World, *nodes: str) -> AsyncIterator[list[Reconciler]]:
    made = [Reconciler(world.surroundings(node)) for node in nodes or ("n1",)]
    async with trio.open_nursery() as nursery:
        for reconciler in made:
            await nursery.start(reconciler.run)
        yield made
        nursery.cancel_scope.cancel()


def jumping(test: Any) -> Any:
    """Run a test on a clock that jumps."""

    def run(world: World) -> None:
        trio.run(test, world, clock=MockClock(autojump_threshold=0))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@jumping
async def test_from_nothing_to_available_and_back_to_nothing(world: World) -> None:
    async with running(world):
        world.cluster.deploy(STORE, WEB, routes=(FRONT,))
        await world.until(lambda: world.cluster.shop.state == "available")
        assert world.log[0].startswith("create")
        assert sorted(world.log) == [
            *("create store 1", "create web 1", "create web 2", "set shop.front")
        ]
        world.cluster.apply(commands.StopApplication(application="shop"))
        await world.until(lambda: world.cluster.shop.state == "stopped")
        assert world.log[4:] == ["end 10"] * 3
        world.owned_names = {"shop-store-1"}
        order = commands.DestroyApplication(application="shop", volumes=True)
        world.cluster.apply(order)
        await world.until(lambda: not world.cluster.applications.applications)
        assert sorted(world.log[7:]) == [
            *("forget files of shop-store-1", "remove shop.front of shop")
        ]


@jumping
async def test_who_does_not_decide_does_nothing_and_takes_over_when_it_does(world: World) -> None:
    world.ring.node = "n2"
    async with running(world) as (mine,):
        world.cluster.deploy(WEB)
        await trio.sleep(30)
        assert (world.log, mine.statistics()["decides"]) == ([], 0)
        world.ring.node = "n1"
        mine.wake()
        await world.until(lambda: world.cluster.shop.state == "available")


@jumping
async def test_two_that_believe_to_decide_do_each_step_once(world: World) -> None:
    world.all_decide = True
    world.slow_s = 0.3
    async with running(world, "n1", "n2"):
        world.cluster.deploy(STORE, Role(name="web", type="web@1", count=5))
        await world.until(lambda: len(world.cluster.shop.members) == 6)
        await trio.sleep(5)
        assert sum(world.cluster.shop.births.values()) == 6


@jumping
async def test_a_step_that_fails_is_tried_later_and_later_and_says_why(world: World) -> None:
    world.error = PlatformError("no-placement", "no node has room")
    async with running(world):
        world.cluster.deploy(Role(name="web", type="web@1"))
        await world.until(lambda: len(world.troubles) == 6)
        trouble = world.cluster.shop.troubles["web"]
        assert trouble.code == "no-placement"
        assert trouble.text == "shop-web-1: no node has room"
        assert len(world.troubles) < 20, "it waits in between"
        began = trio.current_time()
        await world.until(lambda: len(world.troubles) == 7)
        assert trio.current_time() - began > 5
        world.error = None
        await world.until(lambda: world.cluster.shop.state == "available")
        assert world.cluster.shop.troubles == {}


@jumping
async def test_another_revision_does_not_wait_for_the_failures_of_the_last(world: World) -> None:
    world.error = PlatformError("no-placement", "no node has room")
    async with running(world):
        world.cluster.deploy(Role(name="web", type="web@1"))
        await world.until(lambda: len(world.troubles) == 7)
        world.error = None
        world.cluster.deploy(Role(name="web", type="web@2"))
        assert await world.until(lambda: world.cluster.shop.state == "available") < 1.0


@jumping
async def test_a_log_that_is_away_is_no_reason_of_the_application(world: World) -> None:
    world.error = PlatformError("unavailable", "no leader")
    async with running(world) as (mine,):
        world.cluster.deploy(Role(name="web", type="web@1"))
        await world.until(lambda: mine.failed == 4)
        assert (world.troubles, world.cluster.shop.troubles) == ([], {})


@jumping
async def test_one_that_has_failed_is_born_again_after_a_while(world: World) -> None:
    async with running(world):
        world.cluster.deploy(Role(name="web", type="web@1"))
        await world.until(lambda: world.cluster.shop.state == "available")
        waits = []
        for _ in range(3):
            (component,) = world.cluster.shop.members
            world.cluster.change(component, "exited", "exit:1", fatal=True)
            world.cluster.change(component, "give_up")
            waits.append(
                await world.until(lambda c=component: c not in world.cluster.shop.members)  # type: ignore[misc]
            )
            trouble = world.cluster.shop.troubles["web"]
            assert trouble.text == "shop-web-1: it has failed: exit:1"
            await world.until(lambda: world.cluster.shop.state == "available")
        assert waits[0] >= limits.FAILED_BACKOFF.first_s / 2
        assert world.cluster.shop.troubles == {}


@jumping
async def test_what_is_missing_for_a_while_makes_it_degraded(world: World) -> None:
    async with running(world):
        world.cluster.deploy(WEB)
        await world.until(lambda: world.cluster.shop.state == "available")
        (first, _) = world.cluster.shop.members
        world.cluster.change(first, "pause", "busy")
        await trio.sleep(0.5)
        assert world.cluster.shop.state == "available"
        await world.until(lambda: world.cluster.shop.state == "degraded", 5)
        world.cluster.change(first, "ready")
        await world.until(lambda: world.cluster.shop.state == "available", 5)


@jumping
async def test_a_member_that_somebody_destroys_is_born_again(world: World) -> None:
    async with running(world):
        world.cluster.deploy(WEB)
        await world.until(lambda: world.cluster.shop.state == "available")
        world.cluster.end(next(iter(world.cluster.shop.members)))
        await world.until(lambda: len(world.cluster.shop.members) == 2)


@jumping
async def test_a_stray_is_ended(world: World) -> None:
    async with running(world):
        world.cluster.deploy(WEB)
        await world.until(lambda: world.cluster.shop.state == "available")
        gone = world.cluster.shop
        world.cluster.apply(commands.DestroyApplication(application="shop"))
        await world.until(lambda: not world.cluster.applications.applications)
        component = world.cluster.born("web", 7, application=gone)
        await world.until(lambda: not world.cluster.applications.strays)
        assert world.cluster.controller.instances.get(component).state == "destroyed"  # type: ignore[union-attr]


@jumping
async def test_no_more_steps_at_a_time_than_are_allowed(world: World) -> None:
    world.slow_s = 1.0
    async with running(world):
        world.cluster.deploy(Role(name="web", type="web@1", count=40))
        await world.until(lambda: world.cluster.shop.state == "available")
    assert world.most_at_work == limits.STEPS_MAX


@jumping
async def test_what_is_required_of_others_is_looked_for_again(world: World) -> None:
    async with running(world):
        world.cluster.deploy(WEB, requires=(Requirement(name="m", group="mail"),))
        await trio.sleep(30)
        assert world.log == []
        world.members = 1
        assert await world.until(lambda: world.log) <= limits.LOOK_PERIOD_S + 0.5


@jumping
async def test_a_route_that_somebody_removes_is_set_again(world: World) -> None:
    async with running(world) as (mine,):
        world.cluster.deploy(WEB, routes=(FRONT,))
        await world.until(lambda: world.cluster.shop.state == "available")
        world.there.clear()
        world.routes_revision += 1
        mine.wake()
        await world.until(lambda: world.there)


@jumping
async def test_a_settled_application_costs_nothing(world: World) -> None:
    async with running(world):
        world.cluster.deploy(WEB)
        await world.until(lambda: world.cluster.shop.state == "available")
        entries = world.cluster.applied()
        await trio.sleep(3_600)
        assert world.cluster.applied() == entries
