"""A bound on disk I/O slows its component and nobody else, survives the controller, and ends.

Speeds are compared with each other in the same test, never with the clock: without a bound the same
bytes take a small part of the time that the bound leaves.
"""

# ruff: noqa: ASYNC240

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.messages import Limits
from paas.real.kernel_cgroups import choose_io, read_mounts

pytestmark = pytest.mark.system

SLOW = Limits(memory_bytes=64 << 20, disk_bytes=64 << 20, io_bytes_per_s=4 << 20)
FREE = msgspec.structs.replace(SLOW, io_bytes_per_s=0)

WRITE = """
import json, mmap, os, sys, time

def how():
    for flags in (os.O_DIRECT, os.O_SYNC):
        try:
            return os.open("/app/file", os.O_WRONLY | os.O_CREAT | flags, 0o600)
        except OSError:
            pass
    raise SystemExit("neither O_DIRECT nor O_SYNC")

size = int(sys.argv[1])
data = mmap.mmap(-1, size)
data.write(bytes(size))
fd = how()

def write():
    since = time.monotonic()
    assert os.pwrite(fd, data, 0) == size
    return time.monotonic() - since
"""
REPORT = "\nprint(json.dumps(write()), flush=True)"
READ = (
    WRITE
    + """
write()
back = os.open("/app/file", os.O_RDONLY)
os.posix_fadvise(back, 0, 0, os.POSIX_FADV_DONTNEED)
since = time.monotonic()
while os.read(back, 1 << 20):
    pass
print(json.dumps(time.monotonic() - since), flush=True)
"""
)
WRITE_WHEN_TOLD = (
    WRITE
    + """
while not os.path.exists("/app/go"):
    time.sleep(0.02)
print(json.dumps(write()), flush=True)
"""
)
MEBIBYTE = 1 << 20


def io_groups(node: Any) -> list[Path]:
    """Groups of containers in the hierarchy that bounds I/O."""
    found = choose_io(read_mounts(), ())
    assert found is not None
    return list((found.root / node.settings.cgroup).glob("*/component"))


def expected_s(size: int) -> float:
    """What the bound demands at least; the kernel may let the first moments pass."""
    return size / SLOW.io_bytes_per_s / 2


@pytest.mark.parametrize("source", [WRITE + REPORT, READ], ids=["write", "read"])
async def test_a_bound_slows_its_component_and_no_other(node: Any, source: str) -> None:
    size = 6 * MEBIBYTE
    found: dict[str, float] = {}

    async def measure(name: str, limits: Limits) -> None:
        found[name] = await node.python(source, str(size), limits=limits)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, "slow", SLOW)
        nursery.start_soon(measure, "free", FREE)
    assert found["slow"] >= expected_s(size)
    assert found["free"] < found["slow"] / 2
    assert node.container_leftovers() == {}


async def test_what_asks_for_no_bound_has_no_group_for_it(fresh_node: Any) -> None:
    async with fresh_node.running() as engine:
        free = await fresh_node.start("sleep", "60", limits=FREE)
        assert not any(free.component in str(p) for p in io_groups(fresh_node)) or _shared()
        slow = await fresh_node.start("sleep", "60", limits=SLOW)
        assert any(slow.component in str(p) for p in io_groups(fresh_node))
        await engine.destroy(slow.component)
        assert not any(slow.component in str(p) for p in io_groups(fresh_node))


def _shared() -> bool:
    """Version 2: the hierarchy that bounds I/O is the one that bounds all else."""
    found = choose_io(read_mounts(), ())
    return found is not None and "blkio" not in found.controllers


async def test_a_bound_survives_the_controller(fresh_node: Any) -> None:
    size = 6 * MEBIBYTE
    async with fresh_node.running():
        started = await fresh_node.start(
            "/usr/bin/python3", "-I", "-c", WRITE_WHEN_TOLD, str(size), limits=SLOW
        )
    async with fresh_node.running() as engine:
        assert [(c.adopted, c.state) for c in engine.list()] == [(True, "running")]
        Path(f"/proc/{started.pid}", "root", "app/go").touch()
        exited = await fresh_node.wait_exit(started.component)
        assert json.loads(exited.harness_log.split()[-1]) >= expected_s(size)
        await engine.destroy(started.component)
        assert not any(fresh_node.container_leftovers().values())
        assert io_groups(fresh_node) == []


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_component_whose_io_is_held_up_is_destroyed_at_once(
    fresh_node: Any, adopted: bool
) -> None:
    """It sleeps uninterruptibly; at the speed of the bound its I/O would take four minutes."""
    limits = msgspec.structs.replace(SLOW, io_bytes_per_s=64 << 10)
    async with fresh_node.running() as engine:
        started = await fresh_node.start(
            "/usr/bin/python3", "-I", "-c", WRITE + REPORT, str(16 * MEBIBYTE), limits=limits
        )
        await _held_up(started.component, fresh_node)
        if not adopted:
            await _destroyed(engine, started.component)
    async with fresh_node.running() as engine:
        await _destroyed(engine, started.component)
        assert not any(fresh_node.container_leftovers().values())


async def _held_up(component: str, node: Any) -> None:
    (group,) = [p for p in io_groups(node) if component in str(p)]
    with trio.fail_after(30):
        while True:
            for pid in (group / "cgroup.procs").read_text().split():
                stat = Path(f"/proc/{pid}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "D":
                    return
            await trio.sleep(0.02)


async def _destroyed(engine: Any, component: str) -> None:
    with trio.fail_after(30):
        await engine.destroy(component)


async def test_a_layer_in_memory_cannot_be_bounded_and_is_refused(fresh_node: Any) -> None:
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, disk="memory")
    async with fresh_node.running():
        with pytest.raises(PlatformError, match=r"limits\.io: .* none of their own") as caught:
            await fresh_node.start("true", limits=SLOW)
        assert caught.value.code == "unsupported"
        assert not any(fresh_node.container_leftovers().values())
        assert (await fresh_node.run("true", limits=FREE)).reason == "normal"
