"""After a container there is nothing: also when any step of making or removing it fails."""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.hooks.contract import PHASES, FailHook, Hook, InjectedFailure

pytestmark = pytest.mark.system

HOOKS = ("rootfs", "users", "volumes", "cgroup", "network", "firewall", "process")


def links(node: Any) -> set[str]:
    names = (link.name for link in Path("/sys/class/net").iterdir())
    return {name for name in names if name.startswith(node.settings.link_prefix)}


async def settled(node: Any) -> set[str]:
    """The links when the pool is full again."""
    with trio.fail_after(10):
        while len(found := links(node)) < node.settings.pool_networks:
            await trio.sleep(0.02)
    return found


async def elements(node: Any, family: str, name: str) -> int:
    command = ["nft", "list", "set", family, node.settings.table, name]
    done = await trio.run_process(command, capture_stdout=True)
    text = done.stdout.decode()
    return text.partition("elements = {")[2].count(",") + 1 if "elements" in text else 0


async def test_nothing_is_left_after_destroy(node: Any) -> None:
    started = await node.start("sh", "-c", "sleep 60 & sleep 60")
    await node.engine.destroy(started.component)
    assert node.container_leftovers() == {}
    assert f"{node.settings.link_prefix}{_number(started.address):x}" not in links(node)
    assert not os.path.exists(f"/proc/{started.pid}")
    assert node.engine.list() == []


def _number(address: str) -> int:
    return int(address.rsplit(".", 1)[1])


async def test_destroy_is_idempotent_and_serves_exited_and_unknown(node: Any) -> None:
    started = await node.start("true")
    await node.wait_exit(started.component)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(node.engine.destroy, started.component)
    await node.engine.destroy(started.component)
    await node.engine.destroy("f" * 40)
    assert node.container_leftovers() == {}


async def test_every_hook_is_made_to_fail_below(node: Any) -> None:
    assert tuple(hook.name for hook in node.engine.ready().hooks) == HOOKS


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", HOOKS)
async def test_a_hook_that_fails_leaks_nothing(fresh_node: Any, name: str, phase: str) -> None:
    wrapped: list[FailHook] = []

    def wrap(hook: Hook) -> Hook:
        if hook.name != name:
            return hook
        wrapped.append(FailHook(hook, phase))
        return wrapped[0]

    async with fresh_node.running(wrap) as engine:
        spec = fresh_node.spec("sleep", "60")
        if phase.startswith("prepare"):
            with pytest.raises(InjectedFailure):
                await engine.start(spec)
        else:
            await engine.start(spec)
            with pytest.raises(PlatformError) as caught:
                await engine.destroy(spec.component)
            assert caught.value.code == "failed"
            assert [c.state for c in engine.list()] == ["destroying"]
            await engine.destroy(spec.component)
        assert wrapped[0].failures == 1
        assert fresh_node.container_leftovers() == {}
        assert engine.list() == []
        assert len(await settled(fresh_node)) == fresh_node.settings.pool_networks
        # The same component can be started now: every name and number is free again.
        await engine.start(spec)
        await engine.destroy(spec.component)


async def test_a_cancelled_start_leaks_nothing(node: Any) -> None:
    for delay_s in (0.0, 0.001, 0.004, 0.008, 0.012):
        with trio.move_on_after(delay_s):
            await node.start("sleep", "60")
            await trio.sleep_forever()
        for info in node.engine.list():
            await node.engine.destroy(info.component)
        assert node.container_leftovers() == {}


async def test_a_template_that_was_killed_is_replaced(node: Any) -> None:
    assert node.engine is not None
    survivor = await node.start("sleep", "60")
    template = node.engine._parts.launcher
    os.kill(template.template_pid, 9)
    with trio.fail_after(20):
        while True:
            try:
                assert (await node.run("true")).reason == "normal"
            except PlatformError:
                await trio.sleep(0.01)
            else:
                break
    assert [c.state for c in node.engine.list() if c.component == survivor.component] == ["running"]


async def test_teardown_leaves_nothing_of_the_node(fresh_node: Any) -> None:
    async with fresh_node.running() as engine:
        await fresh_node.start("sleep", "60")
        await fresh_node.start("true")
        await engine.teardown_node()
    assert not any(fresh_node.leftovers().values()), fresh_node.leftovers()


async def test_many_at_once_and_no_number_twice(node: Any) -> None:
    started = []

    async def one() -> None:
        started.append(await node.start("sleep", "60"))

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(one)
    assert len({s.uid_base for s in started}) == 12
    assert len({s.address for s in started}) == 12
    async with trio.open_nursery() as nursery:
        for container in started:
            nursery.start_soon(node.engine.destroy, container.component)
    assert node.container_leftovers() == {}


async def test_refusals_name_what_is_wrong(node: Any) -> None:
    spec = node.spec("true", bundle_dir="/nonexistent")
    with pytest.raises(PlatformError) as caught:
        await node.engine.start(spec)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "bundle_dir")
    started = await node.start("sleep", "60")
    with pytest.raises(PlatformError) as caught:
        await node.engine.start(node.spec("true", component=started.component))
    assert caught.value.code == "conflict"
    for call in (node.engine.kill, node.engine.stats):
        with pytest.raises(PlatformError) as caught:
            await call("e" * 40)
        assert caught.value.code == "no-such-target"
    assert [c.component for c in node.engine.list()] == [started.component]


async def test_a_second_engine_on_the_same_directory_is_refused(node: Any) -> None:
    from paas.container.engine import Engine
    from paas.real.clock import SystemClock

    second = Engine(node.settings, clock=SystemClock(), on_exit=lambda exited: None)
    with pytest.raises(PlatformError) as caught:
        await second.run()
    assert caught.value.code == "conflict"
