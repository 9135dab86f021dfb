"""What every back end owes: a start, the facts of the end, standing still, and nothing left."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.messages import Limits

pytestmark = [pytest.mark.system, pytest.mark.both_back_ends]

PYTHON = "/usr/bin/python3"


async def test_a_start_tells_where_the_container_is_and_what_it_took(
    node: Any, backend: str
) -> None:
    started = await node.start("sleep", "60", endpoints={"web": "http"}, hostname="kettle")
    (info,) = node.engine.list()
    assert (info.backend, info.state, info.pid) == (backend, "running", started.pid)
    assert info.address == started.address
    assert node.prepared == [(started.component, started.uid_base)]
    assert started.endpoints == {"web": (started.address, 8_000)}
    assert {"process.layer", "process.root", "process.power"} <= started.timings_ms.keys()
    assert Path(f"/proc/{started.pid}", "root", "etc/hostname").read_text() == "kettle\n"


async def test_its_harness_is_process_1_with_its_isolation_and_its_powers(node: Any) -> None:
    started = await node.start("sleep", "60")
    lines = Path(f"/proc/{started.pid}/status").read_text().splitlines()
    status = {k: v.split() for k, _, v in (line.partition(":") for line in lines)}
    assert status["NSpid"][-1] == "1"
    assert status["Uid"] == [str(started.uid_base)] * 4
    assert status["Groups"] == []
    assert int(status["CapEff"][0], 16) == 0b11100000, "KILL, SETGID, SETUID"
    assert int(status["CapBnd"][0], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    maps = Path(f"/proc/{started.pid}/uid_map").read_text().split()
    assert maps == ["0", str(started.uid_base), "65536"]
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
        outside = os.readlink(f"/proc/self/ns/{name}")
        assert os.readlink(f"/proc/{started.pid}/ns/{name}") != outside, name


async def test_everything_of_a_container_is_in_its_own_groups_and_nowhere_else(node: Any) -> None:
    started = await node.start("sleep", "60")
    group = f"{node.settings.cgroup}/{started.component}"
    for line in node.processes():
        pid = line.split()[0]
        text = Path(f"/proc/{pid}/cgroup").read_text()
        if node.settings.cgroup in text:  # who is about to end is in no group any more
            assert f"/{group}/harness" in text or f"/{group}/component" in text, line


@pytest.mark.parametrize(
    ("command", "reason", "code", "number"),
    [
        (("true",), "normal", 0, None),
        (("sh", "-c", "exit 42"), "exit:42", 42, None),
        (("sh", "-c", "kill -TERM $$"), "signal:SIGTERM", None, signal.SIGTERM),
        (("/no/such/program",), "exit:127", 127, None),
    ],
)
async def test_the_end_is_told_as_it_was(
    node: Any, command: tuple[str, ...], reason: str, code: int | None, number: int | None
) -> None:
    exited = await node.run(*command)
    assert (exited.reason, exited.code, exited.signal) == (reason, code, number)
    assert not exited.out_of_memory
    assert node.container_leftovers() == {}


async def test_want_of_memory_is_told_as_such(node: Any) -> None:
    limits = Limits(memory_bytes=32 << 20, pids=16, disk_bytes=8 << 20)
    exited = await node.run(PYTHON, "-c", "x = bytearray(200 << 20)", limits=limits)
    assert exited.reason == "out-of-memory"
    assert exited.out_of_memory


async def test_the_end_of_the_harness_is_the_end_of_everything(node: Any) -> None:
    started = await node.start("sh", "-c", "sleep 60 & sleep 60")
    os.kill(started.pid, signal.SIGKILL)
    exited = await node.wait_exit(started.component)
    assert exited.reason == "signal:SIGKILL"
    with trio.fail_after(20):
        while node.processes():
            await trio.sleep(0.02)
    await node.engine.destroy(started.component)
    assert node.container_leftovers() == {}


async def test_a_harness_that_fails_is_told_with_its_words(node: Any) -> None:
    exited = await node.run("true", configuration="crash")
    assert exited.reason == "harness:exit:70"
    assert "the harness failed on purpose" in exited.harness_log


async def test_kill_and_destroy_end_what_does_not_want_to(node: Any) -> None:
    stubborn = "trap '' TERM INT HUP; (trap '' TERM; sleep 60) & while :; do sleep 1; done"
    one = await node.start("sh", "-c", stubborn)
    two = await node.start("sh", "-c", stubborn)
    await node.engine.kill(one.component)
    exited = await node.wait_exit(one.component)
    assert (exited.reason, exited.signal) == ("signal:SIGKILL", 9)
    await node.engine.destroy(two.component)
    await node.engine.destroy(one.component)
    assert node.container_leftovers() == {}


async def test_a_launch_that_fails_says_at_which_step_and_leaves_nothing(
    fresh_node: Any, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir(mode=0o755)
    (base / "proc").symlink_to("/etc")
    fresh_node.settings = replace(fresh_node.settings, bases={"odd": str(base)})
    async with fresh_node.running():
        with pytest.raises(PlatformError) as caught:
            await fresh_node.start("true", base="odd")
        assert caught.value.data["step"] == "root"
        assert fresh_node.container_leftovers() == {}
        assert (await fresh_node.run("true")).reason == "normal"


async def test_a_frozen_container_stands_still_goes_on_and_can_be_destroyed(node: Any) -> None:
    source = """
import time
for number in range(10_000):
    with open("/app/count", "w") as file:
        file.write(str(number))
    time.sleep(0.01)
"""
    started = await node.start(PYTHON, "-c", source)
    count = Path(f"/proc/{started.pid}", "root", "app/count")

    async def moves() -> bool:
        before = count.read_text() if count.exists() else ""
        await trio.sleep(0.3)
        return count.exists() and count.read_text() != before

    with trio.fail_after(20):
        while not await moves():
            await trio.sleep(0.01)
    await node.engine.living.freeze(started.component)
    assert not await moves()
    await node.engine.living.thaw(started.component)
    with trio.fail_after(20):
        while not await moves():
            await trio.sleep(0.01)
    await node.engine.living.freeze(started.component)
    await node.engine.destroy(started.component)
    assert node.container_leftovers() == {}


async def test_bounds_hold_and_what_is_used_is_told(node: Any) -> None:
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
time.sleep(60)
"""
    limits = Limits(memory_bytes=64 << 20, cpu=1.0, pids=16, disk_bytes=8 << 20)
    started = await node.start(PYTHON, "-c", source, limits=limits)
    with trio.fail_after(20):
        while (stats := await node.engine.stats(started.component)).pids < limits.pids:
            await trio.sleep(0.02)
    assert stats.pids == limits.pids
    assert 0 < stats.memory_bytes <= limits.memory_bytes
    assert 0 < stats.harness_pss_bytes < 32 << 20
    await node.engine.destroy(started.component)
    log = "print(open('/app/big', 'wb').write(bytes(32 << 20)))"
    exited = await node.run(PYTHON, "-c", log, limits=limits)
    assert exited.code == 1
    assert "No space left on device" in exited.harness_log


async def test_the_component_sees_only_its_own_and_can_change_nothing_of_it(node: Any) -> None:
    source = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"
def write(path):
    try:
        open(path, "w").close()
        return "done"
    except OSError as exc:
        return errno.errorcode[exc.errno]
print(json.dumps({
    "processes": sorted(n for n in os.listdir("/proc") if n.isdigit()) == [str(os.getpid())],
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "mount": call("mount", b"x", b"/tmp", b"tmpfs", 0, None),
    "unmount": call("umount2", b"/proc/keys", 2),
    "user namespace": call("unshare", 0x10000000),
    "sysctl": write("/proc/sys/kernel/hostname"),
    "keys": os.path.getsize("/proc/keys"),
    "descriptors": sorted(int(os.readlink("/proc/self/fd/" + n) != "") for n in ("0", "1", "2")),
}))
"""
    seen = await node.python(source)
    assert seen["processes"] is True
    assert seen["user"] == [1_000, 1_000, []]
    for name in ("mount", "unmount", "user namespace"):
        assert seen[name] == "EPERM", name
    assert seen["sysctl"] in {"EROFS", "EACCES"}
    assert seen["keys"] == 0
    assert seen["descriptors"] == [1, 1, 1]


async def test_root_inside_cannot_reach_the_other_processes_of_the_container(node: Any) -> None:
    """Whatever the back end needs inside is not to be traced, read or signalled from there."""
    source = """
import json, os
seen = {}
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        found = []
        for entry in ("exe", "cwd", "root", "fd/0", "ns/mnt"):
            try:
                os.readlink(f"/proc/{name}/{entry}")
                found.append(entry)
            except OSError:
                pass
        seen[name] = found
print(json.dumps(seen))
"""
    seen = await node.python(source, configuration={"root": True})
    assert not any(seen.values()), seen


async def test_paths_between_containers_are_open_only_where_granted(node: Any) -> None:
    server = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT_WEB"].rsplit(":", 1)
server = socket.create_server((host, int(port)))
open("/app/listening", "w").close()
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
    client = """
import json, socket, sys
host, port = sys.argv[1].rsplit(":", 1)
try:
    with socket.create_connection((host, int(port)), timeout=float(sys.argv[2])) as connection:
        print(json.dumps(connection.recv(100).decode()))
except OSError as exc:
    print(json.dumps(type(exc).__name__))
"""
    one = await node.start(PYTHON, "-c", server, endpoints={"web": "tcp"})
    with trio.fail_after(20):
        while not Path(f"/proc/{one.pid}", "root", "app/listening").exists():
            await trio.sleep(0.02)
    target = "{}:{}".format(*one.endpoints["web"])
    refused = await node.python(client, target, "0.5")
    assert refused in {"TimeoutError", "OSError", "ConnectionRefusedError", "PermissionError"}
    two = node.spec(PYTHON, "-I", "-c", f"import time; time.sleep(0.5)\n{client}", target, "5")
    await node.engine.start(two)
    await node.engine.paths.grant(two.component, one.component, 8_000)
    exited = await node.wait_exit(two.component)
    assert json.loads(exited.harness_log.strip().splitlines()[-1]) == "hello"
