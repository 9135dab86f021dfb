"""The controller's end of the entrance: commands, copies and connections inside containers (io).

    Entering ── order, pipes ──> entrance process ──> minder ──> inside
       └── Inside: descriptors for input and output, status socket

What is inside lives as long as its `Inside` is open, and no longer than its container.  The
entrance process is started with the first order and again when it has died; it ends with this one.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio
import trio.socket
from msgspec.structs import replace

from paas.base.errors import PlatformError, invalid
from paas.container import limits
from paas.container.entrance import EnterOrder
from paas.container.fork_server import ForkServer
from paas.container.hooks.contract import Context
from paas.container.inside import Inside, error_of, receive
from paas.container.launcher import LaunchedProcess
from paas.container.lifecycle import ContainerState
from paas.container.parts import Parts
from paas.container.plan import APP
from paas.real.kernel_store import sealed_order

_COMMON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": APP,
    "LANG": "C.UTF-8",
}
_KERNEL_S = frozenset({"proc", "sys", "dev"})
_NOT_INHERITED = frozenset({"PAAS_FD"})
"""Names a descriptor that only the component has."""


class Running(Protocol):
    """A container, as far as entering it is concerned."""

    context: Context
    state: ContainerState
    process: LaunchedProcess | None
    frozen: bool


class Containers(Protocol):
    """What is asked of the engine."""

    def ready(self) -> Parts: ...

    def find(self, component: str) -> Any: ...


class Entering:
    """Goes into the containers of one engine.  `run` it beside the engine."""

    def __init__(self, engine: Containers) -> None:
        self._engine = engine
        self._entrance = ForkServer("entrance", "paas.container.entrance")
        self._open: dict[int, Inside] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then everything inside ends, and the entrance."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            for inside in list(self._open.values()):
                self.close(inside)
            self._entrance.close()

    @property
    def entrance_pid(self) -> int | None:
        """The entrance process, once there was an order."""
        return self._entrance.pid

    # -- what can be done inside -----------------------------------------------------------------

    async def execute(
        self,
        component: str,
        command: list[str],
        *,
        environment: Mapping[str, str],
        cwd: str = "",
        terminal: tuple[int, int] | None = None,
        root: bool = False,
    ) -> Inside:
        """Run a command; `terminal` is its size if it is to have one.

        Raises `not-available`, `failed`; that the program is not there is heard at its end.
        """
        _check_command(command)
        container = self._running(component)
        found = {**_COMMON, **_environment(container), **environment}
        rows, columns = terminal or (24, 80)
        order = EnterOrder(
            kind="exec",
            entrances=self._entrances(component),
            uid=0 if root else limits.COMPONENT_UID,
            gid=0 if root else limits.COMPONENT_GID,
            command=tuple(command),
            environment=found,
            cwd=cwd or APP,
            terminal=terminal is not None,
            rows=rows,
            columns=columns,
        )
        return await self._enter(container, order, (0, 1, 2) if terminal is None else ())

    async def copy(
        self, component: str, path: str, *, write: bool, name: str, root: bool = False
    ) -> Inside:
        """Read a tree as a tar stream (channel 0), or write the one that is sent."""
        if not path.startswith("/") or "\0" in path:
            raise invalid("path", "expected an absolute path", param="path")
        order = EnterOrder(
            kind="write" if write else "read",
            entrances=self._entrances(component),
            uid=0 if root else limits.COMPONENT_UID,
            gid=0 if root else limits.COMPONENT_GID,
            path=path,
            name=name,
        )
        inside = await self._enter(self._running(component), order, (0, 1))
        inside.outputs = {0: inside.outputs[1]}
        return inside

    async def connect(self, component: str, endpoint: str, port: int) -> trio.SocketStream:
        """A TCP connection made from inside the container's network."""
        container = self._running(component)
        order = EnterOrder(kind="connect", address=_address(container, endpoint, port))
        inside = await self._ask(container, order, [])
        try:
            with trio.fail_after(limits.CONNECT_S + limits.ENTER_S):
                told, descriptor = await receive(inside.status)
        except trio.TooSlowError:
            raise PlatformError("timeout", f"{component[:8]} takes no connection") from None
        finally:
            self.close(inside)
        if not told.connected:
            raise error_of(told)
        found = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
        return trio.SocketStream(found)

    def close(self, inside: Inside) -> None:
        """It ends, with everything that belongs to it."""
        self._open.pop(id(inside), None)
        inside.close()

    # -- how -------------------------------------------------------------------------------------

    def _running(self, component: str) -> Running:
        container: Running = self._engine.find(component)
        if container.state is not ContainerState.RUNNING or container.process is None:
            raise PlatformError("not-available", f"{component[:8]} does not run")
        if container.frozen:
            raise PlatformError(
                "not-available",
                f"{component[:8]} is frozen: nothing could run in it",
                hint="let it go on: paas thaw ID",
                reason="frozen",
            )
        return container

    def _entrances(self, component: str) -> tuple[str, ...]:
        return tuple(self._engine.ready().groups.entrances(component, "component"))

    async def _enter(self, container: Running, order: EnterOrder, pipes: tuple[int, ...]) -> Inside:
        ours: list[int] = []
        theirs: list[int] = []
        owner = (container.context.record.uid_base or 0) + order.uid
        try:
            for number in pipes:
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.append(write if number == 0 else read)
                theirs.append(read if number == 0 else write)
                os.fchown(theirs[-1], owner, owner)  # so that /dev/stdout can be opened inside
            inside = await self._ask(container, order, theirs)
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for number, descriptor in zip(pipes, ours, strict=True):
            inside.own(descriptor)
            if number == 0:
                inside.input_fd = descriptor
            else:
                inside.outputs[number] = descriptor
        try:
            with trio.fail_after(limits.ENTER_S):
                await inside.hear_begin(terminal=order.terminal)
        except trio.TooSlowError:
            self.close(inside)
            raise PlatformError("timeout", "the container could not be entered in time") from None
        except BaseException:
            self.close(inside)
            raise
        return inside

    async def _ask(self, container: Running, order: EnterOrder, files: list[int]) -> Inside:
        """Send an order; what comes of it is told on the status socket."""
        component = container.context.record.component
        self._admit(component)
        if order.kind != "connect":
            read_only, writable = _mounts(container.context.record.pid)
            order = replace(order, read_only=read_only, writable=writable)
        data = msgspec.msgpack.encode(order)
        if len(data) > limits.ORDER_BYTES_MAX:
            raise PlatformError("limit-exceeded", "the command and its environment are too large")
        await self._entrance.start()
        assert container.process is not None, "it runs"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inside = Inside(component, trio.socket.from_stdlib_socket(ours))
        self._open[id(inside)] = inside
        try:
            with theirs:
                order_fd = sealed_order(data)
                try:
                    descriptors = [order_fd, theirs.fileno(), container.process.pidfd, *files]
                    await self._entrance.order(b"e", descriptors)
                finally:
                    os.close(order_fd)
        except BaseException:
            self.close(inside)
            raise
        return inside

    def _admit(self, component: str) -> None:
        if len(self._open) >= limits.ENTERED_MAX:
            raise PlatformError("limit-exceeded", f"{limits.ENTERED_MAX} are inside on this node")
        of_one = sum(1 for inside in self._open.values() if inside.component == component)
        if of_one >= limits.ENTERED_OF_ONE_MAX:
            text = f"{limits.ENTERED_OF_ONE_MAX} are inside {component[:8]} already"
            raise PlatformError("limit-exceeded", text)


def signal_number(name: str) -> int:
    """The number of a signal that a person may send; raises `invalid`."""
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise invalid("signal", "expected the name of a signal, as TERM", param="signal") from None


def _check_command(command: list[str]) -> None:
    if not command or len(command) > limits.COMMAND_ARGUMENTS_MAX or not command[0]:
        raise invalid("command", "expected a program and its arguments", param="command")
    if any("\0" in word for word in command):
        raise invalid("command", "expected words without NUL", param="command")
    if sum(len(word.encode()) for word in command) > limits.COMMAND_BYTES_MAX:
        raise PlatformError("limit-exceeded", "the command is too long")


def _address(container: Running, endpoint: str, port: int) -> tuple[str, int]:
    record = container.context.record
    if endpoint:
        found = record.endpoints.get(endpoint)
        if found is None:
            known = ", ".join(sorted(record.endpoints)) or "none"
            raise invalid("endpoint", f"expected one of: {known}", param="endpoint")
        return found
    if not 0 < port < 1 << 16:
        raise invalid("port", "between 1 and 65535", param="port")
    return record.address or "127.0.0.1", port


def _mounts(pid: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is mounted in the container: (read-only directories of the root, writable places).

    Devices are on a read-only tree and are written to all the same; kernel files are not.
    """
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        raise PlatformError("not-available", "the container has ended") from None
    read_only, writable = [], []
    for fields in (line.split() for line in lines):
        path, options = fields[4], fields[5].split(",")
        if path == "/" or path.split("/")[1] in _KERNEL_S:
            continue
        if "ro" not in options:
            writable.append(path)
        elif path.count("/") == 1:
            read_only.append(path)
    return tuple(read_only), tuple(writable)


def _environment(container: Running) -> dict[str, str]:
    """What the component was started with, read from its process; nothing if that has gone.

    What it says of itself is only believed for commands in its own container.
    """
    pid = container.context.record.pid
    try:
        child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
        with open(f"/proc/{child}/environ", "rb") as file:
            data = file.read(limits.ENTERED_ENVIRONMENT_BYTES_MAX)
    except (OSError, IndexError):
        return {}
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found[os.fsdecode(name)] = os.fsdecode(value)
    if "PAAS_COMPONENT" not in found:
        return {}  # it is not the component yet, but what is to become it
    return {
        name: value
        for name, value in found.items()
        if name not in _NOT_INHERITED and value.isprintable()
    }
