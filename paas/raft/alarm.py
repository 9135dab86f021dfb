"""One task waits until it is called or a time has come, again and again, for little (io).

A scope with a deadline for every wait costs more than a small step of the log.  Here one task keeps
one timer for all waits:

    wait(until) ── earlier than the timer? ── yes ──> the timer is set to it
         ^                  └─ no: nothing
         └──── ring ─────── the timer ends: is the time of this wait over?  else it is set anew

Timers of a log move later with nearly every message (a heartbeat puts off an election), which costs
nothing here until the former end has come.

It decides nothing.  One task waits at a time; `ring` is remembered when nobody does.
"""

from __future__ import annotations

import math

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled


class Alarm:
    """See the module's text.  `run` in a nursery, beside the task that waits."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: Task | None = None
        self._until_s = math.inf
        self._scope = trio.CancelScope()  # its deadline is the timer
        self._over = False

    def ring(self) -> None:
        """Let the wait end, or the next one."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self._rung = True
        else:
            reschedule(waiter)

    def heard(self) -> None:
        """What was rung for until now is about to be seen to."""
        self._rung = False

    async def wait(self, until_s: float) -> None:
        """Until `ring`, or this time of trio's clock.  At least a checkpoint."""
        if self._rung:
            await trio.lowlevel.checkpoint()
            return
        self._until_s = until_s
        if until_s < self._scope.deadline:
            self._scope.deadline = until_s
        self._waiter = current_task()
        await wait_task_rescheduled(self._aborted)

    def _aborted(self, _raise: object) -> Abort:
        self._waiter = None
        return Abort.SUCCEEDED

    async def run(self) -> None:
        """Keep the timer, until `stop`."""
        while not self._over:
            with self._scope:
                await trio.sleep_forever()
            waits = self._waiter is not None
            due = waits and trio.current_time() >= self._until_s
            if due:
                self.ring()
            again_s = self._until_s if waits and not due else math.inf
            self._scope = trio.CancelScope(deadline=again_s)

    def stop(self) -> None:
        """Let the wait end; there are no timers any more."""
        self._over = True
        self._scope.cancel()
        self.ring()
