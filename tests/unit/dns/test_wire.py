"""Reading what strangers send: whole questions only, in bounded time, and never an exception."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.dns import records, wire
from paas.dns.responder import Face, Responder
from paas.dns.upstream import read_name
from tests.unit.dns.world import WALL_S, question, responder, zone

HEAD = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0)
NAME = b"\x03web\x05group\x04paas\x08internal\0"


def test_a_question_of_another_library_is_read() -> None:
    message = wire.read(question("WeB.group.paas.internal", "SRV", size=4096, secure=True))
    assert message is not None
    assert message.labels == (b"web", b"group", b"paas", b"internal")
    assert b"WeB" in message.question
    assert (message.kind, message.family) == (records.SRV, records.IN)
    assert message.edns == wire.Edns(4096, 0, True)


@pytest.mark.parametrize("data", [b"", b"\0" * 11, HEAD[:2] + b"\x80" + HEAD[3:] + NAME])
def test_what_is_no_question_is_not_answered(data: bytes) -> None:
    assert responder().respond(data, "192.0.2.1", Face(zone())) is None


OPT = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0)
TAIL = struct.pack("!HH", 1, 1)


def counted(counts: tuple[int, int, int, int], rest: bytes, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 7, flags, *counts) + rest


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(counted((0, 0, 0, 0), b""), "FORMERR", id="no question"),
        pytest.param(counted((2, 0, 0, 0), (NAME + TAIL) * 2), "FORMERR", id="two questions"),
        pytest.param(counted((1, 0, 0, 0), b"\xc0\x0c" + TAIL), "FORMERR", id="points at itself"),
        pytest.param(counted((1, 0, 0, 0), b"\x01a\xc0\x0c" + TAIL), "FORMERR", id="in a circle"),
        pytest.param(counted((1, 0, 0, 0), b"\x40" + b"a" * 64 + b"\0" + TAIL), "FORMERR", id="64"),
        pytest.param(counted((1, 0, 0, 0), b"\x80a\0" + TAIL), "FORMERR", id="reserved length"),
        pytest.param(counted((1, 0, 0, 0), b"\x01a" * 128 + b"\0" + TAIL), "FORMERR", id="long"),
        pytest.param(counted((1, 0, 0, 0), NAME), "FORMERR", id="no kind"),
        pytest.param(counted((1, 0, 0, 0), NAME[:-1]), "FORMERR", id="no end"),
        pytest.param(counted((1, 0, 0, 0), NAME + TAIL + b"x"), "FORMERR", id="more behind"),
        pytest.param(counted((1, 0, 0, 1), NAME + TAIL), "FORMERR", id="missing record"),
        pytest.param(counted((1, 65535, 65535, 65535), NAME + TAIL), "FORMERR", id="counts"),
        pytest.param(counted((1, 0, 0, 2), NAME + TAIL + OPT + OPT), "FORMERR", id="two OPT"),
        pytest.param(
            counted((1, 0, 0, 1), NAME + TAIL + b"\x01a" + OPT), "FORMERR", id="OPT with a name"
        ),
        pytest.param(
            counted((1, 0, 0, 1), NAME + TAIL + OPT[:-2] + b"\0\x03abc"), "FORMERR", id="options"
        ),
        pytest.param(
            counted((1, 0, 0, 1), NAME + TAIL + OPT[:-2] + b"\0\x04\0\x0a\0\x05"),
            "FORMERR",
            id="an option that is longer than all",
        ),
        pytest.param(
            counted((1, 0, 0, 1), NAME + TAIL + OPT[:5] + b"\0\x01\0\0\0\0"),
            "BADVERS",
            id="version",
        ),
        pytest.param(counted((1, 0, 0, 0), NAME + TAIL, 0x2800), "NOTIMP", id="UPDATE"),
        pytest.param(counted((1, 0, 0, 0), NAME + TAIL, 0x2000), "NOTIMP", id="NOTIFY"),
        pytest.param(counted((1, 0, 0, 0), NAME + TAIL, 0x7800), "NOTIMP", id="opcode 15"),
        pytest.param(
            counted((1, 0, 0, 0), NAME + struct.pack("!HH", 1, 3)), "REFUSED", id="class CH"
        ),
        pytest.param(
            counted((1, 0, 0, 0), b"\x07version\x04bind\0" + struct.pack("!HH", 16, 3)),
            "REFUSED",
            id="version.bind",
        ),
        pytest.param(
            counted((1, 0, 0, 0), NAME + struct.pack("!HH", 252, 1)), "REFUSED", id="AXFR"
        ),
        pytest.param(
            counted((1, 0, 0, 0), NAME + struct.pack("!HH", 253, 1)), "NOTIMP", id="MAILB"
        ),
        pytest.param(
            counted((1, 0, 0, 0), b"\x07example\x03com\0" + TAIL), "REFUSED", id="elsewhere"
        ),
        pytest.param(counted((1, 0, 0, 0), b"\0" + TAIL), "REFUSED", id="the root"),
    ],
)
def test_what_is_wrong_is_refused_by_its_code(data: bytes, code: str) -> None:
    reply = responder().respond(data, "192.0.2.1", Face(zone()))
    assert isinstance(reply, bytes)
    assert len(reply) <= len(data) + 11, "nobody is sent more than they sent"
    heard = dnslib.DNSRecord.parse(reply)
    high = next((rr.ttl >> 24 for rr in heard.ar if rr.rtype == dnslib.QTYPE.OPT), 0)
    assert wire.CODES[high << 4 | heard.header.rcode] == code
    assert (heard.header.id, heard.header.qr) == (7, 1)


def test_names_with_any_bytes_are_names() -> None:
    label = bytes(range(256))[1:64]
    data = counted((1, 0, 0, 0), bytes((63,)) + label + NAME + TAIL)
    reply = responder().respond(data, "192.0.2.1", Face(zone()))
    assert isinstance(reply, bytes)
    assert dnslib.DNSRecord.parse(reply).header.rcode == dnslib.RCODE.NXDOMAIN


def whole(reply: bytes) -> bool:
    """Are all its records there, to the last byte?  (The other library reads ASCII names only.)"""
    counts = struct.unpack_from("!4H", reply, 4)
    at = 12
    if counts[0]:
        at = read_name(reply, at)[1] + 4
    for _ in range(sum(counts[1:])):
        at = read_name(reply, at)[1]
        at += 10 + int.from_bytes(reply[at + 8 : at + 10], "big")
    return at == len(reply)


WHOLE = question("_http._tcp.web.group.paas.internal", "SRV")


@settings(max_examples=400, deadline=None)
@given(
    noise=st.binary(max_size=80),
    at=st.integers(0, len(WHOLE)),
    drop=st.integers(0, 20),
    tcp=st.booleans(),
)
def test_no_bytes_are_a_bug(noise: bytes, at: int, drop: int, tcp: bool) -> None:
    """Noise, and a question of which a part is replaced by noise."""
    ours = Responder(now_s=lambda: WALL_S)
    face = Face(zone(), recursion=True)
    for data in (noise, WHOLE[:at] + noise + WHOLE[at + drop :]):
        reply = ours.respond(data, "192.0.2.1", face, tcp=tcp)
        if isinstance(reply, bytes):
            assert reply[:2] == data[:2]
            assert reply[2] & 0x80
            assert len(reply) <= (65_535 if tcp else 1232)
            assert whole(reply)
        ours.slip(data)


@settings(max_examples=150, deadline=None)
@given(
    name=st.lists(
        st.text("aAzZ09-_*", min_size=1, max_size=63).map(str.encode),
        max_size=3,
    ),
    kind=st.integers(0, 65_535),
    size=st.integers(0, 65_535),
)
def test_questions_are_read_as_another_library_reads_them(
    name: list[bytes], kind: int, size: int
) -> None:
    label = dnslib.DNSLabel([*name, b"paas", b"internal"])
    record = dnslib.DNSRecord(dnslib.DNSHeader(id=1), q=dnslib.DNSQuestion(label, kind))
    record.add_ar(dnslib.EDNS0(udp_len=size))
    data = bytes(record.pack())
    message = wire.read(data)
    assert message is not None
    again = dnslib.DNSRecord.parse(data)
    assert tuple(part.lower() for part in again.q.qname.label) == message.labels
    assert (again.q.qtype, message.edns) == (message.kind, wire.Edns(size, 0, False))
