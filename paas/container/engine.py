"""The container controller without its network face: start, kill, destroy, list, measure, grant.

Everything that lives on this node in containers is in `containers`, one `Container` each, whose
state moves by the table of `lifecycle.py`.  Preparation and destruction are the hooks (`hooks/`);
why a container ended is judged by `reaping.py`; what to do after a restart by `recovery.py`.  This
file only awaits.

Stopping the engine (cancelling `run`) touches no container: they run on, and the next engine with
the same state directory adopts them.  `teardown_node` is the way to leave nothing.

Notices: `on_exit` is called once per container, after its facts are in the journal.  Who may have
missed one (a crash just between the two) finds the same facts in `list`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.container import limits, metrics, probe, procedure
from paas.container.backends.launchers import launchers
from paas.container.between import Between
from paas.container.fence import Fence
from paas.container.gate import Gate
from paas.container.grants import Grants
from paas.container.hooks.cgroup import CgroupHook
from paas.container.hooks.contract import Context, Hook
from paas.container.hooks.firewall import FirewallHook
from paas.container.hooks.network import NetworkHook
from paas.container.hooks.process import ProcessHook
from paas.container.hooks.rootfs import RootfsHook
from paas.container.hooks.users import UsersHook
from paas.container.hooks.volumes import VolumesHook
from paas.container.journal import Record
from paas.container.launch import EXIT_FILE, LOG_FILE
from paas.container.launcher import LaunchedProcess, reap_always
from paas.container.lifecycle import CONTAINER, ContainerEvent, ContainerState
from paas.container.living import Living
from paas.container.machine import (
    ContainerGroups,
    HostDirectories,
    node_limits,
    read_beside,
)
from paas.container.messages import (
    ContainerInfo,
    ContainerSpec,
    Exited,
    Limits,
    Started,
    Stats,
)
from paas.container.parts import Parts, lock_directory
from paas.container.reaping import EndFacts, judge
from paas.container.recovery import Decisions, KernelFacts, decide
from paas.container.settings import ContainerSettings, check
from paas.container.spec import NodeLimits, check_limits
from paas.container.spec import check as check_spec
from paas.real import kernel_fence
from paas.real import kernel_namespaces as namespaces
from paas.real.kernel_store import read_tail

OnExit = Callable[[Exited], None]
OnPrepared = Callable[[str, int], Awaitable[None]]

_E = ContainerEvent
_S = ContainerState


@dataclass(slots=True)
class Container:
    """One container of this node."""

    context: Context
    state: ContainerState = CONTAINER.initial
    process: LaunchedProcess | None = None
    adopted: bool = False
    busy: trio.Lock = field(default_factory=trio.Lock)
    """Held while it is prepared or destroyed, so that the two never overlap."""
    watched: trio.Event = field(default_factory=trio.Event)
    """Set when nobody watches its process any more."""
    frozen: bool = False
    doomed: bool = False
    """It is being killed: it is not frozen or resized any more."""

    def move(self, event: ContainerEvent) -> None:
        self.state = CONTAINER.next(self.state, event)


class Engine:
    """The containers of one node.  `run` it, then call the other methods from the same trio run."""

    def __init__(
        self,
        settings: ContainerSettings,
        *,
        clock: Clock,
        on_exit: OnExit,
        on_prepared: OnPrepared | None = None,
        wrap_hook: Callable[[Hook], Hook] = lambda hook: hook,
    ) -> None:
        """`on_prepared(component, uid_base)` is awaited before the harness may do anything.

        `wrap_hook` is for tests, which put a `FailHook` around one of the hooks.
        """
        self._settings = check(settings)
        self._clock = clock
        self._on_exit = on_exit
        self._on_prepared = on_prepared
        self._wrap_hook = wrap_hook
        self.containers: dict[str, Container] = {}
        self.paths = Grants(self)
        self.between = Between(self)
        self.gate = Gate(self)
        self.living = Living(self)
        self._parts: Parts | None = None
        self._fence: Fence | None = None
        self._lease = trio.Lock()
        self._lease_changed = trio.Event()
        self._removing = False
        self._closed = trio.Event()

    # -- running ----------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prepare the node, recover what is there, and serve until cancelled.

        Raises `unsupported` when the machine cannot have containers, `conflict` when another engine
        uses the state directory.
        """
        probe.require()
        lock_fd = await trio.to_thread.run_sync(lock_directory, self._settings.state_dir)
        self._closed = trio.Event()
        try:
            parts = await trio.to_thread.run_sync(Parts, self._settings)
            try:
                namespaces.adopt_orphans()
                async with trio.open_nursery() as nursery:
                    parts.nursery = nursery
                    await self._open(parts)
                    self._parts = parts
                    nursery.start_soon(reap_always)
                    nursery.start_soon(parts.networks.run)
                    nursery.start_soon(parts.layers.run)
                    task_status.started()
                    await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await self._close(parts)
        finally:
            os.close(lock_fd)
            self._closed.set()

    async def _close(self, parts: Parts) -> None:
        self._parts = None
        self.gate.stopped()
        self._fence = None
        for container in self.containers.values():
            if container.process is not None:
                container.process.close()
        try:
            await parts.close(remove=self._removing and not self.containers)
        finally:
            self.containers.clear()
            namespaces.adopt_orphans(False)

    async def _open(self, parts: Parts) -> None:
        parts.nursery.start_soon(parts.launcher.open)  # its interpreter starts meanwhile
        await parts.open()
        parts.hooks = self._make_hooks(parts)
        fence = Fence(parts.lease, partial(self._stop_all, parts), kernel_fence.boottime_s)
        fence.load()
        self._fence = fence
        if fence.ended:
            await fence.clear()  # nothing is adopted that may not run
        await fence.open()
        await self._recover(parts)
        parts.nursery.start_soon(self._enforce, fence)
        await parts.launcher.open()

    def _make_hooks(self, parts: Parts) -> tuple[Hook, ...]:
        groups = ContainerGroups(parts.groups)
        hooks: tuple[Hook, ...] = (
            RootfsHook(HostDirectories(), parts.layers),
            UsersHook(parts.users),
            VolumesHook(parts.volumes),
            CgroupHook(groups),
            NetworkHook(parts.networks, partial(self.gate.open, parts)),
            FirewallHook(parts.firewall),
            ProcessHook(launchers(parts.launcher), self._settings.backend, groups, self._announce),
        )
        return tuple(self._wrap_hook(hook) for hook in hooks)

    async def _announce(self, context: Context) -> None:
        self._require_lease()  # it is in its groups now, and waits for the word to go
        if self._on_prepared is not None and context.record.uid_base is not None:
            await self._on_prepared(context.record.component, context.record.uid_base)

    def ready(self) -> Parts:
        """What is shared by all containers; raises `unavailable` while the engine does not run."""
        if self._parts is None:
            raise PlatformError("unavailable", "the container controller is not running")
        return self._parts

    # -- recovery ---------------------------------------------------------------------------

    async def _recover(self, parts: Parts) -> None:
        records, damaged = parts.journal.load()
        boot = namespaces.boot_id()
        alive: dict[str, LaunchedProcess] = {}
        for record in records:
            if record.boot == boot and record.phase == "running":
                process = _find_process(record)
                if process is not None:
                    alive[record.component] = process
        directories = await trio.to_thread.run_sync(os.listdir, parts.directory)
        facts = KernelFacts(
            boot=boot,
            alive=alive.keys(),
            groups=parts.groups.names(),
            links=await parts.worker.run(parts.links.names),
            directories=directories,
        )
        decisions = decide(records, damaged, facts)
        self._take_over(parts, decisions, alive)
        await self.paths.restore(parts)
        await self.gate.resume(parts)
        await self._clear(parts, decisions)
        for record in decisions.report:
            self._finish(parts, self.containers[record.component])

    def _take_over(
        self, parts: Parts, decisions: Decisions, alive: dict[str, LaunchedProcess]
    ) -> None:
        for event, records in (
            (_E.ADOPT_RUNNING, decisions.adopt + decisions.report),
            (_E.ADOPT_EXITED, decisions.keep),
        ):
            for record in records:
                container = Container(parts.context(record), adopted=True)
                container.move(event)
                self.containers[record.component] = container
                if record.uid_base is not None:
                    parts.users.reserve(record.uid_base)
                if record.address is not None:
                    parts.addresses.reserve(record.address)
                container.process = alive.get(record.component)
                if container.process is not None:
                    self.living.adopt(parts, container)
                    parts.nursery.start_soon(self._watch, parts, container)
                else:
                    container.watched.set()

    async def _clear(self, parts: Parts, decisions: Decisions) -> None:
        """Remove what is half made, and what belongs to nobody."""
        boot = namespaces.boot_id()
        for record in decisions.destroy:
            if record.boot != boot:
                record = replace(record, link=None, address=None)
            await procedure.destroy(parts.hooks, parts.context(replace(record, uid_base=None)))
            parts.journal.remove(record.component)
        for component in decisions.stray_components:
            record = self._fresh_record(component, 0)
            await procedure.destroy(parts.hooks, parts.context(record))
            parts.journal.remove(component)
        for link in decisions.stray_links:
            await parts.worker.run(parts.links.disconnect, link)

    # -- one container ----------------------------------------------------------------------

    async def start(self, spec: ContainerSpec) -> Started:
        """Make a container and start its harness; on failure nothing of it is left."""
        parts = self.ready()
        self._require_lease()
        bases = {"host": parts.base} | parts.bases
        check_spec(spec, self._node_limits(bases))
        if spec.component in self.containers:
            raise PlatformError("conflict", f"container {spec.component} exists already")
        if len(self.containers) >= limits.CONTAINERS_MAX:
            raise PlatformError("limit-exceeded", f"a node has {limits.CONTAINERS_MAX} containers")
        context = parts.context(self._fresh_record(spec.component, spec.incarnation))
        context.spec, context.base = spec, bases[spec.base]
        container = Container(context)
        container.move(_E.PREPARE)
        self.containers[spec.component] = container
        async with container.busy:
            try:
                await procedure.prepare(parts.hooks, context, self._clock.monotonic_s)
            except BaseException as exc:
                container.move(_E.DESTROY)
                if not isinstance(exc.__cause__, procedure.DestroyFailed):
                    self._forget(parts, container)
                if self._killing and isinstance(exc, PlatformError):
                    self._require_lease()  # why the fence did not let it come up
                raise
            container.move(_E.STARTED)
            context.spec = None
            if not isinstance(context.process, LaunchedProcess):
                raise AssertionError("the process hook leaves a process")
            container.process = context.process
            if self._killing:
                container.process.kill()  # the fence does so too, but sees it a moment later
            parts.nursery.start_soon(self._watch, parts, container)
        return _started(context)

    def _node_limits(self, bases: Iterable[str]) -> NodeLimits:
        s = self._settings
        return node_limits(s.memory_bytes, s.cpu, s.disk_bytes, sorted(bases))

    def check_limits(self, wanted: Limits) -> None:
        """Raises `invalid` for what this node cannot give."""
        check_limits(wanted, self._node_limits(()))

    def _fresh_record(self, component: str, incarnation: int) -> Record:
        return Record(
            component=component,
            incarnation=incarnation,
            phase="preparing",
            boot=namespaces.boot_id(),
            since_ms=self._clock.now_ms(),
        )

    async def _watch(self, parts: Parts, container: Container) -> None:
        """Wait for the end of pid 1; record it; tell it once."""
        process = container.process
        try:
            if process is not None:
                await process.wait()
                if container.state is _S.RUNNING:
                    self._finish(parts, container)
        finally:
            container.watched.set()

    def _finish(self, parts: Parts, container: Container) -> None:
        context = container.context
        exited = self._judge(parts, container)
        context.save(replace(context.record, phase="exited", exited=exited))
        container.move(_E.EXIT)
        self._on_exit(exited)

    def _judge(self, parts: Parts, container: Container) -> Exited:
        record = container.context.record
        directory = container.context.directory
        log = read_tail(f"{directory}/{LOG_FILE}", limits.HARNESS_LOG_TAIL_BYTES)
        used = parts.groups.usage(record.component, "component")
        facts = EndFacts(
            exit_file=read_tail(f"{directory}/{EXIT_FILE}", limits.EXIT_FILE_BYTES_MAX),
            wait=container.process.ended if container.process is not None else None,
            component_memory_kills=used.out_of_memory_kills,
            harness_memory_kills=parts.groups.usage(
                record.component, "harness"
            ).out_of_memory_kills,
            memory_limit_bytes=used.memory_limit_bytes,
            memory_peak_bytes=used.memory_peak_bytes,
            victim=parts.kernel_log.victim(record.component) if used.out_of_memory_kills else "",
            harness_log=log.decode(errors="replace"),
            time_ms=self._clock.now_ms(),
            fenced=self._killing,
        )
        return judge(record.component, record.incarnation, facts)

    async def kill(self, component: str) -> None:
        """SIGKILL everything in the container; its end is then told as any other."""
        container = self.find(component)
        if container.process is not None and container.state is _S.RUNNING:
            container.doomed = True
            container.process.kill()
            self.ready().groups.let_die(component)

    async def destroy(self, component: str) -> None:
        """Remove the container; returns when nothing of it is left.

        A container that is not known is no error: nothing of it is left.  When something could not
        be removed, raises `failed`; the call may be repeated.
        """
        parts = self.ready()
        container = self.containers.get(component)
        if container is None:
            return
        container.doomed = True
        async with container.busy:
            if self.containers.get(component) is not container:
                return
            if container.state is not _S.DESTROYING:
                container.move(_E.DESTROY)
                context = container.context
                context.save(replace(context.record, phase="destroying"))
            await self.paths.forget(parts, component)
            container.context.process = container.process
            if container.process is not None:
                container.process.kill()
                parts.groups.let_die(component)
                await container.watched.wait()
            try:
                await procedure.destroy(parts.hooks, container.context)
            except procedure.DestroyFailed as exc:
                raise PlatformError(
                    "failed",
                    f"not everything of container {component} could be removed: {exc}",
                    hint="repeat: paas destroy ID; look at the log of the container controller",
                ) from exc
            container.process = None
            self._forget(parts, container)

    def _forget(self, parts: Parts, container: Container) -> None:
        component = container.context.record.component
        parts.journal.remove(component)
        container.move(_E.CLEARED)
        del self.containers[component]

    def find(self, component: str) -> Container:
        """The container of this component; raises `no-such-target`."""
        container = self.containers.get(component)
        if container is None:
            raise PlatformError("no-such-target", f"there is no container {component} on this node")
        return container

    # -- the lease ---------------------------------------------------------------------------

    @property
    def _killing(self) -> bool:
        return self._fence is not None and self._fence.killing

    def _require_lease(self) -> None:
        if self._fence is not None:
            self._fence.require()

    async def lease(self, deadline_s: float | None) -> None:
        """Components may run until then (CLOCK_BOOTTIME); None: no lease is needed.

        When the lease before has ended, everything is killed before the new one is in force.
        """
        self.ready()
        async with self._lease:
            if self._fence is not None:
                await self._fence.extend(deadline_s)
            self._lease_changed.set()
            self._lease_changed = trio.Event()

    async def clear(self) -> None:
        """Kill whatever runs here; returns when nothing does.  The ends are `node-lost`."""
        self.ready()
        async with self._lease:
            if self._fence is not None:
                await self._fence.clear()

    async def _enforce(self, fence: Fence) -> None:
        """The second of the two that keep the deadline: the fence may have been killed."""
        while True:
            changed = self._lease_changed
            with trio.move_on_after(fence.left_s):
                await changed.wait()
                continue
            if fence.ended:
                async with self._lease:
                    await fence.enforce()
                await changed.wait()

    async def _stop_all(self, parts: Parts) -> None:
        """Kill everything in containers until nothing lives or is on its way to."""
        parents, number = parts.groups.parents, 0
        while True:
            left = await trio.to_thread.run_sync(kernel_fence.stop_pass, parents, number)
            going = [c for c in self.containers.values() if c.state in (_S.PREPARING, _S.RUNNING)]
            if not left and not going:
                return
            number += 1
            await trio.sleep(limits.CLEAR_PAUSE_S)

    # -- looking ----------------------------------------------------------------------------

    def list(self) -> list[ContainerInfo]:
        """Every container of this node, also adopted and exited ones."""
        return [_info(c) for _, c in sorted(self.containers.items())]

    async def stats(self, component: str) -> Stats:
        """What a container uses now."""
        parts, container = self.ready(), self.find(component)
        pressure = parts.groups.pressure(component)
        beside = await trio.to_thread.run_sync(
            read_beside, container.context.record, pressure, container.frozen
        )
        usage = partial(parts.groups.usage, component)
        return metrics.combine(usage("component"), usage("harness"), beside)

    # -- the whole node ---------------------------------------------------------------------

    async def teardown_node(self) -> None:
        """Destroy every container, then everything else that was made on this node.

        Works on a running engine, which it ends, and on one that was never run: then what an
        earlier one left is found by its records.
        """
        if self._parts is None:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.run)
                await self.teardown_node()
            return
        parts = self._parts
        errors: list[PlatformError] = []
        # All at once: the kernel takes many dead network namespaces apart as quickly as one.
        for component in list(self.containers):
            await self.kill(component)
        async with trio.open_nursery() as nursery:
            few = trio.CapacityLimiter(limits.TEARDOWN_AT_ONCE)
            for component in list(self.containers):
                nursery.start_soon(_destroy_one, self, few, component, errors)
        if errors:
            raise errors[0]
        self._removing = True
        parts.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self._closed.wait()


async def _destroy_one(
    engine: Engine, few: trio.CapacityLimiter, component: str, errors: list[PlatformError]
) -> None:
    async with few:
        try:
            await engine.destroy(component)
        except PlatformError as exc:
            errors.append(exc)  # the others shall go all the same


def _find_process(record: Record) -> LaunchedProcess | None:
    """The recorded pid 1, if it is still that process."""
    if record.pid is None or record.start_ticks is None:
        return None
    pidfd = namespaces.open_same_process(record.pid, record.start_ticks)
    if pidfd is None:
        return None
    return LaunchedProcess(record.pid, record.start_ticks, pidfd)


def _started(context: Context) -> Started:
    record = context.record
    return Started(
        component=record.component,
        pid=record.pid or 0,
        start_ticks=record.start_ticks or 0,
        uid_base=record.uid_base or 0,
        address=record.address or "",
        endpoints=record.endpoints,
        timings_ms=context.timings_ms,
        address6=record.address6,
    )


def _info(container: Container) -> ContainerInfo:
    record = container.context.record
    return ContainerInfo(
        component=record.component,
        incarnation=record.incarnation,
        state=container.state,
        pid=record.pid,
        uid_base=record.uid_base,
        address=record.address,
        endpoints=record.endpoints,
        since_ms=record.since_ms,
        adopted=container.adopted,
        exited=record.exited,
        frozen=container.frozen,
        limits=record.limits,
        backend=record.backend,
        address6=record.address6,
    )
