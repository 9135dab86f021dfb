"""Other bounds for what runs, and standing still: on the machine's real control groups."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.messages import Limits

pytestmark = pytest.mark.system

COUNTING = """
import time
while True:
    with open("/tmp/beat", "w") as file:
        file.write(str(time.monotonic_ns()))
    time.sleep(0.001)
"""
PYTHON = ("/usr/bin/python3", "-I", "-c")
MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")


def beat(started: Any) -> str:
    try:
        return Path(f"/proc/{started.pid}", "root", "tmp/beat").read_text()
    except OSError:
        return ""


async def beating(started: Any) -> None:
    """Return when it has moved."""
    before = beat(started)
    with trio.fail_after(20):
        while beat(started) in ("", before):
            await trio.sleep(0.002)


async def standing(started: Any) -> bool:
    before = beat(started)
    await trio.sleep(0.05)
    return beat(started) == before


async def counting(node: Any, **changes: Any) -> Any:
    started = await node.start(*PYTHON, COUNTING, **changes)
    await beating(started)
    return started


async def ended(node: Any, component: str) -> Any:
    exited = await node.wait_exit(component)
    await node.engine.destroy(component)
    return exited


# -- freezing ----------------------------------------------------------------------------------


async def test_a_frozen_component_stands_still_and_goes_on_after(node: Any) -> None:
    started = await counting(node)
    living = node.engine.living
    for _ in range(3):
        await living.freeze(started.component)
        await living.freeze(started.component)  # repeating it changes nothing
        assert await standing(started)
        assert [c.frozen for c in node.engine.list()] == [True]
        assert (await node.engine.stats(started.component)).frozen
        await living.thaw(started.component)
        await living.thaw(started.component)
        await beating(started)
        assert [c.frozen for c in node.engine.list()] == [False]


async def test_every_process_of_the_component_is_frozen_also_new_ones(node: Any) -> None:
    source = f"import os, threading\\nfor _ in range(5): os.fork()\\n{COUNTING}"
    started = await counting(node)
    forking = await node.start(*PYTHON, source.replace("\\n", "\n"), limits=Limits(pids=64))
    await beating(forking)
    await node.engine.living.freeze(forking.component)
    assert await standing(forking)
    await beating(started)  # its neighbour goes on


@pytest.mark.parametrize("order", ["kill", "destroy"])
async def test_a_frozen_component_can_be_ended(node: Any, order: str) -> None:
    started = await counting(node)
    await node.engine.living.freeze(started.component)
    with trio.fail_after(20):
        if order == "kill":
            await node.engine.kill(started.component)
            exited = await node.wait_exit(started.component)
            assert exited.reason == "signal:SIGKILL"
        await node.engine.destroy(started.component)
    assert not any(node.container_leftovers().values())


async def test_nothing_is_frozen_that_is_being_ended_or_is_not_there(node: Any) -> None:
    living = node.engine.living
    started = await counting(node)
    await node.engine.kill(started.component)
    for call in (living.freeze, lambda c: living.resize(c, Limits())):
        with pytest.raises(PlatformError) as caught:
            await call(started.component)
        assert caught.value.code == "not-available"
        with pytest.raises(PlatformError) as caught:
            await call("e" * 40)
        assert caught.value.code == "no-such-target"
    await ended(node, started.component)


async def test_the_lease_ends_frozen_components_too(node: Any) -> None:
    started = await counting(node)
    await node.engine.living.freeze(started.component)
    with trio.fail_after(30):
        await node.engine.clear()
        exited = await node.wait_exit(started.component)
    assert exited.reason == "node-lost"


async def test_a_restarted_controller_finds_it_frozen_and_can_thaw_it(fresh_node: Any) -> None:
    async with fresh_node.running():
        started = await counting(fresh_node)
        other = await counting(fresh_node)
        await fresh_node.engine.living.freeze(started.component)
    assert await standing(started)
    async with fresh_node.running() as engine:
        frozen = {c.component: c.frozen for c in engine.list()}
        assert frozen == {started.component: True, other.component: False}
        await engine.living.thaw(started.component)
        await beating(started)


async def test_a_freeze_that_a_controller_did_not_finish_is_taken_back(fresh_node: Any) -> None:
    """The controller was killed between the order to the kernel and the kernel's answer."""
    async with fresh_node.running() as engine:
        started = await counting(fresh_node)
        groups = engine.ready().groups
    groups.freeze(started.component)
    real = groups.is_frozen
    async with fresh_node.running() as engine:
        # The kernel was quicker than the restart: whatever is entirely still counts as frozen.
        assert engine.list()[0].frozen is real(started.component)
        await engine.living.thaw(started.component)
        await beating(started)


# -- other bounds ------------------------------------------------------------------------------

EATING = """
import sys, time
held = []
for _ in range(int(sys.argv[1])):
    held.append(bytearray(1 << 20))
    with open("/tmp/beat", "w") as file:
        file.write(str(len(held)))
while True:
    time.sleep(0.01)
    with open("/tmp/beat", "w") as file:
        file.write(str(time.monotonic_ns()))
"""


async def test_more_memory_lets_it_go_on_and_less_ends_its_growth(node: Any) -> None:
    small = Limits(memory_bytes=24 * MIB, disk_bytes=8 * MIB)
    large = msgspec.structs.replace(small, memory_bytes=96 * MIB)
    started = await node.start(*PYTHON, EATING, "60", limits=large)
    with trio.fail_after(30):
        while len(beat(started)) < 6:  # it has all it wants, and tells the time now
            await trio.sleep(0.01)
    stats = await node.engine.stats(started.component)
    assert stats.memory_limit_bytes == large.memory_bytes
    with pytest.raises(PlatformError) as caught:
        await node.engine.living.resize(started.component, small)
    assert caught.value.code == "conflict"
    assert caught.value.data["used_bytes"] > small.memory_bytes
    stats = await node.engine.stats(started.component)
    assert stats.memory_limit_bytes == large.memory_bytes  # nothing has changed
    await beating(started)
    more = msgspec.structs.replace(large, memory_bytes=128 * MIB)
    await node.engine.living.resize(started.component, more)
    assert (await node.engine.stats(started.component)).memory_limit_bytes == more.memory_bytes
    assert node.engine.list()[0].limits == more


async def test_a_lowered_bound_on_memory_ends_who_exceeds_it(node: Any) -> None:
    source = "import time\ntime.sleep(0.3)\nx = bytearray(80 << 20)\ntime.sleep(60)"
    large = Limits(memory_bytes=256 * MIB)
    started = await node.start(*PYTHON, source, limits=large)
    small = msgspec.structs.replace(large, memory_bytes=48 * MIB)
    await node.engine.living.resize(started.component, small)
    exited = await ended(node, started.component)
    assert exited.reason == "out-of-memory"
    assert exited.memory_limit_bytes == small.memory_bytes
    assert small.memory_bytes // 2 < exited.memory_peak_bytes <= small.memory_bytes
    assert exited.starved.startswith("python3 (process ")


async def test_processor_time_and_weight_follow_at_once(node: Any) -> None:
    limits = Limits(cpu=1.0)
    started = await node.start("sh", "-c", "while :; do :; done", limits=limits)
    less = msgspec.structs.replace(limits, cpu=0.1, cpu_weight=300)
    await node.engine.living.resize(started.component, less)
    with trio.fail_after(30):
        while (await node.engine.stats(started.component)).throttled_ms == 0:
            await trio.sleep(0.05)
    told = _weight(node, started.component)
    assert told in (300 * 1024 // 100, 300)
    await node.engine.living.resize(started.component, limits)
    assert _weight(node, started.component) in (1024, 100)


def _weight(node: Any, component: str) -> int:
    """From the kernel's own files, whichever version they are of."""
    for pattern in ("cpu.shares", "cpu.weight"):
        for path in CGROUPS.glob(f"**/{node.settings.cgroup}/{component}/{pattern}"):
            return int(path.read_text())
    raise AssertionError("no group has a weight")


async def test_a_share_is_given_at_the_start_too(node: Any) -> None:
    started = await node.start("sleep", "60", limits=Limits(cpu_weight=50))
    assert _weight(node, started.component) in (512, 50)


async def test_processes_follow(node: Any) -> None:
    source = """
import os, time
made = 0
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
    except OSError:
        time.sleep(0.01)
    with open("/tmp/beat", "w") as file:
        file.write(str(made))
"""
    limits = Limits(pids=8)
    started = await node.start(*PYTHON, source, limits=limits)
    await _reaches(started, 7)
    await node.engine.living.resize(started.component, msgspec.structs.replace(limits, pids=20))
    await _reaches(started, 19)


async def _reaches(started: Any, number: int) -> None:
    with trio.fail_after(20):
        while beat(started) != str(number):
            await trio.sleep(0.01)


async def test_bounds_survive_the_controller_and_frozen_ones_can_be_resized(
    fresh_node: Any,
) -> None:
    wanted = Limits(memory_bytes=100 * MIB, cpu=0.25, pids=33, cpu_weight=150)
    async with fresh_node.running() as engine:
        started = await counting(fresh_node)
        await engine.living.freeze(started.component)
        await engine.living.resize(started.component, wanted)
    async with fresh_node.running() as engine:
        assert engine.list()[0].limits == wanted
        stats = await engine.stats(started.component)
        assert stats.memory_limit_bytes == wanted.memory_bytes


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"memory_bytes": 1}, "invalid", "limits.memory_bytes"),
        ({"cpu": 0.0}, "invalid", "limits.cpu"),
        ({"cpu": float("nan")}, "invalid", "limits.cpu"),
        ({"pids": 0}, "invalid", "limits.pids"),
        ({"cpu_weight": 0}, "invalid", "limits.cpu_weight"),
        ({"disk_bytes": 256 * MIB}, "unsupported", "limits.disk_bytes"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    node: Any, changes: dict[str, Any], code: str, field: str
) -> None:
    started = await node.start("sleep", "60")
    with pytest.raises(PlatformError) as caught:
        await node.engine.living.resize(
            started.component, msgspec.structs.replace(Limits(), **changes)
        )
    assert (caught.value.code, caught.value.data["field"]) == (code, field)
    assert node.engine.list()[0].limits == Limits()


async def test_a_bound_on_disk_io_can_come_and_go(node: Any) -> None:
    limits = Limits()
    started = await node.start("sleep", "60", limits=limits)
    bound = msgspec.structs.replace(limits, io_bytes_per_s=MIB)
    await node.engine.living.resize(started.component, bound)
    assert str(MIB) in _rules(node, started.component)
    groups = node.engine.ready().groups
    inside = {int(p) for p in _io_processes(node, started.component)}
    assert inside == groups.processes(started.component) - {started.pid}
    await node.engine.living.resize(started.component, limits)
    assert str(MIB) not in _rules(node, started.component)


def _rules(node: Any, component: str) -> str:
    group = f"{node.settings.cgroup}/{component}/component"
    version1 = CGROUPS / "blkio" / group / "blkio.throttle.write_bps_device"
    return (version1 if version1.exists() else CGROUPS / group / "io.max").read_text()


def _io_processes(node: Any, component: str) -> list[str]:
    group = f"{node.settings.cgroup}/{component}/component/cgroup.procs"
    (listed,) = [p for p in (CGROUPS / "blkio" / group, CGROUPS / group) if p.exists()]
    return listed.read_text().split()


async def test_figures_of_network_and_disk(node: Any) -> None:
    source = f"""
import os, socket
fd = os.open("/app/file", os.O_WRONLY | os.O_CREAT)
os.write(fd, bytes(1 << 20))
os.fsync(fd)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(10):
    s.sendto(bytes(1000), ("{{gateway}}", 9))
{COUNTING}
"""
    gateway = str(node.engine.ready().addresses.gateway)
    started = await node.start(*PYTHON, source.replace("{gateway}", gateway))
    await beating(started)
    stats = await node.engine.stats(started.component)
    assert stats.io_write_bytes >= MIB
    assert stats.network_sent_bytes >= 10_000
    assert MIB <= stats.disk_bytes < 128 * MIB
    assert stats.disk_inodes > 0
    if (CGROUPS / "cgroup.controllers").exists() and Path("/proc/pressure").exists():
        assert stats.pressure is not None
        assert {"cpu", "io", "memory"} <= set(stats.pressure)
    else:
        assert stats.pressure is None  # version 1 does not count it, and it is not made up
