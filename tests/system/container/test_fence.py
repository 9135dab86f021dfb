"""When the node's lease ends its components end, whoever is dead, stopped or cut off by then."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.engine import Engine
from paas.container.hooks.contract import Context
from paas.real.clock import SystemClock
from paas.real.kernel_fence import LeaseFile, boottime_s

pytestmark = pytest.mark.system

LEASE_S = 0.5
LONG_S = 60.0
PATIENCE_S = 20.0
FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def page(node: Any) -> LeaseFile:
    return LeaseFile(node.settings.lease_file)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.01)


async def refusal(node: Any) -> str:
    with pytest.raises(PlatformError) as caught:
        await node.start("sleep", "60")
    return caught.value.code


async def test_components_die_at_the_deadline_when_nobody_extends_it(node: Any) -> None:
    one = await node.start("sleep", "60")
    two = await node.start("sh", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done")
    deadline_s = boottime_s() + LEASE_S
    await node.engine.lease(deadline_s)
    for started in (one, two):
        exited = await node.wait_exit(started.component)
        assert boottime_s() >= deadline_s
        assert exited.reason == "node-lost"
    await until(lambda: node.processes() == [])
    assert await refusal(node) == "not-available"
    assert {i.state for i in node.engine.list()} == {"exited"}
    await node.engine.lease(boottime_s() + LONG_S)
    again = await node.start("sh", "-c", "exit 3")
    assert (await node.wait_exit(again.component)).reason == "exit:3"


async def test_nothing_dies_while_the_lease_is_extended_in_time(node: Any) -> None:
    started = await node.start("sleep", "60")
    await node.engine.lease(boottime_s() + LONG_S)
    fence = page(node).watchdog
    for _ in range(20):
        await node.engine.lease(boottime_s() + LONG_S)
        await trio.sleep(0.02)
    assert page(node).watchdog == fence, "one fence for all of them"
    assert page(node).fenced_s == 0.0
    assert os.path.exists(f"/proc/{started.pid}")
    assert node.exits == []


async def test_without_leases_there_is_no_fence(node: Any) -> None:
    started = await node.start("sleep", "60")
    await node.engine.lease(None)
    assert not os.path.exists(node.settings.lease_file)
    await node.engine.lease(boottime_s() + LONG_S)
    pid, _ = page(node).watchdog
    assert os.path.exists(f"/proc/{pid}")
    await node.engine.lease(None)
    assert not os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(node.settings.lease_file)
    assert os.path.exists(f"/proc/{started.pid}")
    assert node.exits == []


async def test_the_fence_depends_on_no_agent(node: Any) -> None:
    await node.engine.lease(boottime_s() + LONG_S)
    pid, _ = page(node).watchdog
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) == pid, "a session of its own"
    modes = [os.stat(f"/proc/{pid}/fd/{fd}").st_mode for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not any(stat.S_ISSOCK(mode) for mode in modes)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(pid, number)
    await trio.sleep(0.1)
    assert (pid, page(node).watchdog[0]) == (page(node).watchdog[0], pid)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_components_die_though_the_controller_is_dead_or_hangs(
    fresh_node: Any, launch: Any, number: signal.Signals
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    one = await controller.started("sleep", "60")
    await controller.ask("leased", {"lease": boottime_s() + LEASE_S})
    os.kill(controller.process.pid, number)
    await until(lambda: fresh_node.processes() == [])
    marked = page(fresh_node).fenced_s
    assert marked >= page(fresh_node).deadline_s
    controller.kill()
    async with fresh_node.running() as engine:
        exited = await fresh_node.wait_exit(one["component"])
        assert exited.reason == "node-lost"
        assert [i.state for i in engine.list()] == ["exited"]
        assert await refusal(fresh_node) == "not-available"


async def test_the_controller_enforces_the_deadline_when_the_fence_is_dead(node: Any) -> None:
    started = await node.start("sleep", "60")
    await node.engine.lease(boottime_s() + LEASE_S)
    os.kill(page(node).watchdog[0], signal.SIGKILL)
    assert (await node.wait_exit(started.component)).reason == "node-lost"
    assert page(node).fenced_s == 0.0, "it was not the fence"


async def test_a_dead_fence_is_replaced_before_an_extension_is_answered(node: Any) -> None:
    started = await node.start("sleep", "60")
    await node.engine.lease(boottime_s() + LONG_S)
    pid, _ = page(node).watchdog
    os.kill(pid, signal.SIGKILL)
    await until(lambda: state_of(pid) in ("Z", ""))
    await node.engine.lease(boottime_s() + LONG_S)
    other, _ = page(node).watchdog
    assert other != pid
    assert state_of(other) not in ("Z", "")
    assert os.path.exists(f"/proc/{started.pid}")


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def test_a_fork_bomb_dies_with_the_lease(fresh_node: Any, launch: Any) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    await controller.started("/usr/bin/python3", "-c", FORK_BOMB)
    await until(lambda: len(fresh_node.processes()) > 30)
    await controller.ask("leased", {"lease": boottime_s() + LEASE_S})
    controller.process.send_signal(signal.SIGSTOP)
    await until(lambda: fresh_node.processes() == [])


@pytest.fixture
def freezer() -> Iterator[Callable[[int], None]]:
    """Freezes processes in a group of its own, outside those of the platform."""
    version1 = Path("/sys/fs/cgroup/freezer")
    root = version1 if version1.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"frozen-{os.getpid()}"
    group.mkdir()

    def freeze(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        if version1.is_dir():
            (group / "freezer.state").write_text("FROZEN")
        else:
            (group / "cgroup.freeze").write_text("1")

    yield freeze
    group.rmdir()


@pytest.mark.parametrize("number", [None, signal.SIGSTOP])
async def test_a_frozen_or_stopped_component_dies_with_the_lease(
    fresh_node: Any, launch: Any, freezer: Any, number: signal.Signals | None
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    started = await controller.started("sleep", "60")
    await until(lambda: len(fresh_node.processes()) == 2)
    for line in fresh_node.processes():
        if number is None:
            freezer(int(line.split()[0]))
        else:
            os.kill(int(line.split()[0]), number)
    await controller.ask("leased", {"lease": boottime_s() + LEASE_S})
    controller.process.send_signal(signal.SIGSTOP)
    await until(lambda: fresh_node.processes() == [])
    await until(lambda: state_of(started["pid"]) in ("Z", ""))


async def test_a_controller_that_begins_again_keeps_what_has_a_lease(
    fresh_node: Any, launch: Any
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    started = await controller.started("sleep", "60")
    await controller.ask("leased", {"lease": boottime_s() + LONG_S})
    fence, deadline_s = page(fresh_node).watchdog, page(fresh_node).deadline_s
    controller.kill()
    async with fresh_node.running() as engine:
        assert [(i.state, i.pid) for i in engine.list()] == [("running", started["pid"])]
        assert (page(fresh_node).watchdog, page(fresh_node).deadline_s) == (fence, deadline_s)
        await engine.lease(boottime_s() + LONG_S)
        assert page(fresh_node).watchdog == fence
        await engine.lease(boottime_s() + LEASE_S)
        assert (await fresh_node.wait_exit(started["component"])).reason == "node-lost"


async def test_a_controller_that_begins_again_without_a_fence_starts_one(
    fresh_node: Any, launch: Any
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    await controller.ask("leased", {"lease": boottime_s() + LONG_S})
    fence, _ = page(fresh_node).watchdog
    controller.kill()
    os.kill(fence, signal.SIGKILL)
    await until(lambda: state_of(fence) in ("Z", ""))
    async with fresh_node.running():
        other, _ = page(fresh_node).watchdog
        assert other != fence
        assert state_of(other) not in ("Z", "")


@pytest.mark.parametrize("spoil", ["expired", "garbage", "gone", "other boot", "somebody else's"])
async def test_nothing_is_adopted_under_a_lease_that_does_not_hold(
    fresh_node: Any, launch: Any, spoil: str
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    started = await controller.started("sleep", "60")
    await controller.ask("leased", {"lease": boottime_s() + LONG_S})
    lease, found = Path(fresh_node.settings.lease_file), page(fresh_node)
    os.kill(found.watchdog[0], signal.SIGKILL)
    controller.kill()
    assert state_of(started["pid"]) == "S"
    if spoil == "expired":
        found.deadline_s = boottime_s() - 1
    elif spoil == "garbage":
        lease.write_bytes(b"x" * 4096)
    elif spoil == "gone":
        lease.unlink()
    elif spoil == "other boot":
        LeaseFile.create(str(lease), deadline_s=1e9, boot="another", groups=[])
    else:
        os.chown(lease, 12_345, 12_345)
    async with fresh_node.running() as engine:
        exited = await fresh_node.wait_exit(started["component"])
        assert exited.reason == "node-lost"
        assert fresh_node.processes() == []
        assert await refusal(fresh_node) == "not-available"
        await engine.lease(boottime_s() + LONG_S)
        await fresh_node.start("sleep", "60")


async def test_a_lease_whose_page_was_taken_away_ends_all_the_same(
    fresh_node: Any, launch: Any
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    await controller.started("sleep", "60")
    await controller.ask("leased", {"lease": boottime_s() + LEASE_S})
    fence, _ = page(fresh_node).watchdog
    controller.kill()
    Path(fresh_node.settings.lease_file).unlink()
    await until(lambda: fresh_node.processes() == [])
    await until(lambda: state_of(fence) in ("Z", ""))


class EndLease:
    """A hook with which the lease ends before or after one step of a start."""

    def __init__(self, inner: Any, node: Any, phase: str) -> None:
        self.name = inner.name
        self._inner = inner
        self._node = node
        self._phase = phase

    async def prepare(self, context: Context) -> None:
        if self._phase == "before":
            await self._end()
        await self._inner.prepare(context)
        if self._phase == "after":
            await self._end()

    async def _end(self) -> None:
        deadline_s = boottime_s() + 0.1
        await self._node.engine.lease(deadline_s)
        while boottime_s() < deadline_s:
            await trio.sleep(0.01)

    async def destroy(self, context: Context) -> None:
        await self._inner.destroy(context)


@pytest.mark.parametrize(
    ("hook", "phase"),
    [("rootfs", "before"), ("cgroup", "after"), ("process", "before"), ("process", "after")],
)
async def test_a_start_under_way_does_not_survive_the_lease(
    fresh_node: Any, hook: str, phase: str
) -> None:
    def wrap(inner: Any) -> Any:
        return EndLease(inner, fresh_node, phase) if inner.name == hook else inner

    async with fresh_node.running(wrap):
        if (hook, phase) == ("process", "after"):  # told to go while the lease held, or just not
            try:
                started = await fresh_node.start("sleep", "60")
                outcome = (await fresh_node.wait_exit(started.component)).reason
            except PlatformError as error:
                outcome = error.code
            assert outcome in ("node-lost", "not-available")
        else:
            assert await refusal(fresh_node) == "not-available"
            assert fresh_node.engine.list() == []
        await until(lambda: fresh_node.processes() == [])


async def test_clearing_ends_everything_and_leaves_the_lease(node: Any) -> None:
    started = [await node.start("sleep", "60") for _ in range(3)]
    await node.engine.lease(boottime_s() + LONG_S)
    await node.engine.clear()
    assert node.processes() == []
    assert {i.state for i in node.engine.list()} == {"exited"}
    assert {e.reason for e in node.exits} == {"node-lost"}
    assert len(node.exits) == len(started)
    await node.start("sleep", "60")


class JumpingClock:
    """Wall time that an administrator moves about."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return SystemClock().now_ms() + self.offset_ms

    def monotonic_s(self) -> float:
        return SystemClock().monotonic_s()


async def test_setting_the_wall_clock_moves_no_deadline(fresh_node: Any) -> None:
    clock = JumpingClock()
    engine = Engine(fresh_node.settings, clock=clock, on_exit=fresh_node.exits.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        started = await engine.start(fresh_node.spec("sleep", "60"))
        await engine.lease(boottime_s() + LONG_S)
        for jump_ms in (10**9, -(10**9)):
            clock.offset_ms = jump_ms
            await trio.sleep(0.05)
            assert state_of(started.pid) == "S"
        deadline_s = boottime_s() + LEASE_S
        await engine.lease(deadline_s)
        await fresh_node.wait_exit(started.component)
        assert boottime_s() >= deadline_s
        nursery.cancel_scope.cancel()


async def test_a_lease_can_begin_again_and_again(node: Any) -> None:
    for _ in range(3):
        await node.engine.lease(boottime_s() + LONG_S)
        started = await node.start("sleep", "60")
        await node.engine.lease(boottime_s() + 0.1)
        assert (await node.wait_exit(started.component)).reason == "node-lost"
        await until(lambda: page(node).fenced_s > 0)
    await node.engine.lease(boottime_s() + LONG_S)
    assert page(node).fenced_s == 0.0


async def test_an_end_of_its_own_before_the_deadline_keeps_its_reason(
    fresh_node: Any, launch: Any
) -> None:
    controller = launch(fresh_node)
    await controller.read("ready")
    await controller.ask("leased", {"lease": boottime_s() + 2 * LEASE_S})
    started = await controller.started("sh", "-c", "exit 4")
    controller.kill()
    await until(lambda: boottime_s() > page(fresh_node).deadline_s)
    async with fresh_node.running():
        assert (await fresh_node.wait_exit(started["component"])).reason == "exit:4"
