"""Takes orders from the group's durable mailbox, one after the other, and knows repetitions.

paas create mailbox --group orders
paas cast group:orders order item=tea
paas call mailbox done

A message may come more than once: when its acknowledgement was lost with a program, a hub or a
node.  Its id stays the same, so whoever remembers ids does everything once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from paas_component import Call, Component, ComponentError

component = Component()
lock = threading.Lock()
done: dict[str, Any] = {}
"""By message: what was ordered, in the order in which it was done."""

seen: list[list[Any]] = []
"""All that came, repetitions too: message, attempt, sequence."""


@component.operation("order")
def order(inputs: Any, call: Call) -> Any:
    mark = call.message or {"id": "", "attempt": 0}
    with lock:
        seen.append([mark["id"], mark["attempt"], inputs.get("sequence")])
        if mark["id"] in done:
            return {"repeated": True}
    if not inputs.get("item"):
        raise ComponentError("reject", "an order names an item")
    if inputs["item"] == "mystery":
        raise ComponentError("failed", "nobody knows what that is")
    if inputs["item"] == "poison":
        os._exit(3)
    time.sleep(float(inputs.get("seconds", 0)))
    with lock:
        done[mark["id"]] = inputs
    sys.stdout.write(f"did {mark['id']}\n")
    sys.stdout.flush()
    return {"done": len(done)}


@component.operation("done")
def read_done(inputs: Any, call: Call) -> Any:
    with lock:
        return {"orders": list(done.values()), "seen": list(seen)}


if __name__ == "__main__":
    component.run()
