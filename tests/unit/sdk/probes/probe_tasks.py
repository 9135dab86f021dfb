"""The probe of the SDK's tests, with tasks of asyncio or trio: the word on the command line."""

from __future__ import annotations

import os
import sys
from typing import Any

import paas_component
from paas_component import Call, ComponentError, Result, operation

KIND = sys.argv[1]
Base: Any = getattr(paas_component, {"asyncio": "AsyncComponent", "trio": "TrioComponent"}[KIND])
if KIND == "asyncio":
    import asyncio

    sleep: Any = asyncio.sleep
else:
    import trio

    sleep = trio.sleep


class Probe(Base):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(codec=os.environ.get("PROBE_CODEC", "json"))
        self.gate = False
        self.late: list[Any] = []
        self.heard: list[Any] = []
        self.changes: list[Any] = []

    @operation("echo")
    def answer_quickly(self, inputs: Any, call: Call) -> Any:
        return inputs

    @operation
    async def ask(self, inputs: Any, call: Call) -> Any:
        return {"got": await self.call("group:b", "get", inputs, timeout=5)}

    @operation
    async def tell_browser(self, inputs: Any, call: Call) -> Any:
        await self.push(call.sender, "c1", "hi")
        await self.push(call.sender, "c1", kind="binary", data=b"\x00")
        return await self.push(call.sender, "c1", kind="close", code=1001, reason="later")

    @operation
    async def wait(self, inputs: Any, call: Call) -> Any:
        self.log("waiting")
        await sleep(20)

    @operation
    async def impatient(self, inputs: Any, call: Call) -> Any:
        if KIND == "asyncio":
            try:
                await asyncio.wait_for(self.call("group:slow", "get"), 0.05)
            except asyncio.TimeoutError:  # noqa: UP041  (another one until 3.11)
                return {"code": "cancelled"}
        else:
            with trio.move_on_after(0.05):
                await self.call("group:slow", "get")
        return {"code": "cancelled"}

    @operation
    async def follow(self, inputs: Any, call: Call) -> Any:
        found = []
        async with self.watching(group="g", since=7) as events:
            async for event in events:
                found.append(event["n"])
                if len(found) == 3:
                    break
        return {"snapshot": events.snapshot, "events": found}

    @operation
    async def listen(self, inputs: Any, call: Call) -> Any:
        async def hear(event: Any) -> None:
            await sleep(0.001)
            self.heard.append(event["n"])

        return (await self.watch(hear, components=True))["watch"]

    @operation
    def hearing(self, inputs: Any, call: Call) -> Any:
        return self.heard

    @operation
    async def paint(self, inputs: Any, call: Call) -> Any:
        self.attributes["colour"] = "blue"
        self.volatile["wet"] = True
        del self.volatile["wet"]
        await self.set_attributes({"layers": 2}, expect={"layers": None})
        colour = await self.attributes["colour"]
        return {"colour": colour, "signal": await self.signal("dry", {"n": 1})}

    @operation
    async def send_large(self, inputs: Any, call: Call) -> Any:
        item = await self.attach(b"x" * (3 << 20), "big", "text/plain")
        answer = await self.call_whole("group:b", "take", attachments=[item])
        return {"item": item, "back": (await answer["attachments"][0].read()).decode()}

    @operation
    async def measure(self, inputs: Any, call: Call) -> Any:
        return Result({"sizes": [len(await item.read()) for item in call.attachments]})

    @operation
    async def copy(self, inputs: Any, call: Call) -> Result:
        data = (await call.attachments[0].read())[::-1]
        return Result({}, [{"name": "c", "type": "t", "data": data}])

    @operation
    async def take(self, inputs: Any, call: Call) -> Any:
        if inputs.get("bad"):
            raise ComponentError("reject", "bad order")
        return call.message

    @operation
    def break_down(self, inputs: Any, call: Call) -> Any:
        raise ValueError("it broke")

    @operation
    async def nonsense(self, inputs: Any, call: Call) -> Any:
        return {"x": float("nan")}

    @operation
    async def deep(self, inputs: Any, call: Call) -> Any:
        value: Any = 0
        for _ in range(inputs["depth"]):
            value = [value]
        return value

    @operation
    async def half_a_character(self, inputs: Any, call: Call) -> Any:
        return {"text": "\ud83d"}

    @operation
    async def exit_here(self, inputs: Any, call: Call) -> Any:
        sys.exit(3)

    @operation("exit_inline")
    def exit_there(self, inputs: Any, call: Call) -> Any:
        sys.exit(3)

    @operation
    async def fail_oddly(self, inputs: Any, call: Call) -> Any:
        raise ComponentError("odd", "it is odd", why={1, 2})

    @operation
    def send_plainly(self, inputs: Any, call: Call) -> Any:
        return Result({}, [{"name": "b", "type": "t", "data": b"x" * (2 << 20)}])

    @operation
    def wait_wrapped(self, inputs: Any, call: Call) -> Any:
        return self.wait(inputs, call)

    @operation
    async def one_word(self, inputs: Any) -> Any:
        return inputs

    @operation
    async def listen_late(self, inputs: Any, call: Call) -> Any:
        async def hear(event: Any) -> None:
            while not self.gate:
                await sleep(0.005)
            self.late.append(event)

        return (await self.watch(hear, group="late"))["watch"]

    @operation
    def open_gate(self, inputs: Any, call: Call) -> Any:
        self.gate = True

    @operation
    def heard_late(self, inputs: Any, call: Call) -> Any:
        return [len(self.late), self.late[-1:]]

    @operation
    async def tell_many(self, inputs: Any, call: Call) -> Any:
        for n in range(300):
            await self.tell("group:b", "note", {"n": n})

    @operation
    async def configured_as(self, inputs: Any, call: Call) -> Any:
        return {"now": await self.configured(), "changes": self.changes}


probe = Probe()
probe.on_configure(lambda configuration: probe.changes.append(configuration))


@probe.object("cart")
class Cart:
    @operation
    def add(self, inputs: Any, call: Call) -> Any:
        return {"object": call.object, "sender": call.sender[:4]}


@probe.on_terminate
async def ending(reason: str, inputs: Any) -> None:
    if reason == "no":
        raise ComponentError("refused", "not yet")


async def main() -> None:
    if KIND == "asyncio":
        await probe.join("probes")
        await probe.run()
    else:
        async with probe:
            await probe.join("probes")
            await probe.run()


if KIND == "asyncio":
    asyncio.run(main())
else:
    trio.run(main)
