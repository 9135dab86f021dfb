"""Commands inside a container, whoever has made it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from paas.container.entering import Entering

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]

PYTHON = "/usr/bin/python3"


@pytest.fixture
async def entering(node: Any) -> AsyncIterator[Entering]:
    async with trio.open_nursery() as nursery:
        found = Entering(node.engine)
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


async def run(entering: Entering, component: str, *command: str) -> tuple[int, str]:
    """(how it ended, what it has written)"""
    inside = await entering.execute(component, list(command), environment={})
    inside.close_input()
    found = b""
    with trio.fail_after(30):
        while True:
            try:
                data = os.read(inside.outputs[1], 65_536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(inside.outputs[1])
                continue
            if not data:
                break
            found += data
        code = await inside.wait()
    entering.close(inside)
    return code, found.decode()


async def test_a_command_is_where_the_component_is_and_as_weak(
    node: Any, entering: Entering
) -> None:
    source = """
import json, os
names = ("user", "mnt", "uts", "ipc", "pid", "net", "cgroup")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "namespaces": {n: os.readlink("/proc/self/ns/" + n) for n in names},
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "filters": status["Seccomp"].strip(),
    "descriptors": len(os.listdir("/proc/self/fd")),
}))
"""
    started = await node.start("sleep", "60")
    code, text = await run(entering, started.component, PYTHON, "-I", "-c", source)
    assert code == 0
    seen = json.loads(text)
    for name, link in seen["namespaces"].items():
        assert link == os.readlink(f"/proc/{started.pid}/ns/{name}"), name
    assert seen["user"] == [1_000, 1_000, []]
    assert (seen["capabilities"], seen["filters"]) == (0, "2")
    assert seen["descriptors"] == 4, "three, and the one that lists them"


async def test_how_a_command_ends_is_told_and_the_container_goes_on(
    node: Any, entering: Entering
) -> None:
    started = await node.start("sleep", "60")
    assert await run(entering, started.component, "sh", "-c", "echo x; exit 7") == (7, "x\n")
    assert (await run(entering, started.component, "sh", "-c", "kill -9 $$"))[0] == -9
    assert [i.state for i in node.engine.list()] == ["running"]


async def test_what_a_command_leaves_behind_ends_with_the_container(
    node: Any, entering: Entering
) -> None:
    started = await node.start("sleep", "60")
    left = "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo left"
    assert await run(entering, started.component, "sh", "-c", left) == (0, "left\n")
    assert any("sleep" in line for line in node.processes())
    with trio.fail_after(20):
        await node.engine.destroy(started.component)
    assert node.processes() == []
    assert not os.path.exists(f"/proc/{started.pid}")  # noqa: ASYNC240
