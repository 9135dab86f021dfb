"""Passes calls on, and works until it is told that nobody wants the result."""

from __future__ import annotations

import threading
import time
from typing import Any

from paas_component import Call, Component

component = Component()
lock = threading.Lock()
begun: list[str] = []
cancelled: list[str] = []


@component.operation("pass")
def pass_on(inputs: Any, call: Call) -> Any:
    """Call the first of the targets, which passes the call on to the others."""
    time.sleep(inputs.get("works_s", 0.0))
    targets = inputs["targets"]
    if not targets:
        return {"path": [component.id]}
    rest = {**inputs, "targets": targets[1:]}
    asked = {"target": targets[0], "operation": "pass", "inputs": rest}
    told = component.request("hub.call", asked)
    return {"path": [component.id, *told["outputs"]["path"]]}


@component.operation("work")
def work(inputs: Any, call: Call) -> Any:
    with lock:
        begun.append(inputs["name"])
    stopped = call.cancelled.wait(120.0)
    with lock:
        if stopped:
            cancelled.append(inputs["name"])
    return {}


@component.operation("works")
def works(inputs: Any, call: Call) -> Any:
    with lock:
        return {"begun": list(begun), "cancelled": list(cancelled)}


if __name__ == "__main__":
    component.run()
