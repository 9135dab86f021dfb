"""Floods and bombs end at the component's own bounds; nobody else notices, nothing is left.

Sources: reliability plan, container escape battery ("Resources"); bombs.py is the data.
"""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from paas.container.messages import Exited, Limits
from tests.system.escape.bombs import BOMBS, SMALL, STUBBORN, Bomb

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends, pytest.mark.timeout(400)]

PYTHON = "/usr/bin/python3"
AT_ONCE = 3


def _finding(bomb: Bomb, exited: Exited) -> str:
    """What is not as it should be; empty when all is well."""
    if exited.reason != bomb.reason:
        return f"{exited.reason} {exited.harness_log}"
    if bomb.reason != "normal":
        return ""
    count, stopped = json.loads(exited.harness_log.strip().splitlines()[-1])
    if stopped != bomb.stopped or not 0 < count <= bomb.most:
        return f"{count} until {stopped}"
    return ""


async def test_every_flood_ends_at_its_own_bounds(node: Any) -> None:
    """A neighbour goes on answering all the while."""
    neighbour = await node.start(PYTHON, "-c", "import time; time.sleep(600)")
    findings: dict[str, str] = {}
    turns = trio.CapacityLimiter(AT_ONCE)

    async def one(bomb: Bomb) -> None:
        async with turns:
            exited = await node.run(PYTHON, "-c", bomb.source, limits=bomb.limits)
        if found := _finding(bomb, exited):
            findings[bomb.name] = found

    async with trio.open_nursery() as nursery:
        for bomb in BOMBS:
            nursery.start_soon(one, bomb)
    assert findings == {}
    assert [info.component for info in node.engine.list() if info.pid] == [neighbour.component]
    assert await node.python("print(1)") == 1
    await node.engine.destroy(neighbour.component)
    assert node.container_leftovers() == {}


def test_the_floods_are_all_of_them() -> None:
    assert len({bomb.name for bomb in BOMBS}) == len(BOMBS) >= 20


async def test_what_does_not_want_to_end_ends(node: Any) -> None:
    async def one(source: str) -> None:
        started = await node.start(PYTHON, "-c", source, limits=SMALL)
        log = Path(node.settings.state_dir, "containers", started.component, "harness.log")
        while "ready" not in log.read_text():
            await trio.sleep(0.05)
        await node.engine.destroy(started.component)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for source in STUBBORN.values():
                nursery.start_soon(one, source)
    assert node.container_leftovers() == {}


async def test_a_flood_of_output_stays_out_of_the_hosts_files_and_memory(fresh_node: Any) -> None:
    """With the real harness, and no hub that would take the records."""
    fresh_node.settings = replace(fresh_node.settings, harness="paas.harness.main:main")
    source = """
import os
line = b"x" * 1023 + b"\\n"
for _ in range(8 << 10):
    os.write(1, line)
    os.write(2, line)
"""
    limits = Limits(memory_bytes=48 << 20, cpu=1.0)
    async with fresh_node.running():
        started = await fresh_node.start(
            PYTHON, "-c", source, limits=limits, protocol="none", ready_timeout_s=60.0
        )
        exited = await fresh_node.wait_exit(started.component)
        folder = Path(fresh_node.settings.state_dir, "containers", started.component)
        written = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
        await fresh_node.engine.destroy(started.component)
    assert exited.reason == "normal", exited
    assert written < 64 << 10
