"""The gateway's backends over a real channel, whose other end a test plays: the harness."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.gateway.backends import OperationFailed
from paas.gateway.component.channel import Channel
from paas.gateway.component.live import LiveBackends
from paas.gateway.messages import (
    EndedMember,
    HttpRequest,
    HttpSend,
    Route,
    RouteMember,
    Table,
)

SITE = Route(name="site", group="web", kind="operation", timeout_s=5.0)
Answer = Callable[[dict[str, Any]], Any]


class Platform:
    """What a harness and the platform behind it say; answers by method, in order."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, list[Any]] = {}
        self.heard = trio.Event()

    def will(self, method: str, *answers: Any) -> None:
        """Results (maps) or errors, one for each request; the last one again and again."""
        self.answers[method] = list(answers)

    async def say(self, **message: Any) -> None:
        body = msgspec.msgpack.encode({"jsonrpc": "2.0", **message})
        await self._stream.send_all(len(body).to_bytes(4, "big") + body)

    async def event(self, word: str, data: Any, watch: int = 1) -> None:
        params = {"watch": watch, "index": 1, "event": word, "data": msgspec.to_builtins(data)}
        await self.say(method="component.event", params=params)
        await trio.testing.wait_all_tasks_blocked(0.02)

    async def run(self) -> None:
        rest = b""
        while data := await self._stream.receive_some(65_536):
            rest += bytes(data)
            while len(rest) >= 4 and len(rest) >= 4 + int.from_bytes(rest[:4], "big"):
                end = 4 + int.from_bytes(rest[:4], "big")
                message = msgspec.msgpack.decode(rest[4:end])
                rest = rest[end:]
                await self._answer(message)

    async def _answer(self, message: dict[str, Any]) -> None:
        method = message.get("method", "")
        if not method:
            self.asked.append(("answer", message))
        else:
            self.asked.append((method, message["params"]))
        self.heard.set()
        self.heard = trio.Event()
        if "id" not in message or not method:
            return
        left = self.answers.get(method, [{}])
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, PlatformError):
            await self.say(id=message["id"], error=answer.to_rpc())
        elif answer is not None:
            await self.say(id=message["id"], result=answer)

    async def until(self, method: str, count: int = 1) -> list[dict[str, Any]]:
        with trio.fail_after(20):
            while True:
                found = [params for name, params in self.asked if name == method]
                if len(found) >= count:
                    return found
                await self.heard.wait()


class Browser:
    """The data path, as far as pushing is concerned."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, bytes]] = []
        self.codes: list[int] = []
        self.streams: set[str] = set()
        """Connections that are no WebSockets."""
        self.cuts: list[str] = []
        self.spoken, self.was_cut = trio.Event(), trio.Event()

    async def deliver(self, send: HttpSend, data: bytes, *, wait: bool) -> bool:
        await trio.lowlevel.checkpoint()
        self.said.append((send.connection, send.kind, data))
        self.codes.append(send.code)
        self.spoken.set()
        return send.connection not in self.streams or send.kind in ("body", "end")

    def cut(self, connection: str) -> None:
        self.cuts.append(connection)
        self.was_cut.set()


class World:
    def __init__(self, platform: Platform, backends: LiveBackends, browser: Browser) -> None:
        self.platform, self.backends, self.browser = platform, backends, browser

    async def call(self, method: str = "GET") -> str:
        _, body = await self.backends.call(SITE, a_request(method), b"")
        return body.decode()


def told(component: str, state: Any = "serving", **fields: Any) -> RouteMember:
    given = {"incarnation": 1, "node": "n1", "host": "", "port": 0, "weight": 100, **fields}
    return RouteMember(route="site", component=component, state=state, **given)


def a_request(method: str = "GET", connection: str = "c1") -> HttpRequest:
    return HttpRequest(
        method=method,
        path="/",
        query="",
        headers=[("accept", "*/*")],
        host="x",
        scheme="http",
        remote="192.0.2.1",
        request_id="r1",
        route="site",
        connection=connection,
    )


def answered(text: str = "hello", **outputs: Any) -> dict[str, Any]:
    body = {"name": "body", "type": "text/plain", "data": text.encode()}
    return {"outputs": {"status": 200, **outputs}, "attachments": [body], "component": "a"}


def ended_now(component: str) -> dict[str, Any]:
    """What is told of a member that has died."""
    return {
        "members": [told(component, "gone")],
        "ended": [EndedMember(component=component, incarnation=1)],
    }


def following(*members: RouteMember) -> dict[str, Any]:
    table = Table(routes=[SITE], members=list(members))
    return {"watch": 1, "snapshot": msgspec.to_builtins(table), "index": 1}


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    here, there = socket.socketpair()
    platform, channel = Platform(there), Channel(here)
    backends, browser = LiveBackends(channel, lambda: 0.0), Browser()
    backends.edge = browser
    channel.on_invoke = backends.invoked
    platform.will("gateway.follow", following(told("a"), told("b")))
    nursery.start_soon(platform.run)
    await nursery.start(channel.run)
    await nursery.start(backends.run)
    return World(platform, backends, browser)


async def test_a_call_goes_to_one_member_with_the_envelope(world: World) -> None:
    world.platform.will("hub.call", answered())
    assert await world.call() == "hello"
    (params,) = await world.platform.until("hub.call")
    assert params["target"] in ("a", "b")
    assert params["operation"] == "http"
    assert params["inputs"]["headers"] == [["accept", "*/*"]]
    assert params["inputs"]["connection"] == "c1"


async def test_what_was_not_begun_goes_to_another_member_whatever_the_method(world: World) -> None:
    world.platform.will("hub.call", PlatformError("not-available"), answered())
    assert await world.call("POST") == "hello"
    targets = [params["target"] for params in await world.platform.until("hub.call", 2)]
    assert sorted(targets) == ["a", "b"]


async def test_what_was_begun_is_repeated_only_if_that_is_safe(world: World) -> None:
    world.platform.will("hub.call", PlatformError("unknown-outcome"), answered())
    assert await world.call("GET") == "hello"
    world.platform.will("hub.call", PlatformError("unknown-outcome"), answered())
    with pytest.raises(OperationFailed) as failed:
        await world.call("POST")
    assert failed.value.status == 502


@pytest.mark.parametrize(("code", "status"), [("failed", 502), ("timeout", 504), ("invalid", 502)])
async def test_other_errors_have_a_status_and_are_not_repeated(
    world: World, code: str, status: int
) -> None:
    world.platform.will("hub.call", PlatformError(code))
    with pytest.raises(OperationFailed) as failed:
        await world.call()
    assert failed.value.status == status
    assert len(await world.platform.until("hub.call")) == 1


async def test_while_the_platform_cannot_be_reached_a_request_waits(world: World) -> None:
    away = PlatformError("not-available", where="hub")
    world.platform.will("hub.call", away, away, away, answered())
    assert await world.call("POST") == "hello"


@pytest.mark.parametrize("outputs", [{"status": "200"}, {"status": 99}, {"headers": [["a"]]}])
async def test_an_answer_that_is_none_is_502(world: World, outputs: Any) -> None:
    world.platform.will("hub.call", answered(**outputs))
    with pytest.raises(OperationFailed) as failed:
        await world.call()
    assert failed.value.status == 502


async def test_one_that_leaves_is_acknowledged_when_it_is_answered(world: World) -> None:
    world.platform.will("hub.call", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.call)
        (params,) = await world.platform.until("hub.call")
        busy = params["target"]
        idle = "b" if busy == "a" else "a"
        leaving = [told(one, "leaving", drain_s=9.0) for one in ("a", "b")]
        await world.platform.event("changed", {"members": leaving})
        (first,) = await world.platform.until("gateway.acknowledge")
        assert first["component"] == idle
        await trio.sleep(0.05)
        assert len(await world.platform.until("gateway.acknowledge")) == 1
        await world.platform.say(id=_number(world, "hub.call"), result=answered())
    acknowledged = await world.platform.until("gateway.acknowledge", 2)
    assert {params["component"] for params in acknowledged} == {"a", "b"}
    with pytest.raises(OperationFailed) as failed:
        await world.call()
    assert failed.value.status == 503, "nobody serves"


def _number(world: World, method: str) -> int:
    """The channel numbers its requests one after the other."""
    requests = [name for name, _ in world.platform.asked if name not in ("answer", "rpc.cancel")]
    return requests.index(method) + 1


async def test_after_a_hub_was_lost_the_new_table_counts(world: World) -> None:
    await world.platform.event("resumed", following(told("c")))
    world.platform.will("hub.call", answered())
    await world.call()
    assert (await world.platform.until("hub.call"))[-1]["target"] == "c"


async def test_a_watch_that_is_lost_is_opened_again(world: World) -> None:
    world.platform.will("gateway.follow", {**following(told("d")), "watch": 2})
    await world.platform.event("lost", None)
    await world.platform.until("gateway.follow", 2)
    await trio.testing.wait_all_tasks_blocked(0.05)
    world.platform.will("hub.call", answered())
    await world.call()
    assert (await world.platform.until("hub.call"))[-1]["target"] == "d"


async def test_a_websocket_belongs_to_the_member_that_took_it(world: World) -> None:
    world.platform.will("hub.call", {"outputs": {"status": 101}})
    world.platform.will("hub.cast", {"accepted": 1})
    assert (await world.backends.open(SITE, a_request())).status == 101
    await world.backends.message("c1", "text", b"hi")
    await world.backends.message("c1", "binary", b"\x00")
    await world.backends.close("c1", 1000, "bye")
    owner = (await world.platform.until("hub.call"))[0]["target"]
    casts = await world.platform.until("hub.cast", 3)
    assert {cast["target"] for cast in casts} == {owner}
    assert [cast["operation"] for cast in casts] == ["http.message", "http.message", "http.close"]
    assert [cast["inputs"].get("text", "") for cast in casts] == ["hi", "", ""]
    assert casts[1]["attachments"][0]["data"] == b"\x00"
    assert not world.backends._connections


async def test_what_is_pushed_reaches_the_browser_in_order(world: World) -> None:
    world.platform.will("hub.call", {"outputs": {"status": 101}})
    await world.backends.open(SITE, a_request())
    for number in range(5):
        inputs = {"connection": "c1", "kind": "text", "text": str(number)}
        await world.platform.say(
            id=number,
            method="component.invoke",
            params={"operation": "gateway.send", "inputs": inputs, "from": "x"},
        )
    answers = await world.platform.until("answer", 6)  # the first one tells the codec
    assert [said for _, _, said in world.browser.said] == [b"0", b"1", b"2", b"3", b"4"]
    assert answers[-1]["result"] == {"outputs": {"delivered": True}}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"operation": "other"}, "no-such-operation"),
        ({"operation": "gateway.send", "inputs": {"connection": 7}}, "invalid"),
        (
            {"operation": "gateway.send", "inputs": {"connection": "zz", "kind": "text"}},
            "no-such-target",
        ),
    ],
)
async def test_what_cannot_be_pushed_is_refused(
    world: World, params: dict[str, Any], code: str
) -> None:
    await world.platform.say(id=7, method="component.invoke", params={"inputs": {}, **params})
    answers = await world.platform.until("answer", 2)
    assert answers[-1]["error"]["data"]["code"] == code


async def test_websockets_of_a_member_that_dies_are_closed(world: World) -> None:
    world.platform.will("hub.call", {"outputs": {"status": 101}})
    await world.backends.open(SITE, a_request())
    owner = (await world.platform.until("hub.call"))[0]["target"]
    await world.platform.event("changed", ended_now(owner))
    await world.browser.spoken.wait()
    assert world.browser.said == [("c1", "close", b"")]
    assert world.browser.codes == [1011]
    assert not world.browser.cuts


async def test_websockets_of_one_that_is_gone_and_lives_are_told_that_it_leaves(
    world: World,
) -> None:
    world.platform.will("hub.call", {"outputs": {"status": 101}})
    await world.backends.open(SITE, a_request())
    owner = (await world.platform.until("hub.call"))[0]["target"]
    await world.platform.event("changed", {"members": [told(owner, "gone")]})
    await world.browser.spoken.wait()
    assert world.browser.codes == [1001]


async def test_a_stream_of_a_member_that_dies_is_cut_off(world: World) -> None:
    world.browser.streams.add("c1")
    world.platform.will("hub.call", answered(stream=True))
    await world.call()
    owner = (await world.platform.until("hub.call"))[0]["target"]
    await world.platform.event("changed", ended_now(owner))
    with trio.fail_after(20):
        await world.browser.was_cut.wait()
    assert world.browser.cuts == ["c1"]
