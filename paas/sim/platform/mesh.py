"""The mesh of one hub, in one life, on the simulated network.

It has the face of `paas.rpc.mesh.Mesh` that a hub uses.  The channels are the real ones, with their
rules (who is told when, what an ended connection still brings is dropped); greetings are left out,
as the network only connects those who want each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paas.base.errors import LocalError
from paas.rpc.connection import Connection as RpcConnection
from paas.rpc.envelope import Form
from paas.rpc.mesh_channels import (
    HUB,
    PEER_ROLES,
    RAFT,
    Down,
    HubChannel,
    MeshConnection,
    RaftChannel,
    Up,
    _tell,
)
from paas.rpc.mesh_limits import RAFT_FRAME_BYTES_MAX
from paas.rpc.peer import OnRequest, Peer, Sweeper
from paas.sim.platform.links import broken, feed
from paas.sim.platform.network import Connection, Network
from paas.sim.platform.process import Process


class NetLink:
    """This hub's end of a connection, as a link of the mesh."""

    def __init__(self, network: Network, connection: Connection, here: str) -> None:
        self._network = network
        self._connection = connection
        self._here = here
        self._there = connection.other(here)
        self.closed = False

    async def read(self) -> bytes:
        raise AssertionError("what arrives is fed")

    def write(self, data: bytes) -> None:
        if data and not self.closed:
            self._network.send(self._connection, self._here, data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._connection.open:
                self._network.reset(self._connection)

    @property
    def queued_bytes(self) -> int:
        return self._connection.flight_bytes[self._there]


class _Raft(RaftChannel):
    """Messages travel whole: no frames to cut."""

    def send(self, peer: str, data: bytes) -> None:
        if len(data) > RAFT_FRAME_BYTES_MAX:
            raise LocalError(f"a message of {len(data)} bytes, at most {RAFT_FRAME_BYTES_MAX}")
        connection = self._connections.get(peer)
        if connection is None:
            self.dropped += 1
        else:
            connection.link.write(data)

    def late(self, peer: str, epoch: int, data: bytes) -> None:
        """What the channel promises not to do: the replica must not believe an old epoch."""
        if self._receiver is not None:
            self._receiver.on_message(peer, epoch, data)


class _Hub(HubChannel):
    """Peers that are fed."""

    def up(self, connection: MeshConnection) -> None:
        peer = Peer(connection.link, RpcConnection(Form.COMPACT), self._sweeper, self._handle)
        node = connection.node
        peer.info.update(node=node, roles=PEER_ROLES, epoch=connection.epoch)
        self.peers[node] = peer
        for up, _ in self._subscribers:
            _tell(up, node, peer)

    def down(self, connection: MeshConnection) -> None:
        peer = self.peers.pop(connection.node)
        peer.connection.end(broken())
        for _, down in self._subscribers:
            _tell(down, connection.node)
        peer.finish()


class SimMesh:
    """See the module's text.  Implements `network.End`."""

    def __init__(
        self, network: Network, process: Process, name: str, sweeper: Sweeper, on_request: OnRequest
    ) -> None:
        self.name = name
        self.process = process
        self._network = network
        self._raft = _Raft()
        self._hub = _Hub(sweeper, on_request)
        self._channels: dict[str, Any] = {RAFT: self._raft, HUB: self._hub}
        self._wanted: dict[str, str] = {}
        self._live: dict[tuple[str, str], MeshConnection] = {}

    # -- what a hub uses -------------------------------------------------------------------------

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        before = self._wanted
        self._wanted = {n: addresses[n] for n in sorted(addresses) if n != self.name}
        for node in before:
            if node not in self._wanted:
                self.drop(node)
        if self._wanted.keys() != before.keys():
            self._network.redial(self.name)

    def peer(self, node: str) -> Peer | None:
        return self._hub.peers.get(node)

    def connected(self) -> list[str]:
        return sorted(self._hub.peers)

    def subscribe(self, up: Up, down: Down) -> None:
        self._hub.subscribe(up, down)

    def drop(self, node: str) -> None:
        for channel in self._channels:
            connection = self._live.get((node, channel))
            if connection is not None:
                self._over(connection)

    def raft(self) -> RaftChannel:
        return self._raft

    # -- what the network uses -------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        return self.process.alive and not self.process.paused

    def wants(self, other: str) -> bool:
        return other in self._wanted

    def opened(self, connection: Connection) -> None:
        self.process.post(self._opened, connection)

    def arrived(self, connection: Connection, data: bytes) -> None:
        process = self.process
        if connection.channel == RAFT and process.alive and not process.paused:
            self._arrived(connection, data)  # the log only takes note: no task is started
        else:
            process.post(self._arrived, connection, data)

    def ended(self, connection: Connection) -> None:
        self.process.post(self._ended, connection)

    def late(self, connection: Connection, data: bytes) -> None:
        self.process.post(self._raft.late, connection.other(self.name), connection.epoch, data)

    # -- connections -----------------------------------------------------------------------------

    def _opened(self, connection: Connection) -> None:
        node, channel = connection.other(self.name), connection.channel
        older = self._live.get((node, channel))
        if older is not None:
            self._over(older)
        link = NetLink(self._network, connection, self.name)
        opened_s = self.process.world.now_s
        made = MeshConnection(node, channel, connection.epoch, link, opened_s)
        self._live[node, channel] = made
        self._channels[channel].up(made)

    def _find(self, connection: Connection) -> MeshConnection | None:
        found = self._live.get((connection.others[self.name], connection.channel))
        return found if found is not None and found.epoch == connection.epoch else None

    def _arrived(self, connection: Connection, data: bytes) -> None:
        found = self._find(connection)
        if found is None:
            return
        if connection.channel == RAFT:
            self._raft._deliver(found, data)
        else:
            peer = self._hub.peers.get(found.node)
            if peer is not None:
                feed(peer, data)

    def _ended(self, connection: Connection) -> None:
        found = self._find(connection)
        if found is not None:
            self._over(found)

    def _over(self, connection: MeshConnection) -> None:
        if not connection.over:
            connection.over = True
            connection.link.close()
            del self._live[connection.node, connection.channel]
            self._channels[connection.channel].down(connection)
