"""The zone for a secondary (AXFR, RFC 5936), and the notice of changes (RFC 1996).  Pure.

    SOA · every record of every name · SOA        in as many messages as it takes

Who may have it: a request signed by one of our keys, or one from an address on the list, by TCP.
Everybody else is told REFUSED: the list of everything that runs is nobody else's business.

An incremental request (IXFR, RFC 1995 §4) is answered with the whole zone, or with the one SOA if
the secondary is up to date.  What changes while it is sent is told of by the next notice: the
serial at both ends is the one from the beginning.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from paas.dns import limits, names, records, wire
from paas.dns.answer import Signing, compressed
from paas.dns.names import Labels
from paas.dns.wire import Message
from paas.dns.zone import Set, Sets, Zone


@dataclass(frozen=True, slots=True)
class Secondary:
    """Who is told of changes, and may have the zone: an address, a key to sign with, or both."""

    host: str
    port: int
    key: Labels = ()


def parse_secondary(text: str) -> Secondary:
    """From `HOST`, `HOST:PORT`, `[HOST]:PORT`, each with `/KEY` behind it or not; ValueError."""
    where, _, key = text.partition("/")
    host, colon, port = where.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = where, "53"
    host = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    if not (port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(text)
    labels = names.split(key) if key else ()
    if labels is None:
        raise ValueError(text)
    return Secondary(host, int(port), labels)


def may_transfer(source: str, key: Labels, secondaries: tuple[Secondary, ...]) -> bool:
    """`key`: the one that signed the request, if any.  A secondary with a key must use it."""
    if key:
        return any(secondary.key == key for secondary in secondaries)
    return any(s.host == source and not s.key for s in secondaries)


def messages(zone: Zone, message: Message, signing: Signing | None) -> Iterator[bytes]:
    """The answers to a transfer request, one after the other, not signed by a key yet.

    Yields after each message, and b"" in between, so that the caller can let others run.
    """
    soa = (zone.find(()) or {})[records.SOA]
    asked = message.labels
    head = wire.record(compressed(zone.origin, asked), records.SOA, soa.ttl_s, soa.near[0])
    if message.kind == records.IXFR and message.serial == zone.serial:
        yield _message(message, [head])
        return
    waiting, size = [head], len(head)
    chain = sorted(zone.names(), key=names.canonical) if signing else list(zone.names())
    for position, labels in enumerate(chain):
        sets: Sets = zone.find(labels) or {}
        if signing is not None:
            following = chain[(position + 1) % len(chain)] + zone.origin
            sets = {**sets, records.NSEC: _nsec(following, sets)}
        for part in _records(labels + zone.origin, sets, asked, signing):
            if size + len(part) > limits.TRANSFER_MESSAGE_BYTES and waiting:
                yield _message(message, waiting)
                waiting, size = [], 0
            waiting.append(part)
            size += len(part)
        if position % 64 == 63:
            yield b""
    yield _message(message, [*waiting, head])


def _records(
    owner: Labels, sets: Mapping[int, Set], asked: Labels, signing: Signing | None
) -> Iterator[bytes]:
    name = compressed(owner, asked)
    for kind, found in sorted(sets.items()):
        if kind != records.SOA:
            for data in found.all:
                yield wire.record(name, kind, found.ttl_s, data)
        if signing is not None:
            data = signing.sign(owner, kind, found)
            yield wire.record(name, records.RRSIG, found.ttl_s, data)


def _nsec(following: Labels, sets: Sets) -> Set:
    kinds = {*sets, records.RRSIG, records.NSEC}
    return Set(limits.TTL_NEGATIVE_S, (names.wire(following) + bitmap(kinds),))


def bitmap(kinds: set[int]) -> bytes:
    """Which kinds there are (RFC 4034 §4.1.2)."""
    found = b""
    for window in sorted({kind >> 8 for kind in kinds}):
        bits = bytearray(32)
        for kind in kinds:
            if kind >> 8 == window:
                bits[(kind & 255) >> 3] |= 0x80 >> (kind & 7)
        used = bytes(bits).rstrip(b"\0")
        found += bytes((window, len(used))) + used
    return found


def _message(message: Message, parts: list[bytes]) -> bytes:
    flags = wire.QR | wire.AA | (message.flags & wire.RD)
    # RFC 5936 §2.2.1: the question stands in the first message; names point into it, so in all.
    head = wire.header(message.number, flags, (1, len(parts), 0, 0))
    return head + message.question + b"".join(parts)


def notice(number: int, zone: Zone) -> bytes:
    """The message to a secondary: the zone has this SOA now."""
    soa = (zone.find(()) or {})[records.SOA]
    asked = wire.question(names.wire(zone.origin), records.SOA)
    head = wire.header(number, wire.NOTIFY << 11 | wire.AA, (1, 1, 0, 0))
    return head + asked + wire.record(b"\xc0\x0c", records.SOA, soa.ttl_s, soa.near[0])


def is_heard(answer: bytes, number: int) -> bool:
    """Is this the answer to the notice of this number?"""
    if len(answer) < limits.HEADER_BYTES or int.from_bytes(answer[:2], "big") != number:
        return False
    flags = int.from_bytes(answer[2:4], "big")
    return bool(flags & wire.QR) and flags >> 11 & 15 == wire.NOTIFY
