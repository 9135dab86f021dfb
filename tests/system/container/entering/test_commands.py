"""Commands inside containers that run: input, output, how they end, terminals, and what is left."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.entering import Entering
from paas.container.inside import Inside

pytestmark = pytest.mark.system


async def read_all(descriptor: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(descriptor, 65_536)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(descriptor)
            continue
        except OSError:
            return found
        if not data:
            return found
        found += data


async def run(
    entering: Entering, component: str, *command: str, given: bytes = b"", **changes: Any
) -> tuple[int, bytes, bytes]:
    """(exit code or minus the signal, output, errors)"""
    changes.setdefault("environment", {})
    inside = await entering.execute(component, list(command), **changes)
    out: dict[int, bytes] = {}

    async def collect(channel: int) -> None:
        out[channel] = await read_all(inside.outputs[channel])

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for channel in inside.outputs:
                nursery.start_soon(collect, channel)
            os.write(inside.input_fd, given)
            if inside.terminal_fd < 0:
                inside.close_input()
            code = await inside.wait()
    entering.close(inside)
    return code, out[1], out.get(2, b"")


async def sh(entering: Entering, component: str, script: str, **changes: Any) -> str:
    code, out, err = await run(entering, component, "/bin/sh", "-c", script, **changes)
    assert code == 0, err
    return out.decode().strip()


async def test_input_goes_in_and_output_comes_out(entering: Entering, component: str) -> None:
    data = os.urandom(20_000)
    assert await run(entering, component, "/bin/cat", given=data) == (0, data, b"")


async def test_errors_and_exit_codes_are_told(entering: Entering, component: str) -> None:
    script = "echo out; echo err >&2; exit 7"
    assert await run(entering, component, "sh", "-c", script) == (7, b"out\n", b"err\n")


async def test_a_signal_is_told_as_what_it_is(entering: Entering, component: str) -> None:
    code, _, _ = await run(entering, component, "sh", "-c", "kill -TERM $$")
    assert code == -signal.SIGTERM


async def test_a_program_that_is_not_there(entering: Entering, component: str) -> None:
    inside = await entering.execute(component, ["/no/such/program"], environment={})
    with trio.fail_after(10):
        assert await inside.wait() == 127
    assert inside.failure is not None
    assert inside.failure.number == 2
    assert "/no/such/program" in inside.failure.failure
    entering.close(inside)
    inside = await entering.execute(component, ["nosuch"], environment={}, terminal=(24, 80))
    with trio.fail_after(10):
        assert await inside.wait() == 127
    entering.close(inside)


async def test_it_is_the_component_as_far_as_the_kernel_knows(
    node: Any, entering: Entering, component: str, wait_until: Any, program: Any
) -> None:
    """Same namespaces, user, groups, bounds, filters, privileges."""
    pid = node.engine.containers[component].context.record.pid
    child = program(pid)
    inside = await entering.execute(component, ["/bin/sleep", "60"], environment={})
    try:
        await wait_until(lambda: read(inside.pid, "comm") == "sleep\n")
        for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
            ours = os.readlink(f"/proc/{inside.pid}/ns/{name}")
            assert ours == os.readlink(f"/proc/{child}/ns/{name}"), name
        assert _facts(inside.pid) == _facts(child)
        assert _groups(inside.pid) == _groups(child)
        assert read(inside.pid, "limits") == read(child, "limits")
    finally:
        entering.close(inside)


def read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _facts(pid: int) -> dict[str, str]:
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {name: lines[name].strip() for name in (*wanted, "NoNewPrivs", "Seccomp")}


def _groups(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line for line in lines if "/component" in line}


async def test_environment_and_directory_are_the_component_s(
    node: Any, entering: Entering, wait_until: Any, program: Any
) -> None:
    started = await node.start("/bin/sleep", "600", environment={"COLOUR": "green"})
    await wait_until(lambda: program(started.pid) is not None)
    found = await sh(entering, started.component, "echo $COLOUR $PAAS_COMPONENT; pwd")
    assert found.split() == ["green", started.component, "/app"]
    extra = {"environment": {"COLOUR": "red"}, "cwd": "/tmp"}
    assert (await sh(entering, started.component, "echo $COLOUR; pwd", **extra)).split() == [
        "red",
        "/tmp",
    ]


async def test_root_inside_is_nobody_outside_and_has_no_capability(
    node: Any, entering: Entering, component: str
) -> None:
    assert await sh(entering, component, "id -u") == "1000"
    assert await sh(entering, component, "id -u", root=True) == "0"
    caps = await sh(entering, component, "grep CapEff /proc/self/status", root=True)
    assert int(caps.split()[1], 16) == 0
    assert await sh(entering, component, "touch /run/root-was-here && echo yes", root=True) == "yes"
    code, _, _ = await run(entering, component, "sh", "-c", "mount -t tmpfs x /tmp", root=True)
    assert code != 0


async def test_no_descriptor_of_the_host_comes_along(entering: Entering, component: str) -> None:
    found = await sh(entering, component, "ls -l /proc/self/fd | grep -o '[^ ]*$'")
    assert [
        line for line in found.splitlines() if not line.startswith(("pipe:", "/proc/", "0"))
    ] == []
    await sh(entering, component, "echo reopened > /dev/stdout; echo too > /dev/stderr")


async def test_what_waits_and_minds_cannot_be_seen_inside(
    entering: Entering, component: str
) -> None:
    found = await sh(entering, component, "cat /proc/[0-9]*/comm", root=True)
    assert "python" not in found.replace("sleep", "").splitlines()[1:]


async def test_a_terminal_has_its_size_and_changes_it(entering: Entering, component: str) -> None:
    inside = await entering.execute(
        component,
        [
            "/bin/sh",
            "-c",
            "tty; stty size; trap 'stty size; exit 3' WINCH; echo ready; "
            "while :; do sleep 0.05; done",
        ],
        environment={"TERM": "xterm"},
        terminal=(33, 101),
    )
    said = await _until(inside, b"ready")
    assert re.search(rb"/dev/pts/\d+\r\n33 101\r\n", said)
    inside.resize(12, 34)
    assert b"12 34" in await _until(inside, b"12 34")
    assert await inside.wait() == 3
    entering.close(inside)


async def _until(inside: Inside, wanted: bytes) -> bytes:
    said = b""
    with trio.fail_after(15):
        while wanted not in said:
            try:
                said += os.read(inside.outputs[1], 4_096)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(inside.outputs[1])
    return said


async def test_control_c_on_a_terminal_interrupts(entering: Entering, component: str) -> None:
    inside = await entering.execute(
        component, ["/bin/sh", "-c", "echo on; exec sleep 60"], environment={}, terminal=(24, 80)
    )
    await _until(inside, b"on")
    os.write(inside.input_fd, b"\x03")
    with trio.fail_after(10):
        assert await inside.wait() in (-signal.SIGINT, 130)
    entering.close(inside)


async def test_a_signal_reaches_the_command(entering: Entering, component: str) -> None:
    inside = await entering.execute(
        component,
        ["/bin/sh", "-c", "trap 'echo caught; exit 9' USR1; echo on; while :; do sleep 0.05; done"],
        environment={},
    )
    await _until(inside, b"on")
    await inside.signal(signal.SIGUSR1)
    assert b"caught" in await _until(inside, b"caught")
    with trio.fail_after(10):
        assert await inside.wait() == 9
    entering.close(inside)


async def test_closing_kills_what_the_command_has_started(
    node: Any, entering: Entering, component: str, wait_until: Any
) -> None:
    inside = await entering.execute(
        component, ["/bin/sh", "-c", "sleep 601 & echo on; wait"], environment={}
    )
    await _until(inside, b"on")
    before = len(node.processes())
    entering.close(inside)
    await wait_until(lambda: len(node.processes()) <= before - 2)


async def test_it_ends_with_its_container(node: Any, entering: Entering, component: str) -> None:
    inside = await entering.execute(component, ["/bin/sleep", "60"], environment={})
    await node.engine.destroy(component)
    with trio.fail_after(10):
        assert await inside.wait() == -signal.SIGKILL
    entering.close(inside)


async def test_what_does_not_run_cannot_be_entered(
    node: Any, entering: Entering, component: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        await entering.execute("f" * 40, ["id"], environment={})
    assert caught.value.code == "no-such-target"
    await node.engine.kill(component)
    await node.wait_exit(component)
    with pytest.raises(PlatformError) as caught:
        await entering.execute(component, ["id"], environment={})
    assert caught.value.code == "not-available"


async def test_the_entrance_is_started_again_when_it_was_killed(
    entering: Entering, component: str
) -> None:
    await sh(entering, component, "true")
    pid = entering.entrance_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert await sh(entering, component, "echo again") == "again"


@pytest.mark.parametrize("command", [[], [""], ["a\0b"], ["x"] * 2_000])
async def test_bad_commands_are_refused(
    entering: Entering, component: str, command: list[str]
) -> None:
    with pytest.raises(PlatformError) as caught:
        await entering.execute(component, command, environment={})
    assert caught.value.data["field"] == "command"


async def test_one_container_takes_a_bounded_number(entering: Entering, component: str) -> None:
    command = ["/bin/sleep", "60"]
    opened = [
        await entering.execute(component, command, environment={})
        for _ in range(limits.ENTERED_OF_ONE_MAX)
    ]
    with pytest.raises(PlatformError) as caught:
        await entering.execute(component, command, environment={})
    assert caught.value.code == "limit-exceeded"
    for inside in opened:
        entering.close(inside)


async def test_a_container_ends_though_the_minder_of_a_command_was_killed(
    node: Any, entering: Entering, component: str
) -> None:
    """The command is nobody's child then, and pid 1 cannot end before somebody has reaped it."""
    inside = await entering.execute(component, ["/bin/sleep", "60"], environment={})
    minder = int(read(inside.pid, "stat").rpartition(")")[2].split()[1])
    os.kill(minder, signal.SIGKILL)
    entering.close(inside)
    os.kill(node.engine.find(component).process.pid, signal.SIGKILL)
    with trio.fail_after(30):
        await node.wait_exit(component)
