"""The wires between nodes: connections as TCP under the mesh, and all that befalls them.

One connection a pair of nodes and channel, with an epoch above every earlier one.  Bytes arrive in
order, each once, after a delay that is drawn for each piece; between different pairs nothing is
ordered.  What is lost, is lost with its connection: a single lost packet is a longer delay.

    cut       one direction passes nothing; it waits, and arrives if the cut ends soon; after
              SILENCE_S both ends give the connection up
    reset     both ends lose it, each in its time; what was on its way is gone, or comes too late,
              on an epoch that is over
    power     an end that lost power says nothing: the other waits SILENCE_S
    crash     the machine of a dead process answers for it: the other end learns at once

A pair connects when both ends live, know each other, and both directions are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from paas.rpc.mesh_channels import HUB, RAFT
from paas.rpc.mesh_limits import SILENCE_S
from paas.sim.platform.world import World

CHANNELS = (RAFT, HUB)
Pair = tuple[str, str]
"""(from, to)."""

GRAINS_S = (0.0002, 0.002, 0.002, 0.004)
"""Arrivals are put on one of these grains, drawn for a seed: what arrives in one moment is digested
together, as on a busy machine, and costs the simulation less."""


class End(Protocol):
    """A hub on the network, in one life."""

    name: str

    @property
    def reachable(self) -> bool:
        """Its process lives and is not paused: it answers a greeting."""
        ...

    def wants(self, other: str) -> bool: ...

    def opened(self, connection: Connection) -> None: ...

    def arrived(self, connection: Connection, data: bytes) -> None: ...

    def ended(self, connection: Connection) -> None: ...

    def late(self, connection: Connection, data: bytes) -> None:
        """From a connection that is over."""
        ...


class Connection:
    """One epoch of a pair on a channel."""

    __slots__ = (
        "channel",
        "due_s",
        "ends",
        "epoch",
        "flight_bytes",
        "held",
        "open",
        "others",
        "pieces",
    )

    def __init__(self, channel: str, epoch: int, ends: dict[str, End]) -> None:
        self.channel = channel
        self.epoch = epoch
        self.ends = ends
        """By name; an end that has given it up is no more here."""
        self.open = True
        self.due_s = dict.fromkeys(ends, 0.0)
        self.pieces: dict[str, list[bytes]] = {name: [] for name in ends}
        """On their way to this end, due at `due_s`, not yet taken by an action."""
        self.held: dict[str, list[bytes]] = {name: [] for name in ends}
        self.flight_bytes = dict.fromkeys(ends, 0)
        one, two = ends
        self.others = {one: two, two: one}

    def other(self, name: str) -> str:
        return self.others[name]


class Network:
    """See the module's text."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ends: dict[str, End] = {}
        self.delay_s: Callable[[str, str], float] = lambda source, target: 0.0003
        self.late_chance = 0.0
        self.grain_s = world.random.choice(GRAINS_S)
        self.messages = 0
        self._connections: dict[tuple[str, str, str], Connection] = {}
        self._epochs: dict[tuple[str, str, str], int] = {}
        self._cut: dict[Pair, int] = {}
        self._dialling: dict[tuple[str, str, str], None] = {}

    # -- ends ------------------------------------------------------------------------------------

    def join(self, end: End) -> None:
        """A hub listens."""
        self.ends[end.name] = end
        self.redial(end.name)

    def leave(self, end: End, *, power: bool) -> None:
        """Its process is gone; with `power` its machine does not even say so."""
        if self.ends.get(end.name) is end:
            del self.ends[end.name]
        for connection in list(self._connections.values()):
            if connection.ends.get(end.name) is end:
                del connection.ends[end.name]
                self._give_up(connection, SILENCE_S if power else self._noticed_s())

    def redial(self, name: str) -> None:
        """Something changed about this node: try again to connect it."""
        for other in list(self.ends):
            if other != name:
                for channel in CHANNELS:
                    self._dial_later(name, other, channel)

    def drop(self, name: str, other: str) -> None:
        """`name` closes what it has with `other`."""
        for channel in CHANNELS:
            connection = self._connections.get(_key(name, other, channel))
            if connection is not None:
                self.reset(connection)

    # -- connecting ------------------------------------------------------------------------------

    def _dial_later(self, a: str, b: str, channel: str) -> None:
        key = _key(a, b, channel)
        if key in self._dialling:
            return
        self._dialling[key] = None
        chance = self.world.random
        self.world.after(0.005 + chance.random() * 0.1 * (1 + 4 * chance.random()), self._dial, key)

    def _dial(self, key: tuple[str, str, str]) -> None:
        del self._dialling[key]
        a, b, channel = key
        ends = [self.ends.get(a), self.ends.get(b)]
        one, two = ends
        if one is None or two is None or not (one.reachable and two.reachable):
            return
        if not (one.wants(b) and two.wants(a)) or (a, b) in self._cut or (b, a) in self._cut:
            return
        old = self._connections.get(key)
        if old is not None:
            if len(old.ends) == 2:
                return
            self._end(old)  # its other end lost power, and is back
        epoch = self._epochs[key] = self._epochs.get(key, 0) + 1
        connection = self._connections[key] = Connection(channel, epoch, {a: one, b: two})
        self.world.record(f"connected {a} {b} {channel} {epoch}")
        one.opened(connection)
        two.opened(connection)

    # -- bytes -----------------------------------------------------------------------------------

    def send(self, connection: Connection, source: str, data: bytes) -> None:
        if not connection.open:
            return
        target = connection.others[source]
        world, grain_s = self.world, self.grain_s
        self.messages += 1
        due_s = (int((world.now_s + self.delay_s(source, target)) / grain_s) + 1) * grain_s
        pieces, last_s = connection.pieces[target], connection.due_s[target]
        connection.flight_bytes[target] += len(data)
        if pieces and due_s <= last_s:
            pieces.append(data)  # never before what was sent before
            return
        connection.pieces[target] = [data]
        connection.due_s[target] = due_s = max(due_s, last_s)
        world.at(due_s, self._arrive, connection, target, connection.pieces[target])

    def _arrive(self, connection: Connection, target: str, pieces: list[bytes]) -> None:
        if connection.pieces[target] is pieces:
            connection.pieces[target] = []
        if not connection.open:
            self._too_late(connection, target, pieces)
            return
        if self._cut and (connection.others[target], target) in self._cut:
            connection.held[target] += pieces
            return
        end = connection.ends.get(target)
        for data in pieces:
            connection.flight_bytes[target] -= len(data)
            if end is not None and connection.open:
                end.arrived(connection, data)

    def _too_late(self, connection: Connection, target: str, pieces: list[bytes]) -> None:
        if connection.channel != RAFT or self.world.random.random() >= self.late_chance:
            return
        end = self.ends.get(target)
        if end is not None:
            self.world.count("late-message")
            for data in pieces:
                end.late(connection, data)

    # -- misfortune ------------------------------------------------------------------------------

    def cut(self, directions: Iterable[Pair]) -> Callable[[], None]:
        """Nothing passes in these directions until the returned function is called."""
        pairs = list(directions)
        for pair in pairs:
            self._cut[pair] = self._cut.get(pair, 0) + 1
        self.world.after(SILENCE_S, self._silent, pairs)
        return lambda: self._heal(pairs)

    def _silent(self, pairs: list[Pair]) -> None:
        """The kernels give up what was cut all the time."""
        for source, target in pairs:
            if (source, target) in self._cut:
                for channel in CHANNELS:
                    connection = self._connections.get(_key(source, target, channel))
                    if connection is not None:
                        self.reset(connection)

    def _heal(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            self._cut[pair] -= 1
            if not self._cut[pair]:
                del self._cut[pair]
                for channel in CHANNELS:
                    self._release(pair, channel)
                    self._dial_later(*pair, channel)

    def _release(self, pair: Pair, channel: str) -> None:
        connection = self._connections.get(_key(*pair, channel))
        if connection is not None:
            held, connection.held[pair[1]] = connection.held[pair[1]], []
            if held:
                self._arrive(connection, pair[1], held)

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def reset_pair(self, a: str, b: str) -> bool:
        """Break what the two have; false if that is nothing."""
        found = [self._connections.get(_key(a, b, channel)) for channel in CHANNELS]
        for connection in found:
            if connection is not None:
                self.reset(connection)
        return any(found)

    def reset(self, connection: Connection) -> None:
        self._give_up(connection, self._noticed_s())

    def _noticed_s(self) -> float:
        return self.world.random.random() * 0.02

    def _give_up(self, connection: Connection, after_s: float) -> None:
        """Nothing passes any more; the ends that are left notice after a while."""
        connection.open = False
        self.world.after(after_s, self._end, connection)

    def _end(self, connection: Connection) -> None:
        connection.open = False
        names = list(connection.due_s)
        key = _key(names[0], names[1], connection.channel)
        ends, connection.ends = connection.ends, {}
        if self._connections.get(key) is connection:
            del self._connections[key]
        for end in ends.values():
            end.ended(connection)
        if ends:
            self._dial_later(*key)


def _key(a: str, b: str, channel: str) -> tuple[str, str, str]:
    return (a, b, channel) if a < b else (b, a, channel)
