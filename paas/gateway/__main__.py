"""`python -m paas.gateway --config FILE`: the gateway by itself, with members from a file.

Prints one line of JSON for each address it listens at, then the access log.  SIGHUP reads the file
again (routes and members; addresses stay), SIGTERM ends it when everything is answered.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import trio

from paas.base.errors import PlatformError
from paas.gateway.config import EdgeFile, read_file
from paas.gateway.edge import Edge
from paas.gateway.static import StaticBackends
from paas.wire import codec


def read(path: str) -> EdgeFile:
    try:
        return read_file(Path(path).read_text(), path)
    except OSError as exc:
        raise PlatformError("invalid", f"{path}: {exc.strerror}", field="config") from None


async def run(path: str) -> None:
    file = read(path)
    backends = StaticBackends(file)
    edge = Edge(file.gateway, backends)
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey, path, backends, edge)
        await nursery.start(edge.run)
        names = [*("http" for _ in file.gateway.listen), *("https" for _ in file.gateway.tls)]
        for scheme, (host, port) in zip(names, edge.addresses, strict=True):
            event = {"message": "listening", "level": "info", "event": "gateway.listening"}
            say({**event, "scheme": scheme, "host": host, "port": port})
        await edge.wait_ended()
        nursery.cancel_scope.cancel()


async def _obey(
    path: str,
    backends: StaticBackends,
    edge: Edge,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if number != signal.SIGHUP:
                edge.finish()
                continue
            try:
                backends.replace(read(path), trio.current_time())
            except PlatformError as exc:
                say({"message": exc.message, "level": "error", "event": "gateway.refused"})


def say(event: dict[str, object]) -> None:
    sys.stdout.write(codec.to_json(event).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paas.gateway", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="what it reads: config.py")
    options = parser.parse_args()
    status = 0
    try:
        trio.run(run, options.config)
    except* PlatformError as group:
        status = 1
        for exc in group.exceptions:
            sys.stderr.write(f"error: {exc}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
