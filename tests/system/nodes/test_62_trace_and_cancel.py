"""A call that nobody wants any more is stopped where it is worked on; a trace shows every hop."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

HOPPER = Path(__file__).parent / "components" / "hopper"
HOPPER_TYPE = "hopper@1.0.0"


@pytest.fixture
def hoppers(cluster: DevCluster) -> list[str]:
    """One component on each of the first two nodes."""
    assert cluster.push(HOPPER) == HOPPER_TYPE
    return [cluster.create(HOPPER_TYPE, constraints=[f"node={node}"]) for node in ("n1", "n2")]


class Operator:
    """A connection that asks without waiting."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    def say(self, **message: Any) -> None:
        self._socket.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def work(self, identity: int, target: str, **more: Any) -> None:
        params = {"target": target, "operation": "work", "inputs": {"name": str(identity)}, **more}
        self.say(id=identity, method="hub.call", params={"timeout": 100.0, **params})

    def cancel(self, identity: int) -> None:
        self.say(method="rpc.cancel", params={"id": identity})

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def operator(cluster: DevCluster) -> Iterator[Operator]:
    made = Operator(cluster.socket("n1"))
    yield made
    made.close()


def works(cluster: DevCluster, component: str, what: str) -> list[str]:
    return sorted(cluster.call(component, "works")[what])


def test_a_cancelled_call_stops_its_work_on_the_same_node_and_on_another(
    cluster: DevCluster, hoppers: list[str], operator: Operator
) -> None:
    for number, component in enumerate(hoppers):
        operator.work(10 + number, component)
        operator.work(20 + number, component)
        cluster.until(lambda c=component: len(works(cluster, c, "begun")) == 2)
        operator.cancel(10 + number)
        operator.cancel(999)
        cluster.until(lambda c=component: works(cluster, c, "cancelled"))
        assert works(cluster, component, "cancelled") == [str(10 + number)]


def test_a_caller_that_hangs_up_stops_all_its_work(
    cluster: DevCluster, hoppers: list[str], operator: Operator
) -> None:
    for number, component in enumerate(hoppers):
        operator.work(number, component)
        cluster.until(lambda c=component: works(cluster, c, "begun"))
    operator.close()
    for number, component in enumerate(hoppers):
        cluster.until(lambda c=component: works(cluster, c, "cancelled"))
        assert works(cluster, component, "cancelled") == [str(number)]


def test_a_deadline_that_passes_stops_the_work(
    cluster: DevCluster, hoppers: list[str], operator: Operator
) -> None:
    for number, component in enumerate(hoppers):
        operator.work(number, component, timeout=1.0)
        cluster.until(lambda c=component: works(cluster, c, "cancelled"))


def test_the_end_of_the_link_to_another_node_stops_what_came_over_it(
    cluster: DevCluster, hoppers: list[str], operator: Operator
) -> None:
    operator.work(7, hoppers[1])
    cluster.until(lambda: works(cluster, hoppers[1], "begun"))
    cluster.kill_agents("n1", "hub")
    cluster.until(lambda: cluster.at("n2", "hub.call", target=hoppers[1], operation="works"))

    def cancelled() -> Any:
        told = cluster.at("n2", "hub.call", target=hoppers[1], operation="works", inputs={})
        return told["outputs"]["cancelled"]

    assert cluster.until(cancelled) == ["7"]


def below(spans: list[dict[str, Any]], parent: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["parent"] == parent]


def chain(spans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Kind and node of each hop from the first to the last; each has one below it."""
    hops: list[tuple[str, str]] = []
    (span,) = below(spans, "")
    while True:
        hops.append((span["kind"], span["node"]))
        children = below(spans, span["span"])
        if not children:
            return hops
        (child,) = children
        assert child["start_ns"] >= span["start_ns"] - CLOCK_NS
        assert child["duration_ns"] <= span["duration_ns"] + CLOCK_NS
        span = child


CLOCK_NS = 100_000
"""Wall time is read by several processes, and steps a little."""


def trace(cluster: DevCluster, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(cluster.run("trace", "call", *words, "-o", "json"))
    return told


def test_a_trace_shows_every_hop_between_two_components_of_a_node(
    cluster: DevCluster, hoppers: list[str]
) -> None:
    first = hoppers[0]
    second = cluster.create(HOPPER_TYPE, constraints=["node=n1"])
    inputs = json.dumps({"targets": [second], "works_s": 0.05})
    told = trace(cluster, "--node", "n1", first, "pass", inputs)
    assert told["outputs"]["path"] == [first, second]
    own = [("hub", "n1"), ("harness", "n1"), ("component", "n1")]
    assert chain(told["spans"]) == [("client", ""), *own, ("client", "n1"), *own]
    components = [s for s in told["spans"] if s["kind"] == "component"]
    outer, inner = sorted(components, key=lambda s: -s["duration_ns"])
    assert (outer["component"], inner["component"]) == (first, second)
    assert inner["duration_ns"] >= 50_000_000
    assert outer["duration_ns"] >= inner["duration_ns"] + 50_000_000


def test_a_trace_goes_on_on_another_node(cluster: DevCluster, hoppers: list[str]) -> None:
    first, second = hoppers
    inputs = json.dumps({"targets": [second]})
    told = trace(cluster, "--node", "n1", first, "pass", inputs)
    assert chain(told["spans"]) == [
        ("client", ""),
        *[("hub", "n1"), ("harness", "n1"), ("component", "n1"), ("client", "n1")],
        *[("hub", "n1"), ("forward", "n1")],
        *[("hub", "n2"), ("harness", "n2"), ("component", "n2")],
    ]
    assert told["missing"] == []
    # Asked later, of another node, and for another program.
    spans = json.loads(cluster.run("--node", "n2", "trace", "show", told["trace"], "-o", "json"))
    assert spans["spans"] == told["spans"][1:]
    exported = json.loads(cluster.run("trace", "show", told["trace"], "--format", "otlp"))
    made = [s for r in exported["resourceSpans"] for s in r["scopeSpans"][0]["spans"]]
    assert {s["spanId"] for s in made} == {s["span"] for s in told["spans"][1:]}
    text = cluster.run("trace", "show", told["trace"])
    assert text.count("component: pass") == 2
    assert "forward: to n2" in text


def test_a_call_that_fails_shows_where(cluster: DevCluster, hoppers: list[str]) -> None:
    words = ("trace", "call", hoppers[1], "no-such", "-o", "json")
    told = json.loads(cluster.say(*words, status=None).stdout)
    errors = {span["error"] for span in told["spans"]}
    assert errors == {"no-such-operation"}


def test_an_unknown_trace_is_said_to_be_so(cluster: DevCluster) -> None:
    cluster.run("trace", "show", "ab" * 16, status=3)
