"""Containers that come and go leave nothing in the controller, and nothing on the machine."""

from __future__ import annotations

import gc
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

pytestmark = pytest.mark.system

WARM_UP = 12
ROUNDS = 6
AT_ONCE = 6
"""Cycles of one round, under way at the same time."""


def counted(node: Any) -> dict[str, int]:
    """What could grow, each as a number."""
    table = node.settings.table
    rules = subprocess.run(
        ["nft", "list", "table", "inet", table], capture_output=True, text=True, check=False
    )
    links = [link.name for link in Path("/sys/class/net").iterdir()]
    state = Path(node.settings.state_dir)
    template = node.engine.ready().launcher.template_pid
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "descriptors of the template": len(os.listdir(f"/proc/{template}/fd")),
        "mounts": Path("/proc/self/mountinfo").read_text().count(str(state)),
        "groups": len(list(Path("/sys/fs/cgroup").glob(f"*/{node.settings.cgroup}/*/"))),
        "links": sum(name.startswith(node.settings.link_prefix) for name in links),
        "lines of rules": len(rules.stdout.splitlines()),
        "records": len(list((state / "journal").iterdir())),
        "directories": len(list((state / "containers").iterdir())),
        "processes": len(psutil.Process().children(recursive=True)),
    }


async def settled(node: Any, wanted: dict[str, int] | None = None) -> dict[str, int]:
    """The numbers once pools are full again; at the latest after ten seconds."""
    found: dict[str, int] = {}
    for _ in range(100):
        await trio.sleep(0.1)
        before, found = found, counted(node)
        if found == wanted or (wanted is None and found == before):
            break
    return found


async def cycle(node: Any) -> None:
    started = await node.start("true")
    await node.wait_exit(started.component)
    await node.engine.destroy(started.component)


async def rounds(node: Any, count: int) -> None:
    for _ in range(count):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(cycle, node)
        node.exits.clear()


async def test_nothing_grows_with_the_number_of_containers(node: Any) -> None:
    await rounds(node, WARM_UP // AT_ONCE)
    before = await settled(node)
    await rounds(node, ROUNDS)
    after = await settled(node, before)
    grown = {name: after[name] - number for name, number in before.items()}
    assert not any(number > 1 for number in grown.values()), grown
    assert node.engine.list() == []
    assert node.container_leftovers() == {}


async def test_the_controller_keeps_no_object_of_a_container_that_is_gone(node: Any) -> None:
    from paas.container.engine import Container

    await rounds(node, 2)
    gc.collect()
    assert [thing for thing in gc.get_objects() if isinstance(thing, Container)] == []
