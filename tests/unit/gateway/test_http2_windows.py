"""A browser's window that opens at the worst moment: while what filled it is still being sent."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import trio

from paas.gateway.http.exchange import Exchange
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http2.server import H2Connection

BODY = b"x" * 400_000


class Wire:
    """To a browser that answers faster than sending returns."""

    _WINDOW = 65_535

    def __init__(self) -> None:
        self.names: Any = None
        self.ended = trio.Event()
        self.received = 0
        self._used = 0
        self._say, self._hear = trio.open_memory_channel[bytes](1_000)
        self.browser = h2.connection.H2Connection(h2.config.H2Configuration())
        self.browser.initiate_connection()

    def say(self) -> None:
        self._say.send_nowait(self.browser.data_to_send())

    async def receive(self) -> bytes:
        return await self._hear.receive()

    async def send(self, data: bytes) -> None:
        for event in self.browser.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received += len(event.data or b"")
                self._used += event.flow_controlled_length or 0
                if self._used == self._WINDOW:  # no sooner
                    self.browser.acknowledge_received_data(self._used, event.stream_id)
                    self._used = 0
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.set()
        await trio.lowlevel.checkpoint()
        if more := self.browser.data_to_send():
            self._say.send_nowait(more)  # it is read while who sent this looks for room again

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._say.close()


async def test_a_window_that_opens_while_we_send_is_noticed() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [], len(BODY))
        await exchange.write(BODY)
        await exchange.end()

    wire: Any = Wire()
    connection = H2Connection(wire, "peer", serve, EdgeLimits(), lambda: "id", lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
        wire.browser.send_headers(1, fields, end_stream=True)
        wire.say()
        with trio.fail_after(20):
            await wire.ended.wait()
        nursery.cancel_scope.cancel()
    assert wire.received == len(BODY)
