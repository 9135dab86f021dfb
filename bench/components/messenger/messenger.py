"""Calls and tells another component of its kind; the arguments are the front end and the codec.

    messenger.py threads json       `Component`, as most programs use it
    messenger.py asyncio msgpack    `AsyncComponent`, frames (the package is put beside this file)

`echo` and `note` are inline: answered where messages are read, as what only returns a value should
be.  `note` counts, so that casts are counted where they have arrived.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

import paas_component
from paas_component import Call

FRONT, CODEC = sys.argv[1:3]
kind = paas_component.AsyncComponent if FRONT == "asyncio" else paas_component.Component
component: Any = kind(codec=CODEC)
noted = 0
last_s = 0.0


@component.operation("echo", inline=True)
def echo(inputs: Any, call: Call) -> Any:
    return inputs


@component.operation("note", inline=True)
def note(inputs: Any, call: Call) -> None:
    global noted, last_s
    noted += 1
    last_s = time.monotonic()


@component.operation("noted", inline=True)
def how_many(inputs: Any, call: Call) -> dict[str, Any]:
    """How many casts have arrived, and when the last one did."""
    return {"count": noted, "last_s": last_s}


# -- programs of threads ---------------------------------------------------------------------------


def call_in_turn(target: str, payload: Any, count: int) -> list[float]:
    took_ms: list[float] = []
    for _ in range(count):
        since = time.perf_counter()
        component.call(target, "echo", payload)
        took_ms.append((time.perf_counter() - since) * 1e3)
    return took_ms


def call_many(target: str, payload: Any, count: int, parallel: int) -> None:
    """One thread, `parallel` answers on their way."""
    waiting = deque(component.begin_call(target, "echo", payload) for _ in range(parallel))
    for _ in range(count - parallel):
        waiting.popleft().result()
        waiting.append(component.begin_call(target, "echo", payload))
    for pending in waiting:
        pending.result()


def cast_many(target: str, payload: Any, count: int) -> None:
    for _ in range(count):
        component.cast(target, "note", payload)


def tell_many(target: str, payload: Any, count: int) -> None:
    for _ in range(count):
        component.tell(target, "note", payload)


def measure(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    what = (inputs["target"], inputs["payload"], inputs["count"])
    since, since_s = time.perf_counter(), time.monotonic()
    took_ms: list[float] = []
    if inputs["what"] == "cast":
        cast_many(*what)
    elif inputs["what"] == "tell":
        tell_many(*what)
    elif inputs["parallel"] == 1:
        took_ms = call_in_turn(*what)
    else:
        call_many(*what, inputs["parallel"])
    return {"seconds": time.perf_counter() - since, "since_s": since_s, "took_ms": took_ms}


# -- programs of tasks -----------------------------------------------------------------------------


async def each(inputs: dict[str, Any], rest: Any, took_ms: list[float]) -> None:
    """One of `parallel` tasks: the next one, until there is none."""
    target, payload, what = inputs["target"], inputs["payload"], inputs["what"]
    for _ in rest:
        if what == "cast":
            await component.cast(target, "note", payload)
        elif what == "tell":
            await component.tell(target, "note", payload)
        else:
            since = time.perf_counter()
            await component.call(target, "echo", payload)
            took_ms.append((time.perf_counter() - since) * 1e3)


async def measure_with_tasks(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    import asyncio

    took_ms: list[float] = []
    rest = iter(range(inputs["count"]))
    since, since_s = time.perf_counter(), time.monotonic()
    await asyncio.gather(*(each(inputs, rest, took_ms) for _ in range(inputs["parallel"])))
    return {"seconds": time.perf_counter() - since, "since_s": since_s, "took_ms": took_ms}


if FRONT == "asyncio":
    import asyncio

    component.operation("measure")(measure_with_tasks)
    asyncio.run(component.run())
else:
    component.operation("measure")(measure)
    component.run()
