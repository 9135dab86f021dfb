"""Harnesses of the containers of `fake_containers`: they attach, tell phases, stop and terminate.

They keep the promises of `paas.controller.ports.Harnesses`: an ended component has no harness; a
harness that lost its hub attaches again and says hello with its present phase.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import trio

from paas.base.errors import PlatformError
from paas.harness.messages import (
    STOP,
    TERMINATE,
    HarnessPhase,
    Hello,
    PhaseChange,
    Stop,
    TerminateResult,
)
from paas.testing.fake_containers import FakeContainer, FakeContainers
from paas.wire.registry import Method, Nothing, P, R


class Listener(Protocol):
    """Who wants to hear: the component controller."""

    def harness_attached(self, component: str, hello: Hello) -> None: ...

    def harness_phase(self, component: str, change: PhaseChange) -> None: ...

    def harness_detached(self, component: str) -> None: ...


class FakeHarnesses:
    """See the module's text."""

    def __init__(self, nursery: trio.Nursery, containers: FakeContainers) -> None:
        self.listener: Listener | None = None
        self.stops: list[tuple[str, float]] = []
        self._nursery = nursery
        self._containers = containers
        self._attached: set[str] = set()
        containers.on_phase = self._phase

    def attached(self, component: str) -> bool:
        return component in self._attached

    def _phase(self, container: FakeContainer) -> None:
        if self.listener is None:
            return
        component = container.order.component
        if container.phase == "exited":
            self.detach(component)
        elif component not in self._attached:
            self.attach(container)
        else:
            phase = cast(HarnessPhase, container.phase)
            self.listener.harness_phase(component, PhaseChange(phase=phase))

    def attach(self, container: FakeContainer) -> None:
        component = container.order.component
        self._attached.add(component)
        if self.listener is not None:
            hello = Hello(
                component=component,
                incarnation=container.order.incarnation,
                phase=cast(HarnessPhase, container.phase),
            )
            self.listener.harness_attached(component, hello)

    def detach(self, component: str) -> None:
        if component in self._attached:
            self._attached.discard(component)
            if self.listener is not None:
                self.listener.harness_detached(component)

    def lose_hub(self) -> None:
        """The hub died: nobody is attached, nobody listens."""
        self.listener = None
        self._attached.clear()

    def attach_all(self) -> None:
        """The hub is back: every living harness says hello."""
        for component in self._containers.running():
            self.attach(self._containers.table[component])

    async def request(self, component: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        await trio.lowlevel.checkpoint()
        if component not in self._attached:
            raise PlatformError("not-available", f"the harness of {component} is not connected")
        container = self._containers.table[component]
        answer: Any
        if method.name == STOP.name:
            answer = self._stop(container, cast(Stop, params))
        elif method.name == TERMINATE.name:
            answer = self._terminate(container)
        else:
            raise PlatformError("no-such-method", method.name)
        return cast(R, answer)

    def _stop(self, container: FakeContainer, stop: Stop) -> Nothing:
        self.stops.append((container.order.component, stop.grace_s))
        if not container.behaviour.hangs:
            self._nursery.start_soon(self._end, container, stop.grace_s)
        return Nothing()

    async def _end(self, container: FakeContainer, grace_s: float) -> None:
        willing = container.behaviour.stop_s <= grace_s
        await trio.sleep(min(container.behaviour.stop_s, grace_s))
        if self._containers.table.get(container.order.component) is container:
            reason = "signal:SIGTERM" if willing else "signal:SIGKILL"
            self._containers.end(container.order.component, reason)

    def _terminate(self, container: FakeContainer) -> TerminateResult:
        refusal = container.behaviour.refuses
        if not refusal:
            self._nursery.start_soon(self._end_normally, container)
        return TerminateResult(accepted=not refusal, reason=refusal)

    async def _end_normally(self, container: FakeContainer) -> None:
        await trio.sleep(container.behaviour.stop_s)
        if self._containers.table.get(container.order.component) is container:
            self._containers.end(container.order.component, "normal")
