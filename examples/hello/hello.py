"""A component that greets.  Try: paas call hello greet '{"name": "Ada"}'"""

from __future__ import annotations

import os
from typing import Any

from paas_component import Call, Component, ComponentError

component = Component()


@component.operation("greet")
def greet(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    name = inputs.get("name", "world")
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise ComponentError("invalid", "name: expected a string of 1 to 100 characters")
    component.log(f"greeting {name}", sender=call.sender)
    word = component.configuration.get("greeting", "Hello")
    return {"text": f"{word}, {name}!", "from": component.id, "pid": os.getpid()}


if __name__ == "__main__":
    print("hello is about to be ready")  # noqa: T201  (standard output becomes log records)
    component.run()
