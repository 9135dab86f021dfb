"""The container controller of a simulated node, and the hub's way to it.

    hub ── ContainersPort ──(one connection)──> ContainerController ──> Kernel
                                                      └── container.fence.Fence (the real one)

It keeps the promises of `container.client`: calls wait for the controller while it is away, then
end with `unavailable`; a call that was under way when either side died has an unknown outcome, and
may have been done; ends are told once to a connected hub, and kept until the container is removed.
Work that was begun goes on when the hub dies, and stops where it is when the controller does.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import trio

from paas.base.errors import LocalError, PlatformError
from paas.container.fence import Fence
from paas.container.messages import Limits
from paas.controller.ports import ContainerFact, Started, StartOrder
from paas.sim.platform.kernel import Container, Kernel
from paas.sim.platform.process import Process
from paas.sim.platform.world import World

if TYPE_CHECKING:
    from paas.controller.agent import Controller

CALL_S = 30.0
LEASE_S = 2.0
CLEAR_S = 30.0
START_S = 60.0
WAY_S = 0.0003
"""One way over the socket between the two."""

Answer = Callable[[Any], None]
"""Takes the result, or a PlatformError."""


def complete(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise LocalError("the simulated fence must not wait")


class ContainerController:
    """One life of the container controller's process."""

    def __init__(self, world: World, kernel: Kernel) -> None:
        self.world = world
        self.kernel = kernel
        self.process = Process(world, f"{kernel.node}/containers")
        self.session: Session | None = None
        self.fence = Fence(kernel, self._stop_all, kernel.clock.monotonic_s)
        self._starting: dict[str, list[Callable[[], None]]] = {}
        self.start_fault: Callable[[], PlatformError | None] = lambda: None
        kernel.on_exit = self._exited
        self.fence.load()
        if self.fence.ended:
            complete(self.fence.clear())  # nothing is adopted that may not run
        complete(self.fence.open())

    async def _stop_all(self) -> None:
        self.kernel.kill_all()

    def die(self) -> None:
        self.process.kill()
        self.kernel.on_exit = lambda _container: None
        if self.session is not None:
            self.session.close()

    def _exited(self, container: Container) -> None:
        self.process.post(self._tell_exit, container)

    def _tell_exit(self, container: Container) -> None:
        if self.session is not None and container.exit is not None:
            self.session.tell(container.exit)

    # -- work, each in one go but for the time that it takes ---------------------------------------

    def start(self, order: StartOrder, answer: Answer) -> None:
        try:
            self.fence.require()
            if order.component in self.kernel.table or order.component in self._starting:
                raise PlatformError("conflict", "there is a container of this component")
            fault = self.start_fault()
            if fault is not None:
                raise fault
        except PlatformError as error:
            answer(error)
            return
        self._starting[order.component] = []
        takes_s = 0.004 + self.world.random.random() * 0.02
        self.world.after(takes_s, self.process.post, self._go, order, answer)

    def _go(self, order: StartOrder, answer: Answer) -> None:
        waiting = self._starting.pop(order.component)
        try:
            self.fence.require()  # it is in its groups, and waits for the word to go
        except PlatformError as error:
            answer(error)
        else:
            answer(self._launched(order))
        for work in waiting:
            work()

    def _launched(self, order: StartOrder) -> Any:
        try:
            return self.kernel.launch(order).started
        except PlatformError as error:
            return error

    def volume(self, operation: str, arguments: tuple[Any, ...], answer: Answer) -> None:
        """A request about files of volumes: `volume_files.NodeFiles`."""
        try:
            answer(getattr(self.kernel.files, operation)(*arguments))
        except PlatformError as error:
            answer(error)

    def kill(self, component: str, answer: Answer) -> None:
        container = self.kernel.table.get(component)
        if container is not None:
            self.kernel.end(container, "killed")
        answer(None)

    def resize(self, component: str, wanted: Limits, answer: Answer) -> None:
        self._change(component, answer, limits=wanted)

    def freeze(self, component: str, answer: Answer) -> None:
        self._change(component, answer, frozen=True)

    def thaw(self, component: str, answer: Answer) -> None:
        self._change(component, answer, frozen=False)

    def _change(self, component: str, answer: Answer, **changes: Any) -> None:
        container = self.kernel.table.get(component)
        if container is None:
            answer(PlatformError("no-such-target", "there is no container of this component"))
        elif not container.running:
            answer(PlatformError("not-available", "it has ended"))
        else:
            for name, value in changes.items():
                setattr(container, name, value)
            answer(None)

    def destroy(self, component: str, answer: Answer) -> None:
        if component in self._starting:
            self._starting[component].append(lambda: self.destroy(component, answer))
            return
        container = self.kernel.table.get(component)
        if container is not None:
            self.kernel.end(container, "killed")
            del self.kernel.table[component]
        answer(None)

    def list(self, answer: Answer) -> None:
        answer(
            [
                ContainerFact(
                    component=container.component,
                    incarnation=container.incarnation,
                    running=container.running,
                    uid_base=container.uid_base,
                    pid=container.pid,
                    address="10.0.0.2",
                    exit=container.exit,
                    frozen=container.frozen,
                    limits=container.limits or container.order.limits,
                )
                for container in self.kernel.table.values()
            ]
        )

    def lease(self, deadline_s: float | None, answer: Answer) -> None:
        try:
            complete(self.fence.extend(deadline_s))
        except PlatformError as error:
            answer(error)
        else:
            answer(None)

    def clear(self, answer: Answer) -> None:
        if self._starting:  # what is on its way up is waited for, and ended
            self.world.after(0.01, self.process.post, self.clear, answer)
            self.fence._clearing = True
            return
        complete(self.fence.clear())
        answer(None)


class Session:
    """One connection between a hub and a container controller."""

    def __init__(self, port: ContainersPort, controller: ContainerController) -> None:
        self.port = port
        self.controller = controller
        self.open = True
        self._waiting: dict[_Waiter, None] = {}

    def close(self) -> None:
        """Either side is gone; the other learns it in a moment."""
        if self.open:
            self.open = False
            self.controller.session = None
            self.port.process.world.after(WAY_S, self.port.process.post, self._lost)

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.give(PlatformError("unknown-outcome", "the connection broke before the answer"))
        self.port.session_lost(self)

    def tell(self, facts: Any) -> None:
        world = self.port.process.world
        world.after(WAY_S, self.port.process.post, self._told, facts)

    def _told(self, facts: Any) -> None:
        controller = self.port.listener
        if self.port.session is self and controller is not None:
            controller.container_exited(facts)

    def ask(self, work: Callable[..., None], *arguments: Any) -> _Waiter:
        waiter = _Waiter()
        self._waiting[waiter] = None

        def answer(value: Any) -> None:
            world = self.port.process.world
            world.after(WAY_S, self.port.process.post, self._answered, waiter, value)

        process = self.controller.process
        process.world.after(WAY_S, process.post, work, *arguments, answer)
        return waiter

    def _answered(self, waiter: _Waiter, value: Any) -> None:
        if self._waiting.pop(waiter, waiter) is None:
            waiter.give(value)

    def forget(self, waiter: _Waiter) -> None:
        self._waiting.pop(waiter, None)


class _Waiter:
    __slots__ = ("done", "value")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: Any = None

    def give(self, value: Any) -> None:
        self.value = value
        self.done.set()

    def expire(self) -> None:
        if not self.done.is_set():
            self.give(PlatformError("timeout"))


class ContainersPort:
    """The hub's side.  Implements `controller.ports.Containers`, `Paths`, `presence.Fence`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.session: Session | None = None
        self.listener: Controller | None = None
        self.on_connected: Callable[[], None] = lambda: None
        self._changed = trio.Event()

    # -- the connection --------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        if self.session is None and session.open:
            self.session = session
            self._wake()
            if self.listener is not None:
                self.listener.containers_connected()
            self.on_connected()

    def session_lost(self, session: Session) -> None:
        if self.session is session:
            self.session = None
            self._wake()
            if self.listener is not None:
                self.listener.containers_lost()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def prepared(self) -> None:
        while self.session is None:
            await self._changed.wait()

    async def _call(self, name: str, timeout_s: float, *arguments: Any) -> Any:
        deadline_s = trio.current_time() + timeout_s
        while self.session is None:
            changed = self._changed
            with trio.move_on_at(deadline_s) as scope:
                await changed.wait()
            if scope.cancelled_caught:
                raise PlatformError("unavailable", "the container controller does not answer")
        session = self.session
        waiter = session.ask(getattr(session.controller, name), *arguments)
        # An action, since a scope of trio costs more than all the rest of a call.
        self.process.world.at(deadline_s, self.process.post, waiter.expire)
        try:
            await waiter.done.wait()
        finally:
            session.forget(waiter)
        if isinstance(waiter.value, PlatformError):
            raise waiter.value
        return waiter.value

    # -- the ports -------------------------------------------------------------------------------

    async def start(self, order: StartOrder) -> Started:
        started: Started = await self._call("start", START_S, order)
        return started

    async def kill(self, component: str) -> None:
        await self._call("kill", CALL_S, component)

    async def destroy(self, component: str) -> None:
        await self._call("destroy", CALL_S, component)

    async def resize(self, component: str, wanted: Limits) -> None:
        await self._call("resize", CALL_S, component, wanted)

    async def freeze(self, component: str) -> None:
        await self._call("freeze", CALL_S, component)

    async def thaw(self, component: str) -> None:
        await self._call("thaw", CALL_S, component)

    async def list(self) -> Any:
        return await self._call("list", CALL_S)

    async def stats(self, components: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {component: {"memory_bytes": 4_096} for component in components}

    async def grant(self, source: str, target: str, port: int) -> None:
        raise PlatformError("unsupported", "simulated containers have no network")

    async def extend(self, deadline_s: float | None) -> None:
        await self._call("lease", LEASE_S, deadline_s)

    async def clear(self) -> None:
        await self._call("clear", CLEAR_S)
