"""Request heads: two parsers that agree, and one judgement of what a head means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.gateway.http import fast, strict
from paas.gateway.http.head import UNKNOWN, Headers, Refused, RequestHead, host_of, judge

TOKEN = "!#$%&'*+-.^_`|~0123456789abcXYZ"
names = st.text(TOKEN, min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=20)
plain_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
targets = st.text("/abc?=&%20.;:@[]\\#\x7f\xe9 ", max_size=20)
ends = st.sampled_from(["\r\n"] * 9 + ["\n", "\r", "\r\n ", "\r\r\n"])
colons = st.sampled_from([": "] * 5 + [":", " : ", ":\t", "::", ":  "])


@st.composite
def heads(draw: st.DrawFn) -> str:
    """Heads that are mostly good."""
    method = draw(st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "PURGE", "get", "G T", ""]))
    odd = ["HTTP/1.0", "HTTP/2", "http/1.1", "HTTP/1.1 "]
    version = draw(st.sampled_from(["HTTP/1.1"] * 6 + odd))
    lines = [f"{method} /{draw(targets)} {version}"]
    known = st.sampled_from(["Host", "content-length", "Transfer-Encoding", "Connection", "Expect"])
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.one_of(names, known))
        lines.append(f"{name}{draw(colons)}{draw(st.one_of(values, plain_values))}")
    text = lines[0]
    for line in lines[1:]:
        text += draw(ends) + line
    return text


@settings(max_examples=600, deadline=None)
@given(heads())
def test_where_the_fast_reader_accepts_the_strict_one_reads_the_same(text: str) -> None:
    quick = fast.split(text)
    if quick is None:
        return
    method, target, headers, version = strict.split(text.encode("latin-1"))
    assert (method, target, headers) == quick
    assert version == "1.1"


@settings(max_examples=600, deadline=None)
@given(heads())
def test_what_is_accepted_holds_no_line_end_and_has_one_length(text: str) -> None:
    try:
        head = judge(*strict.split(text.encode("latin-1")))
    except Refused:
        return
    for name, value in head.headers:
        assert not set(name + value) & set("\r\n\0")
        assert value == value.strip(" \t")
    assert head.length >= UNKNOWN
    assert not set(head.target) & set(" \r\n\0#\\")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    assert fast.split(data.decode("latin-1")) is None
    with pytest.raises(Refused):
        judge(*strict.split(data))


@settings(deadline=None)
@given(st.text("\r\nx", max_size=12))
def test_bare_line_ends_are_seen_wherever_they_are(text: str) -> None:
    data = text.encode()
    rest = data.replace(b"\r\n", b"")
    assert strict.bare_line_end(data + b"x") is (b"\r" in rest or b"\n" in rest)


def host(*more: tuple[str, str]) -> Headers:
    return [("host", "x"), *more]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (host(), 0),
        (host(("content-length", "0")), 0),
        (host(("content-length", "12")), 12),
        (host(("transfer-encoding", "chunked")), UNKNOWN),
        (host(("transfer-encoding", "CHUNKED")), UNKNOWN),
    ],
)
def test_where_a_body_ends(headers: Headers, length: int) -> None:
    assert judge("POST", "/", headers).length == length


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("x", "x"),
        ("X.Example:80", "x.example"),
        ("x.example.", "x.example"),
        ("[::1]:8080", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("a_b", "a_b"),
        ("", ""),
    ],
)
def test_hosts(said: str, meant: str) -> None:
    assert host_of(said) == meant


@pytest.mark.parametrize(
    "said", ["a b", "a/b", "a@b", "a,b", "a:b", "a:99999", "[::1", "::1", "a?b", "a#b", "a\\b", "é"]
)
def test_what_is_no_host(said: str) -> None:
    with pytest.raises(Refused) as caught:
        host_of(said)
    assert caught.value.status == 400


def test_connections_go_on_or_end() -> None:
    def keeps(version: str, *words: str) -> bool:
        headers = host(*(("connection", word) for word in words))
        return judge("GET", "/", headers, version).keep_alive

    assert keeps("1.1")
    assert not keeps("1.1", "close")
    assert not keeps("1.1", "Keep-Alive, Close")
    assert not keeps("1.0")
    assert keeps("1.0", "keep-alive")
    named = judge("GET", "/", host(("connection", "close, X-Own, te")))
    assert named.connection == ("close", "x-own")


def upgraded(*headers: tuple[str, str]) -> RequestHead:
    return judge("GET", "/", host(*headers))


def test_upgrades_to_websockets_only() -> None:
    assert upgraded(("connection", "Upgrade"), ("upgrade", "websocket")).upgrade == "websocket"
    assert upgraded(("connection", "keep-alive, upgrade"), ("upgrade", "h2c, WebSocket")).upgrade
    assert not upgraded(("upgrade", "websocket")).upgrade
    assert not upgraded(("connection", "upgrade"), ("upgrade", "h2c")).upgrade


def test_targets_that_are_addresses() -> None:
    head = judge("GET", "http://x?a=b", host())
    assert (head.target, head.path, head.query) == ("/?a=b", "/", "a=b")
    assert judge("OPTIONS", "*", host()).path == "*"
    with pytest.raises(Refused, match="421"):
        judge("GET", "http://x/", host(), scheme="https")
    assert judge("GET", "/", [], "1.0").host == ""
