"""Judging answers: what is believed, what is not, and what of it counts."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.dns import names, records, upstream, wire
from paas.dns.cache import Cache, Found, Told
from paas.dns.upstream import Asked, Heard, ask, judge

WWW = names.parse("www.example.com")
ASKED = ask(WWW, records.A, number=4_711, coins=0b1011_0010_1110)


def answer(asked: Asked = ASKED, *lines: str, auth: str = "", more: str = "") -> bytes:
    """An answer of another library, as a zone file says it."""
    reply = dnslib.DNSRecord.parse(asked.message).reply(aa=0)
    reply.ar = []
    for line in lines:
        reply.add_answer(*dnslib.RR.fromZone(line))
    if auth:
        reply.add_auth(*dnslib.RR.fromZone(auth))
    if more:
        reply.add_ar(*dnslib.RR.fromZone(more))
    return bytes(reply.pack())


GOOD = answer(ASKED, "www.example.com. 60 A 192.0.2.1")


def told(data: bytes) -> Told:
    heard, found = judge(ASKED, data)
    assert heard is Heard.ANSWER
    assert found is not None
    return found


def test_the_question_is_in_mixed_case_and_says_what_it_asks() -> None:
    read = wire.read(ASKED.message)
    assert read is not None
    assert (read.labels, read.kind, read.number) == (WWW, records.A, 4_711)
    assert ASKED.question != ASKED.question.lower()
    plain = ask(WWW, records.A, number=1)
    assert plain.question == plain.question.lower()


def test_an_answer_to_the_question_is_believed() -> None:
    assert told(GOOD) == Told(0, (Found(WWW, records.A, 60, b"\xc0\0\2\1"),), 60)


@pytest.mark.parametrize(
    ("data", "heard"),
    [
        pytest.param(b"", Heard.OTHER, id="nothing"),
        pytest.param(ASKED.message, Heard.OTHER, id="the question itself"),
        pytest.param(b"\0\1" + GOOD[2:], Heard.OTHER, id="another number"),
        pytest.param(
            GOOD[:2] + bytes((GOOD[2] | 0x20,)) + GOOD[3:], Heard.OTHER, id="another opcode"
        ),
        pytest.param(
            answer(ask(names.parse("evil.example.com"), 1, number=4_711)), Heard.OTHER, id="name"
        ),
        pytest.param(answer(ask(WWW, 28, number=4_711)), Heard.OTHER, id="another kind"),
        pytest.param(answer(ask(WWW, 1, number=4_711)), Heard.CASE, id="another case"),
        pytest.param(GOOD[:3] + b"\x82" + GOOD[4:], Heard.FAILED, id="SERVFAIL"),
        pytest.param(GOOD[:3] + b"\x85" + GOOD[4:], Heard.FAILED, id="REFUSED"),
        pytest.param(GOOD[:2] + b"\x83" + GOOD[3:], Heard.TRUNCATED, id="TC"),
        pytest.param(GOOD[:-1], Heard.OTHER, id="cut"),
        pytest.param(GOOD[:6] + b"\xff\xff" + GOOD[8:], Heard.OTHER, id="too many records"),
        pytest.param(GOOD[:4] + b"\0\2" + GOOD[6:], Heard.OTHER, id="two questions"),
    ],
)
def test_what_does_not_fit_is_not_believed(data: bytes, heard: Heard) -> None:
    assert judge(ASKED, data) == (heard, None)


def test_of_an_answer_counts_only_what_answers_the_question() -> None:
    """The bailiwick: records of other names are poison, in whatever section they stand."""
    data = answer(
        ASKED,
        "www.example.com. 60 A 192.0.2.1",
        "bank.example. 3600 A 192.0.2.66",
        auth="example. 3600 NS evil.example.",
        more="evil.example. 3600 A 192.0.2.66",
    )
    assert told(data).records == (Found(WWW, records.A, 60, b"\xc0\0\2\1"),)
    assert told(answer(ASKED, "bank.example. 3600 A 192.0.2.66")).records == ()


def test_a_chain_of_names_is_followed_in_any_order() -> None:
    data = answer(
        ASKED,
        "c.example. 30 A 192.0.2.3",
        "b.example. 20 CNAME c.example.",
        "www.example.com. 60 CNAME b.example.",
    )
    found = told(data)
    assert [one.kind for one in found.records] == [records.CNAME, records.CNAME, records.A]
    assert found.ttl_s == 20


def test_names_in_a_circle_end() -> None:
    data = answer(ASKED, "www.example.com. 9 CNAME b.a.", "b.a. 9 CNAME www.example.com.")
    assert len(told(data).records) <= 8


@pytest.mark.parametrize(
    ("auth", "ttl_s"),
    [
        ("example.com. 300 SOA ns.a. h.a. 1 2 3 4 120", 120),
        ("example.com. 60 SOA ns.a. h.a. 1 2 3 4 120", 60),
        ("example.com. 90000 SOA ns.a. h.a. 1 2 3 4 90000", 300),
        ("example.org. 300 SOA ns.a. h.a. 1 2 3 4 120", 1),  # of another zone
        ("", 1),
    ],
)
def test_how_long_there_is_none_is_said_by_the_zones_soa(auth: str, ttl_s: int) -> None:
    data = answer(auth=auth)
    missing = data[:3] + b"\x83" + data[4:]
    assert told(missing) == Told(wire.NXDOMAIN, (), ttl_s)


def test_times_have_bounds() -> None:
    assert told(answer(ASKED, "www.example.com. 0 A 192.0.2.1")).ttl_s == 1
    assert told(answer(ASKED, "www.example.com. 999999 A 192.0.2.1")).ttl_s == 3_600
    negative = GOOD[:-10] + struct.pack("!I", 1 << 31) + GOOD[-6:]
    assert told(negative).records[0].ttl_s == 0


def raw(rest: bytes) -> bytes:
    """An answer with one record of these bytes."""
    return wire.header(4_711, 0x8180, (1, 1, 0, 0)) + ASKED.question + rest


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"\xc0\xff", id="points forward"),
        pytest.param(b"\xc0" + bytes((12 + len(ASKED.question),)), id="points at itself"),
        pytest.param(b"\x01a\xc0" + bytes((12 + len(ASKED.question),)), id="in a circle"),
        pytest.param(b"\x40" + b"a" * 70, id="label of 64"),
        pytest.param(b"\x01a" * 200 + b"\0", id="too long"),
        pytest.param(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 9, 5) + b"12345", id="A of 5 bytes"),
        pytest.param(b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 9, 4) + b"\x01a\0x", id="CNAME"),
        pytest.param(b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 9, 2) + b"\xc0\xf0", id="CNAME far"),
        pytest.param(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 9, 999) + b"1234", id="too short"),
    ],
)
def test_records_that_are_none_spoil_the_answer(rest: bytes) -> None:
    assert judge(ASKED, raw(rest)) == (Heard.OTHER, None)


@settings(max_examples=500, deadline=None)
@given(noise=st.binary(max_size=60), at=st.integers(0, len(GOOD)), drop=st.integers(0, 30))
def test_no_bytes_are_a_bug(noise: bytes, at: int, drop: int) -> None:
    judge(ASKED, GOOD[:at] + noise + GOOD[at + drop :])
    judge(ASKED, GOOD[:2] + noise)


@settings(max_examples=200, deadline=None)
@given(tail=st.binary(max_size=300), count=st.integers(0, 65_535))
def test_whatever_follows_the_question_takes_bounded_time(tail: bytes, count: int) -> None:
    head = wire.header(4_711, 0x8180, (1, count, count, count))
    judge(ASKED, head + ASKED.question + tail)


def test_names_end_whatever_the_pointers_say() -> None:
    ladder = b"\0" + b"".join(b"\x01a\xc0" + bytes((max(4 * n - 4, 0),)) for n in range(60))
    with pytest.raises((upstream.Unreadable, IndexError)):
        upstream.read_name(b"\xc0\x00", 0)
    labels, _ = upstream.read_name(ladder + b"\0", 1)
    assert len(labels) <= 127


# -- what is remembered ----------------------------------------------------------------------------


def entry(ttl_s: int) -> Told:
    return Told(0, (Found(WWW, records.A, ttl_s, b"1234"),), ttl_s)


def test_an_answer_is_remembered_for_its_time_and_grows_old() -> None:
    cache = Cache()
    cache.put(WWW, records.A, entry(60), 100.0)
    found = cache.get(WWW, records.A, 119.5)
    assert found is not None
    assert (found.ttl_s, found.records[0].ttl_s) == (41, 41)
    assert cache.get(WWW, records.AAAA, 119.5) is None
    assert cache.get(WWW, records.A, 160.0) is None
    assert len(cache) == 0
    assert (cache.hits, cache.misses) == (1, 2)


def test_the_oldest_goes_when_it_is_full() -> None:
    cache = Cache(entries_max=3)
    for number in range(5):
        cache.put((bytes((0x61 + number,)),), records.A, entry(60), 1.0)
    assert len(cache) == 3
    assert cache.get((b"a",), records.A, 2.0) is None
    assert cache.get((b"e",), records.A, 2.0) is not None
