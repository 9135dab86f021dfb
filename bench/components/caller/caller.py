"""Calls another component, as often and as many at once as it is told, and tells what that took."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from typing import Any

from paas_component import Call, Component

component = Component()


@component.operation("measure")
def measure(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """`count` calls of `target`, `parallel` at once: seconds, and milliseconds of each call."""
    target, count, parallel = inputs["target"], inputs["count"], inputs["parallel"]
    numbers = itertools.count(1)  # drawing from it is atomic
    took_ms: list[float] = []

    def work() -> None:
        while next(numbers) <= count:
            since = time.perf_counter()
            component.call(target, "echo", {"x": 1})
            took_ms.append((time.perf_counter() - since) * 1e3)

    since = time.perf_counter()
    if parallel == 1:
        work()
    else:
        threads = [threading.Thread(target=work) for _ in range(parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"seconds": time.perf_counter() - since, "took_ms": took_ms}


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)  # as examples/echo: many short waits, not a few long computations
    component.run()
