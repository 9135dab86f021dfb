"""One process on a simulated node: it lives once, may be paused, and dies without a last word.

What comes from outside (a message, an end of a connection) is posted: it runs in the process's
context, so that tasks it starts belong to the process; while the process is paused it waits, as
bytes wait in a socket; when the process is dead it is dropped.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import trio

from paas.sim.platform.world import PROCESS, World


class Process:
    """See the module's text."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.paused = False
        self.scope = trio.CancelScope()
        self.held_tasks: list[Any] = []
        self._posted: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self)

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something arrives from outside."""
        if not self.alive:
            return
        if self.paused:
            self._posted.append((action, arguments))
        elif PROCESS.get() is self:
            action(*arguments)  # it told itself
        else:
            self._context.run(action, *arguments)

    def spawn(self, nursery: trio.Nursery, job: Callable[..., Any], *arguments: Any) -> None:
        """Start a task that belongs to this process."""
        self._context.run(nursery.start_soon, job, *arguments)

    def pause(self) -> None:
        if self.alive and not self.paused:
            self.paused = True
            self.world.pause(self)

    def resume(self) -> None:
        """Go on: what waited comes in its order."""
        if not self.paused:
            return
        self.paused = False
        self.world.resume(self)
        posted, self._posted = self._posted, []
        for action, arguments in posted:
            self.post(action, *arguments)

    def kill(self) -> None:
        """It is no more, at once: nothing it does from here on reaches anybody."""
        if self.alive:
            self.resume()
            self.alive = False
            self.scope.cancel()
