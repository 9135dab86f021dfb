"""`paas proxy`: a port here that leads to an endpoint of a component (io).

Every connection that is made here becomes one that is made from inside the component's network, so
it needs no path between networks and passes no packet filter; who may use this port may use the
endpoint.  By default that is this machine.  Runs until Ctrl-C.
"""

from __future__ import annotations

import socket
from collections import deque

from paas.base.errors import PlatformError, invalid
from paas.cli.session import Session
from paas.cli.streaming import PIECE_BYTES, Channel, Streams

CONNECTIONS_MAX = 60
"""Below what the hub takes of streams on one connection."""

_BACKLOG = 64


class _Pair:
    """One connection here and its stream."""

    def __init__(self, sock: socket.socket, channel: Channel) -> None:
        self.sock = sock
        self.channel = channel
        self.reading = True
        self._writing = True
        self._pending: deque[memoryview] = deque()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def wants_read(self) -> bool:
        return self.reading and self.channel.credit > 0

    @property
    def wants_write(self) -> bool:
        return bool(self._pending)

    @property
    def over(self) -> bool:
        return not self.reading and not self._writing

    def read(self) -> None:
        """From here to there."""
        data = self.sock.recv(min(self.channel.credit, PIECE_BYTES))
        if data:
            self.channel.send(data)
        else:
            self.reading = False
            self.channel.end()

    def write(self) -> None:
        """From there to here, as much as is taken; raises why the stream was broken off."""
        while self.channel.arrived:
            self._pending.append(memoryview(self.channel.arrived.popleft()[1]))
        while self._pending:
            try:
                sent = self.sock.send(self._pending[0])
            except BlockingIOError:
                return
            self.channel.passed_on(sent)
            if sent < len(self._pending[0]):
                self._pending[0] = self._pending[0][sent:]
                return
            self._pending.popleft()
        self.channel.check()
        if self.channel.ended and self._writing:
            self._writing = False
            self.sock.shutdown(socket.SHUT_WR)


def proxy(session: Session, *, target: str, endpoint: str, listen: str) -> None:
    """Listen, and carry connections until interrupted."""
    listener = _listener(listen)
    streams = Streams(session)
    component = session.component_id(target)
    params: dict[str, object] = {"component": component}
    params |= {"port": int(endpoint)} if endpoint.isdigit() else {"endpoint": endpoint}
    try:
        streams.open("controller.connect", params).break_off()  # what is wrong is said at once
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        text = f"forwarding {address} -> {target}:{endpoint}"
        session.output.record({"listen": address, "component": component}, text)
        _serve(session, streams, listener, params)
    finally:
        listener.close()


def _listener(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon:
        host, port = "127.0.0.1", listen
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) >= 1 << 16:
        raise invalid("listen", "expected ADDRESS:PORT, or PORT")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as exc:
        text = f"{listen}: {exc.strerror or exc}"
        raise PlatformError("conflict", text, hint="choose another: --listen PORT") from None
    found.setblocking(False)
    return found


def _serve(
    session: Session, streams: Streams, listener: socket.socket, params: dict[str, object]
) -> None:
    pairs: list[_Pair] = []
    while True:
        for pair in list(pairs):
            if not _alive(session, pair):
                pair.channel.break_off()
                pair.sock.close()
                pairs.remove(pair)
        room = (listener,) if len(pairs) < CONNECTIONS_MAX else ()
        readable = tuple(pair for pair in pairs if pair.wants_read)
        writable = tuple(pair for pair in pairs if pair.wants_write)
        ready, _ = streams.wait((*room, *readable), writable)
        for pair in readable:
            if pair in ready:
                _read(pair)
        if listener in ready:
            _accept(session, streams, listener, params, pairs)


def _alive(session: Session, pair: _Pair) -> bool:
    try:
        pair.write()
    except PlatformError as exc:
        session.output.note(f"a connection was cut: {exc.message}")
        return False
    except OSError:
        return False
    return not pair.over


def _read(pair: _Pair) -> None:
    try:
        pair.read()
    except BlockingIOError:
        return
    except ConnectionError:
        pair.reading = False
        pair.channel.error = PlatformError("cancelled", "it was reset here")


def _accept(
    session: Session,
    streams: Streams,
    listener: socket.socket,
    params: dict[str, object],
    pairs: list[_Pair],
) -> None:
    try:
        sock, _ = listener.accept()
    except OSError:
        return
    sock.setblocking(False)
    try:
        pairs.append(_Pair(sock, streams.open("controller.connect", dict(params))))
    except PlatformError as exc:
        sock.close()
        if exc.code == "unavailable":
            raise
        session.output.note(f"refused: {exc.message}")
