"""What one message may cost: fan-out, gathered answers, full mailboxes, answers that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import trio

from paas.base.limits import FRAME_BYTES_MAX
from paas.harness.messages import InvokeResult
from paas.hub import limits, messages
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.hub_in_memory import Far, World, hub_world, settled
from paas.wire import codec

OnRequest = Callable[[Peer, Request], None]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with hub_world() as made:
        yield made


async def member(world: World, name: str, on_request: OnRequest | None = None) -> Far:
    far = await world.component(name)
    if on_request is not None:
        far.peer.on_request = on_request
    await far.call(messages.JOIN, messages.Join(groups=["g"]))
    return far


def call(target: str = "group:g", **more: Any) -> messages.Call:
    return messages.Call(target=target, operation="op", **more)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(codec.pack(value))


def answers(body: bytes) -> OnRequest:
    return lambda peer, request: peer.reply(request, body)


def silent(_peer: Peer, _request: Request) -> None:
    return


@pytest.mark.parametrize("body", [b"\x05", b"\x81\xa7outputs", b"\xc1", b"\x92\x01\x02"])
async def test_what_is_no_answer_is_a_failure_of_the_component(world: World, body: bytes) -> None:
    await member(world, "a", answers(body))
    operator = world.operator()
    assert (await operator.error(messages.CALL, call())).code in ("failed", "unknown-outcome")


async def test_a_malformed_answer_is_one_failure_among_those_of_all(world: World) -> None:
    await member(world, "a", answers(b"\x05"))
    await member(world, "b")
    result = await world.operator().call(messages.CALL, call(selector="all"))
    replies = {r.component: r for r in result.replies}
    assert replies["a"].error["data"]["code"] == "failed"
    assert replies["b"].error is msgspec.UNSET


async def test_a_message_to_all_is_bounded_with_its_copies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FANOUT_BYTES_MAX", 3_000)
    for name in "abc":
        await member(world, name)
    operator = world.operator()
    for params in (
        call(selector="all", inputs=raw("x" * 1_100)),
        call(selector="all", attachments=raw([{"data": b"x" * 1_100}])),
    ):
        assert (await operator.error(messages.CALL, params)).code == "limit-exceeded"
    cast = messages.Cast(target="group:g", operation="op", selector="all", inputs=raw("x" * 1_100))
    assert (await operator.error(messages.CAST, cast)).code == "limit-exceeded"
    result = await operator.call(messages.CALL, call(selector="all", inputs=raw("x" * 100)))
    assert len(result.replies) == 3


async def test_gathered_answers_are_bounded_and_the_rest_is_said(world: World) -> None:
    """Each answer fits in a frame; all of them together would not."""
    large = codec.pack(InvokeResult(outputs=raw(b"x" * (FRAME_BYTES_MAX // 5))))
    for name in "abcdef":
        await member(world, name, answers(large))
    result = await world.operator().call(messages.CALL, call(selector="all"))
    errors = [r.error["data"]["code"] for r in result.replies if r.error is not msgspec.UNSET]
    assert len(result.replies) == 6
    assert errors == ["limit-exceeded"] * 4


async def test_a_cast_passes_by_members_that_are_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INVOCATIONS_MAX", 2)
    await member(world, "a", silent)
    b = await member(world, "b")
    operator = world.operator()
    for _ in range(2):
        operator.peer.send_request(
            messages.CALL.name, codec.pack(call("a")), lambda _: None, timeout_s=9.0
        )
    await settled()
    cast = messages.Cast(target="group:g", operation="op", selector="all")
    assert (await operator.call(messages.CAST, cast)).accepted == 1
    await settled()
    assert b.asked == ["component.invoke"]
    cast = messages.Cast(target="a", operation="op")
    assert (await operator.error(messages.CAST, cast)).code == "limit-exceeded"


async def test_inputs_that_just_fitted_harm_only_their_sender(world: World) -> None:
    """The way on needs a few bytes more than the way in: that must not end the target's channel."""
    target = await member(world, "a")
    operator = world.operator()
    for slack in range(0, 200, 10):
        size = FRAME_BYTES_MAX - 60 - slack
        params = call("a", inputs=raw(b"x" * size))
        outcome: list[Any] = []
        operator.peer.send_request(
            messages.CALL.name, codec.pack(params), outcome.append, timeout_s=9.0
        )
        with trio.fail_after(10):
            while not outcome:
                await settled()
        assert isinstance(outcome[0], bytes) or outcome[0].code == "limit-exceeded"
        assert not target.peer.closed
        assert not operator.peer.closed
    assert isinstance(outcome[0], bytes)


async def test_the_callers_end_cancels_its_calls_and_late_answers_harm_nobody(
    world: World,
) -> None:
    kept: list[tuple[Peer, Request]] = []
    await member(world, "a", lambda peer, request: kept.append((peer, request)))
    operator = world.operator()
    operator.peer.send_request(
        messages.CALL.name, codec.pack(call("a")), lambda _: None, timeout_s=9.0
    )
    await settled()
    assert world.hub.statistics()["waiting"] == 1
    operator.peer.close()
    await settled()
    assert world.hub.statistics()["waiting"] == 0
    peer, request = kept[0]
    assert request.cancelled
    peer.reply(request)
    await settled()
    assert world.hub.statistics()["waiting"] == 0
