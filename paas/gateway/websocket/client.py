"""A WebSocket between a browser and a member: frames pass by, checked and unchanged.

    browser ── _to_member ──> member
       ^  └── silent: ping      │
       └───── _to_browser <─────┘   <── orders: a notice, the end (1001), between two frames

When the member leaves, the browser may be told (a text of the route's), and the socket is closed by
1001 in both directions at the end of the drain.  When one side breaks off without a closing frame,
or sends what is no frame, the other is told with one.

Source: RFC 6455 §5.5.1, §7.1; see frames.py.
"""

from __future__ import annotations

import os

import trio

from paas.gateway.backends import Member
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.limits import LINGER_BYTES, EdgeLimits
from paas.gateway.transport import ENDS, Wire
from paas.gateway.websocket.frames import (
    GOING_AWAY,
    INTERNAL,
    PING,
    TEXT,
    FrameRefused,
    FrameWatch,
    close_frame,
    frame,
)


class Relay:
    """One WebSocket to a member.  The wires are the caller's, which closes them."""

    def __init__(
        self,
        exchange: Exchange,
        browser: Wire,
        member: Member,
        link: Wire,
        limits: EdgeLimits,
        *,
        compressed: bool,
    ) -> None:
        self.member = member
        self.code = 0
        """Why it ended: the code of the gateway's own closing frame, 0 if it said none."""
        self._exchange = exchange
        self._browser = browser
        self._link = link
        self._limits = limits
        self._from_browser = FrameWatch(masked=True, compressed=compressed)
        self._from_member = FrameWatch(masked=False, compressed=compressed)
        self._saying = trio.Lock()
        """Whoever sends to the browser: the member's frames, or the gateway's own."""
        self._scope = trio.CancelScope()
        self._orders: list[bytes] = []
        self._at_border = True
        """Does what the browser was sent so far end with a frame?"""
        self._browser_ended = trio.Event()
        self._telling = False
        """Is something of the browser's on its way to the member?"""
        self._deaf = False
        """Does the member take nothing any more?"""
        self._wanted = trio.Event()
        self._notified = False
        self._closing = False

    async def run(self) -> None:
        """Until one side ends, and the other was told."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._to_member, nursery.cancel_scope)
                nursery.start_soon(self._to_browser, nursery.cancel_scope)
                nursery.start_soon(self._obey, nursery.cancel_scope)

    # -- orders ------------------------------------------------------------------------------------

    def leave(self, notice: str, over: bool) -> None:
        """The member leaves: tell the browser once, and end when its time is over."""
        if not self._notified and notice:
            self._notified = True
            self._orders.append(frame(TEXT, notice.encode()))
            self._wanted.set()
        if over and not self._closing:
            self.close(GOING_AWAY, "the member leaves")

    def close(self, code: int, reason: str) -> None:
        """End it in both directions, in bounded time."""
        if not self._closing:
            self._closing = True
            self.code = code
            self._scope.deadline = trio.current_time() + self._limits.closing_s
            self._wanted.set()

    async def _obey(self, scope: trio.CancelScope) -> None:
        """Say what was ordered, as soon as no frame of the member's is under way."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            async with self._saying:
                if not self._at_border:
                    continue  # `_pass` comes back to it
                try:
                    while self._orders and not self._from_member.in_message:
                        await self._say(self._orders.pop(0))
                except ENDS:
                    return scope.cancel()
                if self._closing:
                    await self._end()
                    return scope.cancel()

    async def _end(self) -> None:
        """Both sides are told; the browser has a moment to answer, whatever it still sends."""
        reason = "the member leaves" if self.code == GOING_AWAY else "the connection failed"
        with trio.move_on_after(self._limits.closing_s):
            await self._tell(self._browser, close_frame(self.code, reason))
            said_all = self._from_browser.at_border and not self._telling
            if said_all and not self._from_browser.closed:
                await self._tell(self._link, close_frame(self.code, reason, os.urandom(4)))
            await self._browser.end()
            await self._browser_ended.wait()

    async def _say(self, data: bytes) -> None:
        """To the browser, which has so long to take it."""
        sent = self._browser.send_now(data)
        if sent < len(data):
            self._exchange.by_reader = trio.current_time() + self._limits.write_s
            await self._browser.send(data[sent:])
            self._exchange.by_reader = NEVER

    async def _tell(self, wire: Wire, data: bytes) -> None:
        try:
            await wire.send(data)
        except ENDS:
            return

    # -- the two directions ------------------------------------------------------------------------

    async def _to_member(self, scope: trio.CancelScope) -> None:
        watch = self._from_browser
        try:
            while data := await self._from_the_browser():
                watch.feed(data)
                self._exchange.received += len(data)
                if not self._closing and not self._deaf:
                    await self._say_to_member(data)
                elif watch.closed:
                    break
        except FrameRefused as exc:
            self._exchange.outcome = f"websocket: {exc.detail}"
            self.close(exc.code, exc.detail)
            await self._listen_on()
        except ENDS:
            pass
        self._browser_ended.set()
        if self._closing:
            return
        if watch.closed and not self._from_member.closed:
            return  # the member answers the closing frame, and ends
        if watch.at_border and not watch.closed:
            await self._tell(self._link, close_frame(GOING_AWAY, "", os.urandom(4)))
        scope.cancel()

    async def _say_to_member(self, data: bytes) -> None:
        """That it broke off is for `_to_browser` to find, behind its last words."""
        self._exchange.by_member = trio.current_time() + self._limits.write_s
        self._telling = True
        try:
            await self._link.send(data)
        except ENDS:
            self._deaf = True
        else:
            self._telling = False
        self._exchange.by_member = NEVER

    async def _from_the_browser(self) -> bytes:
        """Some bytes; nothing at the end, or when it does not answer a ping."""
        wire = self._browser
        if wire.pending:
            data, wire.pending = wire.pending, b""
            return data
        with trio.move_on_after(self._limits.socket_quiet_s):
            return await wire.receive()
        async with self._saying:
            if self._at_border:
                await self._say(frame(PING, b"gateway"))
        with trio.move_on_after(self._limits.socket_quiet_s):
            return await wire.receive()
        return b""

    async def _listen_on(self) -> None:
        """Throw away what a refused browser still sends, or it would not hear why."""
        taken = 0
        try:
            with trio.move_on_after(self._limits.refused_linger_s):
                while taken < LINGER_BYTES and (data := await self._browser.receive()):
                    taken += len(data)
        except ENDS:
            return

    async def _to_browser(self, scope: trio.CancelScope) -> None:
        watch = self._from_member
        wire = self._link
        try:
            while True:
                data, wire.pending = wire.pending, b""
                data = data or await wire.receive()
                if not data:
                    break
                await self._pass(data)
        except FrameRefused as exc:
            self._exchange.outcome = f"websocket, from the member: {exc.detail}"
        except ENDS:
            pass
        if self._closing and self._at_border:
            return None  # `_obey` ends it
        if watch.closed and not self._exchange.outcome:
            with trio.move_on_after(self._limits.closing_s):
                await self._browser.end()
                await self._browser_ended.wait()
            return scope.cancel()
        self._exchange.outcome = self._exchange.outcome or "websocket: the member broke off"
        if not self._at_border:
            return scope.cancel()
        return self.close(GOING_AWAY if self.member.drain_until else INTERNAL, "the member failed")

    async def _pass(self, data: bytes) -> None:
        """Send frames on, with what was ordered in between."""
        async with self._saying:
            if self._closing and self._at_border:
                return  # nothing of the member's goes on any more
            frame_end, message_end = self._from_member.feed(data)
            self._exchange.sent += len(data)
            if self._closing and frame_end:
                await self._say(data[:frame_end])
                self._at_border = True
                self._wanted.set()
                return
            if self._orders and message_end:
                await self._say(data[:message_end])
                data = data[message_end:]
                while self._orders:
                    await self._say(self._orders.pop(0))
            if data:
                await self._say(data)
            self._at_border = self._from_member.at_border
