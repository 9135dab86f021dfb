"""The node controller: the root process of a node, supervisor of its agents (platform §4.6.5).

Each agent is a child of one supervisor: a process, the socket pair to it, and a loop that asks for
its health.  A child ends when its process ends, when it does not answer, or when it says that it
cannot start; then the supervisor starts it anew, with back-off, and gives up above the intensity,
which ends the node controller (whoever started that decides).

The first processes of all agents are made at once: each imports its modules while those before it
in the order get ready, and then waits to be told to start.

Components are nobody's children here: they live on whatever happens to agents.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import trio

from paas.base import locks
from paas.base.errors import PlatformError
from paas.base.supervisor import Child, Event, EventKind, Supervisor, cleanup_scope
from paas.node import limits, messages
from paas.node.settings import NodeSettings
from paas.node.subsystems import SUBSYSTEMS, Subsystem
from paas.rpc.client import refuse_requests
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.link import SocketLink
from paas.rpc.peer import Peer, Sweeper
from paas.telemetry.log import Logger

CONTROL_FD_VARIABLE = "PAAS_CONTROL_FD"

MintToken = Callable[[str, str, int], Awaitable[str]]
"""A one-time token for an agent of this role and identity, redeemed by this user."""


class AgentDied(Exception):
    """The process of an agent has ended, or does not answer."""


class NodeAgent:
    """Runs one node's agents until stopped.  `mint_token` asks the certificate manager."""

    def __init__(
        self,
        settings: NodeSettings,
        log: Logger,
        *,
        mint_token: MintToken,
        jitter: Callable[[], float],
        reap: Callable[[Collection[int]], None],
    ) -> None:
        self._settings = settings
        self._log = log
        self._mint_token = mint_token
        self._jitter = jitter
        self._reap = reap
        self._own: set[int] = set()
        self._spares: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}
        """Processes that nobody has told to start yet."""
        self._supervisor: Supervisor | None = None
        self._generation = 0
        self.figures: dict[str, dict[str, Any]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prepare directories, start the agents; started when all are ready."""
        lock = _locked(self._settings.state)
        try:
            self._prepare()
            for subsystem in SUBSYSTEMS:
                self._spares[subsystem.role] = self._spawn(subsystem)
            supervisor = Supervisor(
                "node",
                [self._child(s) for s in SUBSYSTEMS],
                max_restarts=limits.RESTARTS_MAX,
                period_s=limits.RESTARTS_WITHIN_S,
                backoff=limits.RESTART_BACKOFF,
                healthy_s=limits.HEALTHY_S,
                jitter=self._jitter,
                on_event=self._on_event,
            )
            self._supervisor = supervisor
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._reap_orphans)
                await supervisor.run(task_status=task_status)
                nursery.cancel_scope.cancel()
        finally:
            for process, control in self._spares.values():
                control.close()
                process.kill()
                process.wait()
            os.close(lock)

    async def _reap_orphans(self) -> None:
        """What agents that died leave to us are harnesses: their ends must not go unnoticed."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            async for _ in signals:
                self._reap(self._own)

    def stop(self) -> None:
        """End every agent in good order, with what outlives them; then `run` returns."""
        if self._supervisor is not None:
            self._supervisor.stop()

    def _prepare(self) -> None:
        settings = self._settings
        hub, authority = settings.owners["hub"][0], settings.owners["certificates"][0]
        for path, owner in (
            (settings.runtime, hub),
            (settings.harness_directory, hub),
            (settings.authority_directory, authority),
        ):
            os.makedirs(path, mode=0o711, exist_ok=True)
            os.chmod(path, 0o711)
            os.chown(path, owner, owner)  # who binds a socket there; nobody else may
        for name, (uid, _) in settings.owners.items():
            path = f"{settings.state}/{name}"
            os.makedirs(path, mode=0o700, exist_ok=True)
            os.chown(path, uid, uid)

    def _on_event(self, event: Event) -> None:
        write = self._log.info if event.kind is EventKind.STARTED else self._log.warning
        write("agent.event", kind=str(event.kind), child=event.child, error=str(event.error or ""))

    # -- one agent -------------------------------------------------------------------------------

    def _child(self, subsystem: Subsystem) -> Child:
        asked = trio.Event()  # replaced at each start

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal asked
            asked = trio.Event()
            await self._run_agent(subsystem, asked, task_status)

        return Child(
            name=subsystem.role,
            run=run,
            stop=lambda: asked.set(),
            stop_timeout_s=limits.TEARDOWN_TIMEOUT_S,
        )

    async def _run_agent(
        self, subsystem: Subsystem, asked: trio.Event, task_status: trio.TaskStatus[None]
    ) -> None:
        spare = self._spares.pop(subsystem.role, None)
        process, control = spare if spare is not None else self._spawn(subsystem)
        failures: list[Exception] = []
        try:
            async with trio.open_nursery() as nursery:
                sweeper = Sweeper()
                nursery.start_soon(sweeper.run)
                link = SocketLink(control, nursery)
                peer = Peer(link, Connection(Form.COMPACT), sweeper, refuse_requests)
                nursery.start_soon(self._read, peer, asked)
                if not subsystem.awaited:
                    task_status.started()
                await self._start(subsystem, peer)
                task_status.started()
                nursery.start_soon(self._watch, subsystem, peer)
                await asked.wait()
                await self._ask_to_stop(subsystem, peer)
                nursery.cancel_scope.cancel()
        except* (PlatformError, AgentDied) as group:
            failures += group.exceptions
        finally:
            with cleanup_scope():
                await _end(process)
                self._own.discard(process.pid)
        if failures:
            raise AgentDied(f"{subsystem.role}: {failures[0]}")

    async def _watch(self, subsystem: Subsystem, peer: Peer) -> None:
        """Ask for its health again and again; a PlatformError ends the child."""
        while True:
            await trio.sleep(limits.HEALTH_PERIOD_S)
            health = await peer.call(
                messages.PING, messages.Ping(), timeout_s=limits.HEALTH_TIMEOUT_S
            )
            self.figures[subsystem.role] = health.statistics

    async def _ask_to_stop(self, subsystem: Subsystem, peer: Peer) -> None:
        stop = messages.Stop(teardown=True)
        try:
            await peer.call(messages.STOP, stop, timeout_s=limits.TEARDOWN_TIMEOUT_S)
        except PlatformError as exc:
            self._log.warning("agent.stop_failed", role=subsystem.role, error=str(exc))

    async def _read(self, peer: Peer, asked: trio.Event) -> None:
        await peer.run()
        if not asked.is_set():
            raise AgentDied("the agent closed its channel")

    async def _start(self, subsystem: Subsystem, peer: Peer) -> None:
        settings = self._settings
        self._generation += 1
        identity = f"{subsystem.role}-{os.getpid()}-{self._generation}"
        token = ""
        if subsystem.identified:
            token = await self._mint_token(subsystem.role, identity, subsystem.uid)
        start = messages.Start(
            cluster=settings.cluster,
            node=settings.node,
            agent=identity,
            uid=subsystem.uid,
            gid=subsystem.uid,
            directories={name: f"{settings.state}/{name}" for name in subsystem.directories},
            runtime=settings.runtime,
            token=token,
            authority_socket=settings.authority_socket,
            settings={**settings.agent_settings(), "spawner": os.getpid()},
        )
        await peer.call(messages.START, start, timeout_s=limits.START_TIMEOUT_S)

    def _spawn(self, subsystem: Subsystem) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start the process.  From this very thread: it must outlive the child (PDEATHSIG)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        log_path = f"{self._settings.state}/agents/{subsystem.role}.log"
        _rotate(log_path)
        with open(log_path, "ab") as log, theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "paas", subsystem.role],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={CONTROL_FD_VARIABLE: str(theirs.fileno()), "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        self._own.add(process.pid)
        return process, ours


LOG_BYTES_MAX = 4 << 20


def _rotate(path: str) -> None:
    """Keep an agent's log bounded: at a start, a large one becomes the old one."""
    if os.path.exists(path) and os.path.getsize(path) > LOG_BYTES_MAX:
        os.replace(path, f"{path}.1")


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs and reap it."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    while process.poll() is None:  # noqa: ASYNC110 (a killed process is gone in a moment)
        await trio.sleep(0.005)


def _locked(state: str) -> int:
    """One node controller a state directory; raises `conflict`."""
    try:
        return locks.take(f"{state}/node.lock")
    except BlockingIOError:
        raise PlatformError("conflict", f"another node controller uses {state}") from None


def remove_runtime(settings: NodeSettings) -> None:
    """The last thing of a requested stop: the sockets' directory."""
    shutil.rmtree(settings.runtime, ignore_errors=True)
