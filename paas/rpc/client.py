"""Dialling: one live peer to a named place, connected again with back-off when it breaks."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.base.retry import Backoff
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.link import Link, SocketLink
from paas.rpc.peer import OnRequest, Peer, Sweeper

RECONNECT = Backoff(first_s=0.02, factor=1.6, cap_s=1.0)


def refuse_requests(peer: Peer, request: Request) -> None:
    """For clients that answer nothing."""
    peer.fail(request, PlatformError("no-such-method", "this peer answers no requests"))


def connect_unix_socket(path: str) -> socket.socket:
    """A connected UNIX stream socket; raises `unavailable` when nobody listens there."""
    # Without waiting: a listener with a full backlog is as good as none, and must not block us.
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.connect(path)
    except OSError as exc:
        sock.close()
        reason = exc.strerror or exc  # a path that is too long has no errno
        raise PlatformError("unavailable", f"nobody answers at {path}: {reason}") from None
    return sock


@asynccontextmanager
async def connected(
    open_link: Callable[[trio.Nursery], Link], on_request: OnRequest, form: Form
) -> AsyncIterator[Peer]:
    """A peer for the length of a block, on the link that `open_link` opens.

    An error of the block, or of opening, leaves as itself, not in a group.
    """
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        try:
            peer = Peer(open_link(nursery), Connection(form), sweeper, on_request)
            nursery.start_soon(peer.run)
            try:
                yield peer
            finally:
                peer.close()
        except Exception as exc:
            failed = exc
        finally:
            nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed


def connected_unix(
    path: str, on_request: OnRequest = refuse_requests, form: Form = Form.MSGPACK
) -> Any:
    """`connected` to a UNIX socket: `async with connected_unix(path) as peer`."""
    return connected(
        lambda nursery: SocketLink(connect_unix_socket(path), nursery), on_request, form
    )
