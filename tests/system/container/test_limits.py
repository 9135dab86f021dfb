"""Bounds hold, their excess is reported as what it is, and nobody else is disturbed."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from paas.container.messages import Limits

pytestmark = pytest.mark.system


async def test_eating_memory_ends_with_out_of_memory(node: Any, small: Limits) -> None:
    source = "x = bytearray(200 << 20)"
    exited = await node.run("/usr/bin/python3", "-c", source, limits=small)
    assert exited.reason == "out-of-memory"
    assert exited.out_of_memory
    assert exited.signal == 9


async def test_the_memory_of_tmp_counts_and_its_size_is_bounded(node: Any, small: Limits) -> None:
    source = """
import errno, json
try:
    with open("/tmp/big", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
except OSError as exc:
    print(json.dumps(errno.errorcode[exc.errno]))
"""
    limits = Limits(memory_bytes=48 << 20, disk_bytes=8 << 20)
    assert await node.python(source, limits=limits) == "ENOSPC"


async def test_a_fork_bomb_is_bounded(node: Any, small: Limits) -> None:
    source = """
import errno, json, os, time
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        children += 1
except OSError as exc:
    print(json.dumps([children, errno.errorcode[exc.errno]]), flush=True)
os.kill(-1, 9)
"""
    started = await node.start("/usr/bin/python3", "-c", source, limits=small)
    exited = await node.wait_exit(started.component)
    assert '"EAGAIN"' in exited.harness_log
    assert f"[{small.pids - 1}," in exited.harness_log
    await node.engine.destroy(started.component)
    assert node.processes() == []


async def test_kill_minus_one_does_not_reach_pid_1(node: Any) -> None:
    exited = await node.run("sh", "-c", "kill -9 -1; exit 3")
    assert exited.reason in {"exit:3", "signal:SIGKILL"}


@pytest.mark.parametrize("disk", ["image", "memory"])
async def test_filling_the_disk_gives_enospc_and_spares_the_host(
    fresh_node: Any, small: Limits, disk: str
) -> None:
    import msgspec

    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, disk=disk)
    source = """
import errno, json, os
written, error = 0, None
try:
    with open("/app/big", "wb", buffering=0) as file:
        while written < 64 << 20:
            written += file.write(bytes(1 << 18))
except OSError as exc:
    error = errno.errorcode[exc.errno]
os.unlink("/app/big")
open("/app/again", "w").write("there is room again")
print(json.dumps([written, error]))
"""
    async with fresh_node.running():
        free = os.statvfs(fresh_node.directory).f_bavail
        written, error = await fresh_node.python(source, limits=small)
        spent = free - os.statvfs(fresh_node.directory).f_bavail
    assert error == "ENOSPC"
    assert written <= small.disk_bytes
    assert spent * 4096 < 64 << 20


async def test_many_files_end_with_enospc_too(node: Any, small: Limits) -> None:
    source = """
import errno, json
try:
    for number in range(200_000):
        open(f"/app/{number}", "w").close()
except OSError as exc:
    print(json.dumps(errno.errorcode[exc.errno]))
"""
    assert await node.python(source, limits=small) == "ENOSPC"


async def test_processor_time_is_shared_out(node: Any) -> None:
    limits = Limits(cpu=0.2)
    started = await node.start("sh", "-c", "while :; do :; done", limits=limits)
    stats = await node.engine.stats(started.component)
    while stats.throttled_ms == 0 or stats.cpu_ms < 100:
        await trio.sleep(0.05)
        stats = await node.engine.stats(started.component)
    assert stats.throttled_ms > 0


async def test_figures_of_a_running_component(node: Any) -> None:
    started = await node.start("/usr/bin/python3", "-c", "import time; time.sleep(60)")
    while (stats := await node.engine.stats(started.component)).memory_bytes == 0:
        await trio.sleep(0.01)
    assert stats.pids == 1
    assert 0 < stats.harness_pss_bytes < 64 << 20
    assert stats.out_of_memory_kills == 0


async def test_resource_limits_allow_no_core_and_bounded_files(node: Any) -> None:
    source = """
import json, resource
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE),
                  resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 16384]))
"""
    assert await node.python(source) == [[0, 0], True]


async def test_ends_are_told_as_they_are(node: Any) -> None:
    assert (await node.run("true")).reason == "normal"
    assert (await node.run("sh", "-c", "exit 7")).reason == "exit:7"
    assert (await node.run("sh", "-c", "kill -TERM $$")).reason == "signal:SIGTERM"
    started = await node.start("sleep", "60")
    await node.engine.kill(started.component)
    assert (await node.wait_exit(started.component)).reason == "signal:SIGKILL"


async def test_a_harness_that_fails_leaves_its_words(node: Any) -> None:
    exited = await node.run("true", configuration="crash")
    assert exited.reason == "harness:exit:70"
    assert "failed on purpose" in exited.harness_log
