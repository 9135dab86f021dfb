"""Flow control of one end of a byte stream, as a pure core: credit, buffers, ends.

    send:     taken(n) ── at most what the other side gave credit for ──> data
    receive:  received(data) ── never more than we gave credit for ──> buffers ──> consume()
                                                              credit() <── what was consumed

Invariants.
- The buffers together hold at most `window` bytes, whatever the other side sends: what goes beyond
  the credit is a fault of the other side and is not kept.
- Credit given and not used, plus what is in the buffers, plus what was consumed and not yet given
  back, is `window` at all times.
- One buffer a channel, so that many small pieces cost no more than few large ones.  Between
  channels no order is kept; within one it is.

Source: the windows of SSH channels (RFC 4254 §5.2) and of HTTP/2 streams (RFC 9113 §5.2).
"""

from __future__ import annotations

from typing import Any

from paas.base.errors import PlatformError
from paas.rpc.lifecycle import STREAM, StreamEvent, StreamState
from paas.rpc.stream_limits import CHANNELS, CREDIT_BYTES_MAX, PIECE_BYTES, WINDOW_BYTES


class Fault(Exception):
    """The other side broke the rules of this stream; `error` is what it is told."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.error = PlatformError(code, text)


class Flow:
    """One end of one stream."""

    __slots__ = (
        "_buffers",
        "_complete",
        "_consumed",
        "_credit",
        "_given",
        "_last",
        "result",
        "state",
        "window",
    )

    def __init__(self, window: int = WINDOW_BYTES) -> None:
        self.window = window
        self.state = STREAM.initial
        self.result: Any = None
        """What the other side said with its end."""
        self._complete = False
        self._credit = 0
        self._given = window
        self._consumed = 0
        self._buffers = [bytearray() for _ in range(CHANNELS)]
        self._last = CHANNELS - 1

    # -- sending ---------------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        return self.state in (StreamState.OPEN, StreamState.HEARD)

    @property
    def credit(self) -> int:
        """Bytes that may be sent now."""
        return self._credit

    def granted(self, count: int) -> None:
        """The other side takes more."""
        if count < 0:
            raise Fault("invalid", "bytes: expected 0 or more")
        self._credit = min(self._credit + count, CREDIT_BYTES_MAX)

    def taken(self, length: int) -> int:
        """How many of `length` bytes are to be sent now, as one message; they count as sent."""
        count = min(length, self._credit, PIECE_BYTES)
        self._credit -= count
        return count

    def end(self) -> bool:
        """We send no more; false if that was said before."""
        if not self.may_send:
            return False
        self.state = STREAM.next(self.state, StreamEvent.END)
        return True

    # -- receiving -------------------------------------------------------------------------------

    @property
    def may_receive(self) -> bool:
        """More can come than is in the buffers."""
        return self.state in (StreamState.OPEN, StreamState.SENT)

    def received(self, channel: int, data: bytes) -> None:
        """Data of the other side.  Raises Fault when it is more than it may send."""
        if not self.may_receive:
            raise Fault("invalid", "stream: data after its end")
        if not 0 <= channel < CHANNELS:
            raise Fault("invalid", f"channel: expected 0 to {CHANNELS - 1}")
        if len(data) > self._given:
            raise Fault("limit-exceeded", "more data than there was credit for")
        self._given -= len(data)
        self._buffers[channel] += data

    def peer_ended(self, result: Any) -> None:
        if not self.may_receive:
            raise Fault("invalid", "stream: ended twice")
        self.result = result
        self._complete = True
        self.state = STREAM.next(self.state, StreamEvent.PEER_ENDS)

    def consume(self) -> tuple[int, bytes] | None:
        """(channel, the next bytes of it); the channels take turns.  None: nothing is there."""
        for step in range(1, CHANNELS + 1):
            channel = (self._last + step) % CHANNELS
            buffer = self._buffers[channel]
            if buffer:
                data = bytes(buffer[:PIECE_BYTES])
                del buffer[: len(data)]
                self._last = channel
                self._consumed += len(data)
                return channel, data
        return None

    def credit_to_give(self) -> int:
        """What to announce to the other side now: 0 until half a window was consumed."""
        if self._consumed * 2 < self.window or not self.may_receive:
            return 0
        count, self._consumed = self._consumed, 0
        self._given += count
        return count

    # -- the end ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.state is StreamState.OVER

    @property
    def complete(self) -> bool:
        """All that the other side wanted to say has come, with its end."""
        return self._complete

    def break_off(self, *, by_peer: bool) -> bool:
        """Nothing goes on; false if it was over.

        What was not consumed is dropped, except when it is complete and the other side only does
        not listen any more: that is how most programs end.
        """
        if not (by_peer and self._complete):
            for buffer in self._buffers:
                buffer.clear()
        if self.over:
            return False
        self.state = STREAM.next(self.state, StreamEvent.BREAK)
        return True
