"""The shell of every agent process: from `python -m paas <role>` to a working agent, and its end.

    node controller                       agent
      spawn, with one end of a pair ────>  import everything (still as root: the package may stand
      agent.start {directories, token} ─>    where others cannot read)
                                           open the directories, take on uid and gid
                                           trade the token for a certificate
      <─ answer: ready                     run the body
      agent.ping ───────────────────────>  answered from the same loop the body runs in
      agent.stop, or end of the pair ───>  cancel the body, leave

Directories are opened before privileges go and used through their descriptors, so that an agent
works also below a directory that its user may not search.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.identity.tls import Identity
from paas.node import messages
from paas.real.allocator import keep_little
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Form
from paas.rpc.link import SocketLink
from paas.rpc.peer import Peer, Sweeper
from paas.telemetry.log import Logger
from paas.wire.registry import Nothing

CONTROL_FD_VARIABLE = "PAAS_CONTROL_FD"
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(slots=True)
class Agent:
    """What the body of an agent is given."""

    role: str
    start: messages.Start
    directories: dict[str, str]
    clock: Clock
    entropy: Entropy
    log: Logger
    nursery: trio.Nursery
    sweeper: Sweeper
    identity: Identity | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    statistics: Callable[[], dict[str, Any]] = dict
    teardown: Callable[[], Awaitable[None]] | None = None

    def report_bug(self, method: str, exc: Exception) -> None:
        """An exception that nobody expected: into the log, with its traceback."""
        lines = traceback.format_exception(exc)
        self.log.error("agent.bug", method=method, trace="".join(lines)[-8_000:])


Body = Callable[..., Awaitable[None]]


def run(role: str, body: Body) -> None:
    """Run one agent until its node controller ends it.  Never returns normally."""
    descriptor = int(os.environ.pop(CONTROL_FD_VARIABLE, "-1"))
    if descriptor < 0:
        sys.exit(f"paas {role} is started by the node controller: paas agent run node")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    keep_little()
    _raise_descriptor_limit()
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    try:
        trio.run(_main, role, body, control)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


async def _main(role: str, body: Body, control: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        shell = _Shell(role, body, nursery, sweeper)
        dispatcher = Dispatcher(nursery, SystemClock(), on_bug=shell.report_bug)
        dispatcher.task(messages.START, shell.start)
        dispatcher.plain(messages.PING, shell.ping)
        dispatcher.task(messages.STOP, shell.stop)
        link = SocketLink(control, nursery)
        peer = Peer(link, Connection(Form.COMPACT), sweeper, dispatcher)
        await peer.run()
        nursery.cancel_scope.cancel()


class _Shell:
    """Handlers of the control channel."""

    def __init__(self, role: str, body: Body, nursery: trio.Nursery, sweeper: Sweeper) -> None:
        self._role = role
        self._body = body
        self._nursery = nursery
        self._sweeper = sweeper
        self._agent: Agent | None = None

    def report_bug(self, method: str, exc: Exception) -> None:
        traceback.print_exception(exc)

    async def start(self, params: messages.Start, _context: Context) -> messages.Started:
        if self._agent is not None:
            raise PlatformError("conflict", "the agent has been started already")
        directories = {name: _opened(path) for name, path in params.directories.items()}
        drop_privileges(params.uid, params.gid)
        agent = Agent(
            role=self._role,
            start=params,
            directories=directories,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            log=Logger(agent=self._role, node=params.node),
            nursery=self._nursery,
            sweeper=self._sweeper,
        )
        self._agent = agent
        logging.getLogger().addHandler(_Bridge(agent.log))
        await self._nursery.start(self._body, agent)
        return messages.Started(pid=os.getpid(), facts=agent.facts)

    def ping(self, _params: messages.Ping, _context: Context) -> messages.Health:
        return messages.Health(statistics=self._agent.statistics() if self._agent else {})

    async def stop(self, params: messages.Stop, context: Context) -> Nothing:
        agent = self._agent
        if params.teardown and agent is not None and agent.teardown is not None:
            await agent.teardown()
        context.peer.reply(context.request)
        context.peer.close()
        return Nothing()


class _Bridge(logging.Handler):
    """Parts below the telemetry layer use the standard logging; it ends in the agent's log too."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._log.error("library.message", source=record.name, text=text)
        else:
            self._log.warning("library.message", source=record.name, text=text)


def _opened(path: str) -> str:
    """A name for a directory that stays valid when its parents may not be searched any more."""
    return f"/proc/self/fd/{os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}/."


def drop_privileges(uid: int, gid: int) -> None:
    """Become another user for good; nothing for uid 0."""
    if uid == 0:
        return
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _die_with_parent()  # changing the user clears it


def _die_with_parent() -> None:
    """The kernel kills us when the node controller dies, also if we hang."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _raise_descriptor_limit() -> None:
    """As many descriptors as the machine lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
