"""JSON-RPC 2.0 over every transport: the examples of the specification's §7, and pjrpc's client.

The same texts go through a UNIX socket's lines, through POST and through a WebSocket, and must be
answered alike; pjrpc's client, which knows nothing of us, speaks over each of them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from pjrpc.client import AbstractAsyncClient, exceptions
from wsproto.events import TextMessage

from paas.rpc.server import listen_unix, serve
from paas.testing.http_world import Caller, Talker, World, http_world, post
from paas.wire import registry
from paas.wire.registry import Message, Params

V = '"jsonrpc": "2.0"'
QUIET_S = 0.05
"""How long an answer that must not come is waited for."""


class Subtract(Params, frozen=True, kw_only=True):
    """Test parameters, in positional order."""

    minuend: int
    subtrahend: int


class Anything(Message, frozen=True):
    """Test result."""


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """Positional parameters get their names from the declared fields."""
    made = registry.method(9_962, "subtract", Subtract, Anything)
    yield
    del registry.BY_NAME[made.name], registry.BY_NUMBER[made.number]


Ask = Callable[[str], Any]


async def over_post(world: World) -> Ask:
    caller = world.connect()

    async def ask(text: str) -> str:
        answer = await caller.ask(post(text))
        assert answer.status == (200 if answer.body else 204)
        return answer.body.decode()

    return ask


async def over_websocket(world: World) -> Ask:
    talker: Talker = await world.talk()

    async def ask(text: str) -> str:
        await talker.say(TextMessage(data=text))
        with trio.move_on_after(QUIET_S):
            return json.dumps(await talker.value())
        return ""

    return ask


async def over_unix(world: World) -> Ask:
    path = os.path.join(tempfile.mkdtemp(), "rpc.sock")

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await serve(
            listen_unix(path),
            world.on_request,
            world.sweeper,
            connections_max=9,
            task_status=task_status,
        )

    await world.nursery.start(run)
    caller = Caller(await trio.open_unix_socket(path))
    # The first byte decides the codec, and an example need not begin with a brace.
    await caller.send('{"jsonrpc": "2.0", "method": "update"}\n')

    async def ask(text: str) -> str:
        await caller.send(text.replace("\n", " ") + "\n")
        with trio.move_on_after(QUIET_S):
            while b"\n" not in caller.buffer:
                assert await caller.more()
        line, _, caller.buffer = caller.buffer.partition(b"\n")
        return line.decode()

    return ask


TRANSPORTS = {"post": over_post, "websocket": over_websocket, "unix": over_unix}


@asynccontextmanager
async def talking(transport: str) -> AsyncIterator[tuple[World, Ask]]:
    async with http_world() as world:
        yield world, await TRANSPORTS[transport](world)


EXAMPLES: list[tuple[str, Any]] = [
    ('{%s, "method": "subtract", "params": [42, 23], "id": 1}', (1, 19)),
    ('{%s, "method": "subtract", "params": [23, 42], "id": 2}', (2, -19)),
    ('{%s, "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', (3, 19)),
    ('{%s, "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}', (4, 19)),
    ('{%s, "method": "update", "params": [1,2,3,4,5]}', None),
    ('{%s, "method": "foobar"}', None),
    ('{%s, "method": "foobar", "id": "1"}', ("1", "error", -32601)),
    ('{%s, "method": "foobar, "params": "bar", "baz]', (None, "error", -32700)),
    ('{%s, "method": 1, "params": "bar"}', (None, "error", -32600)),
    (
        '[{%s, "method": "subtract", "params": [1, 2], "id": "1"}, {%s, "method"',
        (None, "error", -32700),
    ),
    ("[]", (None, "error", -32600)),
    ("[1]", [(None, "error", -32600)]),
    ("[1,2,3]", [(None, "error", -32600)] * 3),
    (
        '[{%s, "method": "subtract", "params": [42,23], "id": "2"}, {%s, "method": "notify_hello",'
        ' "params": [7]}, {"foo": "boo"}, {%s, "method": "foo.get", "params": {"name": "myself"},'
        ' "id": "5"}, {%s, "method": "get_data", "id": "9"}]',
        [("2", 19), (None, "error", -32600), ("5", "error", -32601), ("9", ["hello", 5])],
    ),
    ('[{%s, "method": "notify_sum", "params": [1,2,4]}, {%s, "method": "notify_hello"}]', None),
]


def shape(value: Any) -> Any:
    if isinstance(value, list):
        return sorted((shape(item) for item in value), key=str)
    assert value["jsonrpc"] == "2.0"
    assert ("result" in value) != ("error" in value)
    if "error" in value:
        assert isinstance(value["error"]["message"], str)
        return value["id"], "error", value["error"]["code"]
    return value["id"], value["result"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_examples_of_the_specification(transport: str) -> None:
    async with talking(transport) as (_, ask):
        for text, wanted in EXAMPLES:
            said = await ask(text.replace("%s", V))
            if wanted is None:
                assert said == "", text
                continue
            expected = sorted(wanted, key=str) if isinstance(wanted, list) else wanted
            assert shape(json.loads(said)) == expected, text


class TheirClient(AbstractAsyncClient):  # type: ignore[misc]
    """pjrpc's client, given one of our transports."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    async def _request(
        self, request_text: str, is_notification: bool, request_kwargs: Mapping[str, Any]
    ) -> str | None:
        said = await self._ask(request_text)
        assert bool(said) != is_notification
        return said or None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_independent_client(transport: str) -> None:
    async with talking(transport) as (world, ask):
        client = TheirClient(ask)
        assert await client.call("subtract", 42, 23) == 19
        assert await client.call("subtract", minuend=42, subtrahend=23) == 19
        assert await client.call("echo", value={"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
        with pytest.raises(exceptions.MethodNotFoundError):
            await client.call("foobar")
        with pytest.raises(exceptions.InvalidParamsError):
            await client.call("subtract", minuend="x", subtrahend=1)
        await client.notify("update", 1, 2)
        async with client.batch() as batch:
            batch.call("subtract", 3, 1)
            batch.notify("update", 1)
            batch.call("echo", value="x")
        assert list(batch.get_results()) == [2, "x"]
        assert world.told.count("update") >= 2
