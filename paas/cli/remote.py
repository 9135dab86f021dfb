"""A cluster somewhere else: the same commands over a WebSocket (io).

    paas --url https://HOST:PORT/rpc --authority-file FILE --token-file FILE …
    paas --url https://HOST:PORT/rpc --authority-file FILE --cert-file FILE --key-file FILE …

The connection is the one for sockets (`connection.Connection`) with another codec under it: a JSON
value is a text message.  Secrets come from files, never from the command line, where every user of
the machine could read them.  The far side is believed when it is the server (`api`) of a node that
the given authority vouches for; the name in the address does not matter.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from paas.base.errors import PlatformError, invalid
from paas.cli.connection import READ_BYTES, Connection
from paas.identity.names import API
from paas.identity.tls import SecurityError, access_client_context, peer_identity, require_role

CONNECT_TIMEOUT_S = 10.0
PORT = 443


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the cluster is, and the files with what opens it."""

    url: str
    authority: str
    token: str = ""
    cert: str = ""
    key: str = ""


class Messages:
    """JSON values as text messages; answers to pings leave on the way."""

    def __init__(self, sock: socket.socket, protocol: WSConnection) -> None:
        self._sock = sock
        self._protocol = protocol
        self._text = ""

    def encode(self, value: object) -> bytes:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return self._protocol.send(TextMessage(data=text))

    def feed(self, data: bytes) -> Iterator[Any]:
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    yield json.loads(text)
            elif isinstance(event, Ping):
                self._sock.sendall(self._protocol.send(event.response()))
            elif isinstance(event, CloseConnection):
                reason = event.reason or f"code {event.code}"
                raise PlatformError("unavailable", f"the hub closed the connection: {reason}")


def connect_remote(remote: Remote) -> Connection:
    """A connection to the cluster.  Raises `invalid`, `unavailable`, `denied`, `untrusted`."""
    parts = urlsplit(remote.url)
    if parts.scheme != "https" or not parts.hostname:
        raise invalid("url", "expected https://HOST:PORT/rpc")
    if not remote.authority:
        raise invalid("authority-file", "expected a file with the cluster's authority (PEM)")
    context = access_client_context(
        _read("authority-file", remote.authority), remote.cert, remote.key or remote.cert
    )
    try:
        plain = socket.create_connection(
            (parts.hostname, parts.port or PORT), timeout=CONNECT_TIMEOUT_S
        )
        sock = context.wrap_socket(plain, server_hostname=parts.hostname)
    except SecurityError as exc:
        raise PlatformError("untrusted", f"{remote.url}: {exc.reason or exc}") from None
    except OSError as exc:
        text = f"{remote.url} cannot be reached: {exc.strerror or exc}"
        raise PlatformError("unavailable", text) from None
    try:
        require_role(peer_identity(sock), {API})
        return Connection(sock, codec=_handshake(sock, remote, parts.path or "/rpc"))
    except BaseException:
        sock.close()
        raise


def _handshake(sock: socket.socket, remote: Remote, path: str) -> Messages:
    protocol = WSConnection(ConnectionType.CLIENT)
    headers: list[tuple[bytes, bytes]] = []
    if remote.token:
        token = _read("token-file", remote.token).strip()
        headers.append((b"authorization", f"Bearer {token}".encode()))
    host = urlsplit(remote.url).netloc
    request = Request(host=host, target=path, subprotocols=["jsonrpc"], extra_headers=headers)
    refusal: RejectConnection | None = None
    said = b""
    try:
        sock.sendall(protocol.send(request))
        while True:
            for event in protocol.events():
                if isinstance(event, AcceptConnection):
                    return Messages(sock, protocol)
                if isinstance(event, RejectConnection):
                    refusal = event
                if isinstance(event, RejectData):
                    said += event.data
                if refusal is not None and isinstance(event, RejectData) and event.body_finished:
                    raise _refused(refusal.status_code, said)
            data = sock.recv(READ_BYTES)
            if not data:
                raise _refused(0 if refusal is None else refusal.status_code, said)
            protocol.receive_data(data)
    except OSError as exc:  # with TLS 1.3 a refused certificate shows here
        text = f"{remote.url}: {getattr(exc, 'reason', None) or exc.strerror or exc}"
        raise PlatformError("denied", text) from None


def _refused(status: int, said: bytes) -> PlatformError:
    try:
        detail = str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "the server closed the connection"
    code = "denied" if status in (401, 403) else "unavailable"
    return PlatformError(code, detail, hint="check the token: paas token list")


def _read(field: str, path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError) as exc:
        raise invalid(field, f"expected a readable file, not {os.fspath(path)!r}: {exc}") from None
