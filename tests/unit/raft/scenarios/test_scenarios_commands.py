"""Stories of commands and messages: what one entry or one frame does to the bare library.

Holes P17-P20, P30, P31, P32, P41, keepers K2, K6, rule T0 of docs/internals/raft.md.  `bare`
(conftest.py) is the library as it was made.  What T0 asks of connections (one for a pair, with an
epoch, proven names) is the mesh's: tests/unit/hub/test_mesh*.py; here is what the log does when an
old connection still delivers.
"""

from __future__ import annotations

import os
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pysyncobj.pickle as library_codec
import pytest
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node

from paas.base.errors import LocalError, PlatformError, RemoteError
from paas.raft import messages
from paas.raft.command import SEED_BYTES, Stamp, command, encode
from paas.raft.limits import APPEND_BYTES_MAX
from paas.raft.machine import Context
from paas.raft.messages import AppendEntries, AppendSnapshot
from paas.raft.settings import RaftSettings
from paas.sim.replicas import Cluster, Words

# -- P19, K6: a command for another version of the code --------------------------------------------


def test_a_bare_node_applies_commands_twice_behind_an_unknown_version(bare: Any) -> None:
    cluster = bare("AB")
    leader = cluster.begin("A")
    leader._SyncObj__selfCodeVersion = 1
    cluster.cut("A", "B")
    leader.setCodeVersion(1)
    for number in range(5):
        leader.put(f"w{number}")
    cluster.tick()
    cluster.heal()
    cluster.run(2)
    old = cluster.nodes["B"].words
    assert len(old) > len(set(old))


def test_ours_passes_over_a_command_that_it_does_not_know_and_goes_on_alike() -> None:
    with pytest.raises(RemoteError):
        messages.decode(messages.encode(AppendEntries(1, 1, 1, 0, [(b"\x03\x01", 2, 1)])))
    cluster = Cluster("ABC", seed=7)
    cluster.run(3)
    leader = cluster.replicas[cluster.leader()]
    stamp = Stamp(0, bytes(SEED_BYTES), "newer", 1)
    unknown = msgspec.msgpack.encode((1, 9_999, stamp, {"field": 1}))
    leader.submit(unknown, ("newer", 1))
    for number in range(5):
        cluster.propose(cluster.leader(), f"w{number}")
    cluster.run(2)
    assert cluster.converged()
    assert cluster.words["A"].words == [f"w{number}" for number in range(5)]


# -- P17, P18, K6: something raises ----------------------------------------------------------------


def ticking(cluster: Any, seconds: float, kind: type[Exception]) -> int:
    """Run on although ticks raise; how many did."""
    raised = 0
    for _ in range(round(seconds / 0.05)):
        type(cluster).now_s += 0.05
        for node in cluster.nodes.values():
            node.transport.link()
            try:
                node.doTick(0)
            except kind:
                raised += 1
        cluster.flush()
    return raised


def test_a_bare_node_repeats_a_command_whose_callback_raised(bare: Any) -> None:
    cluster = bare("ABC")
    leader = cluster.begin("A")
    left = 1

    def callback(_result: Any, _error: int) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RuntimeError

    leader.put("once", callback=callback)
    assert ticking(cluster, 3, RuntimeError) == 1
    assert leader.words == ["once", "once"]
    assert cluster.nodes["B"].words == ["once"]  # they differ for ever


def test_a_bare_cluster_halts_at_a_command_that_raises(bare: Any) -> None:
    cluster = bare("ABC")
    leader = cluster.begin("A")
    leader.fail()
    told: list[int] = []
    leader.put("after", callback=lambda result, error: told.append(error))
    assert ticking(cluster, 3, ValueError) > 60
    assert told == []


@command(9_950)
class Poison(msgspec.Struct, frozen=True, kw_only=True):
    """Its handler raises."""


class Poisoned(Words):
    def __init__(self) -> None:
        super().__init__()
        self.commands[Poison] = self._raise

    def _raise(self, cmd: Poison, ctx: Context) -> None:
        raise ValueError("poison")


def test_ours_makes_an_error_of_it_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paas.sim.replicas.Words", Poisoned)
    cluster = Cluster("ABC", seed=8)
    cluster.run(3)
    leader = cluster.replicas[cluster.leader()]
    leader.submit(encode(Poison(), Stamp(0, bytes(SEED_BYTES), "x", 1)), ("x", 1))
    cluster.propose(cluster.leader(), "after")
    cluster.run(2)
    assert cluster.converged()
    assert cluster.words["B"].words == ["after"]
    outcome = leader.machine.recall(("x", 1))
    assert outcome is not None
    assert isinstance(outcome.error, PlatformError)
    assert outcome.error.code == "internal"


# -- P30: a command in pieces has two ends ---------------------------------------------------------

SIZES = range(1_900, 2_030)


def test_bare_replication_raises_for_many_sizes_of_a_command(bare: Any) -> None:
    cluster = bare("AB", confs=lambda name: {"appendEntriesBatchSizeBytes": 1_000})
    leader = cluster.begin("A")
    raised = set()
    for size in SIZES:
        leader.put("z" * size)
        for _ in range(4):
            cluster.tick(0.11)
            taken, cluster.queue = cluster.queue, []
            for source, target, message in taken:
                try:
                    cluster.nodes[target].transport.receive(source, message)
                except Exception:
                    raised.add(size)
    assert len(raised) > 20


@pytest.mark.parametrize("append_bytes", [1, 200, 3_000, APPEND_BYTES_MAX])
def test_ours_never_sends_a_command_in_pieces_whatever_is_set(append_bytes: int) -> None:
    cluster = Cluster("AB", settings=lambda name: RaftSettings(append_bytes=append_bytes))
    cluster.run(3)
    for size in SIZES:
        cluster.propose(cluster.leader(), f"w{size}", filler="z" * size)
        cluster.run(0.1)
    cluster.run(1)
    assert cluster.converged()
    assert len(cluster.words["B"].words) == len(SIZES)
    with pytest.raises(LocalError):
        messages.from_library({"type": "append_entries", "term": 1, "transmission": "finish"})


# -- P31, P32, T0: two connections of one peer; bytes of a stranger --------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Wire:
    """A bare node on a real port, and connections to it."""

    def __init__(self) -> None:
        self._port = free_port()
        others = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.peer = others[0]
        self.node = SyncObj(f"127.0.0.1:{self._port}", others, SyncObjConf(autoTick=False))
        self.seen: list[Any] = []
        transport = self.node._SyncObj__transport
        transport.setOnMessageReceivedCallback(lambda node, message: self.seen.append(message))
        self.tick()

    def tick(self) -> None:
        for _ in range(20):
            self.node.doTick(0.01)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 5)

    def send(self, connection: socket.socket, value: Any) -> None:
        connection.sendall(frame(value))
        self.tick()

    def close(self, *connections: socket.socket) -> None:
        for connection in connections:
            connection.close()
        self.node.destroy()
        self.node.doTick(0.0)


def frame(value: Any) -> bytes:
    data = zlib.compress(library_codec.dumps(value))
    return struct.pack("i", len(data)) + data


class Exploit:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_an_old_connection_of_a_peer_still_delivers_to_a_bare_node(bare: Any) -> None:
    wire = Wire()
    old, new = wire.connect(), wire.connect()
    wire.send(old, wire.peer)
    wire.send(new, wire.peer)
    wire.send(new, "new")
    wire.send(old, "old")
    wire.close(old, new)
    assert wire.seen == ["new", "old"]  # later words overtaken by earlier ones


def test_ours_drops_what_comes_on_an_old_connection() -> None:
    cluster = Cluster("ABC", seed=18)
    cluster.run(3)
    replica = cluster.replicas["A"]
    epoch = replica._epochs["B"]
    assert replica.is_live("B", epoch)
    replica.connected("B", epoch + 1)
    assert not replica.is_live("B", epoch)
    replica.disconnected("B", epoch)  # the end of the old one says nothing about the new one
    assert replica.is_live("B", epoch + 1)


def test_a_stranger_runs_code_in_a_bare_node(bare: Any, tmp_path: Path) -> None:
    wire = Wire()
    stranger = wire.connect()
    wire.send(stranger, Exploit(tmp_path / "made by a stranger"))
    wire.close(stranger)
    assert (tmp_path / "made by a stranger").is_dir()


def test_ours_reads_nothing_but_messages(tmp_path: Path) -> None:
    for data in (
        frame(Exploit(tmp_path / "x")),
        library_codec.dumps(Exploit(tmp_path / "x")),
        zlib.compress(bytes(10_000_000)),
        b"\x93" * 100_000,
    ):
        with pytest.raises(RemoteError):
            messages.decode(data)
    assert not (tmp_path / "x").exists()


# -- P41, K2: a follower needs a snapshot while one is being written -------------------------------


def test_a_bare_leader_is_busy_all_the_time_while_a_dump_is_written(
    bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = bare("ABC")
    leader = cluster.begin("A")
    cluster.cut("C", "AB")
    cluster.run(1)
    for number in range(20):
        leader.put(f"w{number}")
    cluster.run(2)
    leader.forceLogCompaction()
    cluster.run(1)
    assert leader.leads
    leader._SyncObj__serializer.getTransmissionData = lambda node: None  # being written
    cluster.heal()
    cluster.queue.clear()
    leader.transport.link()
    leader._SyncObj__raftNextIndex[Node("C")] = 3
    cluster.queue.clear()
    cluster.tick(0.11)
    sent = [m for a, b, m in cluster.queue if b == "C" and "serialized" in m]
    assert len(sent) > 1_000  # in one tick


def test_ours_sends_the_snapshot_that_there_is() -> None:
    cluster = Cluster("ABC", seed=21)
    cluster.run(3)
    leader = cluster.leader()
    late = next(name for name in "ABC" if name != leader)
    cluster.cut([late], [name for name in "ABC" if name != late])
    for number in range(20):
        cluster.propose(leader, f"w{number}")
    cluster.run(2)
    cluster.compact(leader)
    cluster.run(0.2)
    for number in range(20, 40):
        cluster.propose(leader, f"w{number}")
    cluster.run(0.2)
    replica = cluster.replicas[leader]
    cluster.compact(leader)
    replica.tick()
    job = replica.take_snapshot_job()
    assert job is not None  # and it takes its time
    cluster.heal()
    began_s = time.process_time()
    most = 0
    for _ in range(100):
        cluster.clock.advance(0.05)
        cluster.connect()
        for name in sorted(cluster.replicas):
            cluster.turn(name)
            waiting = [m for m in cluster.messages(name, late) if isinstance(m, AppendSnapshot)]
            most = max(most, len(waiting))
    assert most < 20
    assert time.process_time() - began_s < 20
    assert len(cluster.words[late].words) == 40
    job()
    cluster.run(1)
    assert cluster.converged()
