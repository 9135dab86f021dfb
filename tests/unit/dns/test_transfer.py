"""The whole zone for a secondary, signed by a key or given by address; and its notices."""

from __future__ import annotations

import struct

import dnslib
import pytest

from paas.base.errors import PlatformError
from paas.dns import names, records, transfer, tsig, wire
from paas.dns.responder import Face, Responder, Transfer
from paas.dns.transfer import Secondary, parse_secondary
from paas.dns.tsig import Signer, Unsigned, parse_keys
from tests.unit.dns.world import ORIGIN, WALL_S, question, static, zone

KEY = names.parse("transfer-key")
SECRET = b"s" * 32
NOW_S = int(WALL_S)
ASK = question("paas.internal", "AXFR", size=0)


def responder(*secondaries: Secondary) -> Responder:
    return Responder(now_s=lambda: WALL_S, keys={KEY: SECRET}, secondaries=secondaries)


def code(reply: object) -> str:
    assert isinstance(reply, bytes)
    return wire.CODES[reply[3] & 15]


BY_ADDRESS = Secondary("192.0.2.9", 53)
BY_KEY = Secondary("192.0.2.8", 53, KEY)


@pytest.mark.parametrize(
    ("source", "signed", "allowed"),
    [
        ("192.0.2.9", False, True),
        ("192.0.2.7", False, False),
        ("192.0.2.8", False, False),  # it has a key, and must use it
        ("192.0.2.8", True, True),
        ("192.0.2.7", True, True),  # the key is what counts
    ],
)
def test_the_zone_is_for_addresses_and_keys_on_the_list(
    source: str, signed: bool, allowed: bool
) -> None:
    data = Signer(KEY, SECRET).sign(ASK, NOW_S) if signed else ASK
    reply = responder(BY_ADDRESS, BY_KEY).respond(data, source, Face(zone()), tcp=True)
    if allowed:
        assert isinstance(reply, Transfer)
        assert (reply.signature is not None) == signed
    else:
        assert code(reply) == "REFUSED"


def test_it_is_not_for_udp_nor_for_other_zones() -> None:
    ours = responder(BY_ADDRESS)
    assert code(ours.respond(ASK, "192.0.2.9", Face(zone()))) == "FORMERR"
    other = question("web.group.paas.internal", "AXFR", size=0)
    assert code(ours.respond(other, "192.0.2.9", Face(zone()), tcp=True)) == "NOTAUTH"


@pytest.mark.parametrize("count", [1, 3_000])
def test_a_transfer_is_everything_between_two_soa(count: int) -> None:
    content = {f"h{n}": {records.A: [n.to_bytes(4, "big")]} for n in range(count)}
    found = static(content, serial=77)
    message = wire.read(ASK)
    assert message is not None
    parts = [part for part in transfer.messages(found, message, None) if part]
    assert (len(parts) > 1) == (count > 1)
    listed = [rr for part in parts for rr in dnslib.DNSRecord.parse(part).rr]
    assert listed[0].rtype == listed[-1].rtype == dnslib.QTYPE.SOA
    assert listed[0].rdata.times[0] == 77
    inner = {(str(rr.rname), str(rr.rdata)) for rr in listed[1:-1] if rr.rtype == dnslib.QTYPE.A}
    assert len(inner) == count
    assert max(map(len, parts)) < 17_000


@pytest.mark.parametrize(("known", "count"), [(77, 1), (76, 4)])
def test_a_secondary_that_is_up_to_date_gets_the_one_soa(known: int, count: int) -> None:
    soa = records.soa(ORIGIN, ORIGIN, known, 1)
    rest = wire.record(b"\xc0\x0c", records.SOA, 0, soa)
    data = wire.header(5, 0, (1, 0, 1, 0)) + wire.question(names.wire(ORIGIN), records.IXFR) + rest
    message = wire.read(data)
    assert message is not None
    assert message.serial == known
    parts = list(transfer.messages(static({"a": {records.A: [b"1234"]}}, 77), message, None))
    assert sum(len(dnslib.DNSRecord.parse(part).rr) for part in parts) == count


def test_each_message_of_a_transfer_is_signed_over_the_one_before() -> None:
    content = {f"h{n}": {records.A: [n.to_bytes(4, "big")]} for n in range(3_000)}
    ours = responder(BY_KEY)
    request = Signer(KEY, SECRET).sign(ASK, NOW_S)
    reply = ours.respond(request, "192.0.2.8", Face(static(content)), tcp=True)
    assert isinstance(reply, Transfer)
    assert reply.signature is not None
    signer = ours.signer(reply.signature)
    parts = [p for p in transfer.messages(static(content), reply.message, None) if p]
    signed = [signer.sign(part, NOW_S) for part in parts]
    first, second = wire_tsig(signed[0]), wire_tsig(signed[1])
    assert len(first.mac) == len(second.mac) == 32
    by_hand = tsig.Signer(KEY, SECRET, reply.signature.mac)
    assert [by_hand.sign(part, NOW_S) for part in parts] == signed


def wire_tsig(message: bytes) -> tsig.Fields:
    (found,) = [rr for rr in dnslib.DNSRecord.parse(message).ar if rr.rtype == records.TSIG]
    return tsig.parse_fields(bytes(found.rdata.data))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data[:2] + bytes((data[2] ^ 1,)) + data[3:], wire.BADSIG),
        (lambda data: data[:15] + bytes((data[15] ^ 1,)) + data[16:], wire.BADSIG),
        (lambda _: Signer(KEY, b"t" * 32).sign(ASK, NOW_S), wire.BADSIG),
        (lambda _: Signer(names.parse("other"), SECRET).sign(ASK, NOW_S), wire.BADKEY),
        (lambda _: Signer(KEY, SECRET).sign(ASK, NOW_S - 301), wire.BADTIME),
        (lambda _: Signer(KEY, SECRET).sign(ASK, NOW_S + 301), wire.BADTIME),
    ],
)
def test_a_signature_that_is_not_good_is_refused_with_the_reason(change, error: int) -> None:  # type: ignore[no-untyped-def]
    data = change(Signer(KEY, SECRET).sign(ASK, NOW_S))
    reply = responder(BY_KEY).respond(data, "192.0.2.8", Face(zone()), tcp=True)
    assert code(reply) == "NOTAUTH"
    assert isinstance(reply, bytes)
    fields = wire_tsig(reply)
    assert (fields.error, fields.mac) == (error, b"")
    assert len(fields.other) == (6 if error == wire.BADTIME else 0)


def test_an_answer_is_signed_over_its_request() -> None:
    ours = responder(BY_KEY)
    request = Signer(KEY, SECRET).sign(question("paas.internal", "SOA", size=0), NOW_S)
    reply = ours.respond(request, "192.0.2.8", Face(zone()))
    assert isinstance(reply, bytes)
    answered = bytearray(reply)
    answered[2] &= 0x7F  # so that the reader of questions reads it
    message = wire_tsig(reply)
    read = wire_tsig(request)
    unsigned = reply[:10] + b"\0\0" + reply[12 : reply.rindex(names.wire(KEY))]
    again = tsig.Signer(KEY, SECRET, read.mac).sign(unsigned, message.time_s)
    assert again == reply


@pytest.mark.parametrize("data", [b"", b"\0", b"\x0bhmac-sha256\0" + b"\xff" * 9])
def test_a_tsig_that_is_none_is_no_signature(data: bytes) -> None:
    signed = wire.SignedBy(len(ASK), KEY, data, 1)
    with pytest.raises(Unsigned):
        tsig.verify(ASK, signed, {KEY: SECRET}, NOW_S)


def test_keys_are_read_from_lines() -> None:
    assert parse_keys("# mine\n a.b  c2VjcmV0c2VjcmV0c2VjcmV0 # x\n\n") == {
        (b"a", b"b"): b"secretsecretsecret"
    }
    for wrong in ("a", "a b c", "a !!", "a c2hvcnQ=", "a..b c2VjcmV0c2VjcmV0c2VjcmV0"):
        with pytest.raises(PlatformError, match="keys"):
            parse_keys(wrong)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.7", Secondary("192.0.2.7", 53)),
        ("192.0.2.7:5353/key.example", Secondary("192.0.2.7", 5353, (b"key", b"example"))),
        ("[2001:db8::1]:54", Secondary("2001:db8::1", 54)),
        ("2001:db8::1", Secondary("2001:db8::1", 53)),
        ("example.com", None),
        ("192.0.2.7:0", None),
        ("192.0.2.7/a..b", None),
        ("", None),
    ],
)
def test_secondaries_are_addresses(text: str, found: Secondary | None) -> None:
    if found is not None:
        assert parse_secondary(text) == found
        return
    with pytest.raises(ValueError, match=r".*"):
        parse_secondary(text)


def test_a_notice_has_the_new_soa_and_is_heard_by_its_number() -> None:
    data = transfer.notice(99, static({}, serial=5))
    heard = dnslib.DNSRecord.parse(data)
    assert (heard.header.id, heard.header.opcode, heard.header.qr) == (99, 4, 0)
    assert heard.rr[0].rdata.times[0] == 5
    answer = data[:2] + struct.pack("!H", 0xA000) + data[4:]
    assert transfer.is_heard(answer, 99)
    for other in (b"", data, answer[:11], answer[:2] + b"\x80" + answer[3:]):
        assert not transfer.is_heard(other, 99)
    assert not transfer.is_heard(answer, 98)
