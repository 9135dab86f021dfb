"""Changes to containers that run: other bounds, and standing still.

    resize   memory, processor time and weight, processes, disk I/O; all of it or nothing
    freeze   everything of the component stops where it is; its harness goes on and speaks for it
    thaw     it goes on as if nothing had been, but for the time

The bounds in force are in the journal; whether it is frozen is asked of the kernel, so that a
controller that starts anew goes on with what there is.  Who wants what for how long is decided
elsewhere (controller/): here it is done, and refused where it cannot be.

Lowering the memory below what is in use would end the component; that is refused (`conflict`).  The
disk is of the size it was made with.  What is being killed is neither frozen nor resized; killing
thaws (`Cgroups.let_die`), since on version 1 of control groups a frozen task gets no signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.hooks.cgroup import no_device
from paas.container.hooks.contract import Context
from paas.container.lifecycle import ContainerState
from paas.container.messages import Limits
from paas.container.parts import Parts
from paas.real.kernel_cgroup import Cgroups, GroupLimits, MemoryInUse


class Alive(Protocol):
    """A container, as far as its life is concerned."""

    context: Context
    state: ContainerState
    busy: trio.Lock
    frozen: bool
    doomed: bool


class Containers(Protocol):
    """What is asked of the engine."""

    @property
    def containers(self) -> Mapping[str, Alive]: ...

    def ready(self) -> Parts: ...

    def find(self, component: str) -> Alive: ...

    def check_limits(self, wanted: Limits) -> None:
        """Raises `invalid` for what this node cannot give."""
        ...


class Living:
    """See the module's text."""

    def __init__(self, engine: Containers) -> None:
        self._engine = engine

    async def resize(self, component: str, wanted: Limits) -> None:
        """Give it these bounds; returns when they are in force.  Repeating it changes nothing."""
        parts, container = self._engine.ready(), self._engine.find(component)
        self._engine.check_limits(wanted)
        async with container.busy:
            _require_running(container)
            record = container.context.record
            before = record.limits or wanted
            if wanted.disk_bytes != before.disk_bytes:
                raise PlatformError(
                    "unsupported",
                    "limits.disk_bytes: a writable layer keeps the size that it was made with",
                    hint="create the component anew, or give it a volume",
                    field="limits.disk_bytes",
                )
            if wanted.io_bytes_per_s and not record.device:
                raise no_device()
            # A first bound on I/O waits for the device, and what is moved for the kernel.
            await trio.to_thread.run_sync(
                _change, parts.groups, component, record.device, before, wanted
            )
            container.context.save(replace(record, limits=wanted))

    async def freeze(self, component: str) -> None:
        """Stop it where it is; returns when nothing of it moves.

        Raises `timeout` when it does not come to a stop; it goes on then.
        """
        parts, container = self._engine.ready(), self._engine.find(component)
        async with container.busy:
            _require_running(container)
            if container.frozen:
                return
            try:
                parts.groups.freeze(component)
                with trio.fail_after(limits.FREEZE_S):
                    await _stopped(parts.groups, container)
            except trio.TooSlowError:
                parts.groups.thaw(component)
                raise PlatformError(
                    "timeout",
                    f"{component[:8]} did not come to a stop within {limits.FREEZE_S:.0f} s;"
                    " something of it waits for the disk",
                ) from None
            except BaseException:
                parts.groups.thaw(component)
                raise
            container.frozen = True

    async def thaw(self, component: str) -> None:
        """Let it go on; one that is not frozen is no error."""
        parts, container = self._engine.ready(), self._engine.find(component)
        async with container.busy:
            if container.state is ContainerState.RUNNING:
                parts.groups.thaw(component)
                container.frozen = False

    def adopt(self, parts: Parts, container: Alive) -> None:
        """What an earlier controller froze stays frozen; a freeze that it did not finish does not.

        Called once for each container that runs, before anybody can ask for anything.
        """
        component = container.context.record.component
        container.frozen = parts.groups.is_frozen(component)
        if not container.frozen and parts.groups.is_freezing(component):
            parts.groups.thaw(component)


def _require_running(container: Alive) -> None:
    if container.state is not ContainerState.RUNNING or container.doomed:
        component = container.context.record.component
        raise PlatformError("not-available", f"container {component} does not run (any more)")


async def _stopped(groups: Cgroups, container: Alive) -> None:
    component, pause_s = container.context.record.component, limits.FREEZE_PAUSE_S
    while not groups.is_frozen(component):
        _require_running(container)
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, limits.FREEZE_PAUSE_S_MAX)
    _require_running(container)


def _change(groups: Cgroups, component: str, device: str, before: Limits, wanted: Limits) -> None:
    """All of it or nothing."""
    try:
        _apply(groups, component, device, before, wanted)
    except MemoryInUse as exc:
        raise PlatformError(
            "conflict",
            f"{component[:8]} uses {exc.used_bytes >> 10} KiB of memory now, more than the wanted"
            f" {wanted.memory_bytes >> 10}",
            hint="restart it with less, or ask for more",
            field="limits.memory_bytes",
            used_bytes=exc.used_bytes,
        ) from None
    except BaseException:
        _apply(groups, component, device, wanted, before)
        raise


def _apply(groups: Cgroups, component: str, device: str, before: Limits, wanted: Limits) -> None:
    groups.resize(component, GroupLimits(wanted.memory_bytes, wanted.cpu, wanted.pids))
    if wanted.cpu_weight != before.cpu_weight:
        groups.weigh(component, wanted.cpu_weight)
    if wanted.io_bytes_per_s:
        groups.limit_io(component, device, wanted.io_bytes_per_s)
        groups.join_io(component)
    elif before.io_bytes_per_s:
        groups.lift_io(component)
