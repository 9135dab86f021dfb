"""The fetcher's decisions, without a network: URLs, addresses, pace, repetition, settings."""

from __future__ import annotations

import random
import zlib
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.fetcher import addresses, limits, operations
from paas.fetcher.credentials import Credential
from paas.fetcher.decoding import Decoder
from paas.fetcher.http1 import Exchange, Sign
from paas.fetcher.redirects import Journey, Moved, Step
from paas.fetcher.request import Answer, Request, request_of
from paas.fetcher.retrying import Attempts, retry_after_s
from paas.fetcher.settings import settings_of
from paas.fetcher.throttle import Throttle
from paas.fetcher.trouble import REASONS, trouble
from paas.fetcher.urls import join, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://Example.ORG", "http://example.org/"),
        ("https://example.org:443/a?b#c", "https://example.org/a?b"),
        ("http://example.org:8080/é ü".replace(" ", ""), "http://example.org:8080/%C3%A9%C3%BC"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
        ("http://example.org./", "http://example.org/"),
        ("http://a_b.example.org/%zz", "http://a_b.example.org/%zz"),
    ],
)
def test_urls_have_one_form(text: str, expected: str) -> None:
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "//example.org/", "ftp://x/", "http://", "http:///a", "http:a"),
        *("http://a b/", "http://a\t/", "http://a/\n", "http://a\\b/", "http://u@a/"),
        *("http://u:p@a/", "http://a:0/", "http://a:99999/", "http://a:x/", "http://[::1/"),
        *("http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://017700000001/"),
        *("http://a..b/", "http://-a/", "http://a%00b/", "http://" + "a" * 300 + "/"),
        *("http://a/" + "b" * 5000, "http://ⓔxample.org:80:80/", "http://a;b/", "http://a,b/"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse(text)
    assert caught.value.code == "invalid"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.booleans())
def test_no_location_leads_out_of_the_grammar(text: str, absolute: bool) -> None:
    """Whatever a server says: refused, or a URL that is read again as itself."""
    try:
        url = join(parse("https://example.org/a/b?c"), f"http://{text}" if absolute else text)
    except PlatformError:
        return
    assert parse(str(url)) == url
    assert url.target.isascii()
    assert not set(url.target) & set(" \r\n\t\x00\\")
    assert "@" not in url.authority


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *("fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1"),
        *("2001:0:7f00:1::1", "fec0::1", "not an address", ""),
    ],
)
def test_what_is_not_of_the_internet_is_inside(address: str) -> None:
    assert addresses.is_inside(address)
    assert not addresses.permitted(address, ())


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"]
)
def test_what_is_of_the_internet_is_not(address: str) -> None:
    assert not addresses.is_inside(address)
    assert addresses.permitted(address, ())


def test_networks_inside_can_be_allowed() -> None:
    allowed = addresses.networks(["10.64.0.0/10", "fd00::/8"])
    assert addresses.permitted("10.64.1.1", allowed)
    assert addresses.permitted("::ffff:10.64.1.1", allowed)
    assert addresses.permitted("fd00::1", allowed)
    assert not addresses.permitted("10.0.0.1", allowed)
    assert not addresses.permitted("127.0.0.1", allowed)
    assert not addresses.permitted("2002:7f00:1::", addresses.networks(["2002::/16"]))


def test_starts_at_one_host_are_apart_and_others_do_not_wait() -> None:
    throttle = Throttle(interval_s=2.0)
    assert [throttle.reserve("a", 10.0) for _ in range(3)] == [10.0, 12.0, 14.0]
    assert throttle.reserve("b", 10.0) == 10.0
    throttle.leave_alone("b", 60.0, 10.0)
    assert throttle.due("b", 11.0) == 60.0
    assert throttle.due("b", 61.0) == 61.0


def test_hosts_that_are_remembered_are_bounded() -> None:
    throttle = Throttle(interval_s=5.0, hosts_max=100)
    for number in range(10_000):
        throttle.reserve(f"h{number}", number / 1000)
    assert len(throttle) <= 101


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("0", 0.0), ("120", 120.0), (" 5 ", 5.0), ("9" * 400, limits.RETRY_AFTER_MOST_S)),
        *(("-1", None), ("1.5", None), ("soon", None), ("", None), ("٣", None)),
        ("Thu, 01 Jan 1970 00:17:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", limits.RETRY_AFTER_MOST_S),
        ("Fri, 99 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after_s(value, 1000.0) == expected


def test_what_is_repeated() -> None:
    """By reason: what was not sent always, what may have been done only if that is harmless."""
    for name, reason in REASONS.items():
        for idempotent in (True, False):
            when = Attempts(2, 100.0).after_error(trouble(name, "x"), idempotent, 0.0, 0.5)
            assert (when is not None) == (reason.again and (idempotent or not reason.sent)), name
    attempts = Attempts(2, 100.0)
    moments = [attempts.after_status(503, None, True, 0.0, 1.0) for _ in range(3)]
    assert moments == [0.25, 0.5, None]
    assert Attempts(2, 100.0).after_status(503, 200.0, True, 0.0, 0.5) is None
    assert Attempts(2, 100.0).after_status(404, None, True, 0.0, 0.5) is None
    assert Attempts(2, 100.0).after_status(503, None, False, 0.0, 0.5) is None


def test_memory_of_redirects_is_bounded_in_number_and_time() -> None:
    moved = Moved(count_max=10, life_s=60.0)
    for number in range(50):
        moved.remember(parse(f"http://a/{number}"), parse("http://b/"), float(number))
    assert len(moved) == 10
    assert moved.place(parse("http://a/49"), 50.0) == parse("http://b/")
    assert moved.place(parse("http://a/49"), 200.0) == parse("http://a/49")
    moved.remember(parse("https://a/"), parse("http://a/"), 0.0)
    assert moved.place(parse("https://a/"), 0.0) == parse("https://a/"), "no downgrade"


def test_only_redirects_that_are_permanent_from_the_beginning_move() -> None:
    journey = Journey(Step(parse("http://a/1"), "GET"), 10)
    journey.follow(302, "/2")
    journey.follow(301, "/3")
    assert journey.moved_to == ""


def test_credentials_are_for_their_hosts() -> None:
    row = Credential("n", "/f", ("api.test", "*.wild.test", "port.test:8443"))
    for url, expected in (
        *(
            ("https://api.test/", True),
            ("https://sub.api.test/", False),
            ("http://api.test/", False),
        ),
        *(("https://api.test:444/", False), ("https://a.wild.test/", True)),
        *(("https://wild.test/", False), ("https://evilwild.test/", False)),
        *(("https://port.test:8443/", True), ("https://port.test/", False)),
    ):
        assert row.is_for(parse(url)) == expected, url
    for content in (b"", b"a\nb", b"\x00", b"x" * 20_000, "é".encode()):
        with pytest.raises(PlatformError):
            row.value(content)


@pytest.mark.parametrize(
    ("plain", "named"),
    [
        ({"unknown": 1}, "unknown"),
        ({"per_host": "4"}, "per_host"),
        ({"per_host": True}, "per_host"),
        ({"per_host": 0}, "per_host"),
        ({"private": ["10.0.0.1/8"]}, "private"),
        ({"private": "10.0.0.0/8"}, "private"),
        ({"ports": [0]}, "ports"),
        ({"user_agent": "a\nb"}, "user_agent"),
        ({"credentials": {"a": {}}}, "credentials.a.file"),
        ({"credentials": {"a": {"file": "x", "hosts": ["h"]}}}, "credentials.a.file"),
        ({"credentials": {"a": {"file": "/x", "hosts": []}}}, "credentials.a.hosts"),
        ({"credentials": {"a": {"file": "/x", "hosts": ["*"]}}}, "credentials.a.hosts"),
        ({"credentials": {"a": {"file": "/x", "hosts": ["h"], "header": "a b"}}}, "header"),
        ({"credentials": {"a": {"file": "/x", "hosts": ["h"], "prefix": "a\n"}}}, "prefix"),
        ({"credentials": {"a": {"file": "/x", "hosts": ["h"], "value": "v"}}}, "value"),
        ({"credentials": {"a": 1}}, "credentials.a"),
    ],
)
def test_settings_that_are_none_are_named(plain: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        settings_of(plain)


def test_settings() -> None:
    found = settings_of({"private": ["10.0.0.0/8"], "ports": [8], "interval_s": 1, "plain": False})
    assert found.port_allowed(8)
    assert not found.port_allowed(25)
    assert (found.interval_s, found.plain) == (1, False)


@pytest.mark.parametrize(
    "inputs",
    [
        *({}, {"url": 1}, {"url": "http://a/", "method": "CONNECT"}),
        *({"url": "http://a/", "timeout_s": 0}, {"url": "http://a/", "timeout_s": True}),
        *({"url": "http://a/", "headers": [["a"]]}, {"url": "http://a/", "headers": 5}),
        *({"url": "http://a/", "headers": [["a", "b\r\nc: d"]]},),
        *({"url": "http://a/", "headers": [["a b", "c"]]},),
        *({"url": "http://a/", "headers": {"Transfer-Encoding": "chunked"}},),
        *({"url": "http://a/", "headers": {"a": "b" * 9000}},),
        *({"url": "http://a/", "headers": [["a", "b"]] * 100},),
        *(
            {"url": "http://a/", "conditional": []},
            {"url": "http://a/", "conditional": {"etag": 1}},
        ),
        *({"url": "http://a/", "conditional": {"etag": "a\nb"}},),
        *({"url": "http://a/", "method": "POST", "conditional": {"etag": "a"}},),
        *({"url": "http://a/", "body_max": 1 << 40}, {"url": "http://a/", "redirects": 1000}),
    ],
)
def test_requests_that_are_none_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(PlatformError) as caught:
        request_of(inputs)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"]


def test_a_fetch_ends_before_its_caller_s_deadline() -> None:
    request = operations.wanted({"url": "http://a/", "timeout_s": 60}, [], 10.0)
    assert request.timeout_s == 10.0 - operations.MARGIN_S


def test_a_strange_type_of_content_is_bytes() -> None:
    for value, expected in (
        ("text/html; charset=x", "text/html"),
        ("\x1b[0m", None),
        ("a/b/c", "a/b"),
    ):
        answer = Answer(
            status=200, headers=(("content-type", value),), final_url="http://a/", body=b"x"
        )
        _, body = operations.told(answer)
        assert body is not None
        assert body["type"] == (expected or "application/octet-stream")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2000))
def test_damaged_answers_are_errors_of_the_table(seed: int, piece: int) -> None:
    """An honest answer with bytes changed, cut, doubled: an answer or an error with a reason."""
    draw = random.Random(seed)
    body = zlib.compress(b"text " * 400)
    data = bytearray(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(data))
        data[at : at + draw.randrange(3)] = bytes(draw.choices(range(256), k=draw.randrange(4)))
    exchange = Exchange()
    exchange.request("GET", "/", (("host", "a"),), b"")
    decoder = Decoder("deflate", 10_000)
    reason = ""
    try:
        for start in range(0, len(data) + piece, piece):
            exchange.receive(bytes(data[start : start + piece]))
            while (event := exchange.next()) not in (Sign.NEED, Sign.OVER):
                if isinstance(event, bytes):
                    decoder.feed(event)
            if event is Sign.OVER:
                decoder.end()
                break
    except PlatformError as exc:
        reason = exc.data["reason"]
    assert reason in ("", *REASONS)


def test_what_h11_sends_is_what_was_asked() -> None:
    data = Exchange().request("POST", "/a?b", (("host", "x"), ("a", "b")), b"body")
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"POST", b"/a?b")
    assert dict(request.headers) == {b"host": b"x", b"a": b"b", b"content-length": b"4"}


def test_requests_do_not_show_bodies_twice() -> None:
    with pytest.raises(PlatformError):
        Request(url="http://a/", method="GET", body=b"x")
