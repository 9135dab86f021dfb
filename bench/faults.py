"""Faults of disks and processes against three replicas in three processes, over the real mesh.

    python -m bench.faults power --cuts 300
    python -m bench.faults damage --times 500
    python -m bench.faults eio --times 50
    python -m bench.faults full --times 10
    python -m bench.faults kill --seconds 300
    python -m bench.faults restart --entries 100000
    python -m bench.faults stock --cuts 30

Prints figures as JSON; under "wrong" stands what must not have been, and the exit status is 1 if
that is anything.  What is done is told in paas/testing/replica_faults.py; the tests do a little of
it (tests/system/raft).  `stock` is the positive control: the library as it was made under the same
power cuts, which must lose what it has acknowledged.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import trio

from paas.testing import replica_faults as faults
from paas.testing.replica_stock import stock

COUNTS = {
    "power": ("--cuts", 300),
    "damage": ("--times", 500),
    "eio": ("--times", 50),
    "full": ("--times", 10),
    "kill": ("--seconds", 300),
    "restart": ("--entries", 100_000),
    "stock": ("--cuts", 30),
}


async def run(what: str, directory: Path, count: int, seed: int) -> dict[str, Any]:
    if what == "stock":
        return await trio.to_thread.run_sync(stock, directory, count, seed)
    if what != "restart":
        found: dict[str, Any] = await getattr(faults, what)(directory, count, seed)
        return found
    plain = await faults.restart(directory, count, snapshot=False)
    short = await faults.restart(directory, count, snapshot=True)
    return {"journal": plain, "snapshot": short, "wrong": plain["wrong"] + short["wrong"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    chosen = parser.add_subparsers(dest="what", required=True)
    for what, (option, default) in COUNTS.items():
        one = chosen.add_parser(what)
        one.add_argument(option, dest="count", type=int, default=default)
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--directory", default="/var/tmp")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="paas-faults-", dir=given.directory))
    try:
        found = trio.run(partial(run, given.what, directory, given.count, given.seed))
    except BaseException:
        sys.stderr.write(f"what there was is kept in {directory}\n")
        raise
    if found["wrong"]:
        sys.stderr.write(f"what there was is kept in {directory}\n")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(json.dumps({"what": given.what, **found}, indent=2) + "\n")
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
