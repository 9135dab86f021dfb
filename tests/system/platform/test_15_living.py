"""Limits changed while a component runs, components that stand still, and why one ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

from .conftest import Platform, until

pytestmark = pytest.mark.system


def _limit(component: dict[str, Any]) -> int:
    """The bound on memory that the kernel has for it."""
    # No wider patterns: what others have in there comes and goes.
    group = f"paas-*/{component['id']}/component"
    for pattern in (f"memory/{group}/memory.limit_in_bytes", f"{group}/memory.max"):
        for path in Path("/sys/fs/cgroup").glob(pattern):
            return int(path.read_text())
    raise AssertionError("it has no control group")


def test_limits_change_while_it_runs_and_hold_over_restarts(platform: Platform) -> None:
    component = platform.create("probe", name="grows")
    pid = platform.component(component)["pid"]
    done = platform.run("resize", "grows", "--memory", "96M", "--cpu", "0.3", "-o", "json")
    assert done.json["limits"]["memory"] == 96 << 20
    assert _limit(platform.component(component)) == 96 << 20
    assert platform.component(component)["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: platform.component(component)["restarts"] == 1)
    found = platform.in_state(component, "available")
    assert found["pid"] != pid
    assert _limit(found) == 96 << 20
    os.kill(platform.agent("containers"), signal.SIGKILL)
    os.kill(platform.agent("hub"), signal.SIGKILL)
    until(lambda: _answers(platform, component))
    assert _limit(platform.component(component)) == 96 << 20


def _answers(platform: Platform, component: str) -> bool:
    try:
        return bool(platform.component(component)["state"] == "available")
    except PlatformError:
        return False


def test_what_cannot_be_given_is_refused_by_name(platform: Platform) -> None:
    platform.create("probe", name="bound")
    for words, text in (
        (("--memory", "1K"), "limits.memory"),
        (("--cpu", "0"), "limits.cpu"),
        (("--cpu-weight", "0"), "limits.cpu_weight"),
        ((), "name a limit"),
    ):
        done = platform.run("resize", "bound", *words, status=None)
        assert done.status != 0
        assert text in done.err


def test_a_frozen_component_is_unavailable_and_a_call_waits_for_it(platform: Platform) -> None:
    component = platform.create("probe", name="still", groups=["stills"])
    assert platform.run("freeze", "still").out.startswith(("unavailable", "◐"))
    found = platform.component(component)
    assert (found["state"], found["reason"]) == ("unavailable", "frozen")
    with pytest.raises(PlatformError) as caught:
        platform.api(
            "hub.call", target="still", operation="echo", inputs={}, timeout=1.0, timeout_s=5
        )
    assert caught.value.code == "timeout"
    assert caught.value.data["reason"] == "frozen"
    assert "paas thaw" in platform.run("why", "still").out
    with pytest.raises(PlatformError, match="no member of group"):
        platform.call("group:stills", "echo")
    answers: list[Any] = []
    other = platform.connect()
    waiting = threading.Thread(
        target=lambda: answers.append(
            other.call(
                "hub.call",
                {"target": "still", "operation": "echo", "inputs": {"a": 1}},
                timeout_s=30,
            )
        )
    )
    waiting.start()
    time.sleep(0.3)
    assert not answers
    platform.run("thaw", "still")
    waiting.join(30)
    other.close()
    assert answers
    assert answers[0]["outputs"]["inputs"] == {"a": 1}
    assert platform.component(component)["state"] == "available"


def test_it_stays_frozen_when_the_agents_are_restarted_and_can_be_destroyed(
    platform: Platform,
) -> None:
    component = platform.create("probe", name="kept")
    platform.run("freeze", "kept")
    os.kill(platform.agent("hub"), signal.SIGKILL)
    os.kill(platform.agent("containers"), signal.SIGKILL)
    until(lambda: _state(platform, component) == "unavailable")
    assert platform.component(component)["reason"] == "frozen"
    pid = until(lambda: platform.component(component)["pid"])
    platform.destroy(component, grace=5)
    assert not os.path.exists(f"/proc/{pid}")


def _state(platform: Platform, component: str) -> str:
    try:
        return str(platform.component(component)["state"])
    except PlatformError:
        return ""


def test_an_end_for_want_of_memory_is_told_with_its_figures(platform: Platform) -> None:
    source = platform.source(
        "eater",
        ["/usr/bin/python3", "-c", "x = bytearray(200 << 20)"],
        limits='memory = "32M"',
        supervision='restart = "temporary"\nmax_restarts = 0',
    )
    kind = platform.push(source)
    platform.api("controller.create", type=kind, name="eater", wait="accepted")
    until(lambda: _why(platform)["facts"].get("oom"))
    found = _why(platform)
    assert found["facts"]["memory_limit"] == 32 << 20
    assert 0 < found["facts"]["memory_peak"] <= 32 << 20
    assert "the limit is 32.0 MiB" in " ".join(found["text"])
    assert "out-of-memory" in platform.run("why", "eater").out


def _why(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = platform.api("controller.why", component="eater")
    return found
