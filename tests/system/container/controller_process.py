"""A container controller as a process of its own, to be killed by the tests.

    python controller_process.py SETTINGS-JSON

Reads one JSON command a line: {"start": {spec}}, {"list": true}, {"lease": deadline} or
{"snapshot": [component, name]}; prints one JSON value a line: {"ready": true}, {"started": {...}},
{"exited": {...}}, {"list": [...]}, {"leased": deadline}, {"snapshot": {...}}, {"error": "..."}.
"""

# ruff: noqa: T201

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
from paas.container.snapshots import Snapshots
from paas.real.clock import SystemClock


def say(value: Any) -> None:
    print(json.dumps(msgspec.to_builtins(value)), flush=True)


async def main(settings: ContainerSettings) -> None:
    engine = Engine(settings, clock=SystemClock(), on_exit=lambda e: say({"exited": e}))
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        say({"ready": True})
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            nursery.start_soon(obey, engine, json.loads(line))


async def obey(engine: Engine, command: dict[str, Any]) -> None:
    if "start" in command:
        try:
            spec = msgspec.convert(command["start"], ContainerSpec)
            say({"started": await engine.start(spec)})
        except PlatformError as exc:
            say({"error": str(exc)})
    elif "lease" in command:
        await engine.lease(command["lease"])
        say({"leased": command["lease"]})
    elif "snapshot" in command:
        component, name = command["snapshot"]
        say({"snapshot": await Snapshots(engine, SystemClock()).create(component, name)})
    elif "list" in command:
        say({"list": engine.list()})


if __name__ == "__main__":
    trio.run(main, msgspec.json.decode(sys.argv[1], type=ContainerSettings))
