"""`python -m paas.fetcher`: the fetcher as a component; `build DIR` makes its bundle.  (io)

    configured ─> group `fetchers` joined ─> ready ─> operations `fetch`, `statistics`

Its configuration is that of settings.py, and `group`, the name of the group that it joins (empty:
none).  Credentials are files that only this component can read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.fetcher import operations
from paas.fetcher.bundle import GROUP, build
from paas.fetcher.client import Fetcher
from paas.fetcher.settings import settings_of
from paas.sdk.python.nursery import TrioComponent
from paas.sdk.python.values import Call, Result
from paas.sdk.python.wire import ComponentError


async def fetch(fetcher: Fetcher, inputs: Any, call: Call) -> Result:
    """One fetch for one call.  Cancelled with it."""
    bodies = [await part.read() for part in call.attachments if part.get("name") == operations.BODY]
    try:
        answer = await fetcher.fetch(operations.wanted(inputs, bodies, call.remaining()))
    except PlatformError as exc:
        raise ComponentError(exc.code, exc.message, hint=exc.hint, **exc.data) from None
    outputs, body = operations.told(answer)
    return Result(outputs, [body] if body else [])


async def serve() -> None:
    """Until the platform ends it; raises ValueError for a configuration that is none."""
    component = TrioComponent(codec="msgpack")
    async with component:
        configuration = dict(await component.configured())
        group = configuration.pop("group", GROUP)
        async with Fetcher(settings_of(configuration)) as fetcher:

            async def on_fetch(inputs: Any, call: Call) -> Result:
                return await fetch(fetcher, inputs, call)

            def on_statistics(_inputs: Any, _call: Call) -> dict[str, int]:
                return fetcher.statistics()

            component.operation("fetch")(on_fetch)
            component.operation("statistics", inline=True)(on_statistics)
            if group:
                await component.join(group)
            await component.run()


def main() -> int:
    """The status of the program."""
    parser = argparse.ArgumentParser(prog="python -m paas.fetcher", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    made = commands.add_parser("build", help="make the folder that `paas push` takes")
    made.add_argument("directory", type=Path)
    made.add_argument("--allow", action="append", default=[], help="host:port that it may reach")
    made.add_argument("--version", default="")
    given = parser.parse_args()
    status = 0
    try:
        if given.command == "build":
            name = build(given.directory, given.allow, version=given.version)
            sys.stdout.write(
                f"{name} in {given.directory}: push it with: paas push {given.directory}\n"
            )
            return 0
        trio.run(serve)
    except* (PlatformError, ValueError) as group:
        for exc in group.exceptions:
            sys.stderr.write(f"error: {exc}\n")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
