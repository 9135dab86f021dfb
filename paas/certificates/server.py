"""The join listener: where strangers may knock.

TLS with the hub's certificate and without one of the caller; one method, `cluster.join`; few
connections at a time, each of bounded time and size whatever is sent on it.  A connection that does
not finish its handshake, or sends something else, is closed and costs nobody else anything.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.certificates import messages
from paas.certificates.joining import JoinService, Notice
from paas.certificates.limits import (
    JOIN_CONNECTION_S,
    JOIN_CONNECTIONS_MAX,
    JOIN_REQUEST_BYTES_MAX,
)
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Form
from paas.rpc.link import Link, StreamLink
from paas.rpc.peer import Sweeper
from paas.rpc.server import serve
from paas.wire.registry import Message


class BoundedLink(StreamLink):
    """A link that ends when its peer has sent more than a node that joins has to say."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        super().__init__(stream, nursery)
        self._left_bytes = JOIN_REQUEST_BYTES_MAX

    async def read(self) -> bytes:
        data = await super().read()
        self._left_bytes -= len(data)
        return data if self._left_bytes >= 0 else b""


async def serve_joining(
    listener: socket.socket,
    context: Callable[[], ssl.SSLContext],
    service: JoinService,
    *,
    clock: Clock,
    notice: Notice,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer nodes that join until cancelled; closes the listener.

    `context` gives `identity.tls.join_server_context` of the hub's present identity.
    """

    async def join(params: messages.Join, call: Context) -> Message:
        # One request a connection: many at once would pass the count of refusals together.
        if call.peer.info.setdefault("asked", call.request) is not call.request:
            raise PlatformError("limit-exceeded", "one request a connection is answered here")
        return await service.join(params, call.peer.info["source"])

    def on_bug(method: str, exc: Exception) -> None:
        notice("join-bug", method=method, error=repr(exc))

    sweeper = Sweeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        dispatcher = Dispatcher(nursery, clock, on_bug=on_bug)
        dispatcher.task(messages.JOIN, join)
        await nursery.start(
            partial(
                serve,
                listener,
                dispatcher,
                sweeper,
                form=Form.MSGPACK,
                connections_max=JOIN_CONNECTIONS_MAX,
                open_link=partial(_open_link, context, notice),
            )
        )
        task_status.started()


async def _open_link(
    context: Callable[[], ssl.SSLContext],
    notice: Notice,
    sock: socket.socket,
    nursery: trio.Nursery,
) -> tuple[Link, dict[str, Any]]:
    source = _source(sock)
    sock.setblocking(False)
    plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    stream = trio.SSLStream(plain, context(), server_side=True, https_compatible=True)
    until_s = trio.current_time() + JOIN_CONNECTION_S
    try:
        with trio.fail_at(until_s):
            await stream.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError, OSError) as exc:
        notice("join-handshake-failed", source=source, reason=str(exc.__cause__ or exc))
        sock.close()
        raise PlatformError("denied", "the handshake failed") from None
    link = BoundedLink(stream, nursery)
    nursery.start_soon(_end_at, link, until_s)
    return link, {"source": source}


async def _end_at(link: Link, until_s: float) -> None:
    await trio.sleep_until(until_s)
    link.close()


def _source(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""  # gone already
