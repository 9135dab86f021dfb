"""One request over the network, in bounded time and size (io).

A timer closes the connection at the deadline, whatever the other side does: sending a byte a
second, in the header or in the body, gains it nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from addresses import Address
from answers import request_headers
from events import Events
from inflating import Body, BodyError

FETCH_S_MAX = 20.0
CONNECT_S_MAX = 5.0
PIECE_BYTES = 65_536
STREAM_SILENCE_S_MAX = 45.0
"""Longer than servers wait before they send a comment."""

STREAM_EVENTS_MAX = 100_000

Connect = Callable[[Address, float], socket.socket]
TROUBLE = (OSError, http.client.HTTPException, BodyError, ValueError)
"""What can go wrong with somebody else's web site."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers by lower-case names, and the unpacked body (of 200 only)."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Prepared(http.client.HTTPConnection):
    """A connection that was made elsewhere."""

    def __init__(self, host: str, made: socket.socket) -> None:
        super().__init__(host)
        self.sock: Any = made
        self.auto_open = 0


@contextlib.contextmanager
def asking(
    connect: Connect, address: Address, etag: str, modified: str, seconds: float
) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
    """The answer to one request, its body not read yet; closed after `seconds`."""
    sock = connect(address, min(CONNECT_S_MAX, seconds))
    timer = threading.Timer(seconds, _cut, [sock])
    timer.daemon = True
    timer.start()
    try:
        if address.scheme == "https":
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=address.host)
        connection = Prepared(address.host, sock)
        headers = request_headers(address.authority, etag, modified)
        connection.putrequest("GET", address.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        yield connection.getresponse(), sock
    finally:
        timer.cancel()
        sock.close()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def get(
    connect: Connect, address: Address, etag: str, modified: str, seconds: float = FETCH_S_MAX
) -> Response:
    """One request.  Raises what is in TROUBLE."""
    until_s = time.monotonic() + seconds
    with asking(connect, address, etag, modified, seconds) as (answer, _sock):
        headers = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status != 200 or headers.get("content-type", "").startswith("text/event-stream"):
            return Response(answer.status, headers)
        body = Body(headers.get("content-encoding", ""))
        while piece := answer.read1(PIECE_BYTES):
            body.add(piece)
        if time.monotonic() >= until_s:
            raise TimeoutError(f"no whole answer within {seconds:g} s")
        if answer.length:
            raise BodyError("the answer ends too early")
        return Response(200, headers, body.end())


def stream(
    connect: Connect, address: Address, wanted: Callable[[], bool], started: Callable[[], None]
) -> Iterator[bytes]:
    """The data of each event, for as long as it is wanted.  Raises what is in TROUBLE."""
    with asking(connect, address, "", "", 86_400.0) as (answer, sock):
        kind = answer.headers.get("content-type", "")
        if answer.status != 200 or not kind.startswith("text/event-stream"):
            raise ValueError(f"the source answered {answer.status} and no stream")
        sock.settimeout(STREAM_SILENCE_S_MAX)
        started()
        events, count = Events(), 0
        while wanted() and count < STREAM_EVENTS_MAX:
            piece = answer.read1(PIECE_BYTES)
            if not piece:
                raise ConnectionError("the stream has ended")
            for event in events.add(piece):
                count += 1
                yield event
