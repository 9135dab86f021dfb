"""Pid 1: forked from the template into its isolation; recorded; then told to go.

The record is saved between the two, so that whatever runs is known (see `launch.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from paas.container import plan
from paas.container.hooks.contract import Context, Groups, Launcher

Announce = Callable[[Context], Awaitable[None]]


class ProcessHook:
    name = "process"

    def __init__(
        self, launchers: Mapping[str, Launcher], backend: str, groups: Groups, announce: Announce
    ) -> None:
        """`launchers` by the name of their back end; `backend`: the one of who asks for none."""
        self._launchers = launchers
        self._backend = backend
        self._groups = groups
        self._announce = announce

    async def prepare(self, context: Context) -> None:
        record, network, base = context.record, context.network, context.base
        if record.uid_base is None or network is None or base is None:
            raise AssertionError("the process is prepared last")
        assigned = plan.Assigned(
            record.uid_base,
            network.address,
            context.directory,
            network.gateway,
            network.address6,
        )
        order = plan.launch_order(
            context.wanted(),
            assigned,
            base,
            device=context.layer.device if context.layer is not None else "",
            harness_entrances=self._groups.entrances(record.component, "harness"),
            component_entrances=self._groups.entrances(record.component, "component"),
            files=context.files,
            volumes=context.volumes.volumes if context.volumes is not None else (),
        )
        backend = context.wanted().backend or self._backend
        context.record = replace(record, backend=backend)
        process = await self._launchers[backend].launch(order, network.fd)
        context.process = process
        context.timings_ms |= {f"process.{k}": v for k, v in process.timings_ms.items()}
        context.save(
            replace(
                context.record, phase="running", pid=process.pid, start_ticks=process.start_ticks
            )
        )
        await self._announce(context)
        await process.go()
        # From here on the container holds what it needs by itself.
        network.release()
        if context.layer is not None:
            context.layer.release()
            context.layer = None
        if context.volumes is not None:
            context.volumes.release()
            context.volumes = None

    async def destroy(self, context: Context) -> None:
        launcher = self._launchers[context.record.backend or self._backend]
        await launcher.end(context.record.component, context.process)
        context.process = None
