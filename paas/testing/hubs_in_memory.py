"""Several hubs of one process: each with its own replica of one log, links between them, harnesses.

    async with hubs_world("n1", "n2") as world:
        world.exists("a", node="n1")
        a = await world.harness("a", "n1")
        number = await a.watch(group="g")
        world.unlink("n1", "n2"); world.cut("n2"); world.heal("n2"); await world.restart("n1")

The log is a list: what is applied reaches the replicas that are not cut off at once, the others
when they are healed, entry by entry or as a whole state.  A hub that restarts replays its log from
a snapshot, as the real one does, and nobody is told of what it replays.  `Harness` is the real core
of a harness (relay and uplink) with a component that writes down what it hears.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from trio.testing import memory_stream_pair

from paas.base.errors import PlatformError
from paas.harness.capture import Capture
from paas.harness.channel import Channel
from paas.harness.reconnect import Uplink
from paas.harness.relay import Relay
from paas.harness.settings import LogSettings
from paas.hub.agent import Hub
from paas.hub.attributes import AttributeState
from paas.hub.history import History
from paas.hub.state import GroupState
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine, StateReplaced
from paas.real.clock import SystemClock
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Form
from paas.rpc.link import PeerCredentials, StreamLink
from paas.rpc.peer import Peer, Sweeper
from paas.testing.hub_in_memory import TIME_MS, Announce, Directory, Far, Lives, World
from paas.testing.pair import Pairs, pairs
from paas.wire import codec

Subscriber = Callable[[int, Sequence[object]], None]
UID = 500


class Replica:
    """The log as one hub has it."""

    def __init__(self, world: HubsWorld) -> None:
        self._world = world
        self.lives, self.groups = Lives(), GroupState()
        self.attributes = AttributeState()
        self.history = History(self.groups.groups_of)
        self.machine = Machine([self.lives, self.groups, self.attributes, self.history])
        self.index = 0
        self.reachable = True
        self.subscribers: list[Subscriber] = []

    def applied(self) -> int:
        return self.index

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise PlatformError("unavailable", "there is no majority")
        return self._world.apply(command)

    def take(self, index: int, data: bytes, *, tell: bool = True) -> Any:
        self.index = index
        applied = self.machine.apply(index, data)
        if tell and applied.events:
            for subscriber in self.subscribers:
                subscriber(index, applied.events)
        return applied

    def take_state(self, index: int, state: bytes) -> None:
        self.machine.restore_bytes(state)
        self.index = index


class MemoryLinks:
    """The links of one hub to others."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self._subscribers: list[tuple[Callable[[str, Peer], None], Callable[[str], None]]] = []

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return sorted(self.peers)

    def subscribe(self, up: Callable[[str, Peer], None], down: Callable[[str], None]) -> None:
        self._subscribers.append((up, down))
        for node, peer in sorted(self.peers.items()):
            up(node, peer)

    def up(self, node: str, peer: Peer) -> None:
        self.peers[node] = peer
        for up, _ in self._subscribers:
            up(node, peer)

    def down(self, node: str) -> None:
        peer = self.peers.pop(node, None)
        if peer is not None:
            peer.connection.end(PlatformError("unknown-outcome", "the connection broke"))
            peer.close()
            for _, down in self._subscribers:
                down(node)


class _Places(Directory):
    """As the test says: which component is on which node."""

    def __init__(self, replica: Replica, places: dict[str, str]) -> None:
        super().__init__(replica.lives, replica.groups)
        self._places = places

    def node(self, component: str) -> str:
        return self._places.get(component, "")


class Node:
    """One life of a hub."""

    def __init__(self, name: str, world: HubsWorld, replica: Replica) -> None:
        self.name = name
        self.replica = replica
        self.links = MemoryLinks()
        self.harnesses: dict[Harness, None] = {}
        self._world = world
        self.hub = Hub(
            node=name,
            log=replica,
            groups=replica.groups,
            attributes=replica.attributes,
            history=replica.history,
            directory=_Places(replica, world.places),
            clock=SystemClock(),
            uid_of=lambda component: UID,
            links=self.links,
        )
        replica.history.begin(replica.index)
        replica.subscribers.append(self.hub.state_changed)
        self.links.subscribe(self.hub.node_up, self.hub.node_down)
        self.dispatcher = Dispatcher(
            world.nursery, SystemClock(), authorise=World.authorise, on_bug=world.on_bug
        )
        self.hub.register(self.dispatcher)
        self.scope = trio.CancelScope()
        world.nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            await self.hub.run()


class Harness:
    """The core of a component's harness, and a component that listens."""

    def __init__(self, component: str, world: HubsWorld) -> None:
        self.component = component
        self.answers: dict[int, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.reading = True
        self._world = world
        self._last = 0
        self._stream: trio.abc.Stream | None = None
        self._life = 0
        self.uplink = Uplink(component, 1, Capture(LogSettings(), 1))
        self.channel = Channel(1)
        self.relay = Relay(self.uplink, {1: self.channel})

    async def connect(self, node: str) -> None:
        """To the hub of this node; its watches are opened again."""
        self.lose()
        hub = self._world.nodes[node]
        ours, theirs = memory_stream_pair()
        peer = self._world.peer(theirs, hub.dispatcher, hub.hub.connection_closed)
        peer.info.update(credentials=PeerCredentials(1, UID, UID), roles=frozenset({"harness"}))
        self._life += 1
        self._stream = ours
        self.uplink.connected()
        self._world.nursery.start_soon(self._pump, ours, self._life)

    def lose(self) -> None:
        """The connection ends; what is on its way is lost."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._life += 1
            self._world.nursery.start_soon(trio.aclose_forcefully, stream)
            self.relay.watches.hub_lost()
            self.uplink.lost(0.0)

    async def _pump(self, stream: trio.abc.Stream, life: int) -> None:
        try:
            await self._flush(stream)
            while life == self._life:
                data = await stream.receive_some(self._world.read_bytes())
                if not data or life != self._life:
                    break
                for request in self.uplink.receive(bytes(data)):
                    if request.method == "component.event":
                        self.relay.event(request.params)
                if self.uplink.newly_attached:
                    self.uplink.newly_attached = False
                    self.relay.hub_attached()
                self._listen()
                await self._flush(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if life == self._life:  # the hub hung up
            self.lose()

    async def _flush(self, stream: trio.abc.Stream) -> None:
        while self.uplink.outbox.parts:
            await stream.send_all(self.uplink.outbox.take())

    def _listen(self) -> None:
        """What the component reads."""
        if not self.reading or not self.channel.outbox.parts:
            return
        for line in self.channel.outbox.take().splitlines():
            said = codec.from_json(line)
            if said.get("method") == "component.event":
                self.events.append(said["params"])
            else:
                self.answers[said["id"]] = said.get("result", said.get("error"))

    async def read_again(self) -> None:
        """The component that did not read does, and its harness notices."""
        self.reading = True
        self._listen()
        self.relay.catch_up()
        assert self._stream is not None
        await self._flush(self._stream)

    async def ask(self, method: str, **params: Any) -> Any:
        """A request of the component; its result, or the error as a map with `code`."""
        self._last += 1
        number = self._last
        line = codec.to_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        for request in self.channel.receive(line + b"\n"):
            self.relay.request(self.channel, request)
        assert self._stream is not None
        await self._flush(self._stream)
        self._listen()  # to what the harness answered by itself
        with trio.fail_after(30):
            while number not in self.answers:
                await trio.lowlevel.checkpoint()
        return self.answers.pop(number)

    async def watch(self, **what: Any) -> Any:
        return await self.ask("hub.watch", **what)


class HubsWorld:
    """See the module's text."""

    def __init__(self, nursery: trio.Nursery, maker: Pairs, names: Sequence[str]) -> None:
        self.nursery = nursery
        self.entries: list[bytes] = []
        self.snapshots: list[tuple[int, bytes]] = []
        self.places: dict[str, str] = {}
        self.bugs: list[Exception] = []
        self.read_bytes: Callable[[], int] = lambda: 65_536
        self._sweeper = Sweeper()
        self._maker = maker
        nursery.start_soon(self._sweeper.run)
        self.nodes = {name: Node(name, self, Replica(self)) for name in names}
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                self.link(one, other)

    def on_bug(self, _where: str, error: Exception) -> None:
        self.bugs.append(error)

    def peer(self, stream: trio.abc.Stream, dispatcher: Dispatcher, on_close: Any) -> Peer:
        link = StreamLink(stream, self.nursery)
        peer = Peer(link, Connection(Form.COMPACT), self._sweeper, dispatcher, on_close=on_close)
        self.nursery.start_soon(peer.run)
        return peer

    # -- the log ---------------------------------------------------------------------------------

    def apply(self, command: msgspec.Struct) -> Any:
        index = len(self.entries) + 1
        data = encode(command, Stamp(TIME_MS, bytes(SEED_BYTES), "test", index))
        self.entries.append(data)
        applied = None
        for node in self.nodes.values():
            if node.replica.reachable:
                applied = node.replica.take(index, data)
        assert applied is not None, "every replica is cut off"
        if applied.error is not None:
            raise applied.error
        return applied.result

    def cut(self, name: str) -> None:
        """This replica hears nothing more for a while."""
        self.nodes[name].replica.reachable = False

    def heal(self, name: str, *, state: bool = False) -> None:
        """It gets what it missed: entry by entry, or as a whole state."""
        replica = self.nodes[name].replica
        if replica.reachable:
            return
        replica.reachable = True
        if state:
            index, snapshot = self.state()
            if index > replica.index:
                replica.take_state(index, snapshot)
                for subscriber in replica.subscribers:
                    subscriber(index, [StateReplaced(index=index)])
        for index in range(replica.index + 1, len(self.entries) + 1):
            replica.take(index, self.entries[index - 1])

    def state(self) -> tuple[int, bytes]:
        """The state of a replica that lacks nothing."""
        for node in self.nodes.values():
            if node.replica.index == len(self.entries):
                return node.replica.index, node.replica.machine.snapshot_bytes()
        raise AssertionError("every replica is behind")

    def exists(self, component: str, node: str, groups: Sequence[str] = ()) -> None:
        self.places[component] = node
        self.apply(Announce(what="created", component=component, groups=list(groups)))
        self.becomes(component, "available")

    def becomes(self, component: str, state: str, previous: str = "initializing") -> None:
        self.apply(Announce(what="changed", component=component, state=state, previous=previous))

    def ends(self, component: str) -> None:
        self.apply(Announce(what="ended", component=component))

    # -- links and lives -------------------------------------------------------------------------

    def link(self, one: str, other: str) -> None:
        first, second = self.nodes[one], self.nodes[other]
        if other in first.links.peers:
            return
        ours, theirs = self._maker.join(first.dispatcher, second.dispatcher)
        ours.info.update(node=other, roles=frozenset({"hub"}))
        theirs.info.update(node=one, roles=frozenset({"hub"}))
        first.links.up(other, ours)
        second.links.up(one, theirs)

    def unlink(self, one: str, other: str) -> None:
        self.nodes[one].links.down(other)
        self.nodes[other].links.down(one)

    def restart(self, name: str, snapshot: tuple[int, bytes] | None = None) -> None:
        """The hub begins anew from a snapshot and the log after it; its links are made again."""
        old = self.nodes[name]
        others = old.links.connected()
        for other in others:
            self.unlink(name, other)
        for harness in list(old.harnesses):
            harness.lose()
        old.scope.cancel()
        old.replica.subscribers.clear()
        replica = Replica(self)
        if snapshot is not None:
            replica.take_state(*snapshot)
            replica.history.begin(snapshot[0])
        for index in range(replica.index + 1, old.replica.index + 1):
            replica.take(index, self.entries[index - 1], tell=False)
        replica.reachable = old.replica.reachable
        self.nodes[name] = Node(name, self, replica)
        for other in others:
            self.link(name, other)

    async def harness(self, component: str, node: str) -> Harness:
        harness = Harness(component, self)
        await harness.connect(node)
        self.nodes[node].harnesses[harness] = None
        with trio.fail_after(30):
            while not harness.uplink.attached:
                await trio.lowlevel.checkpoint()
        return harness

    def operator(self, node: str) -> Far:
        """A connection of an operator to the hub of this node."""
        far, hub = Far(), self.nodes[node]
        ours, far.peer = self._maker.join(hub.dispatcher, far.on_request)
        ours.info.update(credentials=PeerCredentials(1, 0, 0), roles=frozenset({"operator"}))
        ours.on_close = hub.hub.connection_closed
        return far


@asynccontextmanager
async def hubs_world(*names: str) -> AsyncIterator[HubsWorld]:
    async with trio.open_nursery() as nursery, pairs() as maker:
        world = HubsWorld(nursery, maker, names)
        yield world
        if world.bugs:
            raise world.bugs[0]
        nursery.cancel_scope.cancel()
