"""One request against servers that do what no server should, over real sockets."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
PATIENCE_S = 1.0


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers one connection after the other in its own way; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with sock, suppress(OSError):
                        sock.recv(65_536)
                        answer(sock)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/feed"
        listener.shutdown(socket.SHUT_RDWR)


def connect(address: Any, seconds: float) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=seconds)


@pytest.fixture(scope="module")
def fetcher(part: Any) -> Any:
    return part("fetcher")


def get(fetcher: Any, url: str, etag: str = "", seconds: float = PATIENCE_S) -> Any:
    return fetcher.web.get(connect, fetcher.addresses.parse(url), etag, "", seconds)


def said(*pieces: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: [sock.sendall(piece) for piece in pieces] and None


def dripping(begin: bytes, piece: bytes, pause_s: float = 0.05) -> Callable[[socket.socket], None]:
    def answer(sock: socket.socket) -> None:
        sock.sendall(begin)
        while True:
            sock.sendall(piece)
            time.sleep(pause_s)

    return answer


def flooding(begin: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    return dripping(begin, piece, 0.0)


def test_a_document_comes_whole(fetcher: Any) -> None:
    packed = gzip.compress(b"<rss/>" * 1000)
    head = OK + b'Content-Encoding: gzip\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n' % len(packed)
    with server(said(head, packed)) as url:
        found = get(fetcher, url)
    assert found.body == b"<rss/>" * 1000
    assert found.headers["etag"] == '"1"'


def test_a_request_says_what_is_known(fetcher: Any) -> None:
    asked: list[bytes] = []

    def answer(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 304 Not Modified\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/feed?x=%C3%A4"

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                asked.append(sock.recv(65_536))
                answer(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        assert get(fetcher, url, '"7"').status == 304
        thread.join()
    lines = asked[0].lower().split(b"\r\n")
    assert lines[0] == b"get /feed?x=%c3%a4 http/1.1"
    assert b'if-none-match: "7"' in lines
    assert len([line for line in lines if line.startswith(b"host:")]) == 1


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        dripping(b"", b"H"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        flooding(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
        flooding(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000),
        dripping(OK + b"\r\n", b" "),
        flooding(OK + b"\r\n", b" " * 65_536),
        dripping(CHUNKED, b"1\r\nx\r\n"),
        flooding(CHUNKED, b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"),
        said(CHUNKED, b"zz\r\nx\r\n"),
        said(CHUNKED, b"-5\r\nx\r\n"),
        said(OK + b"Content-Length: 100\r\n\r\nhalf"),
        said(GZIP, gzip.compress(bytes(64 << 20))),
        said(GZIP, b"no gzip at all"),
        said(b"\x00\x01\x02"),
        said(b""),
        said(b"HTTP/1.1 999999999 X\r\n\r\n"),
        said(b"HTTP/9.9 200 OK\r\n\r\n<rss/>"),
        lambda sock: time.sleep(PATIENCE_S * 2),
        lambda sock: sock.close(),
    ],
)
def test_no_server_keeps_it_for_long(fetcher: Any, answer: Any) -> None:
    with server(answer) as url, pytest.raises(fetcher.web.TROUBLE):
        get(fetcher, url)


def test_a_stream_that_only_begins_is_left(fetcher: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
    with server(said(head, b"data: half")) as url:
        address = fetcher.addresses.parse(url)
        started: list[bool] = []
        events = fetcher.web.stream(connect, address, lambda: True, lambda: started.append(True))
        assert next(events) == b"one"
        with pytest.raises(ConnectionError):
            next(events)
    assert started


def test_what_is_no_stream_is_not_followed(fetcher: Any) -> None:
    with server(said(OK + b"\r\n<rss/>")) as url:
        address = fetcher.addresses.parse(url)
        with pytest.raises(ValueError, match="no stream"):
            next(fetcher.web.stream(connect, address, lambda: True, lambda: None))
