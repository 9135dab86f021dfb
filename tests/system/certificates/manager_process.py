"""Runs one certificate manager as a process: `manager_process.py SETTINGS-JSON UID`.

It becomes the user after its imports, since an interpreter may live where only root can read.
Prints one JSON line when it is ready, and one per notice on stderr; an error of the catalogue ends
it with its exit status and a line `error: …`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import trio

from paas.base.errors import PlatformError
from paas.certificates import agent
from paas.certificates.settings import Settings
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles


def notice(event: str, **fields: object) -> None:
    sys.stderr.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stderr.flush()


async def main(settings: Settings) -> None:
    async with trio.open_nursery() as nursery:
        info = await nursery.start(
            partial(
                agent.run,
                settings,
                files=SystemFiles(settings.directory),
                clock=SystemClock(),
                entropy=SystemEntropy(),
                notice=notice,
            )
        )
        sys.stdout.write(json.dumps({"authority": info.authority}) + "\n")
        sys.stdout.flush()


def first(exc: BaseException) -> BaseException:
    return first(exc.exceptions[0]) if isinstance(exc, BaseExceptionGroup) else exc


if __name__ == "__main__":
    try:
        user = int(sys.argv[2])
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        chosen = Settings(**json.loads(sys.argv[1]))
        lock = agent.prepare_directory(chosen.directory)
        trio.run(main, chosen)
    except BaseException as caught:
        error = first(caught)
        if not isinstance(error, PlatformError):
            raise
        sys.stderr.write(f"error: {error} hint: {error.hint}\n")
        sys.exit(int(error.kind.exit_status))
