"""The controller is killed at any moment: what ran runs on, what was half made is removed."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.system


async def test_a_component_survives_the_controller_and_its_end_is_told_once(
    fresh_node: Any,
    launch: Any,
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    wait = "while [ ! -e /app/stop ]; do sleep 0.05; done; exit 5"
    controller.start("sh", "-c", wait)
    started = await controller.read("started")
    controller.kill()
    assert os.path.exists(f"/proc/{started['pid']}")
    async with fresh_node.running() as engine:
        (info,) = engine.list()
        assert (info.state, info.adopted, info.pid) == ("running", True, started["pid"])
        assert info.address == started["address"]
        stats = await engine.stats(info.component)
        assert stats.pids >= 1
        Path(f"/proc/{started['pid']}", "root", "app/stop").touch()
        exited = await fresh_node.wait_exit(info.component)
        assert exited.reason == "exit:5"
        assert [c.state for c in engine.list()] == ["exited"]
    assert [e.component for e in fresh_node.exits] == [info.component]
    async with fresh_node.running() as engine:
        (info,) = engine.list()
        assert info.exited is not None
        assert info.exited.reason == "exit:5"
        assert len(fresh_node.exits) == 1, "told once, also over a restart"
        await engine.destroy(info.component)
        assert fresh_node.container_leftovers() == {}


async def test_an_end_while_no_controller_looked_is_told_by_the_next(
    fresh_node: Any, launch: Any
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    controller.start("sh", "-c", "sleep 0.5; exit 6")
    started = await controller.read("started")
    controller.kill()
    with trio.fail_after(20):
        while os.path.exists(f"/proc/{started['pid']}"):
            if _is_zombie(started["pid"]):
                break
            await trio.sleep(0.02)
    async with fresh_node.running() as engine:
        exited = await fresh_node.wait_exit(started["component"])
        assert exited.reason == "exit:6"
        assert [c.state for c in engine.list()] == ["exited"]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_grants_survive_the_controller(fresh_node: Any) -> None:
    async with fresh_node.running() as engine:
        one = await fresh_node.start("sleep", "60")
        two = await fresh_node.start("sleep", "60")
        await engine.paths.grant(one.component, two.component, 8_000)
    async with fresh_node.running():
        command = ["nft", "list", "set", "inet", fresh_node.settings.table, "grants"]
        done = await trio.run_process(command, capture_stdout=True)
        assert f"{one.address} . {two.address} . tcp . 8000" in done.stdout.decode()


async def test_a_damaged_record_and_strays_are_cleared(fresh_node: Any) -> None:
    async with fresh_node.running():
        started = await fresh_node.start("sleep", "60")
    state = Path(fresh_node.settings.state_dir)
    record = state / "journal" / f"{started.component}.container.json"
    record.write_text("{")
    (state / "containers" / ("d" * 40)).mkdir()
    async with fresh_node.running() as engine:
        assert engine.list() == []
        assert fresh_node.container_leftovers() == {}


async def test_a_record_of_another_boot_is_cleared(fresh_node: Any) -> None:
    async with fresh_node.running():
        started = await fresh_node.start("sleep", "60")
    record = Path(fresh_node.settings.state_dir, "journal", f"{started.component}.container.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"boot": "another"}))
    async with fresh_node.running() as engine:
        assert engine.list() == []
        assert fresh_node.container_leftovers() == {}


async def test_the_bridge_is_the_only_link_after_a_kill(fresh_node: Any, launch: Any) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    controller.kill()
    async with fresh_node.running(), trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 10
        while True:
            found = [
                n.name
                for n in Path("/sys/class/net").iterdir()
                if n.name.startswith(fresh_node.settings.link_prefix)
            ]
            if len(found) <= fresh_node.settings.pool_networks:
                break
            await trio.sleep(0.02)
    assert len(found) <= fresh_node.settings.pool_networks
