"""The smuggling battery as data: what is sent, how it is answered, what a member may see of it.

Each row: a name, the bytes (as ISO 8859-1), the statuses of all answers, and the requests that the
member reads, by a parser of its own.  A row with status 0 ends without an answer.  Whatever comes
after a refused head must not be answered: the connection is over.

Sources of the forms: RFC 9112 §11.2; J. Kettle, "HTTP Desync Attacks" (2019) and "HTTP/2: The
Sequel is Always Worse" (2021); CVE-2025-55315 and its kin on extensions of chunks.
"""

from __future__ import annotations

from typing import NamedTuple

GET = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
H = "host: x\r\n"


class Row(NamedTuple):
    """One attempt."""

    name: str
    sent: str
    statuses: tuple[int, ...]
    seen: tuple[str, ...] = ()


def post(headers: str, body: str = "") -> str:
    return f"POST /p HTTP/1.1\r\n{H}{headers}\r\n{body}"


def get(headers: str = "", target: str = "/", host: str = H) -> str:
    return f"GET {target} HTTP/1.1\r\n{host}{headers}\r\n"


CHUNKED = "transfer-encoding: chunked\r\n"
P = ("POST /p",)

LENGTHS = [
    Row("CL.TE", post(f"content-length: 6\r\n{CHUNKED}", "0\r\n\r\nG" + GET), (400,)),
    Row("TE.CL", post(f"{CHUNKED}content-length: 4\r\n", "24\r\n" + GET + "0\r\n\r\n"), (400,)),
    Row(
        "two lengths that differ",
        post("content-length: 5\r\ncontent-length: 6\r\n", "hello" + GET),
        (400,),
    ),
    Row(
        "two lengths that agree",
        post("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
        (400,),
    ),
    Row("a list of lengths", post("content-length: 5, 5\r\n", "hello" + GET), (400,)),
    Row("length with a sign", post("content-length: +5\r\n", "hello" + GET), (400,)),
    Row("negative length", post("content-length: -5\r\n", "hello" + GET), (400,)),
    Row("hexadecimal length", post("content-length: 0x5\r\n", "hello" + GET), (400,)),
    Row("length with an underscore", post("content-length: 5_0\r\n", "hello" + GET), (400,)),
    Row("length with a fraction", post("content-length: 5.0\r\n", "hello" + GET), (400,)),
    Row("length with an inner blank", post("content-length: 5 0\r\n", "hello" + GET), (400,)),
    Row("empty length", post("content-length:\r\n", GET), (400,)),
    Row("length of other digits", post("content-length: \xb2\r\n", "hi" + GET), (400,)),
    Row("endless length", post("content-length: 99999999999999999999\r\n", GET), (400,)),
    Row("length that wraps 32 bits", post("content-length: 4294967301\r\n", "hello" + GET), (413,)),
    Row("length with leading zeros", post("content-length: 005\r\n", "hello"), (200,), P),
    Row(
        "length of a GET",
        "GET /p HTTP/1.1\r\n" + H + "content-length: 5\r\n\r\nhello",
        (200,),
        ("GET /p",),
    ),
    Row(
        "zero length", post("content-length: 0\r\n", GET), (200, 200), ("POST /p", "GET /smuggled")
    ),
    Row(
        "underscore in the name",
        post("content_length: 40\r\n", GET),
        (200, 200),
        ("POST /p", "GET /smuggled"),
    ),
]

CODINGS = [
    Row("coding in capitals", post("transfer-encoding: Chunked\r\n", "0\r\n\r\n"), (200,), P),
    Row("unknown coding", post("transfer-encoding: xchunked\r\n", "0\r\n\r\n" + GET), (501,)),
    Row(
        "chunked and identity",
        post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n" + GET),
        (501,),
    ),
    Row(
        "identity",
        post("transfer-encoding: identity\r\ncontent-length: 5\r\n", "hello" + GET),
        (400,),
    ),
    Row("gzip, chunked", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n" + GET), (501,)),
    Row(
        "chunked twice", post("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n" + GET), (501,)
    ),
    Row(
        "two codings", post(f"{CHUNKED}transfer-encoding: identity\r\n", "0\r\n\r\n" + GET), (400,)
    ),
    Row("the same coding again", post(f"{CHUNKED}{CHUNKED}", "0\r\n\r\n" + GET), (400,)),
    Row("coding in quotes", post('transfer-encoding: "chunked"\r\n', "0\r\n\r\n" + GET), (501,)),
    Row(
        "coding with a parameter",
        post("transfer-encoding: chunked;a=b\r\n", "0\r\n\r\n" + GET),
        (501,),
    ),
    Row(
        "coding after a vertical tab",
        post("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n" + GET),
        (400,),
    ),
    Row("coding after a tab", post("transfer-encoding:\tchunked\r\n", "0\r\n\r\n"), (200,), P),
    Row(
        "blank before the colon", post("transfer-encoding : chunked\r\n", "0\r\n\r\n" + GET), (400,)
    ),
    Row(
        "tab before the colon", post("transfer-encoding\t: chunked\r\n", "0\r\n\r\n" + GET), (400,)
    ),
    Row("coding without a value", post("transfer-encoding:\r\n", "0\r\n\r\n" + GET), (501,)),
    Row("coding within HTTP/1.0", f"POST /p HTTP/1.0\r\n{H}{CHUNKED}\r\n0\r\n\r\n" + GET, (400,)),
    Row(
        "coding named by connection",
        post(f"connection: transfer-encoding\r\n{CHUNKED}", "0\r\n\r\n"),
        (200,),
        P,
    ),
    Row(
        "length named by connection",
        post("connection: content-length\r\ncontent-length: 5\r\n", "hello" + GET),
        (400,),
    ),
    Row("coding with a null", post("transfer-encoding: chunked\0\r\n", "0\r\n\r\n" + GET), (400,)),
    Row("te is not passed on", get("te: trailers\r\n"), (200,), ("GET /",)),
]

LINES = [
    Row("bare line feeds", f"GET / HTTP/1.1\nhost: x\n\n{GET}", (400,)),
    Row("one bare line feed", f"GET / HTTP/1.1\r\nhost: x\r\na: b\nc: d\r\n\r\n{GET}", (400,)),
    Row("line feed within a value", get("a: b\n\r\n"), (400,)),
    Row("bare carriage return", get("a: b\rc: d\r\n"), (400,)),
    Row("carriage return before the end", get("a: b\r\r\n"), (400,)),
    Row("folded coding", post("transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n" + GET), (400,)),
    Row("folded value", get("a: b\r\n\tc\r\n"), (400,)),
    Row("first header folded", f"GET / HTTP/1.1\r\n {H}\r\n", (400,)),
    Row("folded host", get("", host="host:\r\n x\r\n"), (400,)),
    Row("null in a value", get("a: b\0c\r\n"), (400,)),
    Row("null in a name", get("a\0b: c\r\n"), (400,)),
    Row("header without a colon", get("nothing\r\n"), (400,)),
    Row("header without a name", get(": value\r\n"), (400,)),
    Row("blank in a name", get("a b: c\r\n"), (400,)),
    Row("control in a value", get("a: \x01\r\n"), (400,)),
    Row("latin letters in a name", get("\xe9: c\r\n"), (400,)),
    Row("latin letters in a value", get("a: \xe9\r\n"), (200,), ("GET /",)),
    Row("an empty line before", f"\r\n{get()}", (200,), ("GET /",)),
    Row("many empty lines before", "\r\n\r\n\r\n" + get(), (400,)),
    Row("a blank before the method", f" {get()}", (400,)),
    Row("two blanks", f"GET  / HTTP/1.1\r\n{H}\r\n", (400,)),
    Row("tabs between", f"GET\t/\tHTTP/1.1\r\n{H}\r\n", (400,)),
    Row("a blank after the version", f"GET / HTTP/1.1 \r\n{H}\r\n", (400,)),
    Row("no version", f"GET /\r\n{H}\r\n", (400,)),
    Row("version 0.9", f"GET / HTTP/0.9\r\n{H}\r\n", (505,)),
    Row("version 1.2", f"GET / HTTP/1.2\r\n{H}\r\n", (505,)),
    Row("version 2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    Row("version in small letters", f"GET / http/1.1\r\n{H}\r\n", (400,)),
    Row("another protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
    Row("a method that is no token", f"G(T / HTTP/1.1\r\n{H}\r\n", (400,)),
]

HOSTS = [
    Row("no host", "GET / HTTP/1.1\r\n\r\n", (400,)),
    Row("two hosts", get("host: y\r\n"), (400,)),
    Row("the same host twice", get("host: x\r\n"), (400,)),
    Row("host with a path", get("", host="host: x/evil\r\n"), (400,)),
    Row("host with a user", get("", host="host: a@x\r\n"), (400,)),
    Row("host with a comma", get("", host="host: x, y\r\n"), (400,)),
    Row("host with blanks", get("", host="host: x y\r\n"), (400,)),
    Row("host with a bad port", get("", host="host: x:99999\r\n"), (400,)),
    Row("host with port letters", get("", host="host: x:80a\r\n"), (400,)),
    Row("host with a question mark", get("", host="host: x?y\r\n"), (400,)),
    Row("host with a backslash", get("", host="host: x\\y\r\n"), (400,)),
    Row("host of brackets", get("", host="host: [::1\r\n"), (400,)),
    Row("target and host differ", get("", target="http://y/"), (400,)),
    Row("target and host agree", get("", target="http://x/a"), (200,), ("GET /a",)),
    Row("target of another scheme", get("", target="https://x/"), (421,)),
    Row("target of an unknown scheme", get("", target="gopher://x/"), (400,)),
    Row("target with a user", get("", target="http://u@x/"), (400,)),
    Row("target is a host", get("", target="x"), (400,)),
    Row("target with a fragment", get("", target="/a#b"), (400,)),
    Row("target with a backslash", get("", target="/a\\..\\b"), (400,)),
    Row("target that climbs", get("", target="/a/../../etc/passwd"), (400,)),
    Row("target that climbs, encoded", get("", target="/a/%2e%2e/b"), (400,)),
    Row("target with a null", get("", target="/a%00b"), (400,)),
    Row("target with a broken escape", get("", target="/a%2"), (400,)),
    Row("target with latin letters", get("", target="/\xe9"), (400,)),
    Row("target that is an asterisk", get("", target="*"), (400,)),
    Row("a tunnel", "CONNECT y:443 HTTP/1.1\r\nhost: y:443\r\n\r\n", (400,)),
    Row("forwarded host", get("x-forwarded-host: evil\r\nx-host: evil\r\n"), (200,), ("GET /",)),
]

CHUNKS = [
    Row("chunks that end well", post(CHUNKED, "3\r\nabc\r\n0\r\n\r\n"), (200,), P),
    Row("extension", post(CHUNKED, '3;a="b"\r\nabc\r\n0;c\r\n\r\n'), (200,), P),
    Row("extension with a bare line feed", post(CHUNKED, "3;a\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row(
        "extension with a bare carriage return",
        post(CHUNKED, "3;a\rb\r\nabc\r\n0\r\n\r\n" + GET),
        (400,),
    ),
    Row("endless extension", post(CHUNKED, "3;" + "a" * 5000 + "\r\nabc\r\n0\r\n\r\n"), (400,)),
    Row("bare line feed after the size", post(CHUNKED, "3\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("bare line feed after the data", post(CHUNKED, "3\r\nabc\n0\r\n\r\n" + GET), (400,)),
    Row("data longer than said", post(CHUNKED, "3\r\nabcdef\r\n0\r\n\r\n" + GET), (400,)),
    Row("data shorter than said", post(CHUNKED, "5\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size with a sign", post(CHUNKED, "+3\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size with 0x", post(CHUNKED, "0x3\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size with an underscore", post(CHUNKED, "1_0\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size after a blank", post(CHUNKED, " 3\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size before a blank", post(CHUNKED, "3 \r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("size that wraps", post(CHUNKED, "100000003\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("no size", post(CHUNKED, "\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row("negative size", post(CHUNKED, "-1\r\nabc\r\n0\r\n\r\n" + GET), (400,)),
    Row(
        "trailers are dropped",
        post(CHUNKED, "0\r\ncontent-length: 9\r\nhost: y\r\n\r\n"),
        (200,),
        P,
    ),
    Row("trailers folded", post(CHUNKED, "0\r\na: b\r\n c: d\r\n\r\n" + GET), (400,)),
    Row("trailers with a bare line feed", post(CHUNKED, "0\r\na: b\n\r\n" + GET), (400,)),
    Row("endless trailers", post(CHUNKED, "0\r\n" + "a: b\r\n" * 3000 + "\r\n"), (431,)),
]

ROWS = [*LENGTHS, *CODINGS, *LINES, *HOSTS, *CHUNKS]

# -- HTTP/2: lists of fields (names and values as they are, unchecked by the sender) ---------------

BASE = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]


class H2Row(NamedTuple):
    """One attempt over HTTP/2; status 0: the stream or connection was ended by an error."""

    name: str
    fields: list[tuple[str, str]]
    statuses: tuple[int, ...]
    seen: tuple[str, ...] = ()
    body: str = ""


def but(**change: str) -> list[tuple[str, str]]:
    """BASE with other pseudo-headers."""
    return [(n, change.get(n[1:], v)) for n, v in BASE]


BAD = (0, 400)
H2_ROWS = [
    H2Row("an ordinary request", BASE, (200,), ("GET /",)),
    H2Row(
        "coding",
        [*but(method="POST"), ("transfer-encoding", "chunked")],
        BAD,
        (),
        "0\r\n\r\n" + GET,
    ),
    H2Row(
        "a length that is too short", [*but(method="POST"), ("content-length", "0")], BAD, (), GET
    ),
    H2Row(
        "a length that is too long", [*but(method="POST"), ("content-length", "99")], BAD, (), "abc"
    ),
    H2Row(
        "two lengths",
        [*but(method="POST"), ("content-length", "3"), ("content-length", "4")],
        BAD,
        (),
        "abc",
    ),
    H2Row("line end in a value", [*BASE, ("a", "b\r\ntransfer-encoding: chunked")], BAD),
    H2Row("line feed in a value", [*BASE, ("a", "b\nc: d")], BAD),
    H2Row("null in a value", [*BASE, ("a", "b\0c")], BAD),
    H2Row("line end in a name", [*BASE, ("a: b\r\nc", "d")], BAD),
    H2Row("colon in a name", [*BASE, ("a: b", "c")], BAD),
    H2Row("blank in a name", [*BASE, ("a b", "c")], BAD),
    H2Row("empty name", [*BASE, ("", "c")], BAD),
    H2Row("capitals in a name", [*BASE, ("Transfer-Encoding", "chunked")], BAD),
    H2Row("connection", [*BASE, ("connection", "close")], BAD),
    H2Row("upgrade", [*BASE, ("upgrade", "websocket")], BAD),
    H2Row("te", [*BASE, ("te", "gzip")], BAD),
    H2Row("request line in the path", but(path="/ HTTP/1.1\r\nhost: y\r\n\r\nGET /smuggled"), BAD),
    H2Row("blank in the path", but(path="/ HTTP/1.1"), BAD),
    H2Row("path of another host", but(path="http://y/"), BAD),
    H2Row("empty path", but(path=""), BAD),
    H2Row("path that climbs", but(path="/../x"), BAD),
    H2Row("request line in the method", but(method="GET / HTTP/1.1\r\nhost: y\r\n\r\nGET"), BAD),
    H2Row("method with a blank", but(method="GET /smuggled"), BAD),
    H2Row("a tunnel", but(method="CONNECT"), (0, 400, 501)),
    H2Row("another scheme", but(scheme="http"), (0, 400, 421)),
    H2Row("scheme with more in it", but(scheme="https://y/?"), (0, 400, 421)),
    H2Row("authority with a path", but(authority="x/evil"), BAD),
    H2Row("authority with a line end", but(authority="x\r\na: b"), BAD),
    H2Row("authority with a user", but(authority="u@x"), BAD),
    H2Row("authority and host differ", [*BASE, ("host", "y")], BAD),
    H2Row("authority and host agree", [*BASE, ("host", "x")], (200,), ("GET /",)),
    H2Row("no authority", [f for f in BASE if f[0] != ":authority"], BAD),
    H2Row("no path", [f for f in BASE if f[0] != ":path"], BAD),
    H2Row("no method", [f for f in BASE if f[0] != ":method"], BAD),
    H2Row("two paths", [*BASE, (":path", "/smuggled")], BAD),
    H2Row("pseudo-header after others", [*BASE[:3], ("a", "b"), BASE[3]], BAD),
    H2Row("unknown pseudo-header", [*BASE, (":protocol", "websocket")], BAD),
    H2Row("cookies are one", [*BASE, ("cookie", "a=1"), ("cookie", "b=2")], (200,), ("GET /",)),
]
