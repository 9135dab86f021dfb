"""What is said on the connections between nodes: one class for each of the two channels.

    raft   frames of the replicated log; whom they are for is attached
    hub    JSON-RPC in the compact form; a `Peer` for each node

A channel is told of the one live connection of each node (`up`, `down`), and reads it to its end
(`run`).  Between `down` and the end of `run` a connection may still hold bytes, and they are
dropped: what comes after a newer connection was opened must not be mixed with what that brings.
Nothing is ever sent twice: what was on its way when a connection broke is lost, and who waited for
an answer is told `unknown-outcome`, before anybody hears that the node is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from paas.base.errors import LocalError, PlatformError, RemoteError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.link import Link
from paas.rpc.mesh_limits import RAFT_FRAME_BYTES_MAX
from paas.rpc.peer import OnRequest, Peer, Sweeper
from paas.wire.frame import FrameParser, frame

logger = logging.getLogger(__name__)

RAFT = "raft"
HUB = "hub"

PEER_ROLES = frozenset({"hub"})

Up = Callable[[str, Peer], None]
Down = Callable[[str], None]


@dataclass(eq=False, slots=True)
class MeshConnection:
    """One connection that was greeted.  Its epoch exceeds that of every earlier one of the pair."""

    node: str
    channel: str
    epoch: int
    link: Link
    opened_s: float
    over: bool = False
    fault: str = ""
    """What its other end did wrong."""

    def why(self) -> str:
        """Why it ended."""
        if self.fault:
            return self.fault
        if getattr(self.link, "overflowed", False):
            return "it did not read, and too much was waiting for it"
        return getattr(self.link, "reason", "") or "closed by the other side"


class Channel(Protocol):
    """What the mesh needs of a channel."""

    def up(self, connection: MeshConnection) -> None: ...

    def down(self, connection: MeshConnection) -> None: ...

    async def run(self, connection: MeshConnection, first: bytes) -> None:
        """Read to the end; `first` came with the greeting.  Raises nothing but cancellation."""
        ...


class Receiver(Protocol):
    """Whom the channel of the log tells; its methods only take note."""

    def on_connected(self, peer: str, epoch: int) -> None: ...

    def on_disconnected(self, peer: str, epoch: int) -> None: ...

    def on_message(self, peer: str, epoch: int, data: bytes) -> None: ...


class RaftChannel:
    """The replicated log's transport: whole messages between known nodes."""

    def __init__(self) -> None:
        self.dropped = 0
        """Messages for nodes that were not connected, or that nobody here received."""
        self._connections: dict[str, MeshConnection] = {}
        self._receiver: Receiver | None = None

    def attach(self, receiver: Receiver) -> None:
        """The receiver hears of the nodes that are connected, and of changes."""
        if self._receiver is not None:
            raise LocalError("the channel has a receiver already")
        self._receiver = receiver
        for node, connection in sorted(self._connections.items()):
            _tell(receiver.on_connected, node, connection.epoch)

    def detach(self) -> None:
        self._receiver = None

    def send(self, peer: str, data: bytes) -> None:
        """Queue a message; it is dropped when there is no connection."""
        if len(data) > RAFT_FRAME_BYTES_MAX:
            raise LocalError(f"a message of {len(data)} bytes, at most {RAFT_FRAME_BYTES_MAX}")
        connection = self._connections.get(peer)
        if connection is None:
            self.dropped += 1
        else:
            connection.link.write(frame(data))

    def up(self, connection: MeshConnection) -> None:
        self._connections[connection.node] = connection
        if self._receiver is not None:
            _tell(self._receiver.on_connected, connection.node, connection.epoch)

    def down(self, connection: MeshConnection) -> None:
        del self._connections[connection.node]
        if self._receiver is not None:
            _tell(self._receiver.on_disconnected, connection.node, connection.epoch)

    async def run(self, connection: MeshConnection, first: bytes) -> None:
        parser = FrameParser(RAFT_FRAME_BYTES_MAX)
        try:
            data = first or await connection.link.read()
            while data:
                for body in parser.feed(data):
                    self._deliver(connection, body)
                data = await connection.link.read()
        except RemoteError as exc:
            connection.fault = str(exc)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except Exception:  # our bug: this connection ends, nothing else
            logger.exception("a message of %s failed", connection.node)
            connection.fault = "a message could not be digested"

    def _deliver(self, connection: MeshConnection, body: bytes) -> None:
        if connection.over or self._receiver is None:
            self.dropped += 1
        else:
            self._receiver.on_message(connection.node, connection.epoch, body)


class _Watched(Connection):
    """Remembers what the other end did wrong."""

    fault = ""

    def receive(self, data: bytes) -> list[Request]:
        try:
            return super().receive(data)
        except RemoteError as exc:
            self.fault = str(exc)
            raise


class HubChannel:
    """JSON-RPC peers of the other hubs, and who wants to know of them."""

    def __init__(self, sweeper: Sweeper, on_request: OnRequest) -> None:
        self.peers: dict[str, Peer] = {}
        self._sweeper = sweeper
        self._on_request = on_request
        self._subscribers: list[tuple[Up, Down]] = []

    def subscribe(self, up: Up, down: Down) -> None:
        """`up` is called at once for the nodes that are connected."""
        self._subscribers.append((up, down))
        for node in sorted(self.peers):
            _tell(up, node, self.peers[node])

    def up(self, connection: MeshConnection) -> None:
        peer = Peer(connection.link, _Watched(Form.COMPACT), self._sweeper, self._handle)
        node = connection.node
        peer.info.update(node=node, roles=PEER_ROLES, epoch=connection.epoch)
        self.peers[node] = peer
        for up, _ in self._subscribers:
            _tell(up, node, peer)

    def _handle(self, peer: Peer, request: Request) -> None:
        # Closed while the requests that came together are handled: the rest of them is dropped.
        if not peer.closed:
            self._on_request(peer, request)

    def down(self, connection: MeshConnection) -> None:
        peer = self.peers.pop(connection.node)
        broken = PlatformError("unknown-outcome", "the connection broke before the answer")
        peer.connection.end(broken)
        for _, down in self._subscribers:
            _tell(down, connection.node)

    async def run(self, connection: MeshConnection, first: bytes) -> None:
        peer = self.peers.get(connection.node)
        if peer is not None and not connection.over:
            await peer.run(first)
            connection.fault = getattr(peer.connection, "fault", "")


def _tell(callback: Callable[..., None], *arguments: object) -> None:
    try:
        callback(*arguments)
    except Exception:
        logger.exception("who waits for news of nodes failed at them")
