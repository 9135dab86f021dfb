"""`paas top` and `paas allow`: what people see, and what programs get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paas.cli.top import rate, size
from paas.hub.top_messages import TOP as TOP_METHOD

TOP = {
    "nodes": [
        {
            "node": "n1",
            "attached": 2,
            "waiting": 7,
            "queued_bytes": 3 << 20,
            "links": {"n2": 1 << 20},
            "rates_1s": {"calls": 1234.5, "casts": 0.0, "forwards": 3.25, "refused": 0.0},
            "rates_10s": {"calls": 900.0, "casts": 0.5, "forwards": 3.0, "refused": 0.0},
            "refused": {"denied": 2, "limit-exceeded": 9},
            "slow": ["ab" * 20],
            "parts": {"watches": {"watches": 4, "slow_watches": 1}},
        }
    ],
    "components": [
        {
            "component": "ab" * 20,
            "name": "slowcoach",
            "node": "n1",
            "ready": True,
            "waiting": 7,
            "queued_bytes": 2048,
            "delivered": 99,
            "refused": 9,
            "rate_1s": 12.0,
            "rate_10s": 8.4,
            "slow": True,
            "usage": {
                "memory": 38 << 20,
                "memory_limit": 64 << 20,
                "cpu": 0.254,
                "disk": 3 << 20,
                "throttled_ms": 1500.0,
                "pressure_cpu": 12.0,
                "pressure_memory": 0.0,
                "pressure_io": 3.0,
            },
        }
    ],
    "missing": ["n2"],
}


@pytest.fixture
def asked(hub: Any) -> list[Any]:
    seen: list[Any] = []

    def hub_top(params: dict[str, Any]) -> Any:
        seen.append(params)
        return TOP

    hub.hub_top = hub_top
    assert TOP_METHOD.name == "hub.top"
    return seen


def test_nodes_and_components_are_shown_as_tables(paas: Any, asked: list[Any]) -> None:
    done = paas("top", "--sort", "rate", "--limit", "5")
    assert (asked[0]["sort"], asked[0]["limit"]) == ("rate", 5)
    assert len(asked) == 1, "not on a terminal: once"
    for text in ("n1", "1234 / 900", "4.0M", "denied 2, limit-exceeded 9", "slowcoach", "slow"):
        assert text in done.out, done.out
    assert "n2 does not answer" in done.err


def test_what_containers_use_is_shown_and_what_is_not_known_is_not(
    paas: Any, asked: list[Any]
) -> None:
    out = paas("top", "--once", "-o", "wide").out
    for text in ("38.0M/64.0M", "0.25", "1.5s", "3.0M", "12 0 3"):
        assert text in out, out
    assert "38.0M/64.0M" in paas("top", "--once").out


def test_programs_get_the_whole_answer(paas: Any, asked: list[Any]) -> None:
    done = paas("top", "--once", "-o", "json")
    assert json.loads(done.out) == TOP
    assert (asked[0]["sort"], asked[0]["limit"]) == ("waiting", 20)


def test_names_are_those_of_components(paas: Any, asked: list[Any]) -> None:
    assert paas("top", "--once", "-o", "name").out.split() == ["ab" * 20]


def test_a_verdict_says_what_to_add(paas: Any, hub: Any) -> None:
    verdict = {
        "component": "cd" * 20,
        "type": "kv@1",
        "application": "storage",
        "allowed": False,
        "reason": "kv@1 does not expose it to the application shop",
        "add": {"kv@1": '[exposes.shop]\noperations = ["get"]\nto = ["shop"]'},
    }
    asked: list[Any] = []

    def hub_allow(params: dict[str, Any]) -> Any:
        asked.append(params)
        return {
            "allowed": False,
            "from": {"component": "ab" * 20, "type": "web@1", "application": "shop"},
            "targets": [verdict],
        }

    hub.hub_allow = hub_allow
    done = paas("allow", "ab" * 20, "group:stores", "get")
    assert (asked[0]["from"], asked[0]["target"]) == ("ab" * 20, "group:stores")
    assert "denied: cdcdcdcd (kv@1)" in done.out
    assert "    [exposes.shop]" in done.out


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (1023, "1023"), (1536, "1.5K"), (5 << 30, "5.0G")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("count", "text"), [(0.0, "0.0"), (9.94, "9.9"), (1234.5, "1234")])
def test_rates_are_short(count: float, text: str) -> None:
    assert rate(count) == text
