"""A container controller in a network namespace, told what to do by lines of JSON.

{"start": {...}}        → {"started": {...}}        {"neighbours": {...}} → {"done": true}
{"admit": {...}}        → {"address": "..."}        {"shut": {...}}       → {"done": true}
{"ask": [id, host, port]} → {"said": "..."}         end of input: everything is removed
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.container.engine import Engine
from paas.container.messages import ContainerSpec
from paas.container.settings import ContainerSettings
from paas.network.messages import FarPath, SetNeighbours
from paas.real.clock import SystemClock

ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5) as connection:
        print(connection.recv(100).decode().strip())
except OSError as exc:
    print(type(exc).__name__)
"""


async def handle(engine: Engine, words: dict[str, Any]) -> dict[str, Any]:
    ((verb, given),) = words.items()
    if verb == "start":
        started = await engine.start(msgspec.convert(given, ContainerSpec))
        return {"started": msgspec.to_builtins(started)}
    if verb == "neighbours":
        await engine.between.have(msgspec.convert(given, SetNeighbours))
        return {"done": True}
    if verb == "admit":
        return {"address": await engine.between.admit(msgspec.convert(given, FarPath))}
    if verb == "shut":
        await engine.paths.shut([msgspec.convert(given, FarPath)])
        return {"done": True}
    component, host, port = given
    pid = engine.containers[component].context.record.pid
    command = ["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", ASK, host, str(port)]
    done = await trio.run_process(command, capture_stdout=True)
    return {"said": done.stdout.decode().strip()}


async def main(settings: ContainerSettings) -> None:
    engine = Engine(settings, clock=SystemClock(), on_exit=lambda exited: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        say({"ready": True})
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            try:
                say(await handle(engine, json.loads(line)))
            except PlatformError as error:
                say({"error": error.code, "message": error.message})
        await engine.teardown_node()


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(main, msgspec.json.decode(sys.argv[1], type=ContainerSettings))
