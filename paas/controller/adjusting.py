"""One at a time for each component: who gives its container other bounds waits for whoever does.

An operator's order and the component's keeper both put bounds in force; without this the older of
two could come last.  A lock exists only while somebody holds it or waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Adjusting:
    """See the module's text."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, component: str) -> AsyncIterator[None]:
        """Alone with this component in the block."""
        lock = self._locks.setdefault(component, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(component, None)
