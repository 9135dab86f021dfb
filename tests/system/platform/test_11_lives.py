"""How components live and end: restarts, typed reasons, monitors, links, terminate, versions."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system


def end_by(platform: Any, component: str, how: str, **inputs: Any) -> None:
    """Ask a component to do what it does not survive."""
    with contextlib.suppress(PlatformError):
        platform.call(component, how, timeout_s=20.0, **inputs)


def downs(platform: Any, watcher: str) -> list[dict[str, Any]]:
    events = platform.call(watcher, "events")
    return [event for event in events if event["event"] == "down"]


@pytest.mark.parametrize(
    ("how", "inputs", "reason"),
    [
        ("exit", {"code": 0}, "normal"),
        ("exit", {"code": 3}, "exit:3"),
        ("signal", {"number": int(signal.SIGKILL)}, "signal:SIGKILL"),
        ("signal", {"number": int(signal.SIGSEGV)}, "signal:SIGSEGV"),
        ("eat", {}, "out-of-memory"),
    ],
)
def test_a_monitor_tells_once_and_why(
    platform: Any, wait_until: Any, how: str, inputs: dict[str, Any], reason: str
) -> None:
    watcher = platform.create("probe")
    component = platform.create("probe", restart="temporary")
    opened = platform.call(watcher, "monitor", component=component)
    end_by(platform, component, how, **inputs)
    wait_until(lambda: downs(platform, watcher))
    platform.in_state(component, "destroyed", "failed")
    (down,) = downs(platform, watcher)
    assert (down["watch"], down["component"]) == (opened["watch"], component)
    assert down["reason"] == reason
    assert platform.component(component)["reason"] == reason
    assert "traceback" not in str(down).lower()


def test_a_monitor_of_one_that_is_destroyed_says_so(platform: Any, wait_until: Any) -> None:
    watcher, component = platform.create("probe"), platform.create("probe")
    platform.call(watcher, "monitor", component=component)
    platform.destroy(component)
    wait_until(lambda: downs(platform, watcher))
    assert [d["reason"] for d in downs(platform, watcher)] == ["destroyed"]


def test_a_monitor_of_one_that_is_gone_already_tells_at_once(
    platform: Any, wait_until: Any
) -> None:
    watcher, component = platform.create("probe"), platform.create("probe", restart="temporary")
    end_by(platform, component, "exit", code=3)
    platform.in_state(component, "destroyed", "failed")
    platform.call(watcher, "monitor", component=component)
    wait_until(lambda: downs(platform, watcher))
    assert [d["reason"] for d in downs(platform, watcher)] == ["exit:3"]


def test_the_monitor_command_waits_and_says_why(platform: Any) -> None:
    component = platform.create("probe", restart="temporary")
    waiting = platform.spawn("monitor", component)
    end_by(platform, component, "exit", code=3)
    out, _ = waiting.communicate(timeout=60)
    assert "exit:3" in out


def test_a_restarted_component_keeps_its_id_and_counts(platform: Any, wait_until: Any) -> None:
    component = platform.create("probe", name="steady", groups=["club"])
    before = platform.component(component)
    end_by(platform, component, "exit", code=3)
    wait_until(lambda: platform.component(component)["restarts"] == 1)
    after = platform.in_state(component, "available")
    assert (after["id"], after["name"], after["reason"]) == (component, "steady", "exit:3")
    assert after["pid"] != before["pid"]
    assert not os.path.exists(f"/proc/{before['pid']}")
    assert after["groups"] == ["club"]
    assert platform.call("steady", "echo")["from"] == component


@pytest.mark.parametrize(
    ("restart", "code", "comes_back"),
    [("transient", 0, False), ("transient", 1, True), ("temporary", 1, False)],
)
def test_the_restart_policy_decides(
    platform: Any, wait_until: Any, restart: str, code: int, comes_back: bool
) -> None:
    component = platform.create("probe", restart=restart)
    end_by(platform, component, "exit", code=code)
    if comes_back:
        wait_until(lambda: platform.component(component)["restarts"] == 1)
        platform.in_state(component, "available")
    else:
        assert platform.in_state(component, "destroyed", "failed")["restarts"] == 0


def test_a_link_ends_the_other_when_one_ends_abnormally(platform: Any) -> None:
    a = platform.create("probe", restart="temporary")
    b = platform.create("probe", restart="temporary", links=[a])
    assert platform.component(b)["links"] == [a]
    end_by(platform, a, "exit", code=3)
    platform.in_state(a, "destroyed", "failed")
    ended = platform.in_state(b, "destroyed", "failed")
    assert ended["reason"]


def test_a_link_lets_the_other_live_after_a_normal_end(platform: Any) -> None:
    a, b = platform.create("probe", restart="temporary"), platform.create("probe")
    platform.api("controller.link", a=a, b=b)
    end_by(platform, a, "exit", code=0)
    platform.in_state(a, "destroyed")
    assert platform.component(b)["state"] == "available"
    assert platform.component(b)["restarts"] == 0


def test_unlinked_components_do_not_die_together(platform: Any) -> None:
    a = platform.create("probe", restart="temporary")
    b = platform.create("probe", links=[a])
    platform.api("controller.unlink", a=a, b=b)
    end_by(platform, a, "exit", code=3)
    platform.in_state(a, "destroyed", "failed")
    assert platform.call(b, "echo")["from"] == b
    assert platform.component(b)["restarts"] == 0


def test_terminate_may_be_refused_and_may_be_accepted(platform: Any) -> None:
    component = platform.create("probe", configuration={"stays": True})
    refused = platform.api("controller.terminate", component=component)
    assert refused == {"accepted": False, "reason": "there is work to do"}
    assert platform.call(component, "echo")["from"] == component
    assert "there is work to do" in platform.run("terminate", component, status=1).err
    accepted = platform.api("controller.terminate", component=component, inputs={"really": True})
    assert accepted["accepted"] is True
    ended = platform.in_state(component, "destroyed")
    assert ended["restarts"] == 0


def test_a_component_that_creates_others_may_end_them_and_nobody_elses(platform: Any) -> None:
    parent, stranger = platform.create("probe"), platform.create("probe")
    made = platform.call(
        parent, "request", method="controller.create", params={"type": "probe", "timeout": 30}
    )
    (child,) = made["components"]
    assert platform.call(child, "echo")["from"] == child
    params = {"component": stranger, "grace": 0}
    with pytest.raises(PlatformError) as caught:
        platform.call(parent, "request", method="controller.destroy", params=params)
    assert caught.value.code == "denied"
    params = {"component": child, "grace": 0}
    platform.call(parent, "request", method="controller.destroy", params=params)
    assert platform.component(child)["state"] == "destroyed"


def test_versions_of_a_type_run_side_by_side(platform: Any) -> None:
    made = {}
    for version in ("1.0.0", "2.0.0"):
        source = platform.source(
            "sidecar", ["sh", "-c", f"echo version {version}; exec sleep 1000"], version=version
        )
        kind = platform.push(source)
        assert kind == f"sidecar@{version}"
        made[version] = platform.create(kind)
    assert {platform.component(c)["type"] for c in made.values()} == {
        "sidecar@1.0.0",
        "sidecar@2.0.0",
    }
    newest = platform.create("sidecar")
    assert platform.component(newest)["type"] == "sidecar@2.0.0"


def test_the_same_version_with_other_content_is_a_conflict(platform: Any) -> None:
    one = platform.source("settled", ["sleep", "1000"])
    assert platform.push(one) == "settled@1.0.0"
    assert platform.push(one) == "settled@1.0.0"
    other = platform.source("settled", ["sleep", "1001"])
    refused = platform.run("push", str(other), status=5)
    assert "settled@1.0.0" in refused.err


def test_a_type_in_use_is_not_forgotten(platform: Any) -> None:
    kind = platform.push(platform.source("used", ["sleep", "1000"]))
    component = platform.create(kind)
    with pytest.raises(PlatformError) as caught:
        platform.api("controller.unregister_type", type=kind)
    assert caught.value.code == "conflict"
    platform.destroy(component)
    platform.run("types", "remove", kind)
    with pytest.raises(PlatformError) as caught:
        platform.create(kind)
    assert caught.value.code == "no-such-type"


def test_a_name_is_given_once(platform: Any) -> None:
    first = platform.create("probe", name="only")
    with pytest.raises(PlatformError) as caught:
        platform.create("probe", name="only")
    assert caught.value.code == "conflict"
    assert platform.component("only")["id"] == first
    platform.destroy(first)
    second = platform.create("probe", name="only")
    assert second != first


def test_accepted_comes_before_available(platform: Any) -> None:
    source = platform.source("slow", ["sh", "-c", "exec sleep 1000"], protocol="json")
    component = platform.create(platform.push(source), wait="accepted")
    assert platform.component(component)["state"] in ("preparing", "initializing")


def test_a_repeated_request_creates_nothing_new(platform: Any) -> None:
    first = platform.create("probe", request_id="the same")
    assert platform.create("probe", request_id="the same") == first
    assert len(platform.components()) == 1


def test_destroying_again_is_harmless(platform: Any) -> None:
    component = platform.create("probe")
    platform.destroy(component)
    platform.destroy(component)
    assert platform.component(component)["state"] == "destroyed"


def test_records_have_rising_sequence_numbers_levels_and_streams(
    platform: Any, wait_until: Any
) -> None:
    component = platform.create("probe")
    platform.call(component, "log")
    wait_until(lambda: len(platform.records(component=component)) >= 6)
    records = platform.records(component=component)
    numbers = [record["sequence"] for record in records]
    assert numbers == sorted(set(numbers))
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)
    kinds = {(r["stream"], r["level"]) for r in records}
    assert {("log", "debug"), ("log", "error"), ("stdout", "info")} <= kinds
    assert any(r["stream"] == "stderr" for r in records)
    assert {r["type"] for r in records} == {"probe@1.0.0"}
    severe = platform.records(component=component, level="warning")
    assert {r["level"] for r in severe} <= {"warning", "error"}
    (found,) = platform.records(component=component, grep="of level debug")
    assert found["fields"] == {"number": 5}


def test_records_of_a_restarted_component_go_on_counting(platform: Any, wait_until: Any) -> None:
    component = platform.create("probe")
    platform.call(component, "log")
    wait_until(lambda: len(platform.records(component=component)) >= 6)
    end_by(platform, component, "exit", code=3)
    wait_until(lambda: platform.component(component)["restarts"] == 1)
    platform.in_state(component, "available")
    platform.call(component, "log")
    wait_until(lambda: len(platform.records(component=component, grep="a record")) == 8)
    numbers = [record["sequence"] for record in platform.records(component=component)]
    assert numbers == sorted(set(numbers))
