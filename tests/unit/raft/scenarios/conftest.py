"""The library without any armour, in the same process: the positive control of the scenarios.

`paas.raft` puts seams into the library's module; the fixture `bare` takes them out for one test and
gives a small world of its own: a clock that is moved by hand, a transport in memory that is always
in order, ticks by hand.  What a scenario shows here is what the library does by itself.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pysyncobj.journal
import pysyncobj.pickle as library_codec
import pysyncobj.poller
import pysyncobj.serializer
import pysyncobj.syncobj as so
import pytest
from pysyncobj import SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

import paas.raft.syncobj  # noqa: F401 -- puts the seams in, so that they can be taken out

SEAMS = ("pickle", "random", "monotonicTime", "createPoller", "createJournal", "Serializer")


class BareTransport(Transport):
    """Puts messages into the cluster's queue."""

    cluster: BareCluster

    def __init__(self, engine: Any, me: Node, others: list[Node]) -> None:
        super().__init__(engine, me, others)
        self.name, self.engine = me.id, engine
        self.peers = {node.id: node for node in others}
        engine.transport = self

    def addNode(self, node: Node) -> None:  # noqa: N802 -- the library's name
        self.peers[node.id] = node

    def dropNode(self, node: Node) -> None:  # noqa: N802
        self.peers.pop(node.id, None)

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.cluster.queue.append((self.name, node.id, copy.deepcopy(message)))
        return True

    def link(self) -> None:
        """Tell the library who is reachable."""
        connected = self.engine._SyncObj__connectedNodes
        for name, node in list(self.peers.items()):
            up = self.cluster.up(self.name, name)
            if up and node not in connected:
                self._onNodeConnected(node)
            elif not up and node in connected:
                self._onNodeDisconnected(node)

    def receive(self, source: str, message: dict[str, Any]) -> None:
        if source in self.peers:
            self._onMessageReceived(self.peers[source], message)


class BareWords(so.SyncObj):
    """The library's replicated object: a list of words."""

    def __init__(self, name: str, names: str, conf: SyncObjConf) -> None:
        self.transport: BareTransport
        others = [Node(other) for other in names if other != name]
        super().__init__(Node(name), others, conf, transportClass=BareTransport, nodeClass=Node)
        self.words: list[str] = []

    @replicated
    def put(self, word: str) -> int:
        self.words.append(word)
        return len(self.words)

    @replicated
    def fail(self) -> None:
        raise ValueError("a poisonous command")

    def entries(self) -> list[tuple[bytes, int, int]]:
        return list(self._SyncObj__raftLog[:])

    @property
    def leads(self) -> bool:
        return bool(self._isLeader())


class BareCluster:
    """Nodes, a clock, and what is under way between them."""

    now_s = 1_000.0

    def __init__(self, names: str, *, confs: Callable[[str], dict[str, Any]] | None = None) -> None:
        self.names = names
        self.nodes: dict[str, BareWords] = {}
        self.queue: list[tuple[str, str, dict[str, Any]]] = []
        self.severed: set[tuple[str, str]] = set()
        self.hold: Callable[[str, str, dict[str, Any]], bool] = lambda a, b, m: False
        self._confs = confs or (lambda name: {})
        BareTransport.cluster = self
        for name in names:
            self.boot(name)

    def boot(self, name: str) -> BareWords:
        plain = {
            "autoTick": False,
            "useFork": False,
            "appendEntriesUseBatch": True,
            "logCompactionMinEntries": 10**9,
            "logCompactionMinTime": 10**9,
            "commandsWaitLeader": True,
        }
        conf = SyncObjConf(**{**plain, **self._confs(name)})
        node = self.nodes[name] = BareWords(name, self.names, conf)
        return node

    def up(self, a: str, b: str) -> bool:
        return (a, b) not in self.severed and a in self.nodes and b in self.nodes

    def cut(self, some: str, others: str) -> None:
        self.severed |= {(a, b) for a in some for b in others}
        self.severed |= {(b, a) for a in some for b in others}

    def heal(self) -> None:
        self.severed.clear()

    def flush(self) -> None:
        taken, self.queue = self.queue, []
        for source, target, message in taken:
            if self.up(source, target) and not self.hold(source, target, message):
                self.nodes[target].transport.receive(source, message)

    def tick(self, seconds: float = 0.05) -> None:
        BareCluster.now_s += seconds
        for node in list(self.nodes.values()):
            node.transport.link()
            node.doTick(0)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.tick()
            self.flush()

    def stand(self, name: str) -> None:
        self.nodes[name]._SyncObj__raftElectionDeadline = 0

    def calm(self) -> None:
        for node in self.nodes.values():
            node._SyncObj__raftElectionDeadline = self.now_s + 1e6

    def begin(self, leader: str) -> BareWords:
        self.stand(leader)
        self.run(2)
        assert self.nodes[leader].leads
        return self.nodes[leader]

    def leader(self) -> BareWords:
        return next(node for node in self.nodes.values() if node.leads)


def _moving_clock() -> float:
    BareCluster.now_s += 2e-5  # loops of the library wait for time to pass within a tick
    return BareCluster.now_s


@pytest.fixture
def bare() -> Iterator[type[BareCluster]]:
    """The class of bare clusters, while the library is as it was made."""
    ours = {name: getattr(so, name) for name in SEAMS}
    so.pickle, so.random, so.monotonicTime = library_codec, random, _moving_clock
    so.createPoller = pysyncobj.poller.createPoller
    so.createJournal = pysyncobj.journal.createJournal
    so.Serializer = pysyncobj.serializer.Serializer
    random.seed(1)
    yield BareCluster
    for name, seam in ours.items():
        setattr(so, name, seam)
