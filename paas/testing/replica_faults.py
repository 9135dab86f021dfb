"""What is done to a cluster of replicas, and what must be true afterwards.

Each fault is a function that tells figures, and under `wrong` what must not have been: an empty
list there is the result that counts.  Tests ask for a few rounds, `bench/faults.py` for hundreds.

    power     unsynced writes are lost or torn, names are taken back (shim.c): one node, or all
    damage    a bit flips, a tail or a page is gone, in a file of a node that is stopped
    eio       a sync fails once: the process must end before it acknowledges
    full      the disk of the leader has no room for a while: another one leads
    kill      kill -9 every second, with a history of reads and writes that must be linearizable
    restart   how long a replica with many entries takes from its start to its first answer
"""

from __future__ import annotations

import contextlib
import random
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import trio

from paas.base.errors import PlatformError
from paas.rpc.client import connected_unix
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer
from paas.sim.history import History
from paas.sim.models import Register
from paas.testing.replica import COMPACT, GET, PUT, Compact, Get, Put
from paas.testing.replicas import NODES, Cuts, ReplicaCluster, Shim, Writers, wrongs

PAGE_BYTES = 4_096
SNAPSHOT_EVERY = 60
"""Entries between snapshots, so that faults meet one often."""

HARMED = ("journal", "snapshot", "returned")
HARMS = ("bit", "truncate", "zero")
"""Each file and each kind as often as any other, as far as the files are there."""

YIELDED_WITHIN_S = 3.0


async def _check(
    cluster: ReplicaCluster, nodes: tuple[str, ...], acknowledged: dict[str, int]
) -> list[Any]:
    """What is wrong with the state of these nodes."""
    told: list[Any] = []
    for node in nodes:
        bad = wrongs(await cluster.look(node), acknowledged)
        if bad:
            told.append({"node": node, **bad})
    return told


async def _check_at_rest(cluster: ReplicaCluster, writers: Writers) -> list[Any]:
    """When nobody writes any more all replicas are the same."""
    told = await _check(cluster, cluster.nodes, writers.acknowledged)
    chains = {node: (await cluster.look(node)).chain for node in cluster.nodes}
    if len(set(chains.values())) != 1:
        told.append({"different": chains})
    return told


# -- power -----------------------------------------------------------------------------------------


async def power(directory: Path, cuts: int, seed: int) -> dict[str, Any]:
    """Every third time all nodes at once."""
    chance, took = random.Random(seed), Cuts()
    wrong: list[Any] = []
    began_s = trio.current_time()
    shim = Shim(directory, seed)
    with ReplicaCluster(directory / "power", shim=shim, compaction=SNAPSHOT_EVERY) as cluster:
        await cluster.leader()
        writers = Writers(cluster)
        async with writers.running():
            for number in range(cuts):
                await writers.more(20 + chance.randrange(100))
                nodes = NODES if number % 3 == 2 else (chance.choice(NODES),)
                await cluster.cut(*nodes)
                acknowledged = dict(writers.acknowledged)
                for node in nodes:
                    cluster.start(node)
                wrong += await _check(cluster, nodes, acknowledged)
        wrong += await _check_at_rest(cluster, writers)
        for node in NODES:
            took.add(cluster.said(node))
    seconds = trio.current_time() - began_s
    return {
        "cuts": cuts,
        "processes_cut": took.cuts,
        "changes": {"kept": took.kept, "torn": took.torn, "dropped": took.dropped},
        "names_taken_back": took.names,
        "acknowledged": writers.total,
        "per_second": round(writers.total / seconds, 1),
        "seconds": round(seconds, 1),
        "wrong": wrong,
    }


# -- damage ----------------------------------------------------------------------------------------


def harm(path: Path, kind: str, chance: random.Random) -> str:
    """Damage what is used of a file; how, in words."""
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0"))
    place = chance.randrange(used)
    if kind == "bit":
        data[place] ^= 1 << chance.randrange(8)
    elif kind == "truncate":
        del data[place:]
    else:
        place -= place % PAGE_BYTES
        data[place : place + PAGE_BYTES] = bytes(len(data[place : place + PAGE_BYTES]))
    path.write_bytes(data)
    return f"{kind} of {path.name} at {place} of {used}"


async def damage(directory: Path, times: int, seed: int) -> dict[str, Any]:
    """One node in turn is stopped, its disk damaged, and started; the others go on."""
    chance, wrong = random.Random(seed), list[Any]()
    done = Counter(dict.fromkeys((*HARMED, *HARMS), 0))
    back_s: list[float] = []
    with ReplicaCluster(directory / "damage", compaction=SNAPSHOT_EVERY) as cluster:
        await cluster.leader()
        writers = Writers(cluster)
        async with writers.running():
            for number in range(times):
                await writers.more(20 + chance.randrange(100))
                node = NODES[number % len(NODES)]
                await cluster.end(node)
                there = [cluster.files(node) / name for name in HARMED]
                path = min(
                    (path for path in there if path.exists()),
                    key=lambda path: (done[path.name], chance.random()),
                )
                kind = min(HARMS, key=lambda kind: (done[kind], chance.random()))
                how = harm(path, kind, chance)
                done.update((path.name, kind))
                heard = len(cluster.said(node))
                acknowledged, began_s = dict(writers.acknowledged), trio.current_time()
                cluster.start(node)
                await cluster.voting(node)
                back_s.append(trio.current_time() - began_s)
                wrong += await _check(cluster, (node,), acknowledged)
                said = cluster.said(node)[heard:]
                if "damaged: " not in said and "its mark is damaged, and renewed" not in said:
                    wrong.append({"node": node, "not_detected": how})
        wrong += await _check_at_rest(cluster, writers)
    return {
        "times": times,
        "files": {name: done[name] for name in HARMED},
        "kinds": {kind: done[kind] for kind in HARMS},
        "back_s": {"median": round(statistics.median(back_s), 2), "max": round(max(back_s), 2)},
        "acknowledged": writers.total,
        "wrong": wrong,
    }


# -- a sync that fails -----------------------------------------------------------------------------


async def eio(directory: Path, times: int, seed: int) -> dict[str, Any]:
    """A single voter: nobody else has what it acknowledged.

    A new file (a snapshot, a shorter journal) that cannot be made durable does not take the place
    of the old one: nothing is lost, and the process lives on.
    """
    wrong: list[Any] = []
    chance, ended_s, spared = random.Random(seed), list[float](), 0
    shim = Shim(directory, seed)
    cluster = ReplicaCluster(directory / "eio", ("a",), shim=shim, compaction=SNAPSHOT_EVERY)
    with cluster:
        writers = Writers(cluster, count=4)
        async with writers.running():
            while len(ended_s) < times:
                await writers.more(10 + chance.randrange(40))
                began_s = trio.current_time()
                heard = len(cluster.said("a"))
                cluster.order("a", "e")
                name = await _failed_sync(cluster, "a", heard)
                if name.endswith(".new"):
                    spared += 1
                    continue
                status = await cluster.ended("a")
                ended_s.append(trio.current_time() - began_s)
                if status == 0:
                    wrong.append({"ended_with": status})
                acknowledged = dict(writers.acknowledged)
                cluster.start("a")
                wrong += await _check(cluster, ("a",), acknowledged)
    return {
        "times": times,
        "ended_s_max": round(max(ended_s), 2),
        "of_new_files": spared,
        "acknowledged": writers.total,
        "wrong": wrong,
    }


async def _failed_sync(cluster: ReplicaCluster, node: str, heard: int) -> str:
    """Of which file the sync was that failed."""
    with trio.fail_after(60):
        while True:
            found = re.search(r"shim: a sync failed: (\S+)", cluster.said(node)[heard:])
            if found:
                return found[1]
            await trio.sleep(0.005)


# -- a full disk -----------------------------------------------------------------------------------


async def full(directory: Path, times: int, seed: int) -> dict[str, Any]:
    """The disk of whoever leads is full for a while."""
    wrong: list[Any] = []
    yielded_s: list[float] = []
    back_s: list[float] = []
    shim = Shim(directory, seed)
    with ReplicaCluster(directory / "full", shim=shim, compaction=SNAPSHOT_EVERY) as cluster:
        await cluster.leader()
        writers = Writers(cluster, filler="x" * 20_000)
        async with writers.running():
            for _ in range(times):
                await writers.more(50)
                node = await cluster.leader()
                cluster.order(node, "f")
                yielded_s.append(await _yielded(cluster, node))
                heard = cluster.said(node)
                if "the disk is full" not in heard:
                    wrong.append({"node": node, "said": heard[-500:]})
                await writers.more(100)  # the others go on
                cluster.order(node, "r")
                began_s = trio.current_time()
                wrong += await _check(cluster, (node,), dict(writers.acknowledged))
                back_s.append(trio.current_time() - began_s)
                await _status(cluster, node, storage="ok")
        wrong += await _check_at_rest(cluster, writers)
    slow = [took for took in yielded_s if took > YIELDED_WITHIN_S]
    if slow:
        wrong.append({"yielded_late_s": slow})
    return {
        "times": times,
        "yielded_s_max": round(max(yielded_s), 2),
        "back_s_max": round(max(back_s), 2),
        "acknowledged": writers.total,
        "wrong": wrong,
    }


async def _status(cluster: ReplicaCluster, node: str, **wanted: str) -> None:
    with trio.fail_after(60):
        while True:
            status = await cluster.status(node)
            if status is not None and all(status[k] == v for k, v in wanted.items()):
                return
            await trio.sleep(0.02)


async def _yielded(cluster: ReplicaCluster, node: str) -> float:
    """How long it led after it said that its disk is full."""
    await _status(cluster, node, storage="full")
    began_s = trio.current_time()
    with trio.fail_after(60):
        while True:
            status = await cluster.status(node)
            if status is not None and status["role"] != "leader" and status["leader"]:
                return trio.current_time() - began_s
            await trio.sleep(0.02)


# -- kill -9 ---------------------------------------------------------------------------------------


class Witness:
    """A client that reads and writes registers, and writes down what it saw."""

    KEY_S = 2.0
    """A register is used for so long, by all witnesses; then comes the next."""

    def __init__(self, cluster: ReplicaCluster, name: str, history: History, seed: str) -> None:
        self._cluster, self._name, self._history = cluster, name, history
        self._chance = random.Random(seed)
        self._number = 0

    async def run(self, writers: Writers) -> None:
        place = len(self._name)
        while not writers.stopped:
            kind = self._chance.choice(("read", "write"))
            key = f"r{int(trio.current_time() / self.KEY_S)}-{self._chance.randrange(2)}"
            self._number += 1
            value = f"{self._name}-{self._number}"
            begun = self._history.begin(self._name, kind, key, value, now_s=trio.current_time())
            result = None
            while result is None:
                place += 1
                path = self._cluster.socket(NODES[place % len(NODES)])
                with contextlib.suppress(PlatformError):
                    async with connected_unix(path, form=Form.MSGPACK) as peer:
                        result = await self._ask(peer, kind, key, value)
                await trio.sleep(0.02)
            self._history.finish(begun, result, now_s=trio.current_time())
            await trio.sleep(self._chance.random() * 0.1)

    async def _ask(self, peer: Peer, kind: str, key: str, value: str) -> str:
        if kind == "read":
            found: str = (await peer.call(GET, Get(key=key), timeout_s=3)).value
            return found
        put = Put(key=key, value=value, client=self._name, request=self._number)
        await peer.call(PUT, put, timeout_s=3)
        return value


async def kill(directory: Path, seconds: float, seed: int) -> dict[str, Any]:
    """kill -9 of a random replica each second, which is started again at once."""
    chance, history = random.Random(seed), History()
    kills: Counter[str] = Counter()
    with ReplicaCluster(directory / "kill", compaction=SNAPSHOT_EVERY) as cluster:
        await cluster.leader()
        writers = Writers(cluster, period_s=1 / 60)
        began_s = trio.current_time()
        async with writers.running(), trio.open_nursery() as nursery:
            for number in range(4):
                witness = Witness(cluster, f"h{number}", history, f"{seed}-{number}")
                nursery.start_soon(witness.run, writers)
            while trio.current_time() < began_s + seconds:
                await trio.sleep(1.0)
                node = chance.choice(NODES)
                cluster.kill(node)
                cluster.start(node)
                kills[node] += 1
            writers.stopped = True
        took_s = trio.current_time() - began_s
        wrong = await _check_at_rest(cluster, writers)
    verdict = history.check(Register(""))
    if not verdict.ok:
        wrong.append({"history": str(verdict.answer), "key": verdict.key})
    return {
        "seconds": round(took_s, 1),
        "kills": sum(kills.values()),
        "acknowledged": writers.total,
        "per_second": round((writers.total + len(history.operations)) / took_s, 1),
        "history": {"operations": len(history.operations), "answer": str(verdict.answer)},
        "wrong": wrong,
    }


# -- restart ---------------------------------------------------------------------------------------


async def restart(directory: Path, entries: int, *, snapshot: bool) -> dict[str, Any]:
    """From the start of the process to its first answer; with `snapshot` one was written before."""
    name = f"restart-{snapshot}"
    with ReplicaCluster(directory / name, ("a",), compaction=1 << 30) as cluster:
        await cluster.leader()
        writers = Writers(cluster, count=64, period_s=0.0, filler="x" * 200)
        async with writers.running():
            await writers.more(entries, within_s=600)
        if snapshot:
            async with connected_unix(cluster.socket("a")) as peer:
                await peer.call(COMPACT, Compact(), timeout_s=60)
        size = (cluster.files("a") / "journal").stat().st_size
        took_s, cpu_s, wrong = [], [], list[Any]()
        for _ in range(5):
            cluster.kill("a")
            began_s = time.perf_counter()
            cluster.start("a")
            wrong += await _check(cluster, ("a",), writers.acknowledged)
            took_s.append(time.perf_counter() - began_s)
            spent = psutil.Process(cluster.processes["a"].pid).cpu_times()
            cpu_s.append(spent.user + spent.system)
    return {
        "entries": writers.total,
        "journal_bytes": size,
        "seconds": [round(took, 2) for took in took_s],
        "median_s": round(statistics.median(took_s), 2),
        "cpu_median_s": round(statistics.median(cpu_s), 2),
        "wrong": wrong,
    }
