"""Bytes on their way out of a core, until the loop hands them to the kernel: counted, in order."""

from __future__ import annotations


class Outbox:
    """Gathers; the loop takes all at once and gives back what the kernel did not accept."""

    __slots__ = ("bytes", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.bytes = 0

    def add(self, data: bytes) -> None:
        if data:
            self.parts.append(data)
            self.bytes += len(data)

    def take(self) -> bytes:
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self.bytes = 0
        return data

    def put_back(self, rest: bytes) -> None:
        self.parts.insert(0, rest)
        self.bytes += len(rest)

    def clear(self) -> None:
        self.parts.clear()
        self.bytes = 0
