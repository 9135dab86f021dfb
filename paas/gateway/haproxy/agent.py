"""Runs HAProxy and keeps it as it should be.  (io)

    update(routes, members) ──> desired ──┐
    folder of certificates ───────────────┤      other routes or certificates: write, check, reload
                                          ├──>   other members: orders by the runtime API
    `show servers state` ──> what is ─────┘      the process ended: write what is desired, start it

Master and workers are a process group of their own.  The master ends when its worker is killed, and
a worker when its master is; then the group is killed and started anew with the desired state, after
a back-off.  A configuration that HAProxy refuses is not put in force: the routes from before go on,
with their members as they come and go, and `trouble` says why.

A reload is the master's (SIGUSR2): a new worker gets the listening sockets from the old one, which
answers what it has begun.  So a member that leaves is busy while any worker has something under way
with it.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from paas.base.errors import LocalError, PlatformError
from paas.base.retry import Backoff
from paas.gateway import rules
from paas.gateway.haproxy import limits, runtime
from paas.gateway.haproxy.client import Master
from paas.gateway.haproxy.names import backend_name, server_name
from paas.gateway.haproxy.render import (
    API,
    CERTIFICATES,
    CONFIGURATION,
    MAP,
    MASTER,
    render,
    render_map,
)
from paas.gateway.haproxy.servers import Key, Server, changes, found, gone_orders, wanted
from paas.gateway.haproxy.settings import HaproxySettings
from paas.gateway.messages import Route, RouteMember
from paas.gateway.tls.server import Certificates

logger = logging.getLogger(__name__)

_PID = "haproxy.pid"

Shape = tuple[str, str, tuple[str, ...]]
"""What only a new configuration can change: its text without servers, the map, certificates."""


class Haproxy:
    """See the module's text."""

    def __init__(self, settings: HaproxySettings) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.settings = replace(settings, connections_max=fitting(settings, descriptors))
        self.trouble = ""
        """Why the desired state is not in force; empty when it is."""
        self.starts = 0
        self.reloads = 0
        self.pid = 0
        """Of the master; 0 while there is none."""
        self._folder = Path(settings.folder)
        self._routes: dict[str, Route] = {}
        self._members: list[RouteMember] = []
        self._changed = trio.Event()
        self._settled = trio.Event()
        self._shape: Shape | None = None
        self._running: dict[str, Route] = {}
        """The routes in force."""
        self._refused: Shape | None = None
        self._refusal = ""
        self._certificates = Certificates(Path(settings.certificates or "/nonexistent"))
        self._shown: tuple[str, ...] = ()
        self._worker = 0

    # -- what others ask -------------------------------------------------------------------------

    def update(self, routes: Iterable[Route], members: Iterable[RouteMember]) -> None:
        """These are the routes and members now.  Routes that may not be are left to the edge."""
        self._routes = {}
        for route in routes:
            try:
                self._routes[route.name] = rules.check(route)
            except PlatformError as exc:
                logger.warning("a route is not carried: %s", exc.message)
        self._members = list(members)
        self._wake()

    def _wake(self) -> None:
        self._settled = trio.Event()
        self._changed.set()

    async def settled(self) -> None:
        """Wait until what was told last is in force, or is refused (`trouble`)."""
        while not self._settled.is_set():
            await self._settled.wait()

    async def sessions(self, component: str, incarnation: int) -> int:
        """Requests under way with a member, on all routes, in all workers.

        Raises PlatformError `unavailable` while nothing runs: then nothing is under way either,
        but for what the killed process had begun, which is cut off.
        """
        name = server_name(component, incarnation)
        async with Master(self._path(MASTER)) as master:
            processes = runtime.processes(await master.ask("show proc"))
            answers = [
                await master.ask("show stat -1 4 -1", worker)
                for worker in (processes.worker, *processes.old)
                if worker
            ]
        return runtime.sessions(answers, name)

    async def left(self, component: str, incarnation: int) -> None:
        """Wait until a member that leaves is sent nothing new, and has answered everything."""
        quiet = 0
        while quiet < 2:
            await self.settled()
            try:
                busy = await self.sessions(component, incarnation)
            except PlatformError:
                busy = 1
            quiet = 0 if busy else quiet + 1
            await trio.sleep(limits.BUSY_POLL_S)

    async def statistics(self) -> runtime.Statistics:
        """Figures of routes and members, of the present worker.  Raises PlatformError."""
        async with Master(self._path(MASTER)) as master:
            processes = runtime.processes(await master.ask("show proc"))
            return runtime.statistics(await master.ask("show stat -1 6 -1", processes.worker))

    async def refusal(self) -> str:
        """What this HAProxy has against the configuration, before it runs; empty: nothing."""
        self._prepare()
        self._write()
        return await self._checked()

    # -- life ------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started when it listens for the first time."""
        self._prepare()
        backoff = Backoff(first_s=limits.RESTART_FIRST_S, cap_s=limits.RESTART_CAP_S)
        attempt = 0
        told = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_certificates)
            while True:
                began = trio.current_time()
                try:
                    async with trio.open_nursery() as inner:
                        await inner.start(self._process, inner.cancel_scope)
                        if not told:
                            told = True
                            task_status.started()
                        await self._keep()
                except* PlatformError as group:
                    self.trouble = str(group.exceptions[0])
                    logger.warning("haproxy: %s", self.trouble)
                attempt = 1 if trio.current_time() - began > limits.STABLE_S else attempt + 1
                await trio.sleep(backoff.delay_s(attempt, random.random()))

    def _prepare(self) -> None:
        if len(self._path(MASTER)) > 100:
            raise LocalError("the folder's path is too long for a socket")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "certs").mkdir(mode=0o700, exist_ok=True)
        self._end_old_group()
        self._gather_certificates()

    def _end_old_group(self) -> None:
        """What an earlier agent, that was killed, has left running."""
        try:
            pid = int((self._folder / _PID).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return
        if os.fsencode(self._path(CONFIGURATION)) in command.split(b"\0"):
            os.killpg(pid, signal.SIGKILL)

    async def _process(
        self,
        ends: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start it with the desired state; when it ends, so does `ends`."""
        self._write()
        command = [self.settings.program, "-W", "-db", "-S", f"{self._path(MASTER)},mode,600"]
        process = await trio.lowlevel.open_process(
            [*command, "-f", self._path(CONFIGURATION)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "GLIBC_TUNABLES": limits.ALLOCATOR},
        )
        self.starts += 1
        self.pid = process.pid
        (self._folder / _PID).write_text(str(process.pid))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_ready, process, task_status)
                await process.wait()
                nursery.cancel_scope.cancel()
            if process.returncode:
                logger.warning("haproxy ended with status %s", process.returncode)
            ends.cancel()
        finally:
            self.pid = self._worker = 0
            with trio.CancelScope(shield=True):
                await _end_group(process)

    async def _until_ready(self, process: trio.Process, task_status: trio.TaskStatus[None]) -> None:
        with trio.move_on_after(limits.START_S):
            await self._new_worker(runtime.Processes())
            task_status.started()
            return
        raise PlatformError("unavailable", "haproxy did not start in time")

    async def _keep(self) -> None:
        """Make it what it should be, as often as that changes."""
        answered_s = trio.current_time()
        pause_s = limits.RETRY_S
        while True:
            self._changed = trio.Event()
            settled = self._settled
            deleted = False
            try:
                deleted = await self._converge()
                answered_s = trio.current_time()
                settled.set()
            except PlatformError as exc:
                # It may only be busy; to kill it would cut off everybody.
                self.trouble = str(exc)
                if trio.current_time() - answered_s > limits.SILENT_S:
                    raise
            with trio.move_on_after(float("inf") if deleted else pause_s):
                await self._changed.wait()
            pause_s = min(pause_s * 2, limits.RETRY_CAP_S)
            if deleted or self._changed.is_set():
                pause_s = limits.RETRY_S

    async def _converge(self) -> bool:
        """To the desired state; False when a server that is gone could not be deleted yet."""
        self.trouble = ""
        routes, members, shown = self._routes, self._members, self._shown
        servers = wanted(routes.values(), members)
        shape = self._shape_of(routes, shown)
        if shape not in (self._shape, self._refused):
            await trio.sleep(limits.GATHER_S)
            routes, members, shown = self._routes, self._members, self._shown
            servers = wanted(routes.values(), members)
            shape = self._shape_of(routes, shown)
        if shape not in (self._shape, self._refused):
            async with Master(self._path(MASTER)) as master:
                await self._reload(master, shape)
        if shape == self._refused:
            servers = wanted(self._running.values(), members)
            self.trouble = self._refusal
        async with Master(self._path(MASTER)) as master:
            return await self._order(master, servers)

    async def _order(self, master: Master, servers: dict[Key, Server]) -> bool:
        """Servers as they should be."""
        processes = runtime.processes(await master.ask("show proc"))
        has = found(await master.ask("show servers state", processes.worker))
        sticky = [backend_name(r) for r in self._running.values() if r.sticky == "cookie"]
        orders = changes(servers, has, checks=self.settings.checks, cookies=sticky)
        deleting = {key for key in has if key not in servers}
        for order, answer in await master.ask_all(orders, processes.worker):
            if told := runtime.refused(order, answer):
                self.trouble = f"{order.partition(' check ')[0]}: {told[:200]}"
                logger.warning("haproxy refuses: %s", self.trouble)
        for worker in processes.old:
            await master.ask_all(gone_orders(servers, has), worker)
        if deleting:
            left = found(await master.ask("show servers state", processes.worker))
            return not deleting & left.keys()
        return True

    # -- configuration ---------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _shape_of(self, routes: dict[str, Route], shown: tuple[str, ...]) -> Shape:
        """What only a new configuration can change."""
        text = render(self.settings, routes.values(), {}, bool(shown))
        return text, render_map(routes.values()), shown

    def _write(self) -> None:
        """The configuration of the desired state."""
        routes, shown = self._routes, self._shown
        self._shape, self._running = self._shape_of(routes, shown), routes
        servers = wanted(routes.values(), self._members)
        self._put(CONFIGURATION, render(self.settings, routes.values(), servers, bool(shown)))
        self._put(MAP, self._shape[1])

    def _put(self, name: str, text: str) -> None:
        new = self._folder / f"{name}.new"
        new.write_bytes(text.encode("latin-1"))
        new.replace(self._folder / name)

    async def _reload(self, master: Master, shape: Shape) -> None:
        """A new worker with the desired state, unless HAProxy refuses the configuration."""
        in_force = self._shape, self._running
        before = runtime.processes(await master.ask("show proc"))
        old = [(self._folder / name).read_bytes() for name in (CONFIGURATION, MAP)]
        self._write()
        if refused := await self._checked():
            self._refusal = refused
            logger.error("haproxy refuses the configuration: %s", self._refusal)
            for name, text in zip((CONFIGURATION, MAP), old, strict=True):
                (self._folder / name).write_bytes(text)
            self._refused, (self._shape, self._running) = shape, in_force
            return
        os.kill(self.pid, signal.SIGUSR2)
        with trio.move_on_after(limits.RELOAD_S):
            await self._new_worker(before)
            self.reloads += 1
            return
        self._shape, self._running = in_force
        raise PlatformError("unavailable", "haproxy did not take its new configuration")

    async def _checked(self) -> str:
        """What HAProxy has against the configuration that is written; empty: nothing."""
        done = await trio.run_process(
            [self.settings.program, "-c", "-f", self._path(CONFIGURATION)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if not done.returncode:
            return ""
        return done.stderr.decode("utf-8", "replace")[-500:].strip() or "it is refused"

    async def _new_worker(self, before: runtime.Processes) -> None:
        """Wait until there is one.  Meanwhile the master starts itself anew and does not answer."""
        while True:
            with suppress(PlatformError):
                async with Master(self._path(MASTER)) as master:
                    now = runtime.processes(await master.ask("show proc"))
                if now.worker and now.worker != before.worker:
                    self._worker = now.worker
                    return
            await trio.sleep(0.01)

    # -- certificates ----------------------------------------------------------------------------

    async def _watch_certificates(self) -> None:
        while self.settings.tls and self.settings.certificates:
            await trio.sleep(limits.CERTIFICATES_S)
            if await trio.to_thread.run_sync(self._gather_certificates):
                self._wake()

    def _gather_certificates(self) -> bool:
        """Copies, chain and key in one file, of those that can be read; True when one is new."""
        if not self.settings.certificates:
            return False
        if not self._certificates.reload() and self._shown:
            return False
        source, target = Path(self.settings.certificates), self._folder / "certs"
        names = sorted(path.stem for path in source.glob("*.pem"))
        names.sort(key=lambda name: name != "default")
        shown = []
        for number, name in enumerate(names):
            if f"{name}.pem" in self._certificates.problems:
                continue
            key = source / f"{name}.key"
            content = (source / f"{name}.pem").read_bytes()
            content += b"\n" + key.read_bytes() if key.exists() else b""
            copy = target / f"{number}.pem"
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            shown.append(f"{copy}#{hash(content)}")
        paths = "".join(f"{entry.rpartition('#')[0]}\n" for entry in shown)
        (self._folder / CERTIFICATES).write_text(paths)
        self._shown = tuple(shown)
        return True


def fitting(settings: HaproxySettings, descriptors: int) -> int:
    """Connections that a frontend may have: each takes a descriptor on either side."""
    if descriptors < 0:
        return settings.connections_max
    each = limits.DESCRIPTORS_A_CONNECTION * settings.frontends
    room = (descriptors - limits.DESCRIPTORS_KEPT) // each
    return max(16, min(settings.connections_max, room))


async def _end_group(process: trio.Process) -> None:
    """Master and workers, at once: what they carried is over."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await process.wait()


__all__ = ["API", "Haproxy"]
