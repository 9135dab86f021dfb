"""Durable mailboxes on a real node: receivers and the hub are killed, and every message is done."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ORDERS = "orders"
COUNT = 120
PATIENCE_S = 60.0


def cast(platform: Any, identity: str, **inputs: Any) -> dict[str, Any]:
    """Cast until the outcome is known; the id makes that one message."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            params = {"target": f"group:{ORDERS}", "operation": "order", "inputs": inputs}
            answer: dict[str, Any] = platform.api("hub.cast", id=identity, timeout_s=10, **params)
        except PlatformError as error:
            again = ("unavailable", "unknown-outcome", "timeout", "not-available")
            if error.code not in again or time.monotonic() > end_s:
                raise
            time.sleep(0.1)
        else:
            return answer


def mailbox(platform: Any) -> dict[str, Any]:
    found: dict[str, Any] = platform.api("hub.group", group=ORDERS)["groups"][0]["mailbox"]
    return found


def wait_empty(platform: Any) -> dict[str, Any]:
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            box = mailbox(platform)
        except PlatformError:
            box = {"waiting": -1}
        if box["waiting"] == 0:
            return box
        assert time.monotonic() < end_s, box
        time.sleep(0.1)


def done(platform: Any, *components: str) -> list[str]:
    """Ids of what they did, by what they said; records come a little later than answers."""
    found: list[str] = []
    for component in components:
        records = platform.records(component=component, limit=5_000)
        words = [record["message"].split() for record in records]
        found += [said[1] for said in words if said[:1] == ["did"]]
    return found


def program_of(harness: int) -> int:
    """The component's own process: killing that loses nothing of what it has said."""
    children = Path(f"/proc/{harness}/task/{harness}/children").read_text().split()
    return int(children[0])


def all_done(platform: Any, wanted: list[str], *components: str) -> list[str]:
    end_s = time.monotonic() + PATIENCE_S
    while set(found := done(platform, *components)) != set(wanted):
        assert time.monotonic() < end_s, sorted(set(wanted) - set(found))
        time.sleep(0.2)
    return found


@pytest.fixture
def orders(fresh: Any) -> Any:
    """A cluster of its own with the example's type."""
    from tests.system.platform.conftest import EXAMPLES

    fresh.push(EXAMPLES / "mailbox")
    return fresh


def test_messages_survive_the_death_of_receivers_and_of_the_hub(orders: Any) -> None:
    wanted = [f"m{number:03}" for number in range(COUNT)]
    for one in wanted[:20]:
        assert cast(orders, one, item="tea") == {"accepted": 1, "message": one}
    assert mailbox(orders)["waiting"] == 20  # there is nobody yet
    os.kill(orders.agent("hub"), signal.SIGKILL)
    assert cast(orders, wanted[0], item="tea")["message"] == wanted[0]
    first = orders.create("mailbox", name="first", groups=[ORDERS])
    second = orders.create("mailbox", name="second", groups=[ORDERS])
    for number, one in enumerate(wanted[20:], 20):
        cast(orders, one, item="tea", seconds=0.02)
        if number == 50:
            os.kill(program_of(orders.component(first)["pid"]), signal.SIGKILL)
        elif number == 80:
            os.kill(orders.agent("hub"), signal.SIGKILL)
    box = wait_empty(orders)
    assert (box["accepted"], box["acknowledged"], box["dead"]) == (COUNT, COUNT, 0)
    found = all_done(orders, wanted, first, second)
    assert len(found) < COUNT + 40  # repetitions are few


def test_what_cannot_be_done_is_a_dead_letter_and_comes_again_on_demand(orders: Any) -> None:
    one = orders.create("mailbox", name="one", groups=[ORDERS])
    cast(orders, "bad")
    cast(orders, "odd", item="mystery")
    cast(orders, "good", item="tea")
    wait_empty(orders)
    assert orders.call(one, "done")["orders"] == [{"item": "tea"}]
    letters = orders.run("mailbox", "dead", ORDERS, "-o", "json").json["letters"]
    assert [(m["message"], m["attempts"], m["reason"].split(":")[0]) for m in letters] == [
        ("bad", 1, "reject"),
        ("odd", 3, "failed"),
    ]
    assert [m["inputs"] for m in letters] == [{}, {"item": "mystery"}]
    listed = orders.run("mailbox", "list", "-o", "json").json["mailboxes"]
    assert [(g["group"], g["mailbox"]["dead"]) for g in listed] == [(ORDERS, 2)]
    said = orders.run("mailbox", "redeliver", ORDERS, "bad", "-o", "json").json
    assert said == {"redelivered": 1, "dead": 1}
    wait_empty(orders)
    seen = [mark for mark, _, _ in orders.call(one, "done")["seen"]]
    assert seen.count("bad") == 2
    orders.run("mailbox", "discard", ORDERS, "--all", "--yes")
    shown = orders.run("mailbox", "show", ORDERS).out
    assert "discarded    2" in shown
    orders.run("mailbox", "configure", ORDERS, "--none")
    assert orders.run("mailbox", "list", "-o", "json").json["mailboxes"] == []
