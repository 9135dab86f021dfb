"""The node's resolver for containers: the cluster's own names, and those outside that a manifest
allows; of what it has answered about the latter, it lets packets pass.

    component ── question ──> gateway:53 ── of the cluster's zone? ── yes ──> the hub of this node
                                            no: allowed? ── no ──> REFUSED
                                                            yes ──> a name server of the host
    component <── answer ── filter: (component, address, port) until the answer is old <──┘

What the cluster's names mean is nobody's secret among its components (`controller.components` says
the same), and an address is no way: the filter decides as before.  Outside, only addresses are
asked for: A, and AAAA (RFC 3596) for containers that IPv6 leads to the world from; a question of
another kind about an allowed name has an empty answer.  The filter knows before the component does,
so its first packet passes.  What an allowed name may not mean: addresses of the link (metadata
services), of this machine, of the cluster's containers and machines; they are left out of the
answer, or a name's owner could aim a component at them ("DNS rebinding").

Bounded: questions at a time, of all and of each container, and each container's rate; bytes; what
is resolved for one container; time.  Datagrams beyond are dropped in passing.  RFC 1035; what
others say is judged and remembered by `paas.dns.client`.  (io)
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

import trio

from paas.bundle.egress import Destination
from paas.container import limits
from paas.dns.client import (
    AAAA,
    NOERROR,
    REFUSED,
    SERVFAIL,
    A,
    Forwarder,
    Question,
    labels_of,
    read_question,
)

HOST_RESOLVERS = Path("/etc/resolv.conf")
_PORT = 53

Allowed = Callable[[str], list[Destination] | None]
"""From the address of a container to what it may reach; None: there is no such container."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Forbidden = Callable[[Address], bool]
"""May no name mean this address?"""


Other = Callable[[str], Awaitable[str]]
"""From the address of a container to that of version 6 by which it reaches the world; or empty."""

Sender = tuple[str, int]


async def _no_other(_source: str) -> str:
    return ""


class Filter(Protocol):
    """What is asked of the packet filter."""

    async def resolve(self, paths: Iterable[tuple[str, str, str, int]], timeout_s: int) -> None: ...

    def resolved(self, source: str) -> int: ...


class Zone(Protocol):
    """The cluster's own names: `paas.dns.client.ZoneLink`."""

    async def ask(self, question: bytes, component: str, *, tcp: bool = False) -> bytes | None: ...


class Cluster(Protocol):
    """What the resolver knows of the cluster: its zone, and which component has an address."""

    @property
    def zone(self) -> str: ...

    @property
    def names(self) -> Zone: ...

    def component(self, source: str, /) -> str: ...


class Names:
    """See the module's text."""

    def __init__(
        self,
        allowed: Allowed,
        forbidden: Forbidden,
        firewall: Filter,
        *,
        servers: Callable[[], list[tuple[str, int]]] | None = None,
        other: Other = _no_other,
        cluster: Cluster | None = None,
    ) -> None:
        """`servers`: who is asked; by default those of the host, read anew each time."""
        self._allowed = allowed
        self._forbidden = forbidden
        self._firewall = firewall
        self._forwarder = Forwarder(servers or host_servers, random=secrets.token_bytes)
        self._other = other
        self._cluster = cluster
        self._asking: dict[str, int] = {}
        self._outstanding = 0
        self._second = 0
        self._counts: dict[str, int] = {}

    async def serve(
        self, address: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer at this address until cancelled."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.bind((address, _PORT))
            (listener,) = await trio.open_tcp_listeners(_PORT, host=address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._converse, [listener])
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(udp)
                    self._drain(udp, nursery)

    # -- datagrams and streams -------------------------------------------------------------------

    def _drain(self, udp: socket.socket, nursery: trio.Nursery) -> None:
        """All that wait, or a batch; a question that finds no place is asked again: it is UDP."""
        for _ in range(limits.QUESTIONS_BATCH):
            try:
                question, sender = udp.recvfrom(limits.QUESTION_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue
            if self._begin(sender[0]):
                nursery.start_soon(self._reply, udp, question, sender)

    def _begin(self, source: str) -> bool:
        """May this container ask one more question now?"""
        if (second := int(trio.current_time())) != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts[source] = self._counts.get(source, 0) + 1
        mine = self._asking.get(source, 0)
        if (
            count > limits.QUESTIONS_SOURCE_PER_S
            or mine >= limits.QUESTIONS_SOURCE_MAX
            or self._outstanding >= limits.QUESTIONS_MAX
        ):
            return False
        self._asking[source] = mine + 1
        self._outstanding += 1
        return True

    def _end(self, source: str) -> None:
        self._outstanding -= 1
        self._asking[source] -= 1
        if not self._asking[source]:
            del self._asking[source]

    async def _reply(self, udp: socket.socket, question: bytes, sender: Sender) -> None:
        try:
            answer = None
            with trio.move_on_after(limits.QUESTION_S):
                answer = await self.answer(question, sender[0])
            if answer is not None:
                with contextlib.suppress(OSError):
                    udp.sendto(answer, sender)
        finally:
            self._end(sender[0])

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Questions one after the other: what was too long for a datagram (RFC 7766)."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            async with stream:
                source = stream.socket.getpeername()[0]
                with trio.move_on_after(limits.QUESTIONS_STREAM_S):
                    while self._begin(source):
                        try:
                            if not await self._answer_on(stream, source):
                                return
                        finally:
                            self._end(source)

    async def _answer_on(self, stream: trio.SocketStream, source: str) -> bool:
        buffer = bytearray()
        wanted = 2
        while len(buffer) < wanted:
            chunk = await stream.receive_some(wanted - len(buffer))
            if not chunk:
                return False
            buffer += chunk
            if wanted == 2 and len(buffer) == 2:
                wanted += int.from_bytes(buffer, "big")
                if wanted > limits.QUESTION_BYTES_MAX:
                    return False
        answer = await self.answer(bytes(buffer[2:]), source, tcp=True)
        if answer is None:
            return False
        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
        return True

    # -- questions -------------------------------------------------------------------------------

    async def answer(self, question: bytes, source: str, *, tcp: bool = False) -> bytes | None:
        """To a question from this container; None for what is no question."""
        asked = read_question(question)
        if asked is None:
            return None
        if self._cluster is not None and asked.within(self._cluster.zone):
            return await self._ask_hub(self._cluster, asked, question, source, tcp)
        found = [d for d in self._allowed(source) or [] if d.covers(asked.name)]
        if not found:
            return asked.reply(REFUSED)
        to = ""
        if asked.kind == A:
            to = source
        elif asked.kind == AAAA:
            to = await self._other(source)
        if not to:
            return asked.reply(NOERROR)
        code, addresses, ttl_s = await self._look_up(asked.name, found, to)
        return asked.reply(code, [a.packed for a in addresses], ttl_s=ttl_s, tcp=tcp)

    @staticmethod
    async def _ask_hub(
        cluster: Cluster, asked: Question, question: bytes, source: str, tcp: bool
    ) -> bytes:
        component = cluster.component(source)
        if not component:
            return asked.reply(REFUSED)
        answer = await cluster.names.ask(question, component, tcp=tcp)
        return answer or asked.reply(SERVFAIL)

    async def refresh(self, source: str) -> None:
        """Let pass again what the names of a container mean, though it has not asked just now.

        After a restart: a program that keeps an address for as long as its answer says may not ask
        for a while.  What a star covers is not known.
        """
        found = self._allowed(source) or []
        for name in sorted({d.name for d in found if d.name and not d.name.startswith("*")}):
            covering = [d for d in found if d.covers(name)]
            await self._look_up(name, covering, source)
            if other := await self._other(source):
                await self._look_up(name, covering, other)

    async def _look_up(
        self, name: str, found: list[Destination], source: str
    ) -> tuple[int, list[Address], int]:
        """Code, addresses of the source's version, and how long they hold; they pass then."""
        kind = AAAA if ":" in source else A
        labels = labels_of(name)
        told = None if labels is None else await self._forwarder.look_up(labels, kind)
        if told is None:
            return SERVFAIL, [], 0
        if self._firewall.resolved(source) > limits.RESOLVED_MAX:
            return REFUSED, [], 0
        ttls: dict[Address, int] = {}
        for record in told.records:
            if record.kind == kind and len(ttls) < limits.ADDRESSES_MAX:
                address = ipaddress.ip_address(record.data)
                if not self._forbidden(address):
                    ttls[address] = record.ttl_s
        ttl_s = min(ttls.values(), default=0)
        ttl_s = min(max(ttl_s, limits.ANSWER_S_MIN), limits.ANSWER_S_MAX)
        paths = [(source, str(a), d.protocol, d.port) for a in ttls for d in found]
        if paths:
            await self._firewall.resolve(paths, ttl_s + limits.ANSWER_GRACE_S)
        return NOERROR, list(ttls), ttl_s


def host_servers() -> list[tuple[str, int]]:
    """Who the host asks (resolv.conf(5))."""
    try:
        text = HOST_RESOLVERS.read_text()
    except OSError:
        return []
    words = [line.split() for line in text.splitlines()]
    return [(w[1], _PORT) for w in words if len(w) > 1 and w[0] == "nameserver"][:3]
