"""Asking for names: other name servers for what is elsewhere, this node's hub for the zone.  (io)

`Forwarder` asks the servers it is given, in turn, and remembers what they said.  The same question
is on its way once only, however many ask it: who floods us with one question gets one chance to
have a guessed answer believed, not thousands (the "birthday attack").

`ZoneLink` is the container controller's way to the hub of its node: one UNIX connection of messages
in the runtime directory, where nobody else can listen.  While the hub is away there are no answers
about the zone, and those about other names go on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from paas.dns import answer, limits, records, upstream, wire
from paas.dns.cache import Cache, Told
from paas.dns.names import Labels, split
from paas.dns.upstream import Asked, Heard

A, AAAA = records.A, records.AAAA
NOERROR, SERVFAIL, REFUSED = wire.NOERROR, wire.SERVFAIL, wire.REFUSED

Servers = Callable[[], list[tuple[str, int]]]

_RECONNECT_S = 0.2
_TAG_BYTES = 4
COMPONENT_BYTES = 20


class _Waiting:
    """One question on its way, and those who wait for it."""

    __slots__ = ("done", "told")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.told: Told | None = None


class Forwarder:
    """See the module's text.  `random`: so many bytes nobody can guess."""

    def __init__(self, servers: Servers, *, random: Callable[[int], bytes]) -> None:
        self._servers = servers
        self._random = random
        self.cache = Cache()
        self._waiting: dict[tuple[Labels, int], _Waiting] = {}
        self.wrong = 0
        """Datagrams that pretended to be an answer."""

    async def look_up(self, labels: Labels, kind: int) -> Told | None:
        """What others say about a name; None: nobody answers."""
        known = self.cache.get(labels, kind, trio.current_time())
        if known is not None:
            return known if known.code in (wire.NOERROR, wire.NXDOMAIN) else None
        key = (labels, kind)
        waiting = self._waiting.get(key)
        if waiting is not None:
            await waiting.done.wait()
            return waiting.told
        waiting = self._waiting[key] = _Waiting()
        try:
            with trio.move_on_after(limits.FORWARD_TOTAL_S):
                waiting.told = await self._ask_all(labels, kind)
            told = waiting.told or Told(wire.SERVFAIL, (), limits.CACHE_FAILURE_S)
            self.cache.put(labels, kind, told, trio.current_time())
        finally:
            del self._waiting[key]
            waiting.done.set()
        return waiting.told

    async def reply(self, message: wire.Message, tcp: bool) -> bytes:
        """The whole answer to somebody's question."""
        told = await self.look_up(message.labels, message.kind)
        if told is None:
            return _whole(message, wire.SERVFAIL, (), tcp=tcp)
        listed = ((one.owner, one.kind, one.ttl_s, one.data) for one in told.records)
        return _whole(message, told.code, listed, tcp=tcp)

    async def _ask_all(self, labels: Labels, kind: int) -> Told | None:
        for _ in range(limits.FORWARD_ATTEMPTS):
            for server in self._servers():
                told = None
                with trio.move_on_after(limits.FORWARD_TIMEOUT_S):
                    told = await self._ask_server(server, labels, kind)
                if told is not None:
                    return told
        return None

    def _asked(self, labels: Labels, kind: int, *, mixed: bool) -> Asked:
        number = int.from_bytes(self._random(2), "big")
        coins = int.from_bytes(self._random(32), "big") if mixed else 0
        return upstream.ask(labels, kind, number=number, coins=coins)

    async def _ask_server(self, server: tuple[str, int], labels: Labels, kind: int) -> Told | None:
        try:
            heard, told = await self._by_udp(server, self._asked(labels, kind, mixed=True))
            if heard in (Heard.ANSWER, Heard.FAILED):
                return told
            plain = self._asked(labels, kind, mixed=False)
            try:
                return await _by_tcp(server, plain)
            except OSError:
                if heard is not Heard.CASE:
                    return None
            # A server that changes upper and lower case and knows no TCP.
            return (await self._by_udp(server, plain))[1]
        except OSError:
            return None

    async def _by_udp(self, server: tuple[str, int], asked: Asked) -> tuple[Heard, Told | None]:
        """`OTHER`: somebody guesses."""
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        wrong = 0
        with trio.socket.socket(family, socket.SOCK_DGRAM) as udp:
            await udp.connect(server)  # a port by chance, and nobody else is heard
            await udp.send(asked.message)
            while wrong < limits.FORWARD_WRONG_MAX:
                data = await udp.recv(limits.FORWARD_BYTES_MAX)
                heard, told = upstream.judge(asked, data)
                if heard is not Heard.OTHER:
                    return heard, told
                wrong += 1
                self.wrong += 1
        return Heard.OTHER, None


async def _by_tcp(server: tuple[str, int], asked: Asked) -> Told | None:
    """Raises OSError when nobody listens there."""
    stream = await trio.open_tcp_stream(*server)
    async with stream:
        buffer = bytearray()
        try:
            await stream.send_all(len(asked.message).to_bytes(2, "big") + asked.message)
            while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
                chunk = await stream.receive_some(65_536)
                if not chunk:
                    return None
                buffer += chunk
        except trio.BrokenResourceError:
            return None
    size = 2 + int.from_bytes(buffer[:2], "big")
    return upstream.judge(asked, bytes(buffer[2:size]), exact=False)[1]


class ZoneLink:
    """See the module's text.  `run` keeps the connection."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: trio.socket.SocketType | None = None
        self._waiting: dict[bytes, tuple[trio.Event, list[bytes]]] = {}
        self._tag = 0

    async def run(self) -> None:
        while True:
            try:
                with trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    await sock.connect(self._path)
                    self._sock = sock
                    await self._hear(sock)
            except OSError:
                pass
            finally:
                self._sock = None
            for event, _ in self._waiting.values():  # what was asked will not be answered
                event.set()
            await trio.sleep(_RECONNECT_S)

    async def _hear(self, sock: trio.socket.SocketType) -> None:
        while data := await sock.recv(limits.TCP_BYTES_MAX + _TAG_BYTES):
            waiting = self._waiting.get(data[:_TAG_BYTES])
            if waiting is not None:
                waiting[1].append(data[_TAG_BYTES:])
                waiting[0].set()

    async def ask(self, question: bytes, component: str, *, tcp: bool = False) -> bytes | None:
        """The hub's answer to a question of this component (40 digits); None: there is none."""
        sock = self._sock
        if sock is None or len(self._waiting) >= limits.ZONE_QUESTIONS_MAX:
            return None
        self._tag = (self._tag + 1) & 0x7FFF_FFFF
        tag = (self._tag | (0x8000_0000 if tcp else 0)).to_bytes(_TAG_BYTES, "big")
        event, found = self._waiting[tag] = (trio.Event(), [])
        try:
            with trio.move_on_after(limits.ZONE_QUESTION_S):
                await sock.send(tag + bytes.fromhex(component) + question)
                await event.wait()
        except (OSError, trio.ClosedResourceError):
            return None
        finally:
            del self._waiting[tag]
        return found[0] if found else None


class Question(NamedTuple):
    """A question that somebody asked, of whom this is all that counts."""

    name: str
    """In lower case, without a dot at its end."""
    kind: int
    message: wire.Message

    def reply(
        self, code: int, addresses: Iterable[bytes] = (), *, ttl_s: int = 0, tcp: bool = False
    ) -> bytes:
        """The answer: a code, and addresses of the kind that was asked for."""
        found = ((self.message.labels, self.kind, ttl_s, data) for data in addresses)
        return _whole(self.message, code, found, tcp=tcp)

    def within(self, zone: str) -> bool:
        """Is the name the zone's, or below it?"""
        return self.name == zone or self.name.endswith(f".{zone}")


def read_question(data: bytes) -> Question | None:
    """None for what is no question, or none that can be read."""
    try:
        message = wire.read(data)
    except wire.Refused:
        return None
    if message is None or message.opcode != wire.QUERY:
        return None
    name = b".".join(message.labels).decode("latin-1")
    return Question(name, message.kind, message)


def labels_of(name: str) -> Labels | None:
    """To look up by; None for what no host name could be."""
    return split(name)


def _whole(
    message: wire.Message,
    code: int,
    listed: Iterable[tuple[Labels, int, int, bytes]],
    *,
    tcp: bool,
) -> bytes:
    parts = [
        wire.record(answer.compressed(owner, message.labels), kind, ttl_s, data)
        for owner, kind, ttl_s, data in listed
    ]
    built = answer.Built(code, b"".join(parts), len(parts), b"", 0, b"", 0)
    return answer.assemble(message, built, answer.room(message, tcp=tcp), wire.RA)
