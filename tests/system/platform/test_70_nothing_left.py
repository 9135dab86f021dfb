"""After the end of a component, and of a cluster, nothing of it is on the machine."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system


def kinds(found: set[str]) -> dict[str, int]:
    """How many of each kind: what is kept ready (links, layers) changes its names."""
    counted: dict[str, int] = {}
    for line in found:
        kind = line.partition(" ")[0]
        counted[kind] = counted.get(kind, 0) + 1
    return counted


def settled(platform: Any) -> dict[str, int]:
    """The counts, once what is kept ready is complete."""
    found = kinds(platform.leftovers())
    while True:
        time.sleep(0.7)
        before, found = found, kinds(platform.leftovers())
        if before == found:
            return found


def test_after_destroy_nothing_of_a_component_is_left(platform: Any, wait_until: Any) -> None:
    platform.destroy(platform.create("probe"))  # whatever is made once is there now
    before = settled(platform)
    component = platform.create("probe", groups=["some"], name="short-lived")
    pid = platform.component(component)["pid"]
    during = platform.leftovers()
    assert any(component in line for line in during)
    platform.run("destroy", "short-lived", "--yes", "--grace", "2s")
    after = platform.leftovers()
    assert [line for line in after if component in line] == []
    assert [line for line in after if line.startswith(f"process {pid} ")] == []
    wait_until(
        lambda: kinds(platform.leftovers()) == before,
        lambda: f"{before} {kinds(platform.leftovers())} {platform.leftovers() - during}",
    )


def test_after_a_hundred_lives_nothing_has_grown(platform: Any, wait_until: Any) -> None:
    platform.destroy(platform.create("probe"))
    before = settled(platform)
    for _ in range(5):
        made = platform.api("controller.create", type="raw", count=20, timeout_s=90)["components"]
        assert len(made) == 20
        platform.destroy_all()
    wait_until(
        lambda: kinds(platform.leftovers()) == before,
        lambda: f"{before} {kinds(platform.leftovers())}",
    )


def test_down_leaves_nothing_whatever_ran(fresh: Any) -> None:
    fresh.push("probe")
    fresh.api("controller.create", type="probe", count=3, groups=["some"])
    stubborn = fresh.source(
        "stubborn", ["sh", "-c", "trap '' TERM; while :; do sleep 100 & wait; done"]
    )
    fresh.create(fresh.push(stubborn))
    dawdler = fresh.source("dawdler", ["sleep", "1000"], protocol="json")
    fresh.create(fresh.push(dawdler), wait="accepted")
    looper = fresh.source(
        "looper", ["sh", "-c", "exit 3"], supervision="max_restarts = 1\nwithin = 60"
    )
    fresh.create(fresh.push(looper), wait="accepted")
    assert {"process", "link", "cgroup", "rules", "socket"} <= set(kinds(fresh.leftovers()))
    fresh.disconnect()
    fresh.run("down", "--yes")
    assert fresh.leftovers(with_state=False) == set()
    assert fresh.state.is_dir()
    fresh.run("down", "--purge", "--yes")
    assert fresh.leftovers() == set()
    assert not fresh.state.exists()


def test_types_and_components_are_back_after_down_and_dev(fresh: Any) -> None:
    """`down` without `--purge` keeps the state: what was wanted to run runs again."""
    fresh.push("probe")
    component = fresh.create("probe", name="lasting")
    fresh.disconnect()
    fresh.run("down", "--yes")
    fresh.start()
    found = fresh.in_state("lasting", "available")
    assert found["id"] == component
    assert fresh.call("lasting", "echo")["from"] == component


def test_ctrl_c_ends_a_cluster_in_the_foreground_and_leaves_nothing(make: Any) -> None:
    one = make()
    running = one.spawn("dev")
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        one.push("probe")
        one.create("probe")
        one.disconnect()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert "nothing runs any more" in said
    assert one.leftovers(with_state=False) == set()


def test_a_cluster_that_is_down_is_not_reachable_and_says_so(fresh: Any) -> None:
    fresh.run("down", "--yes")
    done = fresh.run("ps", status=6)
    assert "does not run" in done.err
    with pytest.raises((PlatformError, OSError)):
        fresh.raw()
