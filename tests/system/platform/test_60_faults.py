"""`kill -9` of everything that runs: components keep running, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

CALLS_AGAIN_S = 10.0
"""The bar is 3 s; a machine that does much else at the same time gets more, and the figure is
printed."""


class Load:
    """Calls over the API and between components, without a pause, from some threads."""

    def __init__(self, platform: Any, components: list[str]) -> None:
        self._platform = platform
        self._components = components
        self._stopping = threading.Event()
        self.good: list[float] = []
        self.bad: list[tuple[float, str]] = []
        self.wrong: list[Any] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int) -> None:
        connection: Any = None
        a, b = self._components[number], self._components[number - 1]
        while not self._stopping.is_set():
            try:
                connection = connection or self._platform.connect()
                inputs = {"target": b, "operation": "echo", "inputs": {"n": number}, "timeout": 5}
                params = {"target": a, "operation": "ask", "inputs": inputs}
                answer = connection.call("hub.call", params, timeout_s=8)
                if answer["outputs"]["from"] != b:
                    self.wrong.append(answer)
                self.good.append(time.monotonic())
            except PlatformError as error:
                self.bad.append((time.monotonic(), error.code))
                if error.code in ("unavailable", "unknown-outcome", "timeout"):
                    connection = connection.close() if connection else None
                time.sleep(0.02)
        if connection:
            connection.close()


def again(condition: Callable[[], Any], since_s: float, patience_s: float = 60.0) -> float:
    """How long after `since_s` the condition held again."""
    while True:
        with contextlib.suppress(PlatformError, AssertionError, OSError):
            if condition():
                return time.monotonic() - since_s
        assert time.monotonic() - since_s < patience_s
        time.sleep(0.02)


def pids(platform: Any) -> dict[str, int]:
    return {c["id"]: c["pid"] for c in platform.components()}


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(words[1]) == parent:
                    found.append(int(entry.name))
    return found


def contained(pid: int) -> bool:
    return "/paas-" in Path(f"/proc/{pid}/cgroup").read_text()


@pytest.fixture
def loaded(fresh: Any) -> Any:
    """A cluster of its own with three probes."""
    fresh.push("probe")
    fresh.made = fresh.api("controller.create", type="probe", count=3)["components"]
    return fresh


def test_killing_every_agent_in_turn_under_load(loaded: Any, wait_until: Any) -> None:
    before = pids(loaded)
    # The identity of the programs themselves, not only of what pid 1 of their containers is.
    inside = {c: loaded.call(c, "facts")["pid"] for c in before}
    opened = loaded.call(loaded.made[0], "watch", group="club")
    assert opened["snapshot"] == []
    figures = []
    with Load(loaded, loaded.made) as load:
        wait_until(lambda: len(load.good) > 20)
        for role in ("certificates", "containers", "hub", "node"):
            wait_until(lambda: loaded.run("status", status=None).status == 0)
            loaded.disconnect()
            victim = loaded.agent(role)
            killed_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            again(lambda: loaded.agent(role) != victim, killed_s)  # noqa: B023
            calls_s = again(lambda: load.good[-1] > killed_s + 0.001, killed_s)  # noqa: B023
            if role in ("hub", "node"):
                # What was answered just before the end does not count.
                failed = [t for t, _ in load.bad if t > killed_s]
                last = failed[0] if failed else killed_s
                calls_s = again(lambda: load.good[-1] > last, killed_s)  # noqa: B023
            create_s = again(lambda: loaded.create("probe", restart="temporary"), killed_s)
            figures.append((role, calls_s, create_s))
            assert calls_s < CALLS_AGAIN_S, (role, calls_s)
    for role, calls_s, create_s in figures:
        print(f"kill -9 {role}: calls again {calls_s:.2f} s, create again {create_s:.2f} s")  # noqa: T201
    assert load.wrong == []
    after = pids(loaded)
    assert {c: after[c] for c in before} == before, "components were not touched"
    assert {c: loaded.call(c, "facts")["pid"] for c in inside} == inside
    assert {loaded.component(c)["restarts"] for c in before} == {0}
    allowed = {"unavailable", "unknown-outcome", "not-available", "timeout", "failed"}
    assert {code for _, code in load.bad} <= allowed
    loaded.create("probe", groups=["club"])

    def heard() -> list[str]:
        return [e["event"] for e in loaded.call(loaded.made[0], "events")]

    wait_until(lambda: "joined" in heard() or "resumed" in heard(), lambda: str(heard()))


def test_records_written_while_the_hub_is_away_arrive(loaded: Any, wait_until: Any) -> None:
    component = loaded.made[0]
    hub = loaded.agent("hub")
    loaded.call(component, "log")
    loaded.disconnect()
    os.kill(hub, signal.SIGKILL)
    wait_until(lambda: loaded.run("call", component, "log", status=None).status == 0)
    wait_until(lambda: len(loaded.records(component=component, grep="of level error")) == 2)
    numbers = [r["sequence"] for r in loaded.records(component=component)]
    assert numbers == sorted(set(numbers)), "each is there once, in order"


def test_a_component_that_ends_while_the_agents_are_away_is_noticed(
    loaded: Any, wait_until: Any
) -> None:
    first, second, _ = loaded.made
    before = pids(loaded)
    loaded.disconnect()
    os.kill(loaded.agent("hub"), signal.SIGKILL)
    os.kill(loaded.agent("containers"), signal.SIGKILL)
    os.kill(before[first], signal.SIGKILL)
    wait_until(lambda: loaded.run("status", status=None).status == 0)
    wait_until(lambda: loaded.component(first)["restarts"] == 1)
    wait_until(lambda: loaded.run("call", first, "echo", status=None).status == 0)
    assert pids(loaded)[second] == before[second]
    assert pids(loaded)[first] != before[first]


def test_a_killed_template_process_is_replaced(loaded: Any, wait_until: Any) -> None:
    controller = loaded.agent("containers")
    outside = [pid for pid in children_of(controller) if not contained(pid)]
    templates = [pid for pid in outside if b"template" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert templates
    before = pids(loaded)
    for template in templates:
        os.kill(template, signal.SIGKILL)
    loaded.disconnect()
    again(lambda: loaded.create("probe"), time.monotonic())
    assert {c: p for c, p in pids(loaded).items() if c in before} == before


def test_down_cleans_up_after_a_supervisor_that_was_killed(loaded: Any) -> None:
    loaded.disconnect()
    os.kill(loaded.supervisor(), signal.SIGKILL)
    time.sleep(0.3)
    component = loaded.made[0]
    assert loaded.run("call", component, "echo").json["from"] == component, "the node lives on"
    loaded.run("down", "--yes")
    assert loaded.leftovers(with_state=False) == set()


def test_dev_takes_over_after_a_supervisor_that_was_killed(loaded: Any, wait_until: Any) -> None:
    before = pids(loaded)
    loaded.disconnect()
    os.kill(loaded.supervisor(), signal.SIGKILL)
    assert loaded.start().out == "ready\n"
    wait_until(lambda: pids(loaded) == before)
    for component in before:
        wait_until(lambda: loaded.run("call", component, "echo", status=None).status == 0)  # noqa: B023


def kill_all(platform: Any, *, components: bool) -> None:
    """Everything of the platform at once, as far as a user can: no time to say goodbye."""
    victims = [platform.supervisor(), *(platform.agent(r) for r in ("node", "hub", "containers"))]
    for victim in victims:
        os.kill(victim, signal.SIGSTOP)
    if components:
        found = platform.leftovers()
        victims += [int(word.split()[1]) for word in found if word.startswith("process ")]
    for victim in dict.fromkeys(victims):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


@pytest.mark.parametrize("components", [False, True])
def test_what_was_acknowledged_is_there_after_the_whole_platform_was_killed(
    loaded: Any, wait_until: Any, components: bool
) -> None:
    bundle = loaded.api("controller.type", type="probe")["bundle"]
    types: list[str] = []
    made: list[str] = []

    def write() -> None:
        connection, number = loaded.connect(), 0
        with contextlib.suppress(PlatformError):
            while True:
                number += 1
                component = {"name": "kept", "version": f"{number}", "command": ["sleep", "1000"]}
                params = {
                    "bundle": bundle,
                    "manifest": {"component": {**component, "protocol": "none"}},
                }
                types.append(connection.call("controller.register_type", params)["type"])
                if number % 20 == 0 and len(made) < 5:
                    params = {"type": types[-1], "groups": ["kept"]}
                    made.extend(connection.call("controller.create", params)["components"])

    writers = [threading.Thread(target=write)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(made) >= 2)
    before = pids(loaded)
    loaded.disconnect()
    kill_all(loaded, components=components)
    for writer in writers:
        writer.join(60)
    loaded.start()
    known = {t["type"] for t in loaded.api("controller.types")["types"]}
    assert set(types) <= known
    print(f"{len(types)} acknowledged types, {len(made)} components: all there")  # noqa: T201
    for component in [*made, *loaded.made]:
        loaded.in_state(component, "available")
    for component in loaded.made:
        wait_until(lambda: loaded.run("call", component, "echo", status=None).status == 0)  # noqa: B023
    members = [m["component"] for m in loaded.api("hub.members", group="kept")["members"]]
    assert set(made) <= set(members)
    after = pids(loaded)
    for component in loaded.made:
        assert (after[component] == before[component]) is not components
