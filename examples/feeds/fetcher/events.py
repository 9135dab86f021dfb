"""Server-sent events: bytes in, data of whole events out.  Pure (WHATWG HTML, section 9.2.6).

Only `data` matters here.  Events that a connection did not finish are dropped, as the standard
says; lines and events are bounded, since a stream without line ends must not fill the memory.
"""

from __future__ import annotations

EVENT_BYTES_MAX = 262_144


class StreamError(ValueError):
    """The stream is not one that is followed further."""


class Events:
    """One stream from its beginning."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def add(self, data: bytes) -> list[bytes]:
        """The events that have become whole; raises StreamError."""
        self._rest += data
        if not self._begun and len(self._rest) >= 3:
            self._rest, self._begun = self._rest.removeprefix(b"\xef\xbb\xbf"), True
        # A CR at the end may be the first half of CRLF.
        held = b"\r" if self._rest.endswith(b"\r") else b""
        text = self._rest[: len(self._rest) - len(held)]
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        found = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) + self._size > EVENT_BYTES_MAX:
            raise StreamError(f"an event has at most {EVENT_BYTES_MAX} bytes")
        return found

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event, self._data, self._size = b"\n".join(self._data), [], 0
            return event or None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
            if self._size > EVENT_BYTES_MAX:
                raise StreamError(f"an event has at most {EVENT_BYTES_MAX} bytes")
        return None
