"""Attributes, signals and their watches on a real node, also while the hub is killed."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system


def ask(platform: Any, component: str, method: str, /, **params: Any) -> Any:
    """A method of the API, as this component."""
    return platform.call(component, "request", method=method, params=params)


def test_attributes_are_set_read_and_checked(platform: Any) -> None:
    one, other = platform.create("probe"), platform.create("probe")
    ask(platform, one, "hub.set_attributes", attributes={"level": 3, "of": {"any": ["kind"]}})
    ask(platform, one, "hub.set_attributes", attributes={"load": 0.5}, kind="volatile")
    found = ask(platform, other, "hub.get_attributes", target=one)["attributes"]
    assert found == {"level": 3, "of": {"any": ["kind"]}, "load": 0.5}
    with pytest.raises(PlatformError) as caught:
        ask(platform, other, "hub.set_attributes", target=one, attributes={"level": 4})
    assert caught.value.code == "denied"
    done = platform.run("attribute", "set", one, "level=5", "--expect", "level=4", status=5)
    assert "level" in done.err
    platform.run("attribute", "set", one, "level=5", "--expect", "level=3")
    assert platform.run("attribute", "get", one, "level").json == {"level": 5}
    platform.destroy(one)
    assert ask(platform, other, "hub.get_attributes", target=one)["attributes"] == {
        "level": 5,
        "of": {"any": ["kind"]},
    }


def test_signals_and_changes_reach_components_that_watch(platform: Any, wait_until: Any) -> None:
    one = platform.create("probe", groups=["lamps"])
    other = platform.create("probe")
    shown = platform.call(other, "watch", attributes={"target": "group:lamps"})
    assert shown["snapshot"] == {one: {}}
    platform.call(other, "watch", signals={"target": "group:lamps"})
    answer = ask(platform, one, "hub.signal", signal="on", payload={"by": "hand"})
    assert answer == {"watchers": 1}
    ask(platform, one, "hub.set_attributes", attributes={"level": 1})
    ask(platform, one, "hub.set_attributes", attributes={"load": 2}, kind="volatile")
    wait_until(lambda: len(platform.call(other, "events")) >= 3)
    signalled, durable, volatile = platform.call(other, "events")
    assert (signalled["event"], signalled["payload"]) == ("signal", {"by": "hand"})
    assert (durable["event"], durable["attributes"]) == ("changed", {"level": 1})
    assert durable["index"] > 0
    assert (volatile["attributes"], volatile["kind"]) == ({"load": 2}, "volatile")


def test_nothing_of_the_log_is_missed_or_repeated_when_the_hub_is_killed(
    fresh: Any, wait_until: Any
) -> None:
    fresh.push("probe")
    one, other = fresh.create("probe"), fresh.create("probe")
    fresh.call(other, "watch", attributes={"target": one})
    fresh.call(other, "watch", signals={"target": one})
    sent = 0
    for _ in range(3):
        for _ in range(20):
            fresh.api("hub.set_attributes", target=one, attributes={"n": sent})
            sent += 1
        os.kill(fresh.agent("hub"), signal.SIGKILL)
        fresh.disconnect()
        wait_until(lambda: _works(fresh, other))
    fresh.api("hub.set_attributes", target=one, attributes={"n": sent})

    def changes() -> list[Any]:
        events = fresh.call(other, "events")
        assert not [e for e in events if e["event"] in ("resumed", "lost")]
        return [e["attributes"]["n"] for e in events if e["event"] == "changed"]

    wait_until(lambda: len(changes()) > sent)
    assert changes() == list(range(sent + 1))
    gaps = [e for e in fresh.call(other, "events") if e["event"] == "gap"]
    assert len(gaps) == 3


def _works(platform: Any, component: str) -> bool:
    try:
        platform.call(component, "echo")
    except PlatformError:
        return False
    return True
