"""The frames of a WebSocket as they pass by: where they end, and whether they are allowed.

A relay need not understand messages, but it must know the borders: it may say something of its own
(a ping, a notice, the end) only between two frames, and what is no frame must not reach a member
under the gateway's name.  So headers are read and checked, payloads are not looked at or copied.

    FrameWatch(masked=True)    from the browser: every frame is masked (RFC 6455 §5.1)
    FrameWatch(masked=False)   from the member: no frame is

Refused with close code 1002 (1009 for size): reserved bits that no extension explains, unknown
opcodes, control frames that are long or in fragments, a length that is longer written than needed,
a continuation of nothing, a new message within another.

Source: RFC 6455 §5.2 to §5.5, §7.4; RFC 7692 §6 (the first reserved bit).
"""

from __future__ import annotations

import struct

from paas.gateway.http.limits import FRAME_BYTES_MAX

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR, TOO_BIG, GOING_AWAY, INTERNAL = 1002, 1009, 1001, 1011
CONTROL_BYTES_MAX = 125
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_HEADER_BYTES_MAX = 14


class FrameRefused(Exception):
    """Not a frame that is allowed; `code` is for the closing frame."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class FrameWatch:
    """One direction of a WebSocket."""

    def __init__(self, *, masked: bool, compressed: bool, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._masked = masked
        self._first_bits = 0x40 if compressed else 0
        self._max = bytes_max
        self._header = b""
        self._left = 0
        self._opcode = 0
        self.in_message = False
        """Is a message in fragments under way?"""
        self.closed = False
        """Has a closing frame passed, whole?"""
        self.frames = 0

    @property
    def at_border(self) -> bool:
        """Is no frame under way?"""
        return not self._left and not self._header

    def feed(self, data: bytes) -> tuple[int, int]:
        """How much of `data` ends with a frame, and with a message; 0: none of it does.

        Raises FrameRefused.
        """
        frame_end = message_end = at = 0
        size = len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
            else:
                at = self._read_header(data, at)
                if self._header:
                    break
            if not self._left:
                frame_end = at
                self._frame_ended()
                if not self.in_message:
                    message_end = at
        return frame_end, message_end

    def _frame_ended(self) -> None:
        self.frames += 1
        if self._opcode == CLOSE:
            self.closed = True

    def _read_header(self, data: bytes, at: int) -> int:
        """After the header; it is kept while it is incomplete."""
        before = len(self._header)
        header = self._header + data[at : at + _HEADER_BYTES_MAX - before]
        needed = 2
        if len(header) >= 2:
            said = header[1] & 0x7F
            needed += {126: 2, 127: 8}.get(said, 0) + (4 if header[1] & 0x80 else 0)
            self._check_start(header)
        if len(header) < needed:
            self._header = header
            return len(data)
        self._header = b""
        self._left = self._length(header)
        return at + needed - before

    def _check_start(self, header: bytes) -> None:
        """Of the two first bytes alone, so that garbage is refused before more of it comes."""
        first, second = header[0], header[1]
        opcode, control = first & 0x0F, first & 0x08
        if self.closed:
            raise FrameRefused(PROTOCOL_ERROR, "a frame after the closing frame")
        if opcode not in _OPCODES:
            raise FrameRefused(PROTOCOL_ERROR, f"the opcode {opcode} is not in use")
        allowed = self._first_bits if opcode in (TEXT, BINARY) else 0
        if first & 0x70 & ~allowed:
            raise FrameRefused(PROTOCOL_ERROR, "a reserved bit is set")
        if bool(second & 0x80) != self._masked:
            word = "not masked" if self._masked else "masked"
            raise FrameRefused(PROTOCOL_ERROR, f"the frame is {word}")
        if control and (not first & 0x80 or second & 0x7F > CONTROL_BYTES_MAX):
            raise FrameRefused(PROTOCOL_ERROR, "a control frame is in fragments or too long")
        if opcode == CLOSE and second & 0x7F == 1:
            raise FrameRefused(PROTOCOL_ERROR, "half a close code")

    def _length(self, header: bytes) -> int:
        first, said = header[0], header[1] & 0x7F
        length = said
        if said == 126:
            (length,) = struct.unpack_from("!H", header, 2)
            if length < 126:
                raise FrameRefused(PROTOCOL_ERROR, "a length is longer written than needed")
        elif said == 127:
            (length,) = struct.unpack_from("!Q", header, 2)
            if length < 1 << 16 or length >> 63:
                raise FrameRefused(PROTOCOL_ERROR, "a length is longer written than needed")
        if length > self._max:
            raise FrameRefused(TOO_BIG, f"a frame has at most {self._max} bytes")
        self._opcode = first & 0x0F
        self._message(self._opcode, final=bool(first & 0x80))
        return int(length)

    def _message(self, opcode: int, *, final: bool) -> None:
        if opcode & 0x08:
            return
        if opcode == CONTINUATION:
            if not self.in_message:
                raise FrameRefused(PROTOCOL_ERROR, "a continuation of no message")
        elif self.in_message:
            raise FrameRefused(PROTOCOL_ERROR, "a new message within another")
        self.in_message = not final


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One whole frame; `mask` has four bytes towards a member, none towards a browser."""
    bit = 0x80 if mask else 0
    length = len(payload)
    if length < 126:
        header = struct.pack("!BB", 0x80 | opcode, bit | length)
    elif length < 1 << 16:
        header = struct.pack("!BBH", 0x80 | opcode, bit | 126, length)
    else:
        header = struct.pack("!BBQ", 0x80 | opcode, bit | 127, length)
    if mask:
        payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
    return header + mask + payload


def close_frame(code: int, reason: str, mask: bytes = b"") -> bytes:
    """A closing frame; the reason is cut to what a control frame holds."""
    text = reason.encode()[: CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + text, mask)
