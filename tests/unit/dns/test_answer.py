"""Answers as bytes: sizes, truncation, case, ready answers, and when they are forgotten."""

from __future__ import annotations

import dnslib
import pytest

from paas.dns import limits, records
from paas.dns.cluster import Endpoint
from paas.dns.responder import Face, Forward, Responder
from tests.unit.dns.world import (
    WALL_S,
    Cluster,
    member,
    question,
    responder,
    small_cluster,
    static,
    zone,
)

NAME = "web.group.paas.internal"


def big(count: int) -> Face:
    return Face(static({"big": {records.A: [(n).to_bytes(4, "big") for n in range(count)]}}))


@pytest.mark.parametrize(
    ("count", "size", "tcp", "whole"),
    [
        (28, 0, False, True),  # 12 + 27 + 28 * 16 bytes
        (30, 0, False, False),
        (30, 1232, False, True),
        (80, 1232, False, False),
        (80, 65_535, False, False),  # more is not sent, whatever is asked for
        (80, 0, True, True),
        (30, 100, False, False),  # less than 512 means 512
        (4_000, 0, True, True),
        (5_000, 0, True, False),
    ],
)
def test_what_does_not_fit_says_so_and_is_left_out(
    count: int, size: int, tcp: bool, whole: bool
) -> None:
    data = question("big.paas.internal", size=size)
    reply = responder().respond(data, "192.0.2.1", big(count), tcp=tcp)
    assert isinstance(reply, bytes)
    heard = dnslib.DNSRecord.parse(reply)
    assert (heard.header.tc, len(heard.rr)) == ((0, count) if whole else (1, 0))
    assert len(reply) <= (65_535 if tcp else max(512, min(size, 1232)))
    assert bool(heard.ar) == bool(size)  # RFC 6891 §7: OPT for who sent OPT


def test_additional_records_are_left_out_first() -> None:
    crowd = [member(n) for n in range(1, 9)]
    face = Face(zone(Cluster(all=crowd, grouped={"web": crowd})))
    data = question("_http._tcp.web.group.paas.internal", "SRV", size=1232)
    reply = responder().respond(data, "192.0.2.1", face)
    assert isinstance(reply, bytes)
    heard = dnslib.DNSRecord.parse(reply)
    assert (heard.header.tc, len(heard.rr)) == (0, 8)
    assert [rr for rr in heard.ar if rr.rtype == dnslib.QTYPE.A] == []


def test_the_question_comes_back_in_the_case_it_was_asked() -> None:
    ours, face = responder(), Face(zone())
    for name in ("WEB.gRoUp.paas.INTERNAL", "web.group.Paas.internal"):
        reply = ours.respond(question(name), "192.0.2.1", face)
        assert isinstance(reply, bytes)
        heard = dnslib.DNSRecord.parse(reply)
        assert str(heard.q.qname) == f"{name}."
        assert {str(rr.rname) for rr in heard.rr} == {f"{name}."}


def test_a_question_asked_again_is_answered_by_the_same_bytes() -> None:
    ours, face = responder(), Face(zone())
    data = question("web.component.paas.internal")
    first = ours.respond(data, "192.0.2.1", face)
    again = b"\xab\xcd" + data[2:]
    ready = ours.ready(again, face)
    assert isinstance(first, bytes)
    assert ready == b"\xab\xcd" + first[2:]


def test_ready_answers_take_turns() -> None:
    ours, face = responder(), Face(zone(Cluster(grouped={"web": [member(1), member(2)]})))
    data = question(NAME)
    seen = []
    for _ in range(12):
        reply = ours.ready(data, face) or ours.respond(data, "192.0.2.1", face)
        assert isinstance(reply, bytes)
        seen.append(str(dnslib.DNSRecord.parse(reply).rr[0].rdata))
    assert ours.ready(data, face) is not None
    assert seen.count("10.64.0.1") == seen.count("10.64.0.2") == 6


def test_with_a_new_serial_everything_is_forgotten() -> None:
    cluster = small_cluster()
    ours, face = responder(), Face(zone(cluster))
    data = question("web.component.paas.internal")
    assert ours.respond(data, "192.0.2.1", face) is not None
    assert ours.ready(data, face) is not None
    cluster.all, cluster.serial = [], cluster.serial + 1
    face.refresh()
    assert ours.ready(data, face) is None
    reply = ours.respond(data, "192.0.2.1", face)
    assert isinstance(reply, bytes)
    assert dnslib.DNSRecord.parse(reply).header.rcode == dnslib.RCODE.NXDOMAIN


def test_who_asks_for_what_is_not_there_fills_nothing() -> None:
    ours, face = responder(), Face(zone())
    for number in range(2_000):
        ours.respond(question(f"x{number}.component.paas.internal"), "192.0.2.1", face)
    assert (len(face.ready), len(face.built)) == (0, 0)


def test_who_varies_the_question_fills_a_bounded_place() -> None:
    ours, face = responder(), big(70)
    for size in range(20_000):
        face.refresh()
        ours.respond(question("big.paas.internal", size=size + 1), "192.0.2.1", face)
    assert face.ready_bytes <= limits.ANSWERS_KEPT_BYTES_MAX + 4_096
    assert sum(map(len, face.ready)) <= limits.ANSWERS_KEPT_BYTES_MAX


def test_only_who_may_has_others_asked() -> None:
    ours = Responder(now_s=lambda: WALL_S)
    data = question("www.example.com")
    asked = ours.respond(data, "127.0.0.1", Face(zone(), recursion=True))
    assert isinstance(asked, Forward)
    reply = ours.respond(data, "192.0.2.1", Face(zone()))
    assert isinstance(reply, bytes)
    heard = dnslib.DNSRecord.parse(reply)
    assert (heard.header.rcode, heard.header.ra) == (dnslib.RCODE.REFUSED, 0)
    without = dnslib.DNSRecord(dnslib.DNSHeader(id=1, rd=0), q=dnslib.DNSQuestion("a.b")).pack()
    assert isinstance(
        ours.respond(bytes(without), "127.0.0.1", Face(zone(), recursion=True)), bytes
    )


def test_a_bug_of_ours_is_told_and_answered() -> None:
    """An endpoint whose host is no address: nobody gives such, and the hub must not end of it."""
    odd = Cluster(all=[member(1, "odd", endpoints=(Endpoint("h", "tcp", "nowhere", "", 1),))])
    bugs: list[str] = []
    ours = Responder(now_s=lambda: WALL_S, on_bug=lambda where, _: bugs.append(where))
    reply = ours.respond(question("odd.component.paas.internal"), "192.0.2.1", Face(zone(odd)))
    assert isinstance(reply, bytes)
    assert dnslib.DNSRecord.parse(reply).header.rcode == dnslib.RCODE.SERVFAIL
    assert bugs == ["dns.answer"]


def test_an_answer_is_no_larger_than_is_fair() -> None:
    """Amplification: of the largest sets, by UDP, beside the question with its headers."""
    crowd = [member(n) for n in range(1, 200)]
    face = Face(zone(Cluster(all=crowd, grouped={"web": crowd})))
    for kind in ("A", "TXT", "ANY", "SRV"):
        for size in (0, 512, 4096, 65_535):
            reply = responder().respond(question(NAME, kind, size=size), "192.0.2.1", face)
            assert isinstance(reply, bytes)
            assert len(reply) <= 1232
    slip = responder().slip(question(NAME))
    assert slip is not None
    assert len(slip) <= len(question(NAME))
