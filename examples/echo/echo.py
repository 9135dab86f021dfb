"""Answers what it is asked, after as long as it is told; forwards, fails or ends when asked to.

paas call echo echo '{"any": "thing"}'
paas call echo forward '{"target": "group:echoes", "count": 100}'
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from paas_component import Call, Component

component = Component(workers=64)


@component.operation("echo", inline=True)
def echo(inputs: Any, call: Call) -> Any:
    return inputs


@component.operation("sleep")
def sleep(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    time.sleep(float(inputs["seconds"]))
    return {"slept": inputs["seconds"]}


@component.operation("fail")
def fail(inputs: dict[str, Any], call: Call) -> None:
    raise ValueError(inputs.get("message", "asked to fail"))


@component.operation("exit")
def leave(inputs: dict[str, Any], call: Call) -> None:
    os._exit(int(inputs.get("code", 0)))


@component.operation("forward")
def forward(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Call another component `count` times, `parallel` at once; how long each call took, in ms."""
    target, count = inputs["target"], int(inputs.get("count", 1))
    parallel = min(int(inputs.get("parallel", 1)), 64)
    times_ms: list[float] = []
    rest = iter(range(count))
    turn = threading.Lock()

    def caller() -> None:
        while True:
            with turn:
                number = next(rest, None)
            if number is None:
                return
            before = time.perf_counter()
            component.call(target, "echo", {"number": number})
            times_ms.append((time.perf_counter() - before) * 1e3)

    begin = time.perf_counter()
    threads = [threading.Thread(target=caller) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    times_ms.sort()
    return {
        "calls": len(times_ms),
        "seconds": round(seconds, 4),
        "per_second": round(len(times_ms) / seconds, 1),
        "p50_ms": round(times_ms[len(times_ms) // 2], 3),
        "p99_ms": round(times_ms[len(times_ms) * 99 // 100], 3),
    }


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    component.run()
