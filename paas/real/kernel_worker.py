"""One thread of its own for blocking work that belongs to a thread (namespaces, netlink sockets).

Calls are done one after the other.  A call that was begun is waited for even when the caller is
cancelled: its result may be a thing that must not be lost.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class Worker:
    """Runs functions in its thread; `close` when nobody will call any more."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the thread and return what it returns or raise what it raises."""
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        result: list[T] = []
        error: list[BaseException] = []

        def job() -> None:
            try:
                result.append(function(*arguments))
            except BaseException as exc:
                error.append(exc)
            token.run_sync_soon(done.set)

        self._jobs.put(job)
        with trio.CancelScope(shield=True):
            await done.wait()
        if error:
            raise error[0]
        return result[0]

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()
