"""A responder and a requester on a NATS server: the same echo as ours, each with nats-py.

nats_pair.py URL answer     answers on the subject `echo` until standard input ends
nats_pair.py URL ask        lines on standard input say what to do, JSON lines what it gave:

one COUNT               one request after the other: milliseconds of each
many COUNT PARALLEL     always so many on their way, of as many tasks: seconds
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import nats

PAYLOAD = json.dumps({"data": "x" * 89}, separators=(",", ":")).encode()
WAIT_S = 30.0


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


async def answer(client: Any) -> None:
    async def echo(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe("echo", cb=echo)
    await client.flush()
    say({"ready": True})
    await asyncio.to_thread(sys.stdin.read)


async def one(client: Any, count: int) -> dict[str, Any]:
    took_ms = []
    for _ in range(count):
        since = time.perf_counter()
        await client.request("echo", PAYLOAD, timeout=WAIT_S)
        took_ms.append((time.perf_counter() - since) * 1e3)
    return {"took_ms": took_ms}


async def many(client: Any, count: int, parallel: int) -> dict[str, Any]:
    rest = iter(range(count))

    async def each() -> None:
        for _ in rest:
            await client.request("echo", PAYLOAD, timeout=WAIT_S)

    since = time.perf_counter()
    await asyncio.gather(*(each() for _ in range(parallel)))
    return {"seconds": time.perf_counter() - since}


async def ask(client: Any) -> None:
    await one(client, 200)
    await many(client, 2_000, 64)
    say({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *numbers = line.split()
        work = {"one": one, "many": many}[word]
        say(await work(client, *map(int, numbers)))


async def main() -> None:
    client = await nats.connect(sys.argv[1])
    try:
        await (answer if sys.argv[2] == "answer" else ask)(client)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
