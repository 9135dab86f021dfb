"""The harness where it belongs: process 1 of a real container, with nothing but its capabilities.

What the tests without containers cannot show: the component's user, its control group, the filter,
the way to the hub through a descriptor, and that with process 1 everything ends.
"""

# ruff: noqa: ASYNC110, ASYNC240  (waits for the kernel; small blocking file calls do no harm here)

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.cli.sdk_files import PYTHON
from paas.container.engine import Engine
from paas.container.messages import ContainerSpec, Exited
from paas.container.settings import ContainerSettings
from paas.real.clock import SystemClock
from paas.sdk.joined import source
from tests.system.container.conftest import NOBODYS

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[3]
_COUNTER = itertools.count(1)


class Node:
    """An engine with the real harness, and the played hub."""

    def __init__(self, engine: Engine, hub: Any, directory: Path, exits: list[Exited]) -> None:
        self.hub = hub
        self._engine = engine
        self._directory = directory
        self._exits = exits

    async def start(self, *command: str, example: str = "hello", **changes: Any) -> Any:
        bundle = self._directory / f"bundle{next(_COUNTER)}"
        shutil.copytree(ROOT / "examples" / example, bundle)
        (bundle / PYTHON).write_text(source())
        bundle.chmod(0o755)
        spec = ContainerSpec(
            component=f"{next(_COUNTER):040x}",
            command=command,
            bundle_dir=str(bundle),
            hub_dir=str(self._directory / "hub"),
            **changes,
        )
        return await self._engine.start(spec)

    async def hear(self, what: Any, *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(lambda: what(*arguments))

    async def exited(self, component: str) -> Exited:
        with trio.fail_after(30):
            while not (found := [e for e in self._exits if e.component == component]):
                await trio.sleep(0.01)
        await self._engine.destroy(component)
        return found[0]


@pytest.fixture
async def node(tmp_path: Path, hub: Any) -> AsyncIterator[Node]:
    name = f"h{os.getpid():x}x{next(_COUNTER):x}"
    settings = ContainerSettings(
        cluster=name,
        state_dir=str(tmp_path / "state"),
        bridge=f"b{name}"[:15],
        link_prefix=f"v{name[1:]}"[:10],
        network=f"10.{NOBODYS + os.getpid() % 60}.{200 + next(_COUNTER) % 50}.0/24",
    )
    os.environ["PYTHONPATH"] = str(ROOT)
    tmp_path.chmod(0o755)
    os.chmod(hub.path, 0o666)
    exits: list[Exited] = []
    engine = Engine(settings, clock=SystemClock(), on_exit=exits.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield Node(engine, hub, tmp_path, exits)
        nursery.cancel_scope.cancel()
    await Engine(settings, clock=SystemClock(), on_exit=lambda _: None).teardown_node()


async def test_a_component_lives_in_its_container(node: Node) -> None:
    started = await node.start("python3", "hello.py", endpoints={"http": "http"})
    hub = node.hub
    await node.hear(hub.phase, "available")
    answer = await node.hear(hub.invoke, "greet", {"name": "Ada"})
    assert answer["text"] == "Hello, Ada!"
    assert await node.hear(hub.message, "greeting Ada")
    await node.hear(hub.call, "harness.stop", {"grace_s": 10.0})
    assert (await node.exited(started.component)).reason == "destroyed"


async def test_the_component_is_confined_to_its_user_and_group(node: Node) -> None:
    script = (
        "id -u; id -g; id -G; grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status;"
        "cat /proc/self/cgroup; cat /proc/1/environ; ls -l $PAAS_SOCKET; echo end; exec sleep 1000"
    )
    started = await node.start("sh", "-c", script)
    await node.hear(node.hub.message, "end")
    await node.hear(node.hub.call, "harness.stop", {"grace_s": 0.1})
    await node.exited(started.component)
    lines = [r.message for r in node.hub.records]
    assert lines[:3] == ["1000"] * 3
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t{'0' * 16}" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
    assert any(line.startswith("srw-rw----") and "component.sock" in line for line in lines)


async def test_with_process_1_everything_ends(node: Node) -> None:
    script = "(setsid sleep 1000 &); trap '' TERM; echo up; while :; do sleep 0.1; done"
    started = await node.start("sh", "-c", script)
    await node.hear(node.hub.message, "up")
    await node.hear(node.hub.call, "harness.stop", {"grace_s": 0.1})
    exited = await node.exited(started.component)
    assert (exited.signal, exited.reason) == (9, "destroyed")


async def test_a_program_that_is_not_there_is_named(node: Node) -> None:
    started = await node.start("no-such-program")
    exited = await node.exited(started.component)
    assert exited.reason == "start-failed:no-such-program: No such file or directory"


async def test_a_component_that_eats_its_memory_does_not_take_the_harness_along(node: Node) -> None:
    started = await node.start("python3", "-c", "x = bytearray(1 << 30); print(len(x))")
    exited = await node.exited(started.component)
    assert exited.reason == "out-of-memory"
    assert exited.signal == 9


FORK_BOMB = """
import os, time
print("go", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""


async def test_a_fork_bomb_leaves_the_harness_able_to_end_it(node: Node) -> None:
    started = await node.start("python3", "-c", FORK_BOMB)
    await node.hear(node.hub.message, "go")
    await node.hear(node.hub.call, "harness.stop", {"grace_s": 0.2})
    assert (await node.exited(started.component)).reason == "destroyed"
