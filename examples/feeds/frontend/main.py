"""The page, its JSON interface, and the live connections of browsers (io).

    browser ── HTTP ──> gateway ──> frontend ── timeline, search, subscribe, … ──> timeline
    browser <── WebSocket ── frontend <── published, alert, marked, changed ── timeline, alerters

Nothing is kept here: a frontend that ends takes connections along, whose browsers connect to
another one and say what they have seen last.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(p) for p in sorted((Path(__file__).resolve().parent / "vendor").glob("*.whl"))]

import sessions  # noqa: E402
import static  # noqa: E402
from api import TIMELINES, Api, status_of  # noqa: E402
from envelopes import outputs_of, request_of  # noqa: E402
from exchange import Refusal, Reply, Request, json_reply, refusal_reply  # noqa: E402
from live import Connection, Live, message  # noqa: E402
from paas_component import AsyncComponent, ComponentError, Result, operation  # noqa: E402
from server import TRY_AGAIN, Server, Socket  # noqa: E402

GROUP = "feeds.frontends"
ASK_S = 10.0
RECONCILE_S = 5.0
MISSED_MAX = 100
MESSAGE_CHARS_MAX = 4_096


class Frontend(AsyncComponent):
    """One of them."""

    def __init__(self) -> None:
        super().__init__()
        self.live = Live()
        self.files = static.load()
        self.api = Api(self.ask)
        self.server = Server(self.handle, self.accept, self.live_with)
        self.requests = 0
        self.carried: dict[str, Socket] = {}

    async def ask(self, target: str, what: str, inputs: dict[str, Any]) -> Any:
        return await self.call(target, what, inputs, timeout=ASK_S)

    # -- requests --

    async def handle(self, request: Request) -> Reply:
        """Any request, and always a reply."""
        self.requests += 1
        try:
            if request.path.startswith("/api/"):
                return await self.api.answer(request)
            if request.method not in ("GET", "HEAD"):
                raise Refusal(405, "the page can only be looked at")
            found = static.reply(self.files, request)
            return found or refusal_reply(Refusal(404, "there is no such page"))
        except Refusal as exc:
            return refusal_reply(exc)
        except ComponentError as exc:
            status = status_of(exc.code)
            value = {"message": exc.message, "field": (exc.data or {}).get("field", "")}
            return json_reply({"error": value}, status)

    # -- live connections --

    def accept(self, request: Request) -> Reply | None:
        user = sessions.user_of(request.headers)
        if request.path != "/live":
            return refusal_reply(Refusal(404, "there is no such connection"))
        if not user:
            return refusal_reply(Refusal(401, "say who you are first", "user"))
        if not sessions.is_same_site(request.headers):
            return refusal_reply(Refusal(403, "asked by a page of another site", "origin"))
        if not self.live.may_open(user):
            return refusal_reply(Refusal(429, "too many connections"))
        return None

    async def live_with(self, socket: Socket) -> None:
        """What a browser has missed, then everything as it comes."""
        user = sessions.user_of(socket.request.headers)
        connection = Connection(user, socket.send, lambda: socket.close(TRY_AGAIN))

        def sent() -> None:
            connection.queued -= 1

        async def received(text: str) -> None:
            if text == '{"type":"ping"}':
                connection.queued += 1
                socket.send('{"type":"pong"}')

        socket.sent, socket.received = sent, received
        since = socket.request.option("since")
        try:
            followed = await self.ask(TIMELINES, "subscriptions", {"user": user})
            self.live.open(connection, [s["source"] for s in followed["sources"]])
            has_seq = since.isascii() and since.isdigit() and len(since) < 17
            last = (await self.ask(TIMELINES, "last", {}))["seq"]
            connection.seq = int(since) if has_seq else last
            self.live.seen = self.live.seen or last
            connection.queued += 1
            socket.send(message("hello", seq=last))
            await self.catch_up(connection)
            await asyncio.Event().wait()
        except ComponentError:
            socket.close(TRY_AGAIN)
            await asyncio.sleep(1.0)
        finally:
            self.live.close(connection)

    async def catch_up(self, connection: Connection) -> None:
        """Send what it does not have; the page knows items by their number."""
        inputs = {"user": connection.user, "seq": connection.seq, "limit": MISSED_MAX}
        found = await self.ask(TIMELINES, "after", inputs)
        connection.seq = max(connection.seq, found["seq"])
        if found["items"] or found["gap"]:
            connection.queued += 1
            connection.deliver(message("items", items=found["items"], gap=found["gap"]))

    async def everybody_catches_up(self) -> None:
        for connection in self.live.connections():
            try:
                await self.catch_up(connection)
            except ComponentError as exc:
                self.log("cannot catch up", level="debug", error=exc.message)
                return

    async def reconcile(self) -> None:
        """An announcement that was lost is missed at the next one, or here."""
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                seq = (await self.ask(TIMELINES, "last", {}))["seq"]
            except ComponentError:
                continue
            if self.live.seen < seq:
                await asyncio.sleep(0.5)  # an announcement may be on its way
            if self.live.seen < seq:
                known, self.live.seen = self.live.seen, seq
                if known:
                    await self.everybody_catches_up()

    # -- the same, brought by a gateway as calls (a route of kind `operation`) --

    @operation
    async def http(self, inputs: Any, call: Any) -> Result:
        """Any request."""
        body = b"".join([await one.read() for one in call.attachments[:1]])
        return Result(*outputs_of(await self.handle(request_of(inputs, body))))

    @operation("http.open")
    async def open(self, inputs: Any, call: Any) -> Result:
        """A WebSocket: 101, or why not."""
        request = request_of(inputs, b"")
        refused = self.accept(request)
        if refused is not None:
            return Result(*outputs_of(refused))
        socket = self.carried[inputs["connection"]] = Socket(request)
        tasks = [
            asyncio.create_task(self.live_with(socket)),
            asyncio.create_task(self.carry(socket, call.sender, inputs["connection"])),
        ]
        socket.end = lambda: [task.cancel() for task in tasks]
        return Result({"status": 101, "headers": []})

    @operation("http.message")
    async def message(self, inputs: Any, call: Any) -> dict[str, Any]:
        socket = self.carried.get(inputs["connection"])
        if socket is not None and socket.received is not None:
            await socket.received(str(inputs.get("text", ""))[:MESSAGE_CHARS_MAX])
        return {}

    @operation("http.close")
    def close(self, inputs: Any, call: Any) -> dict[str, Any]:
        socket = self.carried.pop(inputs["connection"], None)
        if socket is not None:
            socket.end()
        return {}

    async def carry(self, socket: Socket, gateway: str, connection: str) -> None:
        """What is in a connection's queue, to its gateway, one after the other."""
        try:
            while True:
                text = await socket.queue.get()
                said: dict[str, Any] = {"connection": connection, "kind": "text", "text": text}
                if text is None:
                    said = {"connection": connection, "kind": "close", "code": socket.code}
                await self.call(gateway, "gateway.send", said, timeout=ASK_S)
                if text is None:
                    break
                socket.sent()
        except ComponentError as exc:
            self.log("a connection is over", level="debug", error=exc.message)
        self.carried.pop(connection, None)
        socket.end()

    # -- what others tell --

    @operation
    async def published(self, inputs: Any, call: Any) -> dict[str, Any]:
        """New items."""
        if self.live.published(inputs):
            await self.everybody_catches_up()
        return {}

    @operation
    def alert(self, inputs: Any, call: Any) -> dict[str, Any]:
        """Something that a person wants to be told of at once."""
        return {"told": self.live.tell(inputs["user"], message("alert", items=inputs["items"]))}

    @operation
    def marked(self, inputs: Any, call: Any) -> dict[str, Any]:
        """Read in one tab, read in all."""
        user = inputs.pop("user")
        return {"told": self.live.tell(user, message("marked", **inputs))}

    @operation
    async def changed(self, inputs: Any, call: Any) -> dict[str, Any]:
        """Somebody follows other sources."""
        user = str(inputs.get("user", ""))
        if user in self.live.users():
            followed = await self.ask(TIMELINES, "subscriptions", {"user": user})
            self.live.follow(user, [s["source"] for s in followed["sources"]])
            self.live.tell(user, message("changed"))
        return {}

    @operation
    def statistics(self, inputs: Any, call: Any) -> dict[str, Any]:
        found = {"requests": self.requests, "connections": len(self.live), "told": self.live.told}
        return {**found, "dropped": self.live.dropped, "seen": self.live.seen}


async def main() -> None:
    frontend = Frontend()
    await frontend.configured()
    host, _, port = os.environ["PAAS_ENDPOINT_HTTP"].rpartition(":")
    await frontend.server.start(host, int(port))
    await frontend.join(GROUP)
    task = asyncio.create_task(frontend.reconcile())
    await frontend.run()
    task.cancel()
    await frontend.server.stop()


if __name__ == "__main__":
    asyncio.run(main())
