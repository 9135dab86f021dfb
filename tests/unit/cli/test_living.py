"""`paas resize`, `freeze`, `thaw`, `why`: what is asked of the hub, and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

ID = "ab" * 20
LIMITS = {
    "memory": 100 << 20,
    "cpu": 0.5,
    "pids": 64,
    "disk": 1 << 27,
    "io": 0,
    "cpu_weight": 300,
}


@pytest.fixture
def asked(hub: Any) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def answer(word: str, result: Any) -> Any:
        def method(params: dict[str, Any]) -> Any:
            seen.append((word, params))
            return result

        return method

    hub.controller_component = lambda _params: {"id": ID, "name": "web", "state": "available"}
    hub.controller_resize = answer("resize", {"component": ID, "limits": LIMITS})
    hub.controller_freeze = answer(
        "freeze", {"component": ID, "state": "unavailable", "frozen": True}
    )
    hub.controller_thaw = answer("thaw", {"component": ID, "state": "available", "frozen": False})
    hub.controller_why = answer(
        "why",
        {
            "component": ID,
            "state": "failed",
            "reason": "out-of-memory",
            "text": ["web is failed: out-of-memory", "the limit is 32.0 MiB"],
            "facts": {"oom": True},
            "log": [f"line {n}" for n in range(9)],
        },
    )
    return seen


def test_only_the_named_limits_are_asked_for(paas: Any, asked: list[Any]) -> None:
    done = paas("resize", ID, "--memory", "100M", "--cpu", "0.5", "--cpu-weight", "300")
    assert done.status == 0
    [(_, params)] = asked
    assert params["component"] == ID
    assert params["limits"] == {"memory": "100M", "cpu": 0.5, "cpu_weight": 300}
    for word in ("memory 100M", "cpu 0.5", "weight 300", "io any"):
        assert word in done.out


def test_a_resize_of_nothing_is_refused_before_anybody_is_asked(
    paas: Any, asked: list[Any]
) -> None:
    done = paas("resize", ID)
    assert done.status != 0
    assert "--memory" in done.err
    assert not asked


def test_standing_still_and_going_on_are_said(paas: Any, asked: list[Any]) -> None:
    assert "frozen" in paas("freeze", ID).out
    assert "goes on" in paas("thaw", ID).out
    found = json.loads(paas("freeze", ID, "-o", "json").out)
    assert found == {"component": ID, "state": "unavailable", "frozen": True}
    assert [word for word, _ in asked] == ["freeze", "thaw", "freeze"]


def test_why_is_told_in_sentences_with_the_last_lines(paas: Any, asked: list[Any]) -> None:
    out = paas("why", "web").out
    assert out.startswith("web is failed: out-of-memory\nthe limit is 32.0 MiB\n")
    assert "line 8" in out
    assert "line 3" not in out
    assert json.loads(paas("why", "web", "-o", "json").out)["facts"] == {"oom": True}
