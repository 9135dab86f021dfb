"""A server for the tests of both ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.rpc.envelope import Request
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve

Serving = Callable[..., AbstractAsyncContextManager[str]]


def echo(peer: Peer, request: Request) -> None:
    peer.reply(request, request.params)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """`async with serving(on_request, **options of serve) as path`."""

    @asynccontextmanager
    async def run(
        on_request: Callable[[Peer, Request], None] = echo, **options: Any
    ) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            path = str(tmp_path / "served")
            options = {"connections_max": 100, **options}
            await nursery.start(partial(serve, **options), listen_unix(path), on_request, sweeper)
            yield path
            nursery.cancel_scope.cancel()

    return run
