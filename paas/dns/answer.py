"""From a question to an answer: what a zone's server says (RFC 1034 §4.3.2).  Pure.

    name, kind ──> Built: answer · authority · additional, each ready to be put behind a question
    Built + message + room ──> bytes

Names are compressed against the question only: a pointer into it leads to the spelling that was
asked, so one `Built` serves every spelling, and who mixes upper and lower case to be sure of its
answer ("0x20") finds what it sent.

What does not fit is left out: first the additional records, then everything, with TC (RFC 2181 §9);
who wants it asks by TCP.  A question of kind ANY gets one small record that says so (RFC 8482).

It does not know of clocks, sources, caches (responder.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paas.dns import limits, records, wire
from paas.dns.names import Labels, below
from paas.dns.wire import Message
from paas.dns.zone import Set, Sets, Zone

_ANY = Set(limits.TTL_ZONE_S, (records.txt(b"RFC8482") + records.txt(b""),))

Sign = Callable[[Labels, int, Set], bytes]
"""(whole name, kind, set) to the data of its RRSIG."""


@dataclass(frozen=True, slots=True)
class Signing:
    """What a signed zone needs."""

    sign: Sign
    deny: Callable[[Labels, Sets | None], Set]
    """(whole name, what is there; None: nothing) to its NSEC."""


@dataclass(frozen=True, slots=True)
class Built:
    """An answer without its header and question."""

    code: int
    answer: bytes
    answers: int
    authority: bytes
    authorities: int
    additional: bytes
    additionals: int


class Sections:
    """Where an answer grows.  Names are compressed against the question's (`asked`)."""

    def __init__(self, asked: Labels, signing: Signing | None) -> None:
        self._asked = asked
        self._signing = signing
        self.bytes = [b"", b"", b""]
        self.counts = [0, 0, 0]

    def add(self, section: int, owner: Labels, kind: int, found: Set, order: int = 0) -> None:
        name = compressed(owner, self._asked)
        listed = found.turned(order)
        parts = [wire.record(name, kind, found.ttl_s, data) for data in listed]
        if self._signing is not None:
            data = self._signing.sign(owner, kind, found)
            parts.append(wire.record(name, records.RRSIG, found.ttl_s, data))
        self.bytes[section] += b"".join(parts)
        self.counts[section] += len(parts)

    def built(self, code: int) -> Built:
        (answer, authority, additional), counts = self.bytes, self.counts
        return Built(code, answer, counts[0], authority, counts[1], additional, counts[2])


def compressed(owner: Labels, asked: Labels) -> bytes:
    """The name in bytes, its end being a pointer to the same in the question at byte 12."""
    common = 0
    for mine, theirs in zip(reversed(owner), reversed(asked), strict=False):
        if mine != theirs:
            break
        common += 1
    own = b"".join(bytes((len(x),)) + x for x in owner[: len(owner) - common])
    if not common:
        return own + b"\0"
    at = limits.HEADER_BYTES + sum(len(x) + 1 for x in asked[: len(asked) - common])
    return own + (0xC000 | at).to_bytes(2, "big")


def build(
    zone: Zone, asked: Labels, kind: int, *, signing: Signing | None, order: int = 0
) -> Built:
    """The answer to a question about a name within the zone."""
    sections = Sections(asked, signing)
    owner, sets = asked, None
    for _ in range(limits.CNAMES_MAX):
        relative = below(owner, zone.origin)
        if relative is None:
            return sections.built(wire.NOERROR)  # a CNAME led out of the zone: who asks goes on
        sets = zone.find(relative)
        if sets is None:
            return _negative(zone, sections, owner, None, signing)
        if kind == records.ANY:
            sections.add(0, owner, records.HINFO, _ANY, order)
            return sections.built(wire.NOERROR)
        if kind in sets:
            sections.add(0, owner, kind, sets[kind], order)
            _add_related(zone, sections, sets[kind], signing)
            return sections.built(wire.NOERROR)
        if records.CNAME not in sets:
            return _negative(zone, sections, owner, sets, signing)
        sections.add(0, owner, records.CNAME, sets[records.CNAME])
        owner = records.read_name(sets[records.CNAME].near[0])[0]
    return Built(wire.SERVFAIL, b"", 0, b"", 0, b"", 0)


def _negative(
    zone: Zone, sections: Sections, owner: Labels, sets: Sets | None, signing: Signing | None
) -> Built:
    """With the SOA that says for how long that may be believed (RFC 2308 §3)."""
    soa = (zone.find(()) or {})[records.SOA]
    short = Set(min(soa.ttl_s, limits.TTL_NEGATIVE_S), soa.near)
    sections.add(1, zone.origin, records.SOA, short)
    if signing is None:
        return sections.built(wire.NXDOMAIN if sets is None else wire.NOERROR)
    sections.add(1, owner, records.NSEC, signing.deny(owner, sets))
    return sections.built(wire.NOERROR)


def _add_related(zone: Zone, sections: Sections, found: Set, signing: Signing | None) -> None:
    for relative in found.related:
        sets = zone.find(relative) or {}
        for kind in (records.A, records.AAAA):
            if kind in sets:
                sections.add(2, relative + zone.origin, kind, sets[kind])


def orders(zone: Zone, asked: Labels, kind: int) -> int:
    """In how many orders the answer to this is worth keeping."""
    relative = below(asked, zone.origin)
    sets = None if relative is None else zone.find(relative)
    return sets[kind].orders if sets and kind in sets else 1


def room(message: Message, *, tcp: bool) -> int:
    """How many bytes the answer may have."""
    if tcp:
        return limits.TCP_BYTES_MAX
    if message.edns is None:
        return limits.UDP_PLAIN_BYTES
    return max(limits.UDP_PLAIN_BYTES, min(message.edns.size, limits.UDP_BYTES_MAX))


def assemble(message: Message, built: Built, room_bytes: int, flags: int = wire.AA) -> bytes:
    """The whole answer.  `flags`: AA, RA, AD as they hold."""
    edns = message.edns
    opt = b"" if edns is None else wire.opt_record(built.code >> 4, edns.secure)
    flags |= wire.QR | (message.flags & (0x7800 | wire.RD | wire.CD)) | (built.code & 15)
    size = limits.HEADER_BYTES + len(message.question) + len(opt)
    whole = len(built.answer) + len(built.authority)
    if size + whole > room_bytes:
        counts = (0, 0, int(bool(opt)))
        head = wire.header(message.number, flags | wire.TC, (1, *counts))
        return head + message.question + opt
    additional, additionals = built.additional, built.additionals
    if size + whole + len(additional) > room_bytes:
        additional, additionals = b"", 0
    counts = (built.answers, built.authorities, additionals + bool(opt))
    head = wire.header(message.number, flags, (1, *counts))
    return head + message.question + built.answer + built.authority + additional + opt
