"""Bytes on their way out of a core, until the loop hands them to the kernel: counted, in order.

That is once a turn of the loop; in a turn with much to do earlier, whenever `limits.EARLY_BYTES`
have gathered: who reads them can begin, on another core, while we digest the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from paas.harness import limits


class Outbox:
    """Gathers; the loop takes all at once and gives back what the kernel did not accept."""

    __slots__ = ("bytes", "on_many", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.bytes = 0
        self.on_many: Callable[[], object] | None = None
        """Called when much has gathered; for the loop."""

    def add(self, data: bytes) -> None:
        if data:
            self.parts.append(data)
            self.bytes += len(data)
            if self.bytes >= limits.EARLY_BYTES and self.on_many is not None:
                self.on_many()

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
