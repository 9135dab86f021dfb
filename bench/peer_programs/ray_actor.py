"""An actor of Ray and its driver: the same echo as ours, measured as Ray measures itself.

Runs under an interpreter that has Ray.  Lines on standard input say what to do, lines of JSON on
standard output what it gave:

    one COUNT     one method call after the other (`ray.get` of each): milliseconds of each
    many COUNT    calls begun 1,000 at a time, then awaited together: seconds

The end of standard input ends everything.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import ray

BATCH = 1_000
PAYLOAD = {"data": "x" * 89}


class Echo:
    def echo(self, inputs: Any) -> Any:
        return inputs


def one(actor: Any, count: int) -> dict[str, Any]:
    took_ms = []
    for _ in range(count):
        since = time.perf_counter()
        ray.get(actor.echo.remote(PAYLOAD))
        took_ms.append((time.perf_counter() - since) * 1e3)
    return {"took_ms": took_ms}


def many(actor: Any, count: int) -> dict[str, Any]:
    since = time.perf_counter()
    for _ in range(count // BATCH):
        ray.get([actor.echo.remote(PAYLOAD) for _ in range(BATCH)])
    return {"seconds": time.perf_counter() - since}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray writes to standard output as it likes
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.1",
        _temp_dir=sys.argv[1],
    )
    try:
        actor = ray.remote(Echo).remote()
        one(actor, 200)
        many(actor, 2 * BATCH)
        answers.write(f"{json.dumps({'ready': True})}\n")
        answers.flush()
        for line in sys.stdin:
            word, count = line.split()
            found = {"one": one, "many": many}[word](actor, int(count))
            answers.write(f"{json.dumps(found)}\n")
            answers.flush()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
