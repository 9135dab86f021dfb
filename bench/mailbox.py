"""Durable mailboxes: messages accepted and delivered a second, on a cluster of one node.

    python bench/mailbox.py             rates, and how long a message takes to its receiver
    python bench/mailbox.py --json      the figures as one JSON object
    python bench/mailbox.py --profile   where the hub's deciding parts spend their time, without
                                        sockets, disk and containers

Accepted: casts with 256 in flight over one connection, no member; each is durable when answered.
Delivered: from the moment that a member joins until the last acknowledgement is committed, of
messages of one sender (one after the other) and with `ordered` off (16 and 128 at the same time).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from bench.cluster import ECHO, Client, Cluster
from paas.hub.mailbox import MailboxState
from paas.hub.mailbox_commands import ConfigureGroup, NewMessage, PutMessages, Settings
from paas.hub.mailbox_keeper import Surroundings
from paas.hub.mailboxes import Mailboxes
from paas.hub.messages import Forward
from paas.hub.routes import Answer
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine

GROUP = "bench"
IN_FLIGHT = 256
INPUTS = {"text": "x" * 90}
MESSAGES_MAX = 50_000
BYTES_MAX = 16 << 20


def mailbox(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.call("hub.group", group=GROUP)["groups"][0]["mailbox"]
    return found


def configure(client: Client, **given: Any) -> None:
    client.call(
        "hub.configure_group",
        group=GROUP,
        mailbox="durable",
        messages_max=MESSAGES_MAX,
        bytes_max=BYTES_MAX,
        **given,
    )


def accept(client: Client, count: int) -> float:
    """Messages accepted a second."""
    params = {"target": f"group:{GROUP}", "operation": "echo", "inputs": INPUTS}
    seconds, _ = client.pump("hub.cast", params, count, IN_FLIGHT)
    return count / seconds


def deliver(cluster: Cluster, client: Client, kind: str, count: int) -> float:
    """Messages delivered a second to one member, once it is there."""
    (one,) = client.call("controller.create", type=kind)["components"]
    client.call("hub.call", target=one, operation="echo", inputs={})
    before = mailbox(client)["acknowledged"]
    assert mailbox(client)["waiting"] == count
    (member,) = client.call("controller.create", type=kind, groups=[GROUP])["components"]
    begin = time.perf_counter()
    done = mailbox(client)["acknowledged"] - before
    while mailbox(client)["waiting"]:
        time.sleep(0.02)
    rate = (count - done) / (time.perf_counter() - begin)
    for component in (one, member):
        client.call("controller.destroy", component=component, grace=0.0)
    return rate


def alone(client: Client, count: int) -> float:
    """Milliseconds (p50) from the cast to its acceptance, one at a time."""
    params = {"target": f"group:{GROUP}", "operation": "echo", "inputs": INPUTS}
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        client.call("hub.cast", **params)
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def measure(quick: bool) -> dict[str, float]:
    count = 2_000 if quick else 10_000
    figures: dict[str, float] = {}
    with Cluster() as cluster, cluster.client() as client:
        kind = cluster.push(ECHO)
        configure(client)
        figures["accept_p50_ms"] = alone(client, 200)
        figures["accepted_per_s"] = accept(client, count)
        figures["delivered_one_sender_per_s"] = deliver(cluster, client, kind, count + 200)
        for in_flight in (16, 128):
            configure(client, ordered=False, in_flight=in_flight)
            accept(client, count)
            rate = deliver(cluster, client, kind, count)
            figures[f"delivered_{in_flight}_in_flight_per_s"] = rate
    return figures


# -- the deciding parts alone ----


class MemoryLog:
    """Commits at once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._index = 0
        self._subscribers: list[Any] = []

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.lowlevel.checkpoint()

    def subscribe(self, callback: Any) -> Any:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        self._index += 1
        stamp = Stamp(self._index, bytes(16), "bench", self._index)
        applied = self._machine.apply(self._index, encode(command, stamp))
        for subscriber in self._subscribers:
            subscriber(self._index, applied.events)
        if applied.error is not None:
            raise applied.error
        return applied.result


class Instant:
    """A member that answers in the next step of the event loop."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._waiting: list[Answer] = []
        nursery.start_soon(self._run)

    def ready_members(self, _group: str) -> list[str]:
        return ["m"]

    def deliver(self, _message: Forward, answer: Answer) -> None:
        self._waiting.append(answer)

    async def _run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            waiting, self._waiting = self._waiting, []
            for answer in waiting:
                answer(b"\x80")


async def decide(count: int) -> float:
    """Messages a second through section and keeper, nothing else."""
    state = MailboxState()
    log = MemoryLog(Machine([state]))
    settings = Settings(messages_max=MESSAGES_MAX, bytes_max=BYTES_MAX, ordered=False)
    await log.propose(ConfigureGroup(group=GROUP, settings=settings))
    inputs = msgspec.msgpack.encode(INPUTS)
    async with trio.open_nursery() as nursery:
        around = Surroundings(
            node="n1",
            state=state,
            log=log,
            deliveries=Instant(nursery),
            may_run=lambda: True,
            on_trouble=lambda _group, _error: None,
        )
        boxes = Mailboxes(around, None, lambda _where, bug: sys.excepthook(type(bug), bug, None))
        await nursery.start(boxes.run)
        begin = time.perf_counter()
        for _ in range(0, count, 100):
            one = NewMessage(group=GROUP, operation="echo", inputs=inputs)
            await log.propose(PutMessages(messages=[one] * 100))
        while state.require(GROUP).waiting:
            await trio.lowlevel.checkpoint()
        rate = count / (time.perf_counter() - begin)
        nursery.cancel_scope.cancel()
    return rate


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure durable mailboxes.")
    parser.add_argument("--quick", action="store_true", help="fewer messages")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--profile", action="store_true", help="only the deciding parts")
    given = parser.parse_args()
    if given.profile:
        profile = cProfile.Profile()
        profile.enable()
        trio.run(decide, 20_000)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        return 0
    figures = measure(given.quick)
    figures["decided_per_s"] = trio.run(decide, 20_000)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:<34} {value:,.2f}\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
