"""The decisions of the fetcher: addresses, redirects, throttle, answers, bodies, streams."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def fetcher(part: Any) -> Any:
    return part("fetcher")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://Example.ORG", "http://example.org/"),
        ("https://example.org:443/a?b=c#d", "https://example.org/a?b=c"),
        ("http://example.org:8080/ä", "http://example.org:8080/%C3%A4"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://example.org//a", "http://example.org/a"),
    ],
)
def test_addresses_have_one_form(fetcher: Any, text: str, expected: str) -> None:
    assert fetcher.addresses.parse(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "ftp://example.org/", "file:///etc/passwd", "javascript:alert(1)"),
        *("http://", "http://user@example.org/", "http://u:p@example.org/", "http:///x"),
        *("http://example.org:0/", "http://example.org:99999/", "http://a b/", "http://[::1"),
        *(
            "http://example.org/a\r\nHost: evil",
            "http://example.org/\x00",
            "http://a/" + "x" * 2000,
        ),
        "gopher://example.org:70/_GET",
    ],
)
def test_other_addresses_are_refused(fetcher: Any, text: str) -> None:
    with pytest.raises(fetcher.addresses.AddressError):
        fetcher.addresses.parse(text)


def test_resources_are_known_by_their_hosts(fetcher: Any) -> None:
    resource_of = fetcher.addresses.resource_of
    assert resource_of("origin", ("origin",)) == "origin"
    assert resource_of("quakes.origin", ("origin",)) == "origin"
    assert resource_of("quakes-origin", ("origin",)) == ""
    assert resource_of("origin.example.org", ("origin",)) == ""


def trail(fetcher: Any, start: str = "http://a/1") -> Any:
    return fetcher.redirects.Trail(fetcher.addresses.parse(start))


def test_permanent_redirects_are_remembered_up_to_the_first_temporary_one(fetcher: Any) -> None:
    one = trail(fetcher)
    one.follow(301, "/2")
    one.follow(308, "http://b/3")
    one.follow(302, "/4")
    one.follow(301, "/5")
    assert one.at.text == "http://b/5"
    assert one.remembered.text == "http://b/3"


@pytest.mark.parametrize("location", ["", "ftp://x/", "/1", "http://a/1#frag"])
def test_redirects_that_lead_nowhere(fetcher: Any, location: str) -> None:
    with pytest.raises(fetcher.addresses.AddressError):
        trail(fetcher).follow(301, location)


def test_redirects_end(fetcher: Any) -> None:
    one = trail(fetcher)
    for number in range(fetcher.redirects.HOPS_MAX):
        one.follow(302, f"/hop{number}")
    with pytest.raises(fetcher.addresses.AddressError, match="more than"):
        one.follow(302, "/one-more")


def test_a_redirect_never_leaves_tls(fetcher: Any) -> None:
    with pytest.raises(fetcher.addresses.AddressError, match="https to http"):
        trail(fetcher, "https://a/").follow(301, "http://a/")


def test_a_host_is_asked_with_gaps(fetcher: Any) -> None:
    throttle = fetcher.throttle.Throttle(gap_s=0.5, together=9)
    assert throttle.begin("a", 100.0) == (True, 0.0)
    assert throttle.begin("a", 100.1) == (True, pytest.approx(0.4))
    assert throttle.begin("b", 100.1) == (True, 0.0)
    assert throttle.begin("a", 100.2) == (True, pytest.approx(0.8))


def test_a_host_has_few_requests_at_the_same_time(fetcher: Any) -> None:
    throttle = fetcher.throttle.Throttle(gap_s=0.0, together=2)
    assert throttle.begin("a", 1.0)[0]
    assert throttle.begin("a", 1.0)[0]
    assert throttle.begin("a", 1.0) == (False, 1.0)
    throttle.end("a")
    assert throttle.begin("a", 1.0)[0]


def test_who_would_wait_for_long_comes_later(fetcher: Any) -> None:
    throttle = fetcher.throttle.Throttle(gap_s=0.1)
    throttle.retry_after("a", 60.0, 10.0)
    assert throttle.begin("a", 11.0) == (False, pytest.approx(59.0))
    assert throttle.begin("a", 69.5)[0]
    throttle.retry_after("b", 1e12, 10.0)
    assert throttle.begin("b", 10.0)[1] <= fetcher.throttle.RETRY_AFTER_S_MAX


def test_hosts_are_forgotten(fetcher: Any) -> None:
    throttle = fetcher.throttle.Throttle(gap_s=0.001)
    for number in range(fetcher.throttle.HOSTS_MAX + 100):
        assert throttle.begin(f"h{number}", float(number))[0]
        throttle.end(f"h{number}")
    assert len(throttle._free_s) <= fetcher.throttle.HOSTS_MAX
    assert not throttle._running


def test_requests_are_conditional_when_there_is_something_to_compare(fetcher: Any) -> None:
    request_headers = fetcher.answers.request_headers
    assert "if-none-match" not in request_headers("a", "", "")
    found = request_headers("a", '"x"', "Sun, 06 Nov 1994 08:49:37 GMT")
    assert found["if-none-match"] == '"x"'
    assert found["if-modified-since"].startswith("Sun")


def test_validators_that_cannot_be_sent_back_are_dropped(fetcher: Any) -> None:
    found = fetcher.answers.validators({"etag": '"a\r\nx: y"', "last-modified": "x" * 501})
    assert found == {"etag": "", "modified": ""}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("9" * 30, 0.0),
    ],
)
def test_retry_after(fetcher: Any, text: str, seconds: float) -> None:
    assert fetcher.answers.retry_after_s({"retry-after": text}, 1000.0) == seconds


def test_what_a_status_means(fetcher: Any) -> None:
    failure = fetcher.answers.failure
    assert failure(410, {}, 0.0)["outcome"] == "gone"
    assert failure(404, {}, 0.0)["outcome"] == "failed"
    assert failure(503, {"retry-after": "9"}, 0.0)["retry_after_s"] == 9.0
    assert "retry_after_s" not in failure(404, {"retry-after": "9"}, 0.0)
    assert fetcher.answers.max_age_s({"cache-control": "public, max-age=60"}) == 60.0
    assert fetcher.answers.max_age_s({"cache-control": "max-age=999999999"}) == 86_400.0
    assert fetcher.answers.max_age_s({"cache-control": "s-max-age=5"}) == 0.0
    assert fetcher.answers.is_stream({"content-type": "Text/Event-Stream; charset=utf-8"})


def unpacked(fetcher: Any, encoding: str, data: bytes, piece: int = 100) -> bytes:
    body = fetcher.inflating.Body(encoding)
    for start in range(0, len(data), piece):
        body.add(data[start : start + piece])
    found: bytes = body.end()
    return found


def raw_deflate(text: bytes) -> bytes:
    maker = zlib.compressobj(wbits=-15)
    return maker.compress(text) + maker.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
@pytest.mark.parametrize("piece", [3, 100, 100_000])
def test_bodies_are_unpacked(fetcher: Any, encoding: str, pack: Any, piece: int) -> None:
    text = b"<rss>" + bytes(range(256)) * 40
    if encoding == "deflate" and piece < 10 and pack is raw_deflate:
        piece = 100
    assert unpacked(fetcher, encoding, pack(text), piece) == text


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(bytes(64 << 20), 9, mtime=0)),
        ("gzip", b"this is no gzip"),
        ("deflate", b"\xff" * 50),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]),
        ("br", b"x"),
        ("gzip, gzip", gzip.compress(b"x", mtime=0)),
        ("", b"x" * ((4 << 20) + 1)),
    ],
)
def test_bombs_and_damaged_bodies_are_refused(fetcher: Any, encoding: str, data: bytes) -> None:
    with pytest.raises(fetcher.inflating.BodyError):
        unpacked(fetcher, encoding, data, 65_536)


STREAM = b": hello\r\n\r\ndata: one\r\ndata: two\n\nevent: x\rdata:three\r\rdata: unfinished"


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_streams_are_the_same_however_they_are_cut(part: Any, cuts: list[int]) -> None:
    events = part("fetcher").events.Events()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [e for a, b in pairwise(places) for e in events.add(STREAM[a:b])]
    assert found == [b"one\ntwo", b"three"]


@pytest.mark.parametrize(
    "data", [b"x" * 300_000, b"data: " + b"x" * 300_000, b"data: x\n" * 200_000]
)
def test_streams_without_an_end_are_left(fetcher: Any, data: bytes) -> None:
    events = fetcher.events.Events()
    pieces = (data[start : start + 65_536] for start in range(0, len(data), 65_536))
    with pytest.raises(fetcher.events.StreamError):
        list(map(events.add, pieces))
