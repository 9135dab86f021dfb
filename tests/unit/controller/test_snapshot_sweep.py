"""Snapshots of components that are no more are dropped, whatever was away when they ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from paas.base.errors import PlatformError
from paas.controller.lifecycle import ComponentState
from paas.controller.messages import ComponentChanged, ComponentForgotten
from paas.controller.snapshot_api import SnapshotApi
from paas.controller.snapshot_messages import Snapshot
from paas.raft.machine import StateReplaced


class Files:
    """The node's snapshots; away as often as said."""

    def __init__(self, *owners: str) -> None:
        self.owners = list(owners)
        self.away = 0

    async def kept(self, component: str) -> list[Snapshot]:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise PlatformError("unavailable")
        return [
            Snapshot(
                component=owner,
                name="one",
                incarnation=1,
                time=0.0,
                size=1,
                filesystem="overlay",
                node="",
            )
            for owner in self.owners
        ]

    async def drop(self, component: str, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise PlatformError("unavailable")
        assert name == ""
        self.owners.remove(component)


@pytest.fixture
def instances() -> dict[str, Any]:
    return {name: SimpleNamespace(state=ComponentState.AVAILABLE) for name in ("one", "two")}


def api(files: Files, instances: dict[str, Any]) -> SnapshotApi:
    controller: Any = SimpleNamespace(
        node="n1", state=SimpleNamespace(instances=instances), log=None
    )
    clock: Any = None
    return SnapshotApi(controller, None, files, clock)


def destroyed(component: str) -> ComponentChanged:
    return ComponentChanged(
        component=component,
        incarnation=1,
        state="destroyed",
        previous="destroying",
        reason="",
        index=1,
        time_ms=1,
    )


async def test_what_ended_while_the_hub_was_away_is_dropped(
    instances: dict[str, Any], autojump_clock: Any
) -> None:
    files = Files("one", "gone")
    files.away = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api(files, instances).run)
        await trio.sleep(60)
        assert files.owners == ["one"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("event", ["destroyed", "forgotten", "replaced"])
async def test_what_ends_is_dropped_and_others_stay(
    instances: dict[str, Any], autojump_clock: Any, event: str
) -> None:
    files = Files("one", "two")
    watched = api(files, instances)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.run)
        await wait_all_tasks_blocked()
        assert files.owners == ["one", "two"]
        if event == "destroyed":
            instances["two"].state = ComponentState.DESTROYED
            watched.state_changed(1, [destroyed("two")])
        else:
            del instances["two"]
            gone = ComponentForgotten(component="two")
            watched.state_changed(1, [gone if event == "forgotten" else StateReplaced(index=1)])
        await wait_all_tasks_blocked()
        assert files.owners == ["one"]
        nursery.cancel_scope.cancel()
