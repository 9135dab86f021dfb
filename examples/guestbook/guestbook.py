"""Guests write into a book; whoever watches its signals hears of it.

paas create guestbook --name book
paas call book sign guest=Ada text="A fine place"
paas call book read
paas call book count --object pages
"""

from __future__ import annotations

import asyncio
from typing import Any

from paas_component import AsyncComponent, Call, ComponentError, Result, operation


class Guestbook(AsyncComponent):
    """Operations are methods; those that wait are `async def`."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[dict[str, str]] = []

    @operation
    async def sign(self, inputs: dict[str, Any], call: Call) -> dict[str, int]:
        guest, text = inputs.get("guest", ""), inputs.get("text", "")
        if not guest or not text:
            raise ComponentError("invalid", "guest and text: expected words", field="guest")
        self.entries.append({"guest": guest, "text": text})
        self.volatile["entries"] = len(self.entries)
        await self.signal("signed", {"guest": guest})
        return {"entries": len(self.entries)}

    @operation
    def read(self, inputs: dict[str, Any], call: Call) -> Result:
        lines = "".join(f"{e['guest']}: {e['text']}\n" for e in self.entries)
        copy = {"name": "book.txt", "type": "text/plain", "data": lines.encode()}
        return Result({"entries": self.entries}, [copy])

    @operation
    async def welcome(self, inputs: dict[str, Any], call: Call) -> dict[str, str]:
        """Somebody else knows the words; without them, a plain greeting."""
        try:
            words = await self.call("group:words", "greeting", {"for": inputs["guest"]}, timeout=5)
        except ComponentError as exc:
            self.log("no words", "warning", code=exc.code)
            words = {"text": f"Welcome, {inputs['guest']}"}
        return words

    @operation
    async def wait_for(self, inputs: dict[str, Any], call: Call) -> dict[str, str]:
        """Until the book of somebody else is signed; ends when the caller loses patience."""
        async with self.watching(signals={"target": inputs["book"]}) as events:
            async for event in events:
                if event["event"] == "signal":
                    return {"guest": event["payload"]["guest"]}
        raise ComponentError("not-available", "the watch has ended")


book = Guestbook()


@book.object("pages")
class Pages:
    """An object of the component, with operations of its own."""

    @operation
    def count(self, inputs: dict[str, Any], call: Call) -> dict[str, int]:
        per_page = int(inputs.get("per_page", 10))
        return {"pages": -(-len(book.entries) // per_page)}


async def main() -> None:
    await book.join("guestbooks")
    await book.run()


if __name__ == "__main__":
    asyncio.run(main())
