"""People's commands in a container have the component's walls: the battery, run by them.

User 0 has none of pid 1's capabilities here; signals past the rules are allowed, so that people can
end a component, and pid 1 still takes none.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import trio

from paas.container.entering import Entering
from tests.system.escape import battery
from tests.system.escape.host_side import bundle

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]

_OF_PEOPLE = {"signal_pid_1": {"ok"}, "kill_pid_1": {"ignored"}}


async def _read_all(descriptor: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(descriptor, 65_536)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(descriptor)
            continue
        if not data:
            return found
        found += data


@pytest.mark.parametrize("root", [False, True], ids=["component", "user0"])
async def test_a_command_gets_no_further_than_the_component(
    node: Any, entering: Entering, root: bool
) -> None:
    bundle(node.bundle)
    started = await node.start("sleep", "600")
    probes = [p for p in battery.PROBES if p.name in battery.INSIDE_ONLY]
    order = battery.order([p.name for p in probes], {"canary": str(node.bundle / "inside.py")})
    command = [battery.PYTHON, "-s", "-E", "/app/inside.py", order]
    inside = await entering.execute(started.component, command, environment={}, root=root)
    with trio.fail_after(60):
        told = await _read_all(inside.outputs[1])
        assert await inside.wait() == 0
    entering.close(inside)
    found = dict(zip([p.name for p in probes], json.loads(told), strict=True))
    user = "user0" if root else "component"
    own = _OF_PEOPLE if root else {}
    other = {
        p.name: found[p.name]
        for p in probes
        if found[p.name] not in own.get(p.name, p.expected[user])
    }
    assert other == {}
