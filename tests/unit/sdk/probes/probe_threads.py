"""The probe of the SDK's tests, with threads."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from paas_component import Call, Component, ComponentError, Result, operation


class Probe(Component):
    def __init__(self) -> None:
        super().__init__(codec=os.environ.get("PROBE_CODEC", "json"))
        self.gate = threading.Event()
        self.late: list[Any] = []
        self.heard: list[Any] = []
        self.changes: list[Any] = []

    @operation("echo", inline=True)
    def answer_quickly(self, inputs: Any, call: Call) -> Any:
        return inputs

    @operation
    def ask(self, inputs: Any, call: Call) -> Any:
        return {"got": self.call("group:b", "get", inputs, timeout=5)}

    @operation
    def tell_browser(self, inputs: Any, call: Call) -> Any:
        self.push(call.sender, "c1", "hi")
        self.push(call.sender, "c1", kind="binary", data=b"\x00")
        return self.push(call.sender, "c1", kind="close", code=1001, reason="later")

    @operation(inline=True)
    def ask_inline(self, inputs: Any, call: Call) -> Any:
        return self.call("group:b", "get", inputs)

    @operation
    def wait(self, inputs: Any, call: Call) -> Any:
        self.log("waiting")
        call.cancelled.wait(20)
        raise ComponentError("cancelled")

    @operation
    def impatient(self, inputs: Any, call: Call) -> Any:
        pending = self.begin_call("group:slow", "get")
        threading.Timer(0.05, pending.cancel).start()
        try:
            return pending.result()
        except ComponentError as exc:
            return {"code": exc.code}

    @operation
    def follow(self, inputs: Any, call: Call) -> Any:
        with self.watching(group="g", since=7) as events:
            return {"snapshot": events.snapshot, "events": [next(events)["n"] for _ in range(3)]}

    @operation
    def listen(self, inputs: Any, call: Call) -> Any:
        return self.watch(lambda event: self.heard.append(event["n"]), components=True)["watch"]

    @operation
    def hearing(self, inputs: Any, call: Call) -> Any:
        return self.heard

    @operation
    def paint(self, inputs: Any, call: Call) -> Any:
        self.attributes["colour"] = "blue"
        self.volatile["wet"] = True
        del self.volatile["wet"]
        self.set_attributes({"layers": 2}, expect={"layers": None})
        return {"colour": self.attributes["colour"], "signal": self.signal("dry", {"n": 1})}

    @operation
    def send_large(self, inputs: Any, call: Call) -> Any:
        item = self.attach(b"x" * (3 << 20), "big", "text/plain")
        answer = self.call_whole("group:b", "take", attachments=[item])
        return {"item": item, "back": answer["attachments"][0].read().decode()}

    @operation
    def measure(self, inputs: Any, call: Call) -> Any:
        return Result({"sizes": [len(item.read()) for item in call.attachments]})

    @operation
    def copy(self, inputs: Any, call: Call) -> Result:
        return Result({}, [{"name": "c", "type": "t", "data": call.attachments[0].read()[::-1]}])

    @operation
    def take(self, inputs: Any, call: Call) -> Any:
        if inputs.get("bad"):
            raise ComponentError("reject", "bad order")
        return call.message

    @operation
    def break_down(self, inputs: Any, call: Call) -> Any:
        raise ValueError("it broke")

    @operation
    def nonsense(self, inputs: Any, call: Call) -> Any:
        return {"x": float("nan")}

    @operation
    def deep(self, inputs: Any, call: Call) -> Any:
        value: Any = 0
        for _ in range(inputs["depth"]):
            value = [value]
        return value

    @operation
    def half_a_character(self, inputs: Any, call: Call) -> Any:
        return {"text": "\ud83d"}

    @operation
    def exit_here(self, inputs: Any, call: Call) -> Any:
        sys.exit(3)

    @operation("exit_inline", inline=True)
    def exit_there(self, inputs: Any, call: Call) -> Any:
        sys.exit(3)

    @operation
    def fail_oddly(self, inputs: Any, call: Call) -> Any:
        raise ComponentError("odd", "it is odd", why={1, 2})

    @operation(inline=True)
    def send_plainly(self, inputs: Any, call: Call) -> Any:
        return Result({}, [{"name": "b", "type": "t", "data": b"x" * (2 << 20)}])

    @operation
    def listen_late(self, inputs: Any, call: Call) -> Any:
        def hear(event: Any) -> None:
            self.gate.wait(20)
            self.late.append(event)

        return self.watch(hear, group="late")["watch"]

    @operation
    def open_gate(self, inputs: Any, call: Call) -> Any:
        self.gate.set()

    @operation
    def heard_late(self, inputs: Any, call: Call) -> Any:
        return [len(self.late), self.late[-1:]]

    @operation
    def tell_many(self, inputs: Any, call: Call) -> Any:
        for n in range(300):
            self.tell("group:b", "note", {"n": n})

    @operation
    def configured_as(self, inputs: Any, call: Call) -> Any:
        return {"now": self.configuration, "changes": self.changes}


probe = Probe()
probe.on_configure(lambda configuration: probe.changes.append(configuration))


@probe.object("cart")
class Cart:
    @operation
    def add(self, inputs: Any, call: Call) -> Any:
        return {"object": call.object, "sender": call.sender[:4]}


@probe.on_terminate
def ending(reason: str, inputs: Any) -> None:
    if reason == "no":
        raise ComponentError("refused", "not yet")


probe.join("probes")
probe.run()
