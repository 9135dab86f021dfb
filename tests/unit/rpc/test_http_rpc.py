"""JSON-RPC over HTTP: what is answered with which status, who is let in, what ends with whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from paas.testing.http_world import HEAD, ask, http_world, post

NOTIFICATION = '{"jsonrpc": "2.0", "method": "update"}'


@pytest.mark.parametrize(
    ("text", "status", "shape"),
    [
        (ask("echo", value={"a": 1}), 200, ("result", {"a": 1})),
        (ask("nothing"), 200, ("error", -32601)),
        ("{", 200, ("error", -32700)),
        ("", 200, ("error", -32700)),
        ("\n", 200, ("error", -32700)),
        ("[]", 200, ("error", -32600)),
        ("1", 200, ("error", -32600)),
        (NOTIFICATION, 204, None),
        (f"[{NOTIFICATION},{NOTIFICATION}]", 204, None),
    ],
)
async def test_what_json_rpc_can_say_it_says_with_status_200(
    text: str, status: int, shape: Any
) -> None:
    async with http_world() as world:
        answer = await world.connect().ask(post(text))
        assert answer.status == status
        if shape is None:
            assert answer.body == b""
        elif shape[0] == "result":
            assert answer.json["result"] == shape[1]
        else:
            assert answer.json["error"]["code"] == shape[1]


async def test_a_batch_is_answered_when_its_last_answer_is_there() -> None:
    async with http_world() as world:
        caller = world.connect()
        await caller.send(post(f"[{ask('wait', 1)},{NOTIFICATION},{ask('echo', 2, value=0)}]"))
        await trio.testing.wait_all_tasks_blocked()
        peer, waiting = world.waiting[0]
        assert not caller.buffer
        peer.reply(waiting, b"\x05")
        answer = await caller.answer()
        assert {a["id"]: a["result"] for a in answer.json} == {1: 5, 2: 0}
        assert world.told == ["update"]


async def test_what_is_told_without_being_asked_does_not_disturb_an_answer() -> None:
    async with http_world() as world:
        answer = await world.connect().ask(post(ask("tell")))
        assert answer.json == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_a_thousand_and_one_requests_in_a_batch_are_too_many() -> None:
    async with http_world() as world:
        requests = ",".join(ask("wait", number) for number in range(1_001))
        answer = await world.connect().ask(post(f"[{requests}]"))
        assert answer.json["error"]["data"]["code"] == "limit-exceeded"
        assert not world.waiting


async def test_every_post_is_a_peer_that_ends_with_its_answer() -> None:
    async with http_world() as world:
        caller = world.connect()
        for _ in range(3):
            await caller.ask(post(ask("echo", value=1)))
        assert len(world.closed) == 3
        assert all(peer.info["one_answer"] for peer in world.closed)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("content-type: application/json; charset=utf-8\r\n", 200),
        ("content-type: Application/JSON\r\n", 200),
        ("content-type: application/json-rpc\r\n", 200),
        ("content-type: application/json; charset=latin-1\r\n", 415),
        ("content-type: text/plain\r\n", 415),
        ("", 415),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", 415),
        ("content-type: application/json\r\ncontent-type: application/json\r\n", 400),
        ("content-type: application/json\r\norigin: https://evil\r\n", 403),
        ("content-type: application/json\r\norigin: null\r\n", 403),
        ("content-type: application/json\r\norigin: https://x\r\n", 200),
    ],
)
async def test_headers_of_a_post(head: str, status: int) -> None:
    text = ask("echo", value=1)
    async with http_world(linger_s=0.05) as world:
        data = f"POST /rpc HTTP/1.1\r\n{HEAD}{head}content-length: {len(text)}\r\n\r\n{text}"
        assert (await world.connect().ask(data)).status == status


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Basic eDp5\r\n",
        "authorization: Bearer\r\n",
        "authorization: right\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/rpc", "/rpc/openrpc.json"])
async def test_who_shows_nothing_good_is_challenged(authorization: str, path: str) -> None:
    async with http_world(linger_s=0.05) as world:
        answer = await world.connect().ask(f"GET {path} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n")
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert world.rpc.statistics["http_denied"] == 1


async def test_the_description_and_the_health_can_be_fetched() -> None:
    async with http_world() as world:
        caller = world.connect()
        described = await caller.ask(f"GET /rpc/openrpc.json HTTP/1.1\r\n{HEAD}\r\n")
        assert described.json == {"openrpc": "1.3.2"}
        health = await caller.ask("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert health.json == {"status": "ok"}


@pytest.mark.parametrize("path", ["/rpc/", "//rpc", "/RPC", "/rpc/../rpc", "/%72pc", "*"])
async def test_only_the_exact_paths_are_there(path: str) -> None:
    async with http_world(linger_s=0.05) as world:
        data = post(ask("echo", value=1), path=path)
        assert (await world.connect().ask(data)).status == 404


async def test_nothing_is_offered_to_other_origins() -> None:
    async with http_world(linger_s=0.05) as world:
        for data in (post(ask("echo", value=1)), f"OPTIONS /rpc HTTP/1.1\r\n{HEAD}\r\n"):
            answer = await world.connect().ask(data)
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_an_answer_without_end_is_not_waited_for_by_one_who_left(
    autojump_clock: Any,
) -> None:
    async with http_world() as world:
        callers = [world.connect() for _ in range(20)]
        for caller in callers:
            await caller.send(post(ask("wait")))
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.waiting) == 20
        for caller in callers:
            await caller.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.closed) == 20
