"""Ten thousand registered components at one hub: what each takes, and 1,000 killed at once.

    python -m bench crowd                   1,000 on this node, 8,900 on others, as a node may have
    python -m bench crowd --here 9900 --elsewhere 0      all on this node, more than it may have
    python -m bench crowd --blame           also which lines of code take most

The hub's process has the whole core of a hub (assembly/hub_core.py) over a real log on disk, with a
container controller and a fence that do nothing.  Another process plays the harnesses: a real
connection over a UNIX socket each, that says hello and is available; and it plays the watchers, who
have a monitor of each of those that will be killed.

Counted is the growth of the hub process's resident memory, after a snapshot of the log (which has a
bound of its own, whatever the number of components) and collecting garbage, in steps:

    elsewhere      in the cluster state (record, group, load, and what log and history keep of it),
                   placed on another node
    keepers        in the state, on this node, with a keeper, not connected
    connections    what its connection, link, peer and reader add

Another 100 have been here before.  Not counted is what the kernel keeps for a socket.  A kill
closes the connections of 1,000 components and tells their exits, in one go; measured is the time
until the last monitor's `down` has been read.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from paas.assembly.hub_core import POLICY, HubCore, HubPorts, States, authoriser
from paas.base.errors import PlatformError
from paas.controller.commands import ChangeInstance, CreateInstances, RegisterType
from paas.controller.messages import MONITOR, Monitor
from paas.controller.ports import ContainerFact, ExitFacts, Started, StartOrder
from paas.harness.messages import HELLO, Hello
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode, ReportNode
from paas.raft.log import ReplicatedLog
from paas.real.allocator import keep_little
from paas.real.clock import BootClock, SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve
from paas.scheduler import limits as placement
from paas.wire import codec

RECORD_BYTES_MAX = 4_096
"""Of resident memory for each component, with its connection."""

NOTICED_S_MAX = 2.0
CREATE_AT_ONCE = 100
WATCHERS = 10
FAR = "n2"
BUNDLE = "sha256:" + "0" * 64
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class IdleContainers:
    """A container controller and a fence whose containers are started at once and do nothing.

    Its table is in the hub's process, and so in the figures; it is small.
    """

    def __init__(self) -> None:
        self._running: dict[str, int] = {}

    async def start(self, order: StartOrder) -> Started:
        await trio.lowlevel.checkpoint()
        self._running[order.component] = order.incarnation
        return Started(uid_base=os.getuid(), pid=1, address="", endpoints={})

    async def kill(self, component: str) -> None:
        await trio.lowlevel.checkpoint()

    async def destroy(self, component: str) -> None:
        await trio.lowlevel.checkpoint()
        self._running.pop(component, None)

    async def stats(self, components: list[str]) -> dict[str, dict[str, Any]]:
        return {}

    async def list(self) -> list[ContainerFact]:
        return [
            ContainerFact(
                component=component, incarnation=incarnation, running=True, uid_base=os.getuid()
            )
            for component, incarnation in self._running.items()
        ]

    async def grant(self, source: str, target: str, port: int) -> None:
        await trio.lowlevel.checkpoint()

    async def extend(self, deadline_s: float | None) -> None:
        await trio.lowlevel.checkpoint()

    async def clear(self) -> None:
        await trio.lowlevel.checkpoint()


class Quiet:
    """Nobody writes records; troubles are ours to see."""

    def tail(self, _component: str, _count: int) -> list[str]:
        return []

    def warning(self, event: str, /, **fields: Any) -> None:
        sys.stderr.write(f"{event} {fields}\n")

    def bug(self, where: str, error: Exception) -> None:
        sys.stderr.write(f"bug in {where}: {error!r}\n")


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


async def _no_members(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started()


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what nobody here tells."""
    while not reached():  # noqa: ASYNC110
        await trio.sleep(0.01)


def resident_bytes() -> int:
    """Without what is free already: a snapshot of the log needs much memory for a moment."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def ports(containers: IdleContainers) -> HubPorts:
    quiet = Quiet()
    return HubPorts(
        node="n1",
        cluster="crowd",
        clock=SystemClock(),
        entropy=SystemEntropy(),
        containers=containers,
        log_tail=quiet,
        has_bundle=lambda _digest: True,
        trouble=quiet,
        on_bug=quiet.bug,
        fence=containers,
        boottime=BootClock(),
        report=lambda: ReportNode(node="n1", memory_bytes=1 << 50, cpu=1e6, disk_bytes=1 << 50),
        prepared=_nothing,
    )


class Crowd:
    """The hub's process."""

    def __init__(
        self, folder: Path, number: int, elsewhere: int, kill: int, *, blame: bool
    ) -> None:
        self.folder = folder
        self.elsewhere = elsewhere
        self.number = number
        self.kill = kill
        self.blame = blame
        self.figures: dict[str, Any] = {}

    async def run(self) -> None:
        # A node of containers takes fewer; what a hub can carry is not what a machine can run.
        placement.COMPONENTS_PER_NODE_MAX = 10_000  # type: ignore[misc]
        states = States()
        files = self.folder / "hub"
        files.mkdir()
        replicated = ReplicatedLog.open(
            files=SystemFiles(str(files)),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            machine=states.machine(),
            node="n1",
        )
        self.log = replicated
        self.core = HubCore(ports(IdleContainers()), replicated, states)
        async with trio.open_nursery() as nursery:
            dispatcher = Dispatcher(
                nursery, SystemClock(), authorise=authoriser(POLICY), on_bug=Quiet().bug
            )
            self.core.register(dispatcher)
            # The other node is one by name only: it cannot follow the log.
            self.core.members.run = _no_members  # type: ignore[method-assign]
            await self.core.start(nursery)
            self.core.controller.containers_connected()
            await self.core.presence.wait_ready()
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            serving = partial(
                serve,
                connections_max=self.number + 100,
                form=Form.COMPACT,
                on_close=self.core.hub.connection_closed,
            )
            for role in ("harness", "operator"):
                opened = partial(_opened, role=role)
                path = str(self.folder / f"{role}.sock")
                await nursery.start(
                    partial(serving, on_open=opened), listen_unix(path), dispatcher, sweeper
                )
            await self.measure()
            nursery.cancel_scope.cancel()
        await replicated.close()

    async def measure(self) -> None:
        await self.create(CREATE_AT_ONCE)  # imports, caches and buffers are there after these
        at_first = await self.resident_bytes()
        await self.fill_other_node()
        before = await self.resident_bytes()
        if self.blame:
            tracemalloc.start(4)
        first = self.take()
        since_s = time.perf_counter()
        await self.create(self.number)
        sys.stderr.write(f"{self.number} are here\n")
        self.figures["create_s"] = round(time.perf_counter() - since_s, 1)
        with_records = await self.resident_bytes()
        second = self.take()
        people = Harnesses(self.folder)
        await people.start(self.ids()[CREATE_AT_ONCE:], self.kill)
        since_s = time.perf_counter()
        await people.wait("connected")
        sys.stderr.write("all are connected\n")
        await until(lambda: self.states().count("available") >= self.number)
        self.figures["connect_s"] = round(time.perf_counter() - since_s, 1)
        with_connections = await self.resident_bytes()
        third = self.take()
        if self.elsewhere:
            self.figures["elsewhere_bytes_each"] = (before - at_first) // self.elsewhere
        self.figures["keepers_bytes_each"] = (with_records - before) // self.number
        self.figures["connections_bytes_each"] = (with_connections - with_records) // self.number
        total = with_connections - at_first
        self.figures["bytes_each"] = total // (self.number + self.elsewhere)
        if first and second and third:
            self.figures["keepers_top"] = self.top(first, second)
            self.figures["connections_top"] = self.top(second, third)
            tracemalloc.stop()
        await self.kill_some(people)
        await people.end()

    async def resident_bytes(self) -> int:
        await self.log.snapshot()
        return resident_bytes()

    async def fill_other_node(self) -> None:
        """Components that are placed on a node of which this hub knows only what the log says."""
        log = self.core.log
        there = ReportNode(node=FAR, memory_bytes=1 << 50, cpu=1e6, disk_bytes=1 << 50)
        await log.propose(there)
        await log.propose(ChangeNode(node=FAR, event=NodeEvent.READY))
        for _ in range(self.elsewhere // CREATE_AT_ONCE):
            created = await log.propose(
                CreateInstances(type="one", nodes=[FAR] * CREATE_AT_ONCE, groups=["crowd"])
            )
            for event, expected in (("started", "preparing"), ("ready", "initializing")):
                async with trio.open_nursery() as nursery:
                    for component in created["components"]:
                        change = ChangeInstance(
                            component=component, incarnation=1, event=event, expected=expected
                        )
                        nursery.start_soon(log.propose, change)

    async def create(self, number: int) -> None:
        """Into the log, and until each has a container."""
        log = self.core.log
        if not len(self.core.states.controller.types):
            manifest = {
                "component": {"name": "one", "version": "1.0.0", "command": ["true"]},
                "supervision": {"ready_timeout": 3600.0, "restart": "temporary"},
            }
            await log.propose(RegisterType(bundle=BUNDLE, manifest=manifest))
        for _ in range(number // CREATE_AT_ONCE):
            create = CreateInstances(
                type="one", nodes=["n1"] * CREATE_AT_ONCE, groups=["crowd"], created_by="bench"
            )
            await log.propose(create)
            # Their keepers propose in turn: more at once than the log holds would be refused.
            await until(lambda: len(self.core.controller.running()) >= len(self.ids()))

    def ids(self) -> list[str]:
        """Of this node's."""
        return [i.id for i in self.core.states.controller.instances if i.node != FAR]

    def states(self) -> list[str]:
        return [str(i.state) for i in self.core.states.controller.instances if i.node != FAR]

    async def kill_some(self, people: Harnesses) -> None:
        await people.tell("watch")
        await people.wait("watching")
        victims = self.ids()[CREATE_AT_ONCE : CREATE_AT_ONCE + self.kill]
        rounds = await people.tell_and_wait("kill", "killed")
        for component in victims:
            facts = ExitFacts(component=component, incarnation=1, reason="signal:SIGKILL", signal=9)
            self.core.controller.container_exited(facts)
        sys.stderr.write(f"{len(victims)} are killed\n")
        noticed = await people.wait("noticed")
        self.figures["killed"] = len(victims)
        self.figures["noticed_s"] = round(float(noticed) - float(rounds), 3)

    def take(self) -> tracemalloc.Snapshot | None:
        return tracemalloc.take_snapshot() if self.blame else None

    def top(self, before: tracemalloc.Snapshot, after: tracemalloc.Snapshot) -> list[str]:
        """The lines of code that took most, in bytes a component."""
        rows = after.compare_to(before, "lineno")
        return [
            f"{row.size_diff // self.number} B, {row.count_diff / self.number:.1f}: "
            f"{row.traceback[0].filename.split('site-packages/')[-1]}:{row.traceback[0].lineno}"
            for row in rows[:25]
        ]


def _opened(peer: Peer, *, role: str) -> None:
    peer.info["roles"] = frozenset({role})


class Harnesses:
    """The other process, seen from the hub's: lines to it, lines from it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: trio.Process
        self._rest = b""

    async def start(self, components: list[str], kill: int) -> None:
        (self._folder / "components").write_text("\n".join(components))
        words = [sys.executable, "-m", "bench.crowd", "--role", "harnesses"]
        words += ["--folder", str(self._folder), "--kill", str(kill)]
        self._process = await trio.lowlevel.open_process(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    async def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(word.encode() + b"\n")

    async def wait(self, word: str) -> str:
        """Until the other process says this word; what it says of it."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            data = await self._process.stdout.receive_some(4_096)
            if not data:
                raise PlatformError("failed", "the harnesses' process has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        said, _, value = line.decode().partition(" ")
        assert said == word, f"{said} in place of {word}"
        return value

    async def tell_and_wait(self, word: str, answer: str) -> str:
        await self.tell(word)
        return await self.wait(answer)

    async def end(self) -> None:
        await self.tell("end")
        await self._process.wait()


# -- the process of the harnesses ------------------------------------------------------------------


class Line:
    """A connection: bytes of the real core, a bare socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.connection = Connection(Form.COMPACT)

    def ask(self, method: str, params: bytes) -> None:
        """Send a request and wait for its answer."""
        answers: list[bytes | PlatformError] = []
        self.socket.sendall(self.connection.request(method, params, answers.append, 1e12)[1])
        while not answers:
            self.take()
        if isinstance(answers[0], PlatformError):
            raise answers[0]

    def take(self) -> int:
        """How many requests came."""
        data = self.socket.recv(65_536)
        if not data:
            raise PlatformError("unavailable", "the hub closed the connection")
        return len(self.connection.receive(data))


def harnesses_main(folder: Path, kill: int) -> None:
    components = (folder / "components").read_text().split()
    lines = []
    for component in components:
        line = Line(folder / "harness.sock")
        line.ask(
            HELLO.name, codec.pack(Hello(component=component, incarnation=1, phase="available"))
        )
        lines.append(line)
    say("connected")
    hear("watch")
    watchers = [Line(folder / "operator.sock") for _ in range(WATCHERS)]
    for number, component in enumerate(components[:kill]):
        watchers[number % WATCHERS].ask(MONITOR.name, codec.pack(Monitor(component=component)))
    say("watching")
    hear("kill")
    since_s = time.monotonic()
    for line in lines[:kill]:
        line.socket.close()
    say(f"killed {since_s}")
    heard = 0
    with selectors.EpollSelector() as selector:
        for line in watchers:
            selector.register(line.socket, selectors.EVENT_READ, line)
        while heard < kill:
            for key, _ in selector.select():
                heard += key.data.take()
    say(f"noticed {time.monotonic()}")
    hear("end")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def hear(word: str) -> None:
    assert sys.stdin.readline().strip() == word


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench crowd", description=__doc__)
    parser.add_argument("--here", type=int, default=1_000)
    parser.add_argument("--elsewhere", type=int, default=8_900)
    parser.add_argument("--kill", type=int, default=1_000)
    parser.add_argument("--blame", action="store_true", help="also which lines of code take most")
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.role:
        harnesses_main(Path(given.folder), given.kill)
        return 0
    keep_little()  # as every agent does
    with tempfile.TemporaryDirectory(prefix="paas-crowd-") as folder:
        crowd = Crowd(Path(folder), given.here, given.elsewhere, given.kill, blame=given.blame)
        trio.run(crowd.run)
    figures = crowd.figures
    sys.stdout.write(
        json.dumps({"here": given.here, "elsewhere": given.elsewhere, **figures}, indent=2) + "\n"
    )
    kept = figures["bytes_each"] <= RECORD_BYTES_MAX and figures["noticed_s"] <= NOTICED_S_MAX
    return int(not kept and not given.blame)


if __name__ == "__main__":
    sys.exit(main())
