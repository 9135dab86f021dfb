"""Two peers joined back to back in memory: what one sends the other receives, really framed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import memory_stream_pair

from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.link import StreamLink
from paas.rpc.peer import OnRequest, Peer, Sweeper


class Pairs:
    """Makes connected pairs of peers in one nursery."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._sweeper = Sweeper()
        nursery.start_soon(self._sweeper.run)

    def join(self, left: OnRequest, right: OnRequest) -> tuple[Peer, Peer]:
        """Two live peers; `left` and `right` handle what the other side asks."""
        one, other = memory_stream_pair()
        return self._peer(one, left), self._peer(other, right)

    def _peer(self, stream: trio.abc.Stream, on_request: OnRequest) -> Peer:
        link = StreamLink(stream, self._nursery)
        peer = Peer(link, Connection(Form.COMPACT), self._sweeper, on_request)
        self._nursery.start_soon(peer.run)
        return peer


@asynccontextmanager
async def pairs() -> AsyncIterator[Pairs]:
    """`async with pairs() as maker: a, b = maker.join(on_a, on_b)`."""
    async with trio.open_nursery() as nursery:
        yield Pairs(nursery)
        nursery.cancel_scope.cancel()
