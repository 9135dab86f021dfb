"""Byte streams on peers: open, accept, send, receive, end, break off (io).

    Peer ── stream.data, .credit, .end, .reset ──> Streams ──> Stream (flow: stream_flow.py)

The messages are notifications, so a stream neither counts as an outstanding request nor has a
deadline; it lives until both directions have ended, one side breaks it off, or the connection ends.
A stream whose owner is cancelled must be broken off by him: `async with stream` does so.

What a stranger can do: break its own streams.  Data without credit, on a channel that does not
exist or after the end breaks the stream off; messages of streams that are not known are ignored and
counted, since they may have crossed with its end.  Memory is bounded by streams x window.

Sending waits for credit, and while the connection itself is behind: a stream can neither fill the
outbox of a link nor delay other messages by much.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError, invalid
from paas.rpc import stream_messages as messages
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.rpc.stream_flow import Fault, Flow
from paas.rpc.stream_limits import (
    QUEUE_PAUSE_S,
    QUEUED_BYTES_MAX,
    STREAMS_MAX,
    STREAMS_OF_AGENT_MAX,
    WINDOW_BYTES,
)
from paas.wire.registry import Method, P, R, decode

_NUMBER_END = 1 << 53
"""Numbers that JSON readers of every language keep exact."""

AGENT_ROLES = frozenset({"hub", "containers"})


class Stream:
    """Our end of one stream."""

    def __init__(self, book: Streams, peer: Peer, key: int, window: int) -> None:
        """`key` is the number as we say it: positive if it is ours."""
        self._book = book
        self.peer = peer
        self.key = key
        self.error: PlatformError | None = None
        """Why it was broken off."""
        self._flow = Flow(window)
        self._changed = trio.Event()

    @property
    def number(self) -> int:
        return abs(self.key)

    @property
    def window(self) -> int:
        return self._flow.window

    @property
    def result(self) -> Any:
        """What the other side said with its end."""
        return self._flow.result

    @property
    def complete(self) -> bool:
        """All that the other side says has come; `receive` may still have to be called for it."""
        return self._flow.complete

    @property
    def over(self) -> bool:
        return self._flow.over

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing lives on behind the block.  What was sent with its end is still delivered."""
        reason = value if isinstance(value, PlatformError) else PlatformError("cancelled")
        self.reset(reason)

    # -- sending ---------------------------------------------------------------------------------

    async def send(self, data: bytes, channel: int = 0) -> None:
        """Send all of it, when the other side takes it.  Raises why the stream was broken off."""
        rest = memoryview(data)
        while rest:
            await self._wait_credit()
            count = self._flow.taken(len(rest))
            body = messages.Data(stream=self.key, data=bytes(rest[:count]), channel=channel)
            self.peer.notify(messages.DATA, body)
            rest = rest[count:]
        await trio.lowlevel.checkpoint()

    async def _wait_credit(self) -> None:
        while True:
            self._require()
            if not self._flow.may_send:
                raise PlatformError("invalid", "stream: this direction was ended")
            if not self._flow.credit:
                await self._changed.wait()
            elif self.peer.link.queued_bytes > QUEUED_BYTES_MAX:
                await trio.sleep(QUEUE_PAUSE_S)
            else:
                return

    def end(self, result: Any = None) -> None:
        """We send no more.  What is over is left as it is."""
        if self._flow.end():
            self.peer.notify(messages.END, messages.End(stream=self.key, result=result))
            self._book.settle(self)

    # -- receiving -------------------------------------------------------------------------------

    async def receive(self) -> tuple[int, bytes] | None:
        """(channel, bytes), or None at the end: then `result` is known.

        Raises why the stream was broken off; what had come before is dropped then.
        """
        while True:
            if not self.complete:
                self._require()
            piece = self._flow.consume()
            if piece is not None:
                count = self._flow.credit_to_give()
                if count:
                    self.peer.notify(messages.CREDIT, messages.Credit(stream=self.key, bytes=count))
                await trio.lowlevel.checkpoint()
                return piece
            if not self._flow.may_receive:
                await trio.lowlevel.checkpoint()
                return None
            await self._changed.wait()

    async def wait_broken(self) -> None:
        """Return when the stream was broken off, or the other side does not listen any more."""
        while self.error is None:
            await self._changed.wait()

    def _require(self) -> None:
        if self.error is not None:
            raise self.error

    # -- both ------------------------------------------------------------------------------------

    def granted(self, count: int) -> None:
        """The other side accepted the stream with this window."""
        self._flow.granted(count)
        self._wake()

    def reset(self, error: PlatformError) -> None:
        """Break it off, and tell the other side why.  What is over is left as it is."""
        if self.broken(error, by_peer=False) and not self.peer.closed:
            self.peer.notify(messages.RESET, messages.Reset(stream=self.key, error=error.to_rpc()))

    def broken(self, error: PlatformError, *, by_peer: bool) -> bool:
        """It is broken off; false if it was over before."""
        if not self._flow.break_off(by_peer=by_peer):
            return False
        self.error = error
        self._wake()
        self._book.settle(self)
        return True

    def heard(self, message: messages.Data | messages.Credit | messages.End) -> None:
        """A message of the other side.  Raises Fault."""
        if isinstance(message, messages.Data):
            self._flow.received(message.channel, message.data)
        elif isinstance(message, messages.Credit):
            self._flow.granted(message.bytes)
        else:
            self._flow.peer_ended(message.result)
            self._book.settle(self)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Streams:
    """All streams of the peers of a process.  `nursery` lives as long as the peers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._peers: dict[Peer, _OfPeer] = {}
        self._last = 0
        self.ignored = 0
        """Messages of streams that were not known."""
        self.faults = 0

    def register(self, dispatcher: Dispatcher) -> None:
        """Answer the messages of streams on a dispatcher."""
        for method in (messages.DATA, messages.CREDIT, messages.END, messages.RESET):
            dispatcher.plain(method, self._handle)

    def notified(self, peer: Peer, request: Request) -> bool:
        """For connections without a dispatcher: was this a message of a stream?"""
        kind = _KINDS.get(request.method)
        if kind is None:
            return False
        try:
            self._message(peer, decode(request.params, kind))
        except PlatformError as exc:
            peer.fail(request, exc)
        return True

    def _handle(self, message: Any, context: Context) -> None:
        self._message(context.peer, message)

    def _message(self, peer: Peer, message: Any) -> None:
        of_peer = self._peers.get(peer)
        stream = None if of_peer is None else of_peer.streams.get(-message.stream)
        if stream is None:
            self.ignored += 1
            return
        if isinstance(message, messages.Reset):
            stream.broken(PlatformError.from_rpc(message.error), by_peer=True)
            return
        try:
            stream.heard(message)
        except Fault as fault:
            self.faults += 1
            stream.reset(fault.error)

    # -- opening ---------------------------------------------------------------------------------

    async def open(
        self, peer: Peer, method: Method[P, R], params: P, *, timeout_s: float
    ) -> tuple[Stream, R]:
        """Ask the peer for a stream; `params` are an `Opening`, its number is set here.

        Raises what the peer answers.  Cancelled, the stream is broken off over there too.
        """
        self._last += 1
        stream = self._new(peer, self._last, WINDOW_BYTES)
        try:
            body = replace(params, stream=stream.number, window=stream.window)
            result = await peer.call(method, body, timeout_s=timeout_s)
        except BaseException:
            stream.reset(PlatformError("cancelled"))
            raise
        stream.granted(getattr(result, "window", 0))
        return stream, result

    def accept(self, peer: Peer, params: messages.Opening) -> Stream:
        """The stream that a request of the peer opens.  Raises `invalid`, `limit-exceeded`.

        Who answers the request with an error breaks the stream off.
        """
        if not 0 < params.stream < _NUMBER_END:
            raise invalid("stream", "expected a positive number", param="stream")
        if self.stream(peer, params.stream) is not None:
            raise invalid("stream", f"number {params.stream} is in use", param="stream")
        if params.window < 0:
            raise invalid("window", "expected 0 or more bytes", param="window")
        stream = self._new(peer, -params.stream, WINDOW_BYTES)
        stream.granted(params.window)
        return stream

    def _new(self, peer: Peer, key: int, window: int) -> Stream:
        if peer.closed:
            raise PlatformError("not-available", "the connection is closed")
        of_peer = self._peers.get(peer) or _OfPeer()
        agent = bool(AGENT_ROLES & set(peer.info.get("roles", ()))) or "role" in peer.info
        most = STREAMS_OF_AGENT_MAX if agent else STREAMS_MAX
        if len(of_peer.streams) >= most:
            raise PlatformError("limit-exceeded", f"{most} streams of this connection are open")
        if peer not in self._peers:
            self._peers[peer] = of_peer
            self._nursery.start_soon(self._watch, peer, of_peer)
        stream = Stream(self, peer, key, window)
        of_peer.streams[key] = stream
        return stream

    def stream(self, peer: Peer, number: int) -> Stream | None:
        """The living stream that this peer gave this number."""
        of_peer = self._peers.get(peer)
        return None if of_peer is None else of_peer.streams.get(-number)

    # -- ending ----------------------------------------------------------------------------------

    def settle(self, stream: Stream) -> None:
        """Forget a stream that is over."""
        of_peer = self._peers.get(stream.peer)
        if of_peer is not None and stream.over:
            of_peer.streams.pop(stream.key, None)

    async def _watch(self, peer: Peer, of_peer: _OfPeer) -> None:
        """When the peer goes, its streams break off."""
        try:
            with of_peer.scope:
                peer.scopes[of_peer.scope] = None
                if peer.closed:
                    of_peer.scope.cancel()
                await trio.sleep_forever()
        finally:
            self._peers.pop(peer, None)
            peer.scopes.pop(of_peer.scope, None)
            gone = PlatformError("unavailable", "the connection of this stream has ended")
            for stream in list(of_peer.streams.values()):
                stream.broken(gone, by_peer=True)
            of_peer.streams.clear()

    def statistics(self) -> dict[str, int]:
        """What is open, and what went wrong since the start."""
        count = sum(len(of_peer.streams) for of_peer in self._peers.values())
        return {"streams": count, "ignored": self.ignored, "faults": self.faults}


class _OfPeer:
    """The streams of one peer."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        """By the number as we say it: positive if it is ours."""
        self.scope = trio.CancelScope()


_KINDS: dict[str, Any] = {
    method.name: method.params
    for method in (messages.DATA, messages.CREDIT, messages.END, messages.RESET)
}


async def relay(one: Stream, other: Stream) -> None:
    """Pass everything on between two streams until both are over; a break goes both ways.

    Holds at most one piece a direction beside the windows, so the slower side slows the faster.
    A side that has said all it wanted and listens no more ends the way towards it, not the other.
    """
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as halves:
            halves.start_soon(_relay_half, one, other, nursery)
            halves.start_soon(_relay_half, other, one, nursery)
        nursery.cancel_scope.cancel()


async def _relay_half(source: Stream, sink: Stream, watchers: trio.Nursery) -> None:
    try:
        with trio.CancelScope() as scope:
            watchers.start_soon(_cancel_when_broken, sink, scope)
            while (piece := await source.receive()) is not None:
                await sink.send(piece[1], piece[0])
            sink.end(source.result)
            return
        if not sink.complete and sink.error is not None:
            source.reset(sink.error)
    except PlatformError as exc:
        if exc is source.error:
            sink.reset(exc)
        elif not sink.complete:  # else the other half still delivers what it has said
            source.reset(exc)


async def _cancel_when_broken(stream: Stream, scope: trio.CancelScope) -> None:
    await stream.wait_broken()
    scope.cancel()
