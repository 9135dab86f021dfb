"""The library in its place: the one import of pysyncobj, and the seams it is held by.

Its module's clock, randomness, codec, queue, journal, serializer and poller are replaced by seams
that look at the host (the replica) whose call is running; several replicas may live in one process,
one call at a time.  Its transport and four of its private methods are ours.  Nothing here decides
anything but one of these: when to stand for election is asked of the host (K5).

Hooks and holes by name: docs/internals/raft.md.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import pysyncobj.syncobj as so
from pysyncobj.node import Node

from paas.base.errors import LocalError
from paas.base.ports import Clock, Entropy
from paas.raft import library, messages
from paas.raft.adapters import LibraryLog, LibrarySnapshots, Nodes
from paas.raft.configuration import CONFIGURATION
from paas.raft.limits import APPEND_BYTES, IN_FLIGHT_MAX
from paas.raft.messages import MEMBERSHIP, NO_OP, REGULAR, Message
from paas.raft.settings import RaftSettings

logger = logging.getLogger(__name__)

LEADER: int = so._RAFT_STATE.LEADER
FOLLOWER: int = so._RAFT_STATE.FOLLOWER
SUCCESS = so.FAIL_REASON.SUCCESS
DENIED = so.FAIL_REASON.REQUEST_DENIED
UNKNOWN = so.FAIL_REASON.UNKNOWN_OUTCOME
DEFINITE = {
    so.FAIL_REASON.QUEUE_FULL,
    so.FAIL_REASON.MISSING_LEADER,
    so.FAIL_REASON.DISCARDED,
    so.FAIL_REASON.NOT_LEADER,
    so.FAIL_REASON.REQUEST_DENIED,
}
"""Failures that mean: this submission is not in the log and never will be."""


class Host(Protocol):
    """What the library and its seams need of the replica."""

    node: str
    clock: Clock
    entropy: Entropy
    fatal: BaseException | None
    log: LibraryLog
    snapshots: LibrarySnapshots
    network: Network
    membership_changes: bool

    def peer(self, name: str) -> Peer: ...

    def post(self, peer: str, message: Message) -> None: ...

    def apply(self, data: bytes) -> None: ...

    def may_stand(self) -> bool: ...

    def state_changed(self, old: int, new: int) -> None: ...


class Peer(Node):  # type: ignore[misc]
    """A node of the library.  A replica makes one object for each name, so identity is equality."""

    __hash__ = object.__hash__

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __eq__(self, other: object) -> bool:
        return self is other


# -- seams: what the library finds in its module in place of the world -----------------------------

_active: Host | None = None


def _current() -> Host:
    if _active is None:
        raise LocalError("the library runs outside of a replica's call")
    return _active


def _now_s() -> float:
    host = _active or _current()
    return host.clock.monotonic_s()


class Entered:
    """A block in which the library runs; what it swallowed is raised at its end."""

    __slots__ = ("_host", "_outer")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._outer: list[Host | None] = []

    def __enter__(self) -> None:
        global _active
        self._outer.append(_active)
        _active = self._host

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        global _active
        _active = self._outer.pop()
        if kind is None and self._host.fatal is not None:
            raise self._host.fatal


class _Codec:
    """Plain data where the library would pickle: a membership change names its node."""

    @staticmethod
    def dumps(value: Any, protocol: int | None = None) -> bytes:
        return msgspec.msgpack.encode(value, enc_hook=_node_name)

    @staticmethod
    def loads(data: bytes) -> Any:
        return msgspec.msgpack.decode(data)


def _node_name(value: Any) -> str:
    if isinstance(value, Node):
        return str(value.id)
    raise LocalError(f"the library would encode a {type(value).__name__}")


class _Random:
    @staticmethod
    def random() -> float:
        host = _active or _current()
        return host.entropy.fraction()


class Commands(deque[tuple[bytes, Any]]):
    """The library's queue of commands, on one thread."""

    def __init__(self, count_max: int) -> None:
        super().__init__()
        self._count_max = count_max

    def put_nowait(self, command: tuple[bytes, Any]) -> None:
        if len(self) >= self._count_max:
            raise so.Queue.Full
        self.append(command)

    def get_nowait(self) -> tuple[bytes, Any]:
        if not self:
            raise so.Queue.Empty
        return self.popleft()


class _NoPoller:
    def poll(self, timeout: float) -> None:
        return None


def _install_seams() -> None:
    library.verify()
    so.pickle = _Codec
    so.random = _Random
    so.monotonicTime = _now_s
    so.FastQueue = Commands
    so.createPoller = lambda kind: _NoPoller()
    so.createJournal = lambda journal: journal
    so.Serializer = lambda name, size, fork, save, load, snapshots: snapshots


class Network(so.Transport):  # type: ignore[misc]
    """The library's transport: what it sends goes to the replica's outbox, past the rules."""

    def __init__(self, host: Host) -> None:
        super().__init__(None, None, ())
        self._host = host

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._host.post(node.id, messages.from_library(message))
        return True

    def receive(self, node: Node, message: dict[str, Any]) -> None:
        self._onMessageReceivedCallback(node, message)

    def link(self, node: Node, *, up: bool) -> None:
        (self._onNodeConnected if up else self._onNodeDisconnected)(node)


_get_entries: Callable[..., list[tuple[bytes, int, int]]] = so.SyncObj._SyncObj__getEntries


class Engine(so.SyncObj):  # type: ignore[misc]
    """The library, with four of its private methods replaced."""

    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__lastResponseTime: dict[Node, float]
    _SyncObj__otherNodes: Nodes
    _SyncObj__readonlyNodes: Nodes

    def __init__(self, host: Host, settings: RaftSettings) -> None:
        self._host = host
        self._append_bytes = settings.append_bytes
        conf = so.SyncObjConf(
            autoTick=False,
            useFork=False,
            commandsQueueSize=2 * IN_FLIGHT_MAX,
            raftMinTimeout=settings.election_min_s,
            raftMaxTimeout=settings.election_max_s,
            appendEntriesPeriod=settings.heartbeat_s,
            appendEntriesBatchSizeBytes=max(settings.append_bytes, APPEND_BYTES),
            leaderFallbackTimeout=settings.leader_fallback_s,
            connectionTimeout=max(3.5, settings.election_max_s),
            logCompactionMinEntries=1 << 62,
            logCompactionMinTime=1 << 62,
            commandsWaitLeader=True,
            dynamicMembershipChange=host.membership_changes,
            journalFile=host.log,
            serializeChecker=host.snapshots,
            onStateChanged=host.state_changed,
        )
        super().__init__(
            host.peer(host.node), [], conf, nodeClass=host.peer, transport=host.network
        )
        self.commands: Commands = self._SyncObj__commandsQueue
        """What waits to be appended, or to be handed on."""

    def __dir__(self) -> tuple[str, ...]:
        """The library looks here for methods to replicate, at every start; there are none."""
        return ()

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802
        """Total, one kind of command, never the library's own dispatch (K6)."""
        kind = command[0]
        if kind == REGULAR:
            self._host.apply(command[1:])
        elif kind == MEMBERSHIP and self._host.membership_changes:
            so.SyncObj._SyncObj__doApplyCommand(self, command)
        elif kind not in (NO_OP, CONFIGURATION):
            logger.error("an entry of unknown kind %d is passed over", kind)

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        return self._host.may_stand()

    def send_appends(self) -> None:
        """To every follower, now."""
        self._SyncObj__sendAppendEntries()

    def _SyncObj__getEntries(  # noqa: N802
        self,
        fromIDx: int | None,  # noqa: N803
        count: int | None = None,
        maxSizeBytes: int | None = None,  # noqa: N803
    ) -> list[tuple[bytes, int, int]]:
        """As many as go into one message, and at least one.

        The library would cut an entry that is as long as its bound in pieces (P30).  Its own bound
        is longer than any entry; the setting, which may be shorter, counts here only.
        """
        most = None if maxSizeBytes is None else min(maxSizeBytes, self._append_bytes)
        return _get_entries(self, fromIDx, count, most)

    def waiting_for(self, index: int, callback: Callable[[Any, int], None]) -> None:
        """Tell what becomes of the entry that this replica just appended as leader."""
        waiting = self._SyncObj__commandsWaitingCommit
        waiting[index].append((self.raftCurrentTerm, callback))

    def given_up_to(self, index: int) -> None:
        """A snapshot jumped over entries that somebody waits for (P29)."""
        waiting = self._SyncObj__commandsWaitingCommit
        for passed in sorted(known for known in waiting if known <= index):
            for _, callback in waiting.pop(passed):
                callback(None, UNKNOWN)


_install_seams()
