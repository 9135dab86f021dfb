"""The container controller as the hub's process sees it: typed calls, notices, reconnection.

The connection is mutual TLS on the node's UNIX socket; while the container controller is being
restarted, calls wait for it until their own deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Entropy
from paas.container import methods
from paas.rpc.client import RECONNECT, connect_unix_socket
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.streams import Streams
from paas.rpc.transport import SecureTransport
from paas.wire.registry import Method, P, R, decode

CONTAINERS_ROLE = frozenset({"containers"})

LEASE_TIMEOUT_S = 2.0
CLEAR_TIMEOUT_S = 30.0


class ContainerListener(Protocol):
    """Who wants to hear from the container controller."""

    def containers_connected(self) -> None:
        """A (new) container controller answers: compare what runs with what should."""
        ...

    def containers_lost(self) -> None: ...

    def container_exited(self, notice: methods.ContainerExited) -> None: ...


class ContainersClient:
    """One reconnecting connection to the node's container controller."""

    def __init__(
        self,
        path: str,
        transport: SecureTransport,
        entropy: Entropy,
        *,
        on_trouble: Callable[[str], None],
    ) -> None:
        self._path = path
        self._transport = transport
        self._entropy = entropy
        self._on_trouble = on_trouble
        self._peer: Peer | None = None
        self._changed = trio.Event()
        self.listener: ContainerListener | None = None
        self.streams: Streams | None = None
        """Where messages of byte streams go."""

    @property
    def connected(self) -> bool:
        return self._peer is not None and not self._peer.closed

    async def wait_connected(self) -> None:
        while not self.connected:
            await self._changed.wait()

    async def run(self) -> None:
        """Keep the connection for as long as the process lives; a trouble is told once."""
        attempt, told = 0, ""
        while True:
            try:
                await self._session()
                attempt, told = 0, ""
            except* PlatformError as group:
                if (text := str(group.exceptions[0])) != told:
                    self._on_trouble(text)
                told = text
            attempt += 1
            await trio.sleep(RECONNECT.delay_s(attempt, self._entropy.fraction()))

    async def _session(self) -> None:
        async with trio.open_nursery() as nursery:
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            sock = connect_unix_socket(self._path)
            link, _ = await self._transport.dial(sock, nursery, CONTAINERS_ROLE)
            peer = Peer(link, Connection(Form.COMPACT), sweeper, self._notice)
            peer.info["roles"] = CONTAINERS_ROLE
            self._peer = peer
            self._wake()
            if self.listener is not None:
                self.listener.containers_connected()
            try:
                await peer.run()
            finally:
                self._peer = None
                self._wake()
                if self.listener is not None:
                    self.listener.containers_lost()
                nursery.cancel_scope.cancel()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _notice(self, peer: Peer, request: Request) -> None:
        if self.streams is not None and self.streams.notified(peer, request):
            return
        if request.method == methods.EXITED.name and self.listener is not None:
            self.listener.container_exited(decode(request.params, methods.ContainerExited))
        else:
            peer.fail(request, PlatformError("no-such-method"))

    async def call(self, method: Method[P, R], params: P, *, timeout_s: float) -> R:
        """Call when the connection is there; raises `unavailable` when it does not come back."""
        deadline = trio.current_time() + timeout_s
        peer = await self.wait_peer(timeout_s)
        return await peer.call(method, params, timeout_s=max(deadline - trio.current_time(), 0.01))

    async def wait_peer(self, timeout_s: float) -> Peer:
        """The connection, when it is there; raises `unavailable` when it does not come back."""
        deadline = trio.current_time() + timeout_s
        while (peer := self._peer) is None or peer.closed:
            changed = self._changed
            with trio.move_on_at(deadline) as scope:
                await changed.wait()
            if scope.cancelled_caught:
                raise PlatformError("unavailable", "the container controller does not answer")
        return peer

    async def lease(self, deadline_s: float | None, *, timeout_s: float = LEASE_TIMEOUT_S) -> None:
        """Components may run until then (CLOCK_BOOTTIME); None: no lease is needed.

        Returns when it is in force; raises `not-available` when the deadline has passed.
        """
        await self.call(methods.LEASE, methods.SetLease(deadline_s=deadline_s), timeout_s=timeout_s)

    async def clear(self, *, timeout_s: float = CLEAR_TIMEOUT_S) -> None:
        """Kill whatever runs on the node; returns when nothing does."""
        await self.call(methods.CLEAR, methods.ClearNode(), timeout_s=timeout_s)
