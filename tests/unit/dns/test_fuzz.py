"""A bounded fuzzer of bytes: messages of all kinds, cut, doubled, mixed with one another.

`PAAS_DNS_FUZZ=N` makes N rounds instead; a finding names the seed that repeats it.
"""

from __future__ import annotations

import os
import random
import struct

import dnslib
import pytest

from paas.dns import names, records, tsig, wire
from paas.dns.client import read_question
from paas.dns.responder import Face, Responder
from paas.dns.transfer import Secondary, is_heard
from paas.dns.upstream import ask, judge
from paas.testing.fuzz_values import scrambled
from tests.unit.dns.world import WALL_S, question, zone

ROUNDS = int(os.environ.get("PAAS_DNS_FUZZ", "6000"))
KEY = names.parse("k")
ASKED = ask(names.parse("www.example.com"), records.A, number=7, coins=5)


def corpus() -> list[bytes]:
    """Whole messages: questions, transfers, signed ones, answers with names that point."""
    questions = [
        question("web.group.paas.internal"),
        question("_http._tcp.web.group.paas.internal", "SRV", size=4096, secure=True),
        question("n1.node.paas.internal", "TXT", size=0),
        question("paas.internal", "AXFR", size=0),
        question("www.example.com", "AAAA"),
    ]
    signed = [tsig.Signer(KEY, b"s" * 32).sign(one, int(WALL_S)) for one in questions[:4]]
    reply = dnslib.DNSRecord.parse(ASKED.message).reply()
    for line in (
        "www.example.com. 60 CNAME a.example.com.",
        "a.example.com. 60 A 192.0.2.1",
        "a.example.com. 60 MX 5 mail.example.com.",
        "example.com. 60 SOA a. b. 1 2 3 4 5",
        '_x._tcp.example.com. 60 SRV 1 2 3 "a.example.com."'.replace('"', ""),
    ):
        reply.add_answer(*dnslib.RR.fromZone(line))
    pointers = struct.pack("!6H", 7, 0x8180, 1, 2, 1, 1) + ASKED.question + b"\xc0\x0c" * 20
    return [*questions, *signed, bytes(reply.pack()), pointers]


@pytest.mark.parametrize("seed", range(3))
def test_scrambled_messages_do_not_break_anything(seed: int) -> None:
    """Nothing raises, answers are bounded, and what was no question is not answered as one."""
    chance = random.Random(seed)
    whole = corpus()
    ours = Responder(
        now_s=lambda: WALL_S,
        keys={KEY: b"s" * 32},
        secondaries=(Secondary("192.0.2.1", 53, KEY),),
    )
    face = Face(zone(), recursion=True)
    for number in range(ROUNDS // 3):
        data = scrambled(chance.choice(whole), chance.choice(whole), chance)[:4_096]
        tcp = chance.random() < 0.3
        reply = ours.respond(data, "192.0.2.1", face, tcp=tcp)
        if isinstance(reply, bytes):
            assert reply[:2] == data[:2], (seed, number)
            assert reply[2] & 0x80, (seed, number)
            assert len(reply) <= (65_535 if tcp else wire_max(data)), (seed, number)
        ours.slip(data)
        judge(ASKED, data)
        judge(ASKED, ASKED.message[:2] + b"\x81\x80" + data[4:])
        read_question(data)
        is_heard(data, 7)


def wire_max(data: bytes) -> int:
    """An answer by UDP has 1232 bytes at most, and its own TSIG beside them."""
    return 1232 + (200 if len(data) > 100 else 0)


def test_every_length_of_a_message_is_read() -> None:
    ours, face = Responder(now_s=lambda: WALL_S), Face(zone())
    for one in corpus():
        for end in range(len(one)):
            ours.respond(one[:end], "192.0.2.1", face)
            judge(ASKED, one[:end])
        for at in range(len(one)):
            for byte in (0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF):
                data = one[:at] + bytes((byte,)) + one[at + 1 :]
                ours.respond(data, "192.0.2.1", face)
                judge(ASKED, data)
    assert wire.CODES[0] == "NOERROR"
