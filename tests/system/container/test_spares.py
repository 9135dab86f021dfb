"""The pair of processes that waits for an order: it is there, it is replaced, it can be lost."""

# ruff: noqa: ASYNC110

from __future__ import annotations

from typing import Any

import psutil
import pytest
import trio

pytestmark = pytest.mark.system


async def spare(node: Any, *but: int) -> psutil.Process:
    """The parent of the pair that waits, once there is one with its child that is none of these."""
    template = psutil.Process(node.engine.ready().launcher.template_pid)
    with trio.fail_after(20):
        while True:
            for child in template.children():
                if child.pid not in but and child.children():
                    return child
            await trio.sleep(0.01)


async def test_a_start_takes_the_spare_and_another_one_is_made(node: Any) -> None:
    first = await spare(node)
    pid = first.children()[0].pid
    started = await node.start("sleep", "60")
    assert started.pid == pid
    second = await spare(node, first.pid)
    assert second.pid != first.pid
    assert node.processes()  # the container's; the spare belongs to none
    inside = {int(line.split()[0]) for line in node.processes()}
    assert second.pid not in inside
    assert second.children()[0].pid not in inside


async def test_a_spare_that_was_killed_costs_no_start(node: Any) -> None:
    found = await spare(node)
    for process in (*found.children(), found):
        process.kill()
    with trio.fail_after(20):
        while psutil.pid_exists(found.pid):
            await trio.sleep(0.01)
    assert (await node.run("true")).reason == "normal"


async def test_more_starts_than_spares(node: Any) -> None:
    await spare(node)
    started: list[Any] = []

    async def one() -> None:
        started.append(await node.start("sleep", "60"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert len({s.pid for s in started}) == 4


async def test_the_spare_ends_with_its_template(fresh_node: Any) -> None:
    async with fresh_node.running():
        found = await spare(fresh_node)
        pids = [found.pid, *(child.pid for child in found.children())]
    with trio.fail_after(20):
        while any(_lives(pid) for pid in pids):
            await trio.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
