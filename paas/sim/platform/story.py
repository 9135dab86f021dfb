"""One seed from beginning to end: build a cluster, work and storm, heal it, judge it.

0 ────────── storm, clients, operators ──────────── seconds - HEAL_S ── all is well ── judge
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import trio

from paas.base.errors import PlatformError
from paas.sim.platform import judge, limits
from paas.sim.platform.clients import Client
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.faults import Faults
from paas.sim.platform.invariants import Broken
from paas.sim.platform.letters import Letters
from paas.sim.platform.machine import Machine
from paas.sim.platform.mischief import Orders
from paas.sim.platform.scenarios import Scenario
from paas.sim.platform.shortcuts import shared
from paas.sim.platform.world import World

SECONDS_DEFAULT = 300.0


@dataclass(slots=True)
class Outcome:
    """What became of a seed.  `broken` is empty when everything held."""

    seed: int
    nodes: int
    seconds: float
    trace: str = ""
    broken: str = ""
    simulated_s: float = 0.0
    fired: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)


class Story:
    """See the module's text.  `nodes` 0: 3 to 5, drawn."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 0,
        seconds: float = SECONDS_DEFAULT,
        text: TextIO | None = None,
        peace: bool = False,
        scenario: Scenario | None = None,
    ) -> None:
        self.world = World(seed, story=text)
        self.nodes = nodes or self.world.random.choice((3, 3, 3, 4, 5))
        self.seconds = max(seconds, limits.HEAL_S + 30.0)
        self.cluster: Cluster
        self._peace = peace
        """Nothing goes wrong: for measurements."""
        self._scenario = scenario

    @property
    def storm_end_s(self) -> float:
        return self.seconds - limits.HEAL_S

    def run(self) -> None:
        """Raises Broken, or whatever else ended it."""
        with _listening(self.world), shared():
            self.world.run(self._main)

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            cluster = self.cluster = Cluster(self.world, nursery)
            chance = self.world.random
            if cluster.compaction < 1_000:
                self.world.count("snapshots-often")
            faults = Faults(cluster, end_s=self.storm_end_s)
            cluster.oracle.steady_clocks = not faults.sets_clocks
            cluster.oracle.on_destroyed = self._retire
            orders = Orders(
                cluster, every_s=chance.choice((10.0, 25.0, 60.0)), on_new=faults.prepare
            )
            await self._begin(cluster, orders)
            wanted = chance.choice(limits.COMPONENTS_WANTED)
            think_s = chance.choice((1.5, 3.0, 6.0))
            clients = [
                Client(cluster, number, think_s=think_s, wanted=wanted)
                for number in range(limits.CLIENTS)
            ]
            await self._register(cluster, clients[0])
            letters = self._letters = Letters(cluster)
            nursery.start_soon(letters.run, clients[0])
            for client in clients:
                nursery.start_soon(client.run)
            if self._scenario is not None:
                nursery.start_soon(self._scenario, cluster)
            if not self._peace:
                if chance.random() < 0.6:
                    nursery.start_soon(orders.run)
                faults.begin()
            await trio.sleep_until(self.storm_end_s)
            orders.stopped = True
            await self._heal(cluster, faults, orders, clients, nursery)
            self.world.end()
            nursery.cancel_scope.cancel()

    async def _begin(self, cluster: Cluster, orders: Orders) -> None:
        """The first node alone, then the others join it, all at once."""
        first = cluster.add("n1", first=True)
        first.power_on()
        await trio.sleep(1.0)
        assert first.hub is not None
        await first.hub.core.presence.wait_ready()
        async with trio.open_nursery() as nursery:
            for number in range(2, self.nodes + 1):
                nursery.start_soon(orders.admit, cluster.add(f"n{number}", first=False))

    async def _register(self, cluster: Cluster, client: Client) -> None:
        for name in list(cluster.types):
            while True:
                try:
                    await client.register(name)
                    break
                except PlatformError:
                    await trio.sleep(0.5)

    def _retire(self, node: str) -> None:
        """It was removed: somebody switches the machine off."""
        machine = self.cluster.machines[node]
        self.world.count("seen-node-removed")
        self.world.after(2.0, self._switch_off, machine)

    def _switch_off(self, machine: Machine) -> None:
        machine.power_off()
        machine.removed = True

    async def _heal(
        self,
        cluster: Cluster,
        faults: Faults,
        orders: Orders,
        clients: list[Client],
        nursery: trio.Nursery,
    ) -> None:
        self.world.record("the storm is over")
        faults.end()
        cluster.calm = cluster.witness.calm = True
        nursery.start_soon(orders.uncordon_all)
        await trio.sleep(limits.LEADER_WITHIN_S)
        judge.leader_soon(cluster)
        await trio.sleep_until(self.seconds - limits.REST_S)
        for client in clients:
            client.stopped = True
        cluster.witness.rests = True
        self._letters.stopped = True
        await trio.sleep_until(self.seconds)
        self.world.record("judgement")
        judge.judge(cluster)
        self._letters.judge(cluster.hubs()[0])


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """What the platform logs as an unforeseen failure ends the run."""
    handler, root = _Failures(world), logging.getLogger()
    before, root.handlers = root.handlers, [handler]  # and nothing is printed
    try:
        yield
    finally:
        root.handlers = before


class _Failures(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or record.exc_info[1] is None:
            return
        if not record.name.startswith("paas"):
            return
        error = record.exc_info[1]
        if not isinstance(error, Broken):
            text = f"{record.getMessage()}: {type(error).__name__}: {error}"
            broken = Broken("no-bug", text)
            broken.__cause__ = error
            error = broken
        self._world.fail(error)


def why(exc: BaseException) -> str:
    """One line: the invariant that is broken, else what failed."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return str(exc) if isinstance(exc, Broken) else f"no-bug: {type(exc).__name__}: {exc}"


def run_seed(
    seed: int,
    *,
    nodes: int = 0,
    seconds: float = SECONDS_DEFAULT,
    text: TextIO | None = None,
    peace: bool = False,
    scenario: Scenario | None = None,
) -> Outcome:
    """Tell the story of a seed."""
    story = Story(seed, nodes=nodes, seconds=seconds, text=text, peace=peace, scenario=scenario)
    outcome = Outcome(seed, story.nodes, story.seconds)
    try:
        story.run()
    except Exception as exc:
        outcome.broken = why(exc)
    outcome.trace = story.world.trace()
    outcome.fired = story.world.fired
    outcome.evaluated = story.cluster.invariants.evaluated
    outcome.simulated_s = story.world.now_s
    return outcome
