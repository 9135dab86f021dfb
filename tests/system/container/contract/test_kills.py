"""Whoever is killed at whatever moment: what runs is known, and what is left is nothing."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.hooks.contract import PHASES, FailHook, Hook, InjectedFailure

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]


async def test_the_next_controller_adopts_what_runs_whatever_its_own_back_end_is(
    fresh_node: Any, launch: Any, backend: str
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    wait = "while [ ! -e /app/stop ]; do sleep 0.05; done; exit 5"
    controller.start("sh", "-c", wait)
    ends = await controller.read("started")
    controller.start("sleep", "60")
    lasts = await controller.read("started")
    controller.kill()
    other = {"namespaces": "lxc", "lxc": "namespaces"}[backend]
    fresh_node.settings = replace(fresh_node.settings, backend=other)
    async with fresh_node.running() as engine:
        found = {i.component: (i.state, i.adopted, i.pid, i.backend) for i in engine.list()}
        for started in (ends, lasts):
            assert found[started["component"]] == ("running", True, started["pid"], backend)
        third = await fresh_node.start("sleep", "60")
        assert {i.backend for i in engine.list()} == {backend, other}
        assert (await engine.stats(lasts["component"])).pids >= 1
        Path(f"/proc/{ends['pid']}", "root", "app/stop").touch()
        assert (await fresh_node.wait_exit(ends["component"])).reason == "exit:5"
        for component in (ends["component"], lasts["component"], third.component):
            await engine.destroy(component)
        assert fresh_node.container_leftovers() == {}


@pytest.mark.parametrize("delay_ms", [0, 2, 4, 8, 12, 16, 22, 30, 45])
async def test_a_kill_of_the_controller_leaves_containers_whole_or_not_at_all(
    fresh_node: Any, launch: Any, delay_ms: int
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    for _ in range(3):
        controller.start("sleep", "60")
    await trio.sleep(delay_ms / 1_000)
    controller.kill()
    async with fresh_node.running() as engine:
        known = {i.component for i in engine.list()}
        assert {i.state for i in engine.list()} <= {"running", "exited"}
        groups = fresh_node.container_leftovers().get("groups", [])
        assert {g.rstrip("/").rsplit("/", 1)[1] for g in groups} <= known
        for component in known:
            await engine.destroy(component)
        assert fresh_node.container_leftovers() == {}


@pytest.mark.parametrize("delay_ms", [0, 3, 6, 9, 12, 16, 22, 30])
async def test_a_kill_of_everything_in_the_groups_during_a_launch_fails_it_cleanly(
    node: Any, delay_ms: int
) -> None:
    """Whichever of the launch's processes it hits: the others end, and the start says so."""
    failed: list[PlatformError] = []

    async def start() -> None:
        try:
            await node.start("sleep", "60")
        except PlatformError as exc:
            failed.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        with trio.fail_after(20):
            while not (pids := [int(line.split()[0]) for line in node.processes()]):
                await trio.lowlevel.checkpoint()
                if failed or node.exits:
                    break
        await trio.sleep(delay_ms / 1_000)
        pids = [int(line.split()[0]) for line in node.processes()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    for info in node.engine.list():
        assert info.state in {"running", "exited"}
        await node.engine.destroy(info.component)
    assert node.container_leftovers() == {}
    assert (await node.run("true")).reason == "normal"


async def test_a_cancelled_start_leaves_nothing(node: Any) -> None:
    for delay_ms in (1, 5, 9, 14, 20):
        with trio.move_on_after(delay_ms / 1_000):
            await node.start("sleep", "60")
        for info in node.engine.list():
            await node.engine.destroy(info.component)
        assert node.container_leftovers() == {}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_process_hook_that_fails_leaks_nothing(fresh_node: Any, phase: str) -> None:
    hooks: list[FailHook] = []

    def wrap(hook: Hook) -> Hook:
        if hook.name != "process":
            return hook
        hooks.append(FailHook(hook, phase))
        return hooks[-1]

    async with fresh_node.running(wrap) as engine:
        spec = fresh_node.spec("sleep", "60")
        try:
            await engine.start(spec)
            await engine.destroy(spec.component)
        except (InjectedFailure, PlatformError, ExceptionGroup):
            await engine.destroy(spec.component)
        assert hooks[0].failures == 1
        assert fresh_node.container_leftovers() == {}
