"""Does what it is asked, and remembers what it was told.

With `tells` in its configuration it casts to that target all the time, under the mark of its life,
so that whoever listens can tell a successor from the one before.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

from paas_component import Call, Component, ComponentError

component = Component()
life = os.urandom(8).hex()
lock = threading.Lock()
notes: list[Any] = []
events: list[Any] = []


@component.operation("who")
def who(inputs: Any, call: Call) -> Any:
    return {"id": component.id, "life": life, "from": call.sender}


@component.operation("note")
def note(inputs: Any, call: Call) -> Any:
    with lock:
        notes.append(inputs["value"])
    return {"notes": len(notes)}


@component.operation("notes")
def read_notes(inputs: Any, call: Call) -> Any:
    with lock:
        return {"notes": list(notes)}


@component.operation("ask")
def ask(inputs: Any, call: Call) -> Any:
    """Any method of the component API, as this component; in this life only, if one is named."""
    if inputs.get("life", life) != life:
        return {"error": "another-life", "life": life}
    try:
        return {"result": component.request(inputs["method"], inputs["params"])}
    except ComponentError as error:
        return {"error": error.code, "message": error.message}


@component.operation("cast-many")
def cast_many(inputs: Any, call: Call) -> Any:
    for number in range(inputs["count"]):
        component.cast(inputs["target"], "note", {"value": number})
    return {}


def keep(event: Any) -> None:
    with lock:
        events.append(event)


@component.operation("monitor")
def monitor(inputs: Any, call: Call) -> Any:
    component.monitor(inputs["component"], keep)
    return {}


@component.operation("watch")
def watch(inputs: Any, call: Call) -> Any:
    return {"snapshot": component.watch(keep, **inputs)["snapshot"]}


@component.operation("events")
def read_events(inputs: Any, call: Call) -> Any:
    with lock:
        return {"events": list(events)}


@component.operation("log")
def log(inputs: Any, call: Call) -> Any:
    component.log(inputs["text"])
    return {}


@component.operation("die")
def die(inputs: Any, call: Call) -> Any:
    threading.Timer(0.05, os._exit, [inputs["status"]]).start()
    return {}


@component.on_terminate
def terminate(reason: str, inputs: Any) -> bool:
    if component.configuration.get("stays") and not (inputs or {}).get("really"):
        raise ComponentError("refused", "there is work to do")
    return True


def tell_all_the_time() -> None:
    target, number = component.configuration.get("tells"), 0
    while target:
        with contextlib.suppress(ComponentError):
            component.cast(target, "note", {"value": [life, number]})
        number += 1
        time.sleep(0.02)


if __name__ == "__main__":
    threading.Thread(target=tell_all_the_time, daemon=True).start()
    component.run()
