"""The mesh: authenticated connections between the hubs of all nodes, kept up for as long as wanted.

Two connections for each pair of nodes, one a channel ("raft", "hub"), so that large messages of
components never delay the log.  The node with the smaller name dials, with back-off, for ever; the
other accepts.  What the network hands over is proven (`MeshNetwork`); here both ends greet
(`mesh_hello`): versions, names, and the epoch of the connection.

Invariants.
- At most one connection of a node and channel is live.  A newer one ends the older before anybody
  hears of it, and what the older still delivers is dropped (hole P31 of the replicated log).
- Epochs of a node and channel only grow, in the life of either process.
- Accepted are only nodes that `set_peers` named, with a smaller name than ours.
- Sending never waits; a node that does not read is cut off, and counts as any lost connection.
- A party that misbehaves costs its own connection; it is told why, if it proved who it is.

Waiting is trio's, entropy and clock are ports, nothing depends on the order of a set: it runs in
the simulated world as it is.  Not decided here: which nodes there are, and which of them are lost.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import trio

from paas.base.errors import PlatformError, RemoteError
from paas.base.ports import Clock, Entropy
from paas.base.retry import Backoff
from paas.rpc import mesh_hello
from paas.rpc.link import Link
from paas.rpc.mesh_channels import (
    HUB,
    RAFT,
    Channel,
    Down,
    HubChannel,
    MeshConnection,
    RaftChannel,
    Up,
)
from paas.rpc.mesh_hello import GreetingReader, Hello, Welcome
from paas.rpc.mesh_limits import (
    GREETING_S,
    GREETINGS_MAX,
    LINGER_S,
    PROTOCOL_VERSIONS,
    RECONNECT,
    RECONNECT_REFUSED,
    STABLE_S,
)
from paas.rpc.mesh_trouble import Troubles
from paas.rpc.peer import OnRequest, Peer, Sweeper

logger = logging.getLogger(__name__)

Accepted = Callable[[str, str, Link], Awaitable[None]]
"""What to do with a proven incoming connection: (node, channel, link); returns at its end."""

_REFUSALS = ("denied", "unsupported")


class MeshNetwork(Protocol):
    """How connections come about.  Whoever is named has proven to be the hub of that node."""

    async def dial(self, node: str, address: str, channel: str, nursery: trio.Nursery) -> Link:
        """A connection to the hub of `node`.  Raises PlatformError: `unavailable`, `denied`."""
        ...

    async def serve(
        self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept until cancelled; runs `accepted` for each proven connection to its end."""
        ...


@dataclass(eq=False, slots=True)
class _Line:
    """A channel of a node that we dial."""

    node: str
    address: str
    channel: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Mesh:
    """The connections of one hub.  `on_trouble(node or address, text)` is for its log."""

    def __init__(
        self,
        *,
        node: str,
        network: MeshNetwork,
        sweeper: Sweeper | None,
        entropy: Entropy,
        clock: Clock,
        on_request: OnRequest,
        on_trouble: Callable[[str, str], None],
        cluster: str = "",
        versions: tuple[int, ...] = PROTOCOL_VERSIONS,
    ) -> None:
        self.node = node
        self._network = network
        self._own_sweeper = Sweeper() if sweeper is None else None
        self._entropy = entropy
        self._troubles = Troubles(on_trouble, clock.monotonic_s)
        self._cluster = cluster
        self._versions = versions
        self._raft = RaftChannel()
        self._hub = HubChannel(sweeper or self._own_sweeper or Sweeper(), on_request)
        self._channels: dict[str, Channel] = {RAFT: self._raft, HUB: self._hub}
        self._addresses: dict[str, str] = {}
        self._lines: dict[tuple[str, str], _Line] = {}
        self._live: dict[tuple[str, str], MeshConnection] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._greeting: dict[Link, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._counts = dict.fromkeys(("opened", "lost", "replaced", "refused", "failed_dials"), 0)

    # -- what its owner uses ---------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, and dial for ever.  Raises what the network raises when it cannot listen."""
        failed: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(partial(self._network.serve, self._accepted))
                except Exception as exc:  # leaves as itself, not in a group
                    failed = exc
                    nursery.cancel_scope.cancel()
                else:
                    self._start(nursery)
                    task_status.started()
        finally:
            self._nursery = None
            for connection in list(self._live.values()):
                self._end(connection)
        if failed is not None:
            raise failed

    def _start(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        if self._own_sweeper is not None:
            nursery.start_soon(self._own_sweeper.run)
        for line in self._lines.values():
            line.scope = trio.CancelScope()
            nursery.start_soon(self._keep, line)

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        """The other nodes: name -> "host:port".  One that is not named any more is disconnected;
        one whose address changed is dialled anew.
        """
        wanted = {n: addresses[n] for n in sorted(addresses) if n != self.node}
        before, self._addresses = self._addresses, wanted
        for node in sorted(before):
            moved = node in wanted and wanted[node] != before[node] and self._dials(node)
            if node not in wanted or moved:
                self._hang_up(node)
        for node, address in wanted.items():
            if self._dials(node) and before.get(node) != address:
                for channel in self._channels:
                    line = _Line(node, address, channel)
                    self._lines[node, channel] = line
                    if self._nursery is not None:
                        self._nursery.start_soon(self._keep, line)

    def peer(self, node: str) -> Peer | None:
        """The live peer of the channel "hub"; `peer.info` has its node, roles and epoch."""
        return self._hub.peers.get(node)

    def connected(self) -> list[str]:
        """The nodes with a live channel "hub", sorted."""
        return sorted(self._hub.peers)

    def subscribe(self, up: Up, down: Down) -> None:
        """Hear of nodes on the channel "hub"; `up` at once for those that are connected."""
        self._hub.subscribe(up, down)

    def drop(self, node: str) -> None:
        """Close both channels now: the node was declared lost.  Dialling goes on."""
        for channel in self._channels:
            connection = self._live.get((node, channel))
            if connection is not None:
                self._end(connection)

    def raft(self) -> RaftChannel:
        """The transport of the replicated log: attach, detach, send."""
        return self._raft

    def statistics(self) -> dict[str, Any]:
        """Counts since the start, and what is open."""
        links = {
            f"{node}/{channel}": {"epoch": c.epoch, "queued_bytes": c.link.queued_bytes}
            for (node, channel), c in sorted(self._live.items())
        }
        return {
            **self._counts,
            "troubles": self._troubles.count,
            "dropped_messages": self._raft.dropped,
            "greeting": len(self._greeting),
            "connections": links,
        }

    # -- dialling --------------------------------------------------------------------------------

    def _dials(self, node: str) -> bool:
        return self.node < node

    def _hang_up(self, node: str) -> None:
        for channel in self._channels:
            line = self._lines.pop((node, channel), None)
            if line is not None:
                line.scope.cancel()
        self.drop(node)

    async def _keep(self, line: _Line) -> None:
        """Keep one channel of a node connected until the line is given up."""
        attempt, backoff = 0, RECONNECT
        with line.scope:
            while True:
                begun = trio.current_time()
                try:
                    if await self._dial(line) >= STABLE_S:
                        attempt = 0
                    begun, backoff = trio.current_time(), RECONNECT
                except PlatformError as exc:
                    backoff = self._failed(line, exc)
                except Exception as exc:  # our bug, or the network's: this attempt failed
                    logger.exception("dialling %s failed", line.node)
                    backoff = self._failed(line, PlatformError("internal", str(exc)))
                attempt += 1
                pause_s = backoff.delay_s(attempt, self._entropy.fraction())
                await trio.sleep_until(begun + pause_s)

    def _failed(self, line: _Line, error: PlatformError) -> Backoff:
        self._counts["failed_dials"] += 1
        self._troubles.note(line.node, f"{line.channel}: {error.message} [{error.code}]")
        return RECONNECT_REFUSED if error.code in _REFUSALS else RECONNECT

    async def _dial(self, line: _Line) -> float:
        """One connection from its beginning to its end; how long it lived, in seconds."""
        assert self._nursery is not None
        node, channel = line.node, line.channel
        link = await self._network.dial(node, line.address, channel, self._nursery)
        try:
            hello = self._hello(self.node, node, channel)
            link.write(mesh_hello.encode(hello))
            reader = GreetingReader()
            with trio.move_on_after(GREETING_S) as scope:
                try:
                    welcome = mesh_hello.decode_welcome(await _read_greeting(link, reader))
                except RemoteError as exc:
                    raise PlatformError("denied", f"{node} answers with {exc}") from None
            if scope.cancelled_caught:
                raise PlatformError("unavailable", f"{node} did not answer the greeting")
            mesh_hello.check(welcome, node=node, sent=hello)
            return await self._live_through(node, channel, welcome.epoch, link, reader.rest)
        finally:
            link.close()

    def _hello(self, node: str, other: str, channel: str) -> Hello:
        """The greeting of `node`, one of the two ends of a connection with `other`."""
        return Hello(
            versions=list(self._versions),
            cluster=self._cluster,
            node=node,
            channel=channel,
            epoch=self._epochs.get((other, channel), 0),
        )

    # -- accepting -------------------------------------------------------------------------------

    async def _accepted(self, node: str, channel: str, link: Link) -> None:
        try:
            if len(self._greeting) >= GREETINGS_MAX:
                oldest = next(iter(self._greeting))
                self._greeting.pop(oldest).cancel()
                oldest.close()
            reader = GreetingReader()
            with trio.move_on_after(GREETING_S) as scope:
                self._greeting[link] = scope
                welcome = await self._welcome(node, channel, link, reader)
            if scope.cancelled_caught:
                raise PlatformError("denied", f"{channel}: it did not greet in time")
            link.write(mesh_hello.encode(welcome))
            if welcome.error is not None:
                raise PlatformError.from_rpc(welcome.error)
        except PlatformError as exc:
            self._counts["refused"] += 1
            self._troubles.note(node, f"refused on {channel}: {exc.message} [{exc.code}]")
            with trio.move_on_after(LINGER_S):  # for it to read why
                await _read_or_end(link)
            link.close()
            return
        finally:
            self._greeting.pop(link, None)
        try:
            await self._live_through(node, channel, welcome.epoch, link, reader.rest)
        finally:
            link.close()

    async def _welcome(
        self, node: str, channel: str, link: Link, reader: GreetingReader
    ) -> Welcome:
        """Our answer to the greeting of a proven node."""
        try:
            hello = mesh_hello.decode_hello(await _read_greeting(link, reader))
        except RemoteError as exc:
            raise PlatformError("denied", f"it sent {exc}") from None
        try:
            self._admit(node, channel)
            expected = self._hello(node, node, channel)
            return mesh_hello.answer(hello, node=self.node, expected=expected)
        except PlatformError as exc:
            return Welcome(node=self.node, error=exc.to_rpc())

    def _admit(self, node: str, channel: str) -> None:
        """Raise `denied` when this node may not connect to us in this way."""
        if channel not in self._channels:
            raise PlatformError("denied", f"there is no channel {channel[:64]!r}")
        if node not in self._addresses:
            raise PlatformError("denied", f"{node} is not a node that {self.node} knows")
        if self._dials(node):
            text = f"{self.node} has the smaller name and dials {node}, not the other way round"
            raise PlatformError("denied", text)

    # -- live connections ------------------------------------------------------------------------

    async def _live_through(
        self, node: str, channel: str, epoch: int, link: Link, first: bytes
    ) -> float:
        """A greeted connection, to its end; how long it lived, in seconds."""
        key = (node, channel)
        older = self._live.get(key)
        if older is not None:
            self._counts["replaced"] += 1
            self._end(older)
        connection = MeshConnection(node, channel, epoch, link, trio.current_time())
        self._epochs[key] = epoch
        self._live[key] = connection
        self._counts["opened"] += 1
        try:
            self._channels[channel].up(connection)
            await self._channels[channel].run(connection, first)
            if not connection.over:
                self._counts["lost"] += 1
                self._troubles.note(node, f"{channel}: connection lost: {connection.why()}")
        finally:
            self._end(connection)
        return trio.current_time() - connection.opened_s

    def _end(self, connection: MeshConnection) -> None:
        """From now on nothing is believed of it; everybody who cares is told, once."""
        if connection.over:
            return
        connection.over = True
        connection.link.close()
        del self._live[connection.node, connection.channel]
        self._channels[connection.channel].down(connection)


async def _read_greeting(link: Link, reader: GreetingReader) -> bytes:
    """The first frame.  Raises RemoteError, or `unavailable` when there is none."""
    while True:
        data = await _read_or_end(link)
        if not data:
            why = getattr(link, "reason", "") or "the other side closed the connection"
            raise PlatformError("unavailable", f"no greeting: {why}")
        body = reader.feed(data)
        if body is not None:
            return body


async def _read_or_end(link: Link) -> bytes:
    try:
        return await link.read()
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        return b""
