"""Calls and casts its like at a steady rate, and writes down everything that is sent and comes.

The history is in a memory file: whoever has opened it reads it to its end, also when this process
was killed in between two records.  A record is written before a message is sent, and where a
message is read, so that the order of records is the order of the channel.  Records are those of
paas/testing/soak_judge.py; this program knows nothing of what they should be.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from typing import Any

from paas_component import AsyncComponent, Call, ComponentError

RECORD = struct.Struct("<4B4Id")
SENT, SENT_CAST, ANSWERED, ACCEPTED, FAILED, GOT, GOT_CAST = range(7)
CODES = ("unknown-outcome", "not-available", "timeout", "limit-exceeded", "no-such-target")
OTHER_CODE = 255
TICK_S = 0.01
CAST_EVERY = 5
"""Of five messages, one is a cast."""

component = AsyncComponent()
epoch = int.from_bytes(os.urandom(4), "little")
history = os.memfd_create("soak-history")


class Load:
    """What this one is, and what it has on the way."""

    me = 255
    numbers: dict[int, int] = {}
    waiting = 0
    stopped = False


def note(kind: int, peer: int, code: int = 0, said: int = 0, *numbers: int) -> None:
    """One record; `numbers` are up to four: mine, then what the other side says."""
    four = (*numbers, 0, 0, 0, 0)[:4]
    os.write(history, RECORD.pack(kind, peer, code, said, *four, time.monotonic()))


@component.operation("echo")
def echo(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    kind = GOT_CAST if call.oneway else GOT
    note(kind, inputs["from"], 0, inputs["to"], inputs["epoch"], inputs["number"])
    return {**inputs, "by": Load.me, "by_epoch": epoch}


@component.operation("stop")
def stop(_inputs: Any, _call: Call) -> dict[str, Any]:
    """Send nothing more; how many answers are still to come."""
    Load.stopped = True
    return {"waiting": Load.waiting}


async def ask(peer: int, is_cast: bool) -> None:
    number = Load.numbers[peer] = Load.numbers.get(peer, 0) + 1
    inputs = {"from": Load.me, "to": peer, "epoch": epoch, "number": number}
    note(SENT_CAST if is_cast else SENT, peer, 0, 0, epoch, number)
    Load.waiting += 1
    try:
        if is_cast:
            await component.cast(f"soaker-{peer}", "echo", inputs)
            note(ACCEPTED, peer, 0, 0, epoch, number)
        else:
            said = await component.call(f"soaker-{peer}", "echo", inputs, timeout=10.0)
            about = (said["epoch"], said["number"])
            note(ANSWERED, said["by"], 0, said["from"], number, said["by_epoch"], *about)
    except ComponentError as exc:
        code = CODES.index(exc.code) if exc.code in CODES else OTHER_CODE
        if code == OTHER_CODE:
            component.log(f"{exc.code}: {exc.message}")
        note(FAILED, peer, code, 0, epoch, number)
    finally:
        Load.waiting -= 1


async def load() -> None:
    """`rate` messages a second to the others in turn, at most `in_flight` on the way."""
    settings = await component.configured()
    rate, in_flight = settings["rate"], settings["in_flight"]
    others = [peer for peer in range(settings["count"]) if peer != Load.me]
    sent, since_s, tasks = 0, time.monotonic(), set()
    while not Load.stopped:
        due = int((time.monotonic() - since_s) * rate) - sent
        room = in_flight - Load.waiting
        for _ in range(min(due, room)):
            # Casts go to all: what is every fifth is not always the same one's turn.
            turn = sent + sent // (CAST_EVERY * len(others))
            task = asyncio.create_task(ask(others[turn % len(others)], sent % CAST_EVERY == 0))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        if due > room:  # what could not be sent in time is not made up for
            since_s = time.monotonic() - sent / rate
        await asyncio.sleep(TICK_S if rate < 1e6 else 0)


async def main() -> None:
    Load.me = (await component.configured())["me"]  # before anybody can ask who answers
    loading = asyncio.create_task(load())
    await component.run()
    loading.cancel()


if __name__ == "__main__":
    asyncio.run(main())
