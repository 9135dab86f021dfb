"""What is special about the back end `lxc`: its own processes, and that they leave nothing."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.backends import holder, lxc

pytestmark = pytest.mark.system


@pytest.fixture
def backend() -> str:
    return "lxc"


def commands(node: Any) -> dict[str, int]:
    """Name to number of the processes in the node's groups."""
    return {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in node.processes()}


def ended(pid: int) -> bool:
    """It has, though perhaps nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def inside(node: Any) -> int:
    """The number of LXC's init of the node's only container."""
    for line in node.processes():
        pid = int(line.split()[0])
        try:
            if os.path.getsize(f"/proc/{pid}/exe") < 1_000:
                return pid
        except OSError:
            continue
    raise AssertionError(f"no holder among {node.processes()}")


async def test_its_init_has_no_power_no_descriptor_and_cannot_be_looked_at(node: Any) -> None:
    started = await node.start("sleep", "60")
    pid = inside(node)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {k: v.split() for k, _, v in (line.partition(":") for line in lines)}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, name
    assert status["NoNewPrivs"] == ["1"]
    assert status["Uid"] == [str(started.uid_base)] * 4
    assert os.listdir(f"/proc/{pid}/fd") == []
    # Its own user, without capabilities, may look at a process of its own, not at this one.
    user = str(started.uid_base)
    look = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "readlink"]
    own = await trio.run_process([*look, "/proc/self/exe"], capture_stdout=True)
    assert own.stdout
    done = await trio.run_process([*look, f"/proc/{pid}/exe"], capture_stdout=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    for name in ("user", "mnt", "uts", "ipc", "pid", "net", "cgroup"):
        ours = os.readlink(f"/proc/{pid}/ns/{name}")
        assert ours == os.readlink(f"/proc/{started.pid}/ns/{name}"), name


async def test_the_monitor_is_outside_and_its_socket_is_not_in_the_container(node: Any) -> None:
    started = await node.start("sleep", "60")
    monitor = commands(node)["lxc-start"]
    for name in ("user", "pid", "net", "uts"):
        assert os.readlink(f"/proc/{monitor}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
    directory = f"{node.settings.state_dir}/containers/{started.component}"
    socket = f"@{lxc.lxc_config.state_path(directory)}/{started.component}/command"
    assert socket in Path("/proc/self/net/unix").read_text()
    assert "@/run" not in Path(f"/proc/{started.pid}/net/unix").read_text()
    await node.engine.destroy(started.component)
    assert socket not in Path("/proc/self/net/unix").read_text()


async def test_lxc_makes_no_groups_no_locks_and_no_mounts_of_its_own(node: Any) -> None:
    before = {p for p in ("/run/lxc", "/run/lock/lxc") if os.path.exists(p)}
    started = await node.start("sleep", "60")
    foreign = [
        root
        for root, _, _ in os.walk("/sys/fs/cgroup")
        if started.component in root and "/paas-" not in root
    ]
    assert foreign == []
    assert {p for p in ("/run/lxc", "/run/lock/lxc") if os.path.exists(p)} == before
    directory = Path(f"{node.settings.state_dir}/containers/{started.component}")
    config = directory / lxc.CONFIG_FILE
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert f"u 0 {started.uid_base} 65536" in config.read_text()


async def test_without_its_monitor_and_its_init_a_component_runs_on_and_ends_as_ever(
    node: Any,
) -> None:
    wait = "while [ ! -e /app/stop ]; do sleep 0.05; done; exit 5"
    started = await node.start("sh", "-c", wait)
    monitor, holder = commands(node)["lxc-start"], inside(node)
    for pid in (monitor, holder):
        os.kill(pid, signal.SIGKILL)
    with trio.fail_after(20):
        while not (ended(monitor) and ended(holder)):
            await trio.sleep(0.02)
    Path(f"/proc/{started.pid}", "root", "app/stop").touch()
    exited = await node.wait_exit(started.component)
    assert exited.reason == "exit:5"
    await node.engine.destroy(started.component)
    assert node.processes() == []


async def test_the_mounts_that_hide_the_host_are_locked(node: Any) -> None:
    """Somebody with every capability in the user namespace still cannot take them off."""
    started = await node.start("sleep", "60")
    command = ["nsenter", "-t", str(started.pid), "-U", "-m", "--preserve-credentials"]
    for path in ("/proc/kmsg", "/proc/sys", "/proc", "/dev"):
        done = await trio.run_process(
            [*command, "/usr/bin/umount", path],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_stderr=True,
        )
        assert done.returncode != 0, path
    assert "/proc/kmsg" in Path(f"/proc/{started.pid}/mountinfo").read_text()


async def test_without_the_tools_it_is_refused_with_a_way_out(
    fresh_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_node.settings = replace(fresh_node.settings, backend="namespaces")
    async with fresh_node.running():
        with monkeypatch.context() as changed:
            changed.setattr(lxc, "SEARCHED", "/nonexistent")
            with pytest.raises(PlatformError) as caught:
                await fresh_node.start("true", backend="lxc")
        assert caught.value.code == "unsupported"
        assert caught.value.data["field"] == "backend"
        assert not any(fresh_node.container_leftovers().values())


async def test_an_lxc_that_fails_is_quoted(fresh_node: Any) -> None:
    fresh_node.settings = replace(fresh_node.settings, harness="broken_lxc:main")
    async with fresh_node.running():
        with pytest.raises(PlatformError, match="the moon is in the wrong place"):
            await fresh_node.start("true")
        assert not any(fresh_node.container_leftovers().values())


def test_the_holder_says_one_byte_and_sleeps(tmp_path: Path) -> None:
    program = holder.program(os.uname().machine)
    assert program is not None
    path = tmp_path / "holder"
    path.write_bytes(program)
    path.chmod(0o755)
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(write_fd, holder.READY_FD, inheritable=True)
            os.execve(path, ["holder"], {})
        finally:
            os._exit(127)
    os.close(write_fd)
    assert len(os.read(read_fd, 10)) == 1
    assert os.read(read_fd, 10) == b"", "it has closed its descriptors"
    assert os.listdir(f"/proc/{pid}/fd") == []
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it lives on"
    os.kill(pid, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
    os.close(read_fd)
