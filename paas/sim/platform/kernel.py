"""The kernel of a simulated machine: what really runs, and the fence that ends it.

    agents come and go ──> table of containers ──> components
    lease deadline (shared memory) ──> watchdog ──> kills everything, whoever is dead or paused

This is the truth that invariants are checked against: whatever the agents believe, a component runs
if and only if it is in this table.  Containers outlive every agent, and end with the power.

Implements `container.fence.Place`: the deadline of the lease, which the watchdog looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from paas.container.messages import Limits
from paas.controller.ports import ExitFacts, Started, StartOrder
from paas.sim.platform.clocks import NodeClock
from paas.sim.platform.volume_files import Attached, NodeFiles
from paas.sim.platform.world import World

FENCE_KILLS_S = 0.2
"""The watchdog takes at most so long (node.limits allows it FENCE_KILL_S)."""

UID_FIRST, UIDS = 100_000, 65_536


class Program(Protocol):
    """What runs in a container: harness and component."""

    def begin(self) -> None: ...

    def killed(self) -> None:
        """It is no more; it says nothing any more."""
        ...


class Truth(Attached, Protocol):
    """Who is told what really happens."""

    def started(self, node: str, container: Container) -> None: ...

    def ended(self, node: str, container: Container, reason: str) -> None: ...


@dataclass(slots=True, eq=False)
class Container:
    """One container, running or ended."""

    order: StartOrder
    uid_base: int
    pid: int
    exit: ExitFacts | None = None
    program: Program | None = None
    frozen: bool = False
    limits: Limits | None = None
    """Bounds that it was given since it runs; None: those of its order."""

    @property
    def component(self) -> str:
        return self.order.component

    @property
    def incarnation(self) -> int:
        return self.order.incarnation

    @property
    def running(self) -> bool:
        return self.exit is None

    @property
    def started(self) -> Started:
        endpoints: dict[str, dict[str, Any]] = {}
        return Started(
            uid_base=self.uid_base, pid=self.pid, address="10.0.0.2", endpoints=endpoints
        )


class Kernel:
    """See the module's text."""

    def __init__(
        self,
        world: World,
        node: str,
        clock: NodeClock,
        truth: Truth,
        program: Callable[[Container], Program],
    ) -> None:
        self.world = world
        self.node = node
        self.clock = clock
        self.powered = True
        self.boots = 0
        self.table: dict[str, Container] = {}
        self.on_exit: Callable[[Container], None] = lambda _container: None
        self.watchdog_kills = 0
        self.files = NodeFiles(node, truth)
        self._truth = truth
        self._program = program
        self._numbers = 0
        self._deadline_s = math.inf
        self._fenced = False
        self._marked = False
        """Leases are in force on this node: on the disk."""

    # -- containers ------------------------------------------------------------------------------

    def launch(self, order: StartOrder) -> Container:
        """A component begins to run; raises PlatformError when its volumes are not there."""
        self.files.attach(order)
        self._numbers += 1
        container = Container(
            order=order, uid_base=UID_FIRST + self._numbers * UIDS, pid=1_000 + self._numbers
        )
        self.table[order.component] = container
        self._truth.started(self.node, container)
        container.program = self._program(container)
        container.program.begin()
        return container

    def end(self, container: Container, reason: str) -> None:
        """Its processes end, for this reason."""
        if container.exit is not None or self.table.get(container.component) is not container:
            return
        container.exit = ExitFacts(
            component=container.component,
            incarnation=container.incarnation,
            reason=reason,
            code=int(reason[5:]) if reason.startswith("exit:") else None,
            oom=reason == "out-of-memory",
            time_ms=self.clock.now_ms(),
        )
        self.files.detach(container.order)
        self._truth.ended(self.node, container, reason)
        if container.program is not None:
            container.program.killed()
        self.on_exit(container)

    def running(self) -> list[Container]:
        return [container for container in self.table.values() if container.running]

    def kill_all(self, reason: str = "node-lost") -> None:
        for container in self.running():
            self.end(container, reason)

    # -- power -----------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Everything ends, and nobody is told."""
        self.powered = False
        for container in self.running():
            container.exit = ExitFacts(
                component=container.component, incarnation=container.incarnation, reason=""
            )
            self.files.detach(container.order)
            self._truth.ended(self.node, container, "power")
            if container.program is not None:
                container.program.killed()
        self.table.clear()
        self.files.power_off()

    def power_on(self) -> None:
        """Another boot: the page with the deadline is gone, the mark on the disk is not."""
        self.powered = True
        self.boots += 1
        self._fenced = False
        self._deadline_s = -math.inf if self._marked else math.inf

    # -- the lease (container.fence.Place) -------------------------------------------------------

    def load(self) -> float:
        return self._deadline_s

    def fenced(self) -> bool:
        return self._fenced

    async def guard(self) -> None:
        """The watchdog outlives every agent."""

    async def grant(self, deadline_s: float) -> None:
        self._deadline_s, self._fenced, self._marked = deadline_s, False, True
        self.world.at(
            max(self.world.now_s, self.clock.true_s(deadline_s)), self._watchdog, deadline_s
        )

    async def drop(self) -> None:
        self._deadline_s, self._fenced, self._marked = math.inf, False, False

    def _watchdog(self, deadline_s: float) -> None:
        if self.powered and deadline_s == self._deadline_s and not self._fenced:
            self._fenced = True
            self.world.after(self.world.random.random() * FENCE_KILLS_S, self._fence_kills)

    def _fence_kills(self) -> None:
        if self._fenced and self.powered:
            running = self.running()
            if running:
                self.watchdog_kills += 1
                self.world.count("seen-fence-kill")
                self.world.record(f"{self.node} fence kills {len(running)}")
            self.kill_all()
