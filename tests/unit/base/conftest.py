"""Scripted children and a supervisor over them, for the tests of supervision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from paas.base.retry import Backoff
from paas.base.supervisor import (
    Child,
    Event,
    EventKind,
    Restart,
    RestartIntensityExceeded,
    State,
    Supervisor,
    cleanup_scope,
)

QUICK = Backoff(0.0, cap_s=0.0)


class Boom(Exception):
    """A crash on purpose."""


class Script:
    """A child for tests: says what happens to it, and ends when told to."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story
        self.lives = 0
        self.alive = 0
        self.order = trio.Event()
        self.crash = True
        self.start_s = 0.0
        self.clean_s = 0.0
        self.crashes_before_ready = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.lives += 1
        self.order = trio.Event()
        self.alive += 1
        assert self.alive == 1, "two lives at once"
        try:
            await trio.sleep(self.start_s)
            if self.crashes_before_ready:
                self.crashes_before_ready -= 1
                raise Boom(f"{self.name} while starting")
            self.story.append(f"+{self.name}")
            task_status.started()
            await self.order.wait()
            if self.crash:
                raise Boom(self.name)
        finally:
            if self.clean_s:
                with cleanup_scope():
                    await trio.sleep(self.clean_s)
            self.alive -= 1
            self.story.append(f"-{self.name}")

    def end(self, *, crash: bool) -> None:
        self.crash = crash
        self.order.set()


class World:
    """A supervisor with scripted children a, b, c (or as many as names are given)."""

    def __init__(
        self, names: str = "abc", restart: Restart = Restart.PERMANENT, **how: Any
    ) -> None:
        self.story: list[str] = []
        self.events: list[Event] = []
        self.scripts = {name: Script(name, self.story) for name in names}
        how.setdefault("backoff", QUICK)
        self.supervisor = Supervisor(
            "root",
            [Child(name=n, run=s.run, restart=restart) for n, s in self.scripts.items()],
            on_event=self.note,
            **how,
        )
        self.failure: BaseException | None = None
        self.times: list[float] = []

    def note(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(trio.current_time())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run)
            yield
            self.supervisor.stop()

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self.supervisor.run(task_status=task_status)
        except RestartIntensityExceeded as exc:
            self.failure = exc

    async def end(self, name: str, *, crash: bool) -> list[str]:
        """End one child and return what then happens."""
        self.story.clear()
        self.scripts[name].end(crash=crash)
        await trio.sleep(1)
        return list(self.story)

    def states(self) -> dict[str, State]:
        return {status.name: status.state for status in self.supervisor.which_children()}

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


@pytest.fixture
def new_world() -> type[World]:
    """Makes a supervisor with scripted children."""
    return World


@pytest.fixture
def new_script() -> type[Script]:
    """Makes a scripted child."""
    return Script


@pytest.fixture
def boom() -> type[Boom]:
    """What scripted children crash with."""
    return Boom
