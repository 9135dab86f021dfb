"""The node's resolver for containers: answers for names that a manifest allows, and lets pass what
it has answered.

    component ── question ──> gateway:53 ── allowed? ── no ──> REFUSED
                                            yes ──> a name server of the host
    component <── answer ── filter: (component, address, port) until the answer is old <──┘

Only addresses are asked for: A, and AAAA (RFC 3596) for containers that IPv6 leads to the world
from; a question of another kind about an allowed name has an empty answer.  The filter knows before
the component does, so its first packet passes.  What an allowed name may not mean: addresses of the
link (metadata services), of this machine, of the cluster's containers and machines; they are left
out of the answer, or a name's owner could aim a component at them ("DNS rebinding").

Bounded: questions at a time, bytes, what is resolved for one container, time.  RFC 1035; RFC 2308
is left to who asks.  (io)
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

import dnslib
import trio

from paas.bundle.egress import Destination
from paas.container import limits

HOST_RESOLVERS = Path("/etc/resolv.conf")
_PORT = 53

Allowed = Callable[[str], list[Destination] | None]
"""From the address of a container to what it may reach; None: there is no such container."""

Forbidden = Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]
"""May no name mean this address?"""


Other = Callable[[str], Awaitable[str]]
"""From the address of a container to that of version 6 by which it reaches the world; or empty."""

_A, _AAAA = dnslib.QTYPE.A, dnslib.QTYPE.AAAA


async def _no_other(_source: str) -> str:
    return ""


class Filter(Protocol):
    """What is asked of the packet filter."""

    async def resolve(self, paths: Iterable[tuple[str, str, str, int]], timeout_s: int) -> None: ...

    def resolved(self, source: str) -> int: ...


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
    ) -> None:
        """`servers`: who is asked; by default those of the host, read anew each time."""
        self._allowed = allowed
        self._forbidden = forbidden
        self._firewall = firewall
        self._servers = servers or host_servers
        self._other = other
        self._slots = trio.CapacityLimiter(limits.QUESTIONS_MAX)

    async def serve(
        self, address: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer at this address until cancelled."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            await udp.bind((address, _PORT))
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    question, sender = await udp.recvfrom(limits.QUESTION_BYTES_MAX)
                    if self._slots.available_tokens > 0:  # else it asks again: it is UDP
                        nursery.start_soon(self._reply, udp, question, sender)

    async def _reply(
        self, udp: trio.socket.SocketType, question: bytes, sender: tuple[str, int]
    ) -> None:
        async with self._slots:
            with trio.move_on_after(limits.QUESTION_S):
                answer = await self.answer(question, sender[0])
                if answer is not None:
                    await udp.sendto(answer, sender)

    async def answer(self, question: bytes, source: str) -> bytes | None:
        """To a question from this container; None for what is no question."""
        try:
            asked = dnslib.DNSRecord.parse(question)
        except (dnslib.DNSError, ValueError, IndexError):
            return None
        if asked.header.qr or asked.header.opcode or len(asked.questions) != 1:
            return None
        name = str(asked.q.qname).rstrip(".").lower()
        reply: dnslib.DNSRecord = asked.reply(aa=0)
        found = [d for d in self._allowed(source) or [] if d.covers(name)]
        if not found:
            reply.header.rcode = dnslib.RCODE.REFUSED
        elif asked.q.qtype == _A:
            await self._look_up(name, reply, found, source)
        elif asked.q.qtype == _AAAA and (other := await self._other(source)):
            await self._look_up(name, reply, found, other)
        return bytes(reply.pack())

    async def refresh(self, source: str) -> None:
        """Let pass again what the names of a container mean, though it has not asked just now.

        After a restart: a program that keeps an address for as long as its answer says may not ask
        for a while.  What a star covers is not known.
        """
        found = self._allowed(source) or []
        for name in sorted({d.name for d in found if d.name and not d.name.startswith("*")}):
            reply = dnslib.DNSRecord.question(name).reply()
            covering = [d for d in found if d.covers(name)]
            await self._look_up(name, reply, covering, source)
            if other := await self._other(source):
                await self._look_up(name, reply, covering, other)

    async def _look_up(
        self, name: str, reply: dnslib.DNSRecord, found: list[Destination], source: str
    ) -> None:
        """Add the addresses, of the source's version, to the reply and to what passes."""
        kind = _AAAA if ":" in source else _A
        records = await self._ask_servers(name, kind)
        if records is None:
            reply.header.rcode = dnslib.RCODE.SERVFAIL
            return
        if self._firewall.resolved(source) > limits.RESOLVED_MAX:
            reply.header.rcode = dnslib.RCODE.REFUSED
            return
        addresses = {
            str(ipaddress.ip_address(str(r.rdata))): r.ttl for r in records[: limits.ADDRESSES_MAX]
        }
        ttl_s = min(addresses.values(), default=0)
        ttl_s = min(max(ttl_s, limits.ANSWER_S_MIN), limits.ANSWER_S_MAX)
        paths = [(source, a, d.protocol, d.port) for a in addresses for d in found]
        if paths:
            await self._firewall.resolve(paths, ttl_s + limits.ANSWER_GRACE_S)
        for address in addresses:
            rdata = dnslib.A(address) if kind == _A else dnslib.AAAA(address)
            reply.add_answer(dnslib.RR(reply.q.qname, kind, ttl=ttl_s, rdata=rdata))

    async def _ask_servers(self, name: str, kind: int) -> list[dnslib.RR] | None:
        """The allowed addresses of a name; None when no server answers."""
        for server in self._servers():
            with trio.move_on_after(limits.SERVER_S):
                answer = await _ask(server, name, kind)
                if answer is not None:
                    return [rr for rr in answer.rr if self._is_good(rr, kind)]
        return None

    def _is_good(self, rr: dnslib.RR, kind: int) -> bool:
        return rr.rtype == kind and not self._forbidden(ipaddress.ip_address(str(rr.rdata)))


async def _ask(server: tuple[str, int], name: str, kind: int) -> dnslib.DNSRecord | None:
    """One question to one server; what is no answer to it is not heard."""
    number = secrets.randbelow(1 << 16)
    asked = dnslib.DNSRecord(dnslib.DNSHeader(id=number, rd=1), q=dnslib.DNSQuestion(name, kind))
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as udp:
        try:
            await udp.connect(server)  # a port by chance, and nobody else is heard
            await udp.send(asked.pack())
            while True:
                heard = await udp.recv(limits.ANSWER_BYTES_MAX)
                answer = _parsed(heard)
                if answer is not None and _answers(answer, number, name):
                    return answer
        except OSError:
            return None


def _answers(answer: dnslib.DNSRecord, number: int, name: str) -> bool:
    header = answer.header
    return header.id == number and header.qr and str(answer.q.qname).rstrip(".").lower() == name


def _parsed(heard: bytes) -> dnslib.DNSRecord | None:
    try:
        answer = dnslib.DNSRecord.parse(heard)
    except (dnslib.DNSError, ValueError, IndexError):
        return None
    return answer if answer.questions else None


def host_servers() -> list[tuple[str, int]]:
    """Who the host asks (resolv.conf(5))."""
    try:
        text = HOST_RESOLVERS.read_text()
    except OSError:
        return []
    words = [line.split() for line in text.splitlines()]
    return [(w[1], _PORT) for w in words if len(w) > 1 and w[0] == "nameserver"][:3]
