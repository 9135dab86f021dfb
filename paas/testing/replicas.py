"""A cluster of replicas in processes of their own (replica.py), and the faults they get.

`ReplicaCluster` starts, kills and asks them; with a `Shim` their disks lose what was not synced
(tests/system/raft/shim.c).  `Writers` are clients that count: each number is repeated under its
identity until it is acknowledged, then comes the next, so whatever is lost or applied twice shows
in the state of any replica (`wrongs`).
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.identity import capabilities, x509
from paas.identity.keys import key_pem, make_key
from paas.identity.names import HUB, AgentName
from paas.rpc.client import connected_unix
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer
from paas.testing.replica import CLUSTER, COUNT, LOOK, STATUS, Count, Look, LookResult, Status

NODES = ("a", "b", "c")
ROOT = Path(__file__).resolve().parents[2]
SHIM_SOURCE = ROOT / "tests" / "system" / "raft" / "shim.c"
CUT_STATUS = 99
SYNC_US = 4_000
"""The disks of the shim take so long for a sync, at most."""

CUT_WITHIN_S = 0.4
"""When nothing was to be synced for so long, the power fails anyway."""

FILLER = "x" * 900
"""Makes a command longer than a sector."""

_CUT = re.compile(r"shim: cut kept=(\d+) torn=(\d+) dropped=(\d+) names=(\d+)")


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def certify(directory: Path, nodes: Sequence[str] = NODES) -> None:
    """A certificate for each node, by an authority of this run."""
    now_ms, key = time.time_ns() // 1_000_000, make_key()
    facts = {"now_ms": now_ms, "life_s": 86_400}
    root = x509.make_authority(CLUSTER, key, serial=1, **facts)
    authority = x509.Authority(root, key)
    for serial, node in enumerate(nodes, 2):
        own = make_key()
        leaf = x509.make_leaf(
            authority,
            AgentName(CLUSTER, node, HUB, f"hub-{node}"),
            own.public_key(),
            serial=serial,
            capabilities=capabilities.OF_ROLE[HUB],
            **facts,
        )
        home = directory / node
        home.mkdir()
        (home / "identity.pem").write_bytes(x509.certificate_pem(leaf))
        (home / "key.pem").write_bytes(key_pem(own))
        (home / "authority.pem").write_bytes(x509.certificate_pem(root))


class Shim:
    """The library that is preloaded, and the seeds of the cuts that it makes."""

    def __init__(self, directory: Path, seed: int) -> None:
        """Raises LocalError-like RuntimeError when there is no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise RuntimeError("no C compiler here: scripts/setup test installs gcc")
        self.path = directory / "shim.so"
        self.random = random.Random(seed)
        words = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self.path)]
        subprocess.run([compiler, *words, str(SHIM_SOURCE), "-ldl", "-lpthread"], check=True)

    def environment(self, root: Path, control: int) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.path),
            "SHIM_ROOT": str(root),
            "SHIM_CONTROL": str(control),
            "SHIM_SEED": str(self.random.getrandbits(32)),
            "SHIM_SYNC_US": str(SYNC_US),
        }


@dataclass(slots=True)
class Cuts:
    """What the power cuts took back, by what the shim said."""

    cuts: int = 0
    kept: int = 0
    torn: int = 0
    dropped: int = 0
    names: int = 0

    def add(self, text: str) -> None:
        for found in _CUT.finditer(text):
            kept, torn, dropped, names = map(int, found.groups())
            self.cuts += 1
            self.kept += kept
            self.torn += torn
            self.dropped += dropped
            self.names += names


class ReplicaCluster:
    """Replicas in processes.  The caller removes the directory."""

    def __init__(
        self,
        directory: Path,
        nodes: Sequence[str] = NODES,
        *,
        shim: Shim | None = None,
        compaction: int = 0,
    ) -> None:
        """`compaction`: entries after which a snapshot is written; 0: as usual."""
        self.directory = directory.resolve()
        self.directory.mkdir()
        self.nodes = tuple(nodes)
        self.shim = shim
        self.compaction = compaction
        certify(self.directory, nodes)
        ports = free_ports(len(nodes))
        self.peers = {node: f"127.0.0.1:{port}" for node, port in zip(nodes, ports, strict=True)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._orders: dict[str, int] = {}
        for node in nodes:
            self.files(node).mkdir()
            self.start(node)

    def __enter__(self) -> ReplicaCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    # -- processes -------------------------------------------------------------------------------

    def files(self, node: str) -> Path:
        """The directory of its log."""
        return self.directory / node / "log"

    def said(self, node: str) -> str:
        """What it wrote to its standard error, in all its lives."""
        return (self.directory / f"{node}.log").read_text(errors="replace")

    def socket(self, node: str) -> str:
        return str(self.directory / f"{node}.sock")

    def start(self, node: str) -> None:
        peers = ",".join(f"{name}={address}" for name, address in self.peers.items())
        words = ["--node", node, "--peers", peers, "--directory", str(self.directory / node)]
        words += ["--socket", self.socket(node), "--compaction", str(self.compaction)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        passed: tuple[int, ...] = ()
        if self.shim is not None:
            order, control = self._control(node)
            environment |= self.shim.environment(self.files(node), order)
            passed = (order,)
            self._orders[node] = control
        with (self.directory / f"{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [sys.executable, "-m", "paas.testing.replica", *words],
                stderr=log,
                env=environment,
                pass_fds=passed,
            )
        for descriptor in passed:
            os.close(descriptor)

    def _control(self, node: str) -> tuple[int, int]:
        old = self._orders.pop(node, None)
        if old is not None:
            os.close(old)
        return os.pipe()

    def order(self, node: str, what: str) -> None:
        """An order to its shim: c, e, f, r."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders[node], what.encode())

    async def cut(self, *nodes: str) -> None:
        """The power fails, for all of these at once: often just when something is to be synced."""
        assert self.shim is not None
        for node in nodes:
            self.order(node, self.shim.random.choice("cnn"))
        with trio.move_on_after(CUT_WITHIN_S):
            for node in nodes:
                await self.ended(node)
        for node in nodes:
            self.order(node, "c")
        for node in nodes:
            status = await self.ended(node)
            if status != CUT_STATUS:
                raise AssertionError(f"{node} ended with {status}: {self.said(node)[-2000:]}")

    async def ended(self, node: str) -> int:
        """Wait until its process is over; the status."""
        with trio.fail_after(60):
            while (status := self.processes[node].poll()) is None:  # noqa: ASYNC110 -- no event
                await trio.sleep(0.005)
        return status

    def kill(self, node: str) -> None:
        self.processes[node].kill()
        self.processes[node].wait()

    async def end(self, node: str) -> None:
        """Stop it in order."""
        self.processes[node].send_signal(signal.SIGTERM)
        await self.ended(node)

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for control in self._orders.values():
            os.close(control)
        self._orders.clear()

    # -- questions -------------------------------------------------------------------------------

    async def status(self, node: str) -> dict[str, Any] | None:
        """None while it does not answer."""
        try:
            async with connected_unix(self.socket(node)) as peer:
                status: dict[str, Any] = (await peer.call(STATUS, Status(), timeout_s=2)).status
                return status
        except PlatformError:
            return None

    async def leader(self) -> str:
        """Who leads; waits for it."""
        with trio.fail_after(60):
            while True:
                for node in self.nodes:
                    status = await self.status(node)
                    if status is not None and status["role"] == "leader":
                        return node
                await trio.sleep(0.02)

    async def voting(self, node: str) -> None:
        """Wait until it runs, votes, and all know it."""
        with trio.fail_after(60):
            while True:
                found = [await self.status(name) for name in self.nodes]
                if all(
                    s is not None and not s["returning"] and node in s["voters"] and s["leader"]
                    for s in found
                ):
                    return
                await trio.sleep(0.05)

    async def look(self, node: str, within_s: float = 60.0) -> LookResult:
        """What it has applied, everything acknowledged before included; waits until it can say."""
        end_s = trio.current_time() + within_s
        while True:
            if self.processes[node].poll() is not None:
                raise AssertionError(f"{node} does not run: {self.said(node)[-3000:]}")
            try:
                async with connected_unix(self.socket(node)) as peer:
                    found: LookResult = await peer.call(LOOK, Look(), timeout_s=2)
                    return found
            except PlatformError as error:
                if trio.current_time() > end_s:
                    text = f"{node} does not say what it has: {error}\n{self.said(node)[-3000:]}"
                    raise AssertionError(text) from error
                await trio.sleep(0.02)


@dataclass
class Writers:
    """Clients that count, each at its own pace, at whichever replica answers."""

    cluster: ReplicaCluster
    count: int = 8
    period_s: float = 1 / 40
    filler: str = FILLER
    acknowledged: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    stopped: bool = False

    @property
    def total(self) -> int:
        return sum(self.acknowledged.values())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """They write inside of this block, and finish what they have begun at its end."""
        self.stopped = False
        async with trio.open_nursery() as nursery:
            for number in range(self.count):
                nursery.start_soon(self._write, f"w{number}", number)
            yield
            self.stopped = True
            nursery.cancel_scope.deadline = trio.current_time() + 60

    async def _write(self, client: str, place: int) -> None:
        nodes = self.cluster.nodes
        while not self.stopped:
            place += 1
            with contextlib.suppress(PlatformError):
                path = self.cluster.socket(nodes[place % len(nodes)])
                async with connected_unix(path, form=Form.MSGPACK) as peer:
                    await self._write_at(peer, client)
            await trio.sleep(self.period_s)

    async def _write_at(self, peer: Peer, client: str) -> None:
        while not self.stopped:
            begun_s = trio.current_time()
            number = self.acknowledged.get(client, 0) + 1
            self.attempts += 1
            count = Count(client=client, number=number, filler=self.filler)
            await peer.call(COUNT, count, timeout_s=3)
            self.acknowledged[client] = number
            await trio.sleep_until(begun_s + self.period_s * (0.5 + random.random()))

    async def more(self, count: int, within_s: float = 60.0) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.total + count
        with trio.fail_after(within_s):
            while self.total < wanted:  # noqa: ASYNC110 -- what is waited for has no event
                await trio.sleep(0.01)


def wrongs(found: LookResult, acknowledged: dict[str, int]) -> dict[str, int]:
    """What was acknowledged and is not there; what was applied twice.  Empty: all is well."""
    lost = sum(
        max(0, number - found.last.get(client, 0)) for client, number in acknowledged.items()
    )
    told = {"lost": lost, "left_out": found.left_out, "repeated": found.repeated}
    return {what: count for what, count in told.items() if count}
