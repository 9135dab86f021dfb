"""A container controller whose containers are entries in a table, that behave as a test says.

It keeps the promises of `paas.controller.ports.Containers`: containers outlive its own death and
the death of whoever asked; an end is announced once to a connected listener, and its facts are kept
until the container is destroyed; `kill` and `destroy` of what is not there succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from paas.base.errors import PlatformError
from paas.container.messages import Limits
from paas.controller.ports import ContainerFact, ExitFacts, Started, StartOrder

UID_BASE_FIRST = 100_000
UIDS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one started component does.  Times in seconds after its start; None: never."""

    start_s: float = 0.006
    start_error: PlatformError | None = None
    ready_after_s: float | None = 0.01
    exit_after_s: float | None = None
    exit_reason: str = "normal"
    stop_s: float = 0.01
    """How long it takes to end after the signal; more than the grace means force."""
    hangs: bool = False
    """It cannot even be ended by its harness."""
    refuses: str = ""
    """Why it refuses to terminate."""


class Listener(Protocol):
    """Who wants to hear: the component controller."""

    def containers_connected(self) -> None: ...

    def containers_lost(self) -> None: ...

    def container_exited(self, facts: ExitFacts, /) -> None: ...


@dataclass(slots=True, eq=False)
class FakeContainer:
    """One container of the table."""

    order: StartOrder
    behaviour: Behaviour
    uid_base: int
    pid: int
    phase: str = "initializing"
    exit: ExitFacts | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    frozen: bool = False
    limits: Limits | None = None
    uses_bytes: int = 0
    """What its component holds of memory: less cannot be its bound."""

    @property
    def started(self) -> Started:
        endpoints = {
            name: {"protocol": protocol, "host": "10.0.0.2", "port": 8000 + number}
            for number, (name, protocol) in enumerate(self.order.endpoints.items())
        }
        return Started(
            uid_base=self.uid_base, pid=self.pid, address="10.0.0.2", endpoints=endpoints
        )


class FakeContainers:
    """See the module's text.  `on_phase(component, phase)` is where the harness side listens."""

    def __init__(self, nursery: trio.Nursery, behaviour: Callable[[StartOrder], Behaviour]) -> None:
        self.behaviour = behaviour
        self.table: dict[str, FakeContainer] = {}
        self.starts: list[tuple[str, int]] = []
        self.kills: list[str] = []
        self.stats_asked = 0
        self.listener: Listener | None = None
        self.on_phase: Callable[[FakeContainer], None] = lambda _container: None
        self.attach: Callable[[StartOrder], None] = lambda _order: None
        """Where volumes listen: raises for one that is not there."""
        self._nursery = nursery
        self._lost = trio.Event()
        self._lost.set()
        self._numbers = 0

    # -- the faults that tests make --------------------------------------------------------------

    @property
    def up(self) -> bool:
        return not self._lost.is_set()

    def come_up(self) -> None:
        """It runs (again) and is connected."""
        self._lost = trio.Event()
        if self.listener is not None:
            self.listener.containers_connected()

    def go_down(self) -> None:
        """It dies: what runs goes on, requests under way have an unknown outcome."""
        self._lost.set()
        if self.listener is not None:
            self.listener.containers_lost()

    def kill_all(self) -> None:
        """The fence: this node may run nothing any more."""
        for component in self.running():
            self.end(component, "killed")

    def end(self, component: str, reason: str) -> None:
        """The container's processes end, for this reason."""
        container = self.table.get(component)
        if container is None or container.exit is not None:
            return
        container.exit = ExitFacts(
            component=component,
            incarnation=container.order.incarnation,
            reason=reason,
            code=int(reason[5:]) if reason.startswith("exit:") else None,
            oom=reason == "out-of-memory",
        )
        container.phase = "exited"
        container.ended.set()
        self.on_phase(container)
        if self.up and self.listener is not None:
            self.listener.container_exited(container.exit)

    def set_phase(self, component: str, phase: str) -> None:
        container = self.table[component]
        container.phase = phase
        self.on_phase(container)

    def running(self) -> list[str]:
        return [c for c, container in self.table.items() if container.exit is None]

    # -- the port --------------------------------------------------------------------------------

    async def start(self, order: StartOrder) -> Started:
        lost = self._check_up()
        behaviour = self.behaviour(order)
        if order.component in self.table:
            raise PlatformError("conflict", "there is a container of this component")
        self.attach(order)
        self._numbers += 1
        container = FakeContainer(
            order=order,
            behaviour=behaviour,
            uid_base=UID_BASE_FIRST + self._numbers * UIDS,
            pid=1000 + self._numbers,
        )
        self.starts.append((order.component, order.incarnation))
        if behaviour.start_error is None:
            self.table[order.component] = container
        self._nursery.start_soon(self._live, container)
        with trio.move_on_after(behaviour.start_s):
            await lost.wait()
            raise PlatformError("unknown-outcome", "the connection broke before the answer")
        if behaviour.start_error is not None:
            raise behaviour.start_error
        return container.started

    async def kill(self, component: str) -> None:
        self._check_up()
        await trio.lowlevel.checkpoint()
        self.kills.append(component)
        self.end(component, "killed")

    async def destroy(self, component: str) -> None:
        lost = self._check_up()
        with trio.move_on_after(0.005):
            await lost.wait()
            raise PlatformError("unknown-outcome", "the connection broke before the answer")
        self.end(component, "killed")
        self.table.pop(component, None)

    async def resize(self, component: str, wanted: Limits) -> None:
        self._check_up()
        await trio.lowlevel.checkpoint()
        container = self._living(component)
        if wanted.memory_bytes < container.uses_bytes:
            raise PlatformError("conflict", f"{container.uses_bytes} bytes are in use")
        container.limits = wanted

    async def freeze(self, component: str) -> None:
        self._check_up()
        await trio.lowlevel.checkpoint()
        self._living(component).frozen = True

    async def thaw(self, component: str) -> None:
        self._check_up()
        await trio.lowlevel.checkpoint()
        self._living(component).frozen = False

    def _living(self, component: str) -> FakeContainer:
        container = self.table.get(component)
        if container is None:
            raise PlatformError("no-such-target", "there is no container of this component")
        if container.exit is not None:
            raise PlatformError("not-available", "it has ended")
        return container

    async def stats(self, components: list[str]) -> dict[str, dict[str, Any]]:
        self._check_up()
        self.stats_asked += 1
        await trio.sleep(0.001)
        present = [c for c in components if c in self.table]
        return {component: {"memory_bytes": 4096.0} for component in present}

    async def list(self) -> list[ContainerFact]:
        self._check_up()
        await trio.sleep(0.002)
        self._check_up()
        return [
            ContainerFact(
                component=component,
                incarnation=container.order.incarnation,
                running=container.exit is None,
                uid_base=container.uid_base,
                pid=container.pid,
                address="10.0.0.2",
                endpoints=container.started.endpoints,
                exit=container.exit,
                frozen=container.frozen,
                limits=container.limits or container.order.limits,
            )
            for component, container in self.table.items()
        ]

    def _check_up(self) -> trio.Event:
        if not self.up:
            raise PlatformError("unavailable", "the container controller does not answer")
        return self._lost

    async def _live(self, container: FakeContainer) -> None:
        """The component does what its behaviour says, until it ends."""
        behaviour = container.behaviour
        if behaviour.start_error is not None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._become_ready, container)
            if behaviour.exit_after_s is not None:
                nursery.start_soon(self._exit_later, container, behaviour.exit_after_s)
            await container.ended.wait()
            nursery.cancel_scope.cancel()

    async def _become_ready(self, container: FakeContainer) -> None:
        await trio.sleep(container.behaviour.start_s)
        self.on_phase(container)
        if container.behaviour.ready_after_s is not None:
            await trio.sleep(container.behaviour.ready_after_s)
            container.phase = "available"
            self.on_phase(container)

    async def _exit_later(self, container: FakeContainer, after_s: float) -> None:
        await trio.sleep(container.behaviour.start_s + after_s)
        self.end(container.order.component, container.behaviour.exit_reason)
