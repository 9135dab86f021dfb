"""Cancellation at the harness: of what the component asks, and of what it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from paas.harness import limits
from paas.rpc.envelope import EMPTY_BODY
from paas.wire import codec
from tests.unit.harness.test_session import WALL_S, Stage


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.ready()
    return made


def invoke(stage: Stage, **params: Any) -> tuple[int, list[str]]:
    """An invocation by the hub: its id, and the outcomes at the hub."""
    outcomes: list[str] = []

    def answer(value: Any) -> None:
        outcomes.append("answered" if isinstance(value, bytes) else value.code)

    body = codec.pack({"operation": "o", **params})
    identity, data = stage.hub.request("component.invoke", body, answer, 1e9)
    stage.say(data)
    return identity, outcomes


def cancels(stage: Stage) -> list[Any]:
    stage.hear()
    found = [m for m in stage.messages if m["method"] == "component.cancel"]
    assert all("id" not in m for m in found)
    return [m["params"]["id"] for m in found]


def test_a_cancelled_invocation_is_cancelled_at_the_component(stage: Stage) -> None:
    identity, outcomes = invoke(stage)
    asked = stage.asked("component.invoke")["id"]
    stage.say(stage.hub.abandon(identity))
    assert cancels(stage) == [asked]
    stage.speak({"id": asked, "result": {"outputs": {}}})
    assert outcomes == ["cancelled"]
    assert stage.channel.waiting == 0
    assert stage.session.uplink.connection.outstanding == 0
    assert stage.hub.dropped_answers == 0


def test_one_cancelled_before_it_was_handed_over_never_reaches_the_component(stage: Stage) -> None:
    body = codec.pack({"operation": "o"})
    identity, data = stage.hub.request("component.invoke", body, lambda _: None, 1e9)
    stage.say(data + stage.hub.abandon(identity))
    stage.hear()
    assert stage.messages == []
    assert stage.session.uplink.connection.outstanding == 0


def test_the_loss_of_the_hub_cancels_what_came_from_it(stage: Stage) -> None:
    invoke(stage)
    asked = stage.asked("component.invoke")["id"]
    stage.session.hub_lost(0.5)
    assert cancels(stage) == [asked]


def test_a_deadline_that_passes_is_told_once(stage: Stage) -> None:
    first, _ = invoke(stage, deadline=WALL_S + 2)
    invoke(stage, deadline=WALL_S + 2)
    asked = [stage.asked("component.invoke")["id"] for _ in range(2)]
    stage.say(stage.hub.abandon(first))
    stage.at(2.0)
    stage.at(3.0)
    assert cancels(stage) == asked
    assert stage.channel.waiting == 0


@pytest.mark.parametrize("head", [{"deadline": WALL_S - 0.1}, {"timeout": 0.0}])
def test_what_has_expired_never_reaches_the_component(stage: Stage, head: dict[str, Any]) -> None:
    _, outcomes = invoke(stage, **head)
    stage.hear()
    assert stage.messages == []
    assert outcomes == ["timeout"]
    stage.say(stage.hub.notify("component.invoke", codec.pack({"operation": "o", **head})))
    stage.hear()
    assert stage.messages == []


def test_cancelling_does_not_give_a_component_more_than_its_share(stage: Stage) -> None:
    """One that does not mind cancellations is not given new work for what it has not ended."""
    for _ in range(limits.REQUESTS_MAX):
        identity, outcomes = invoke(stage)
        stage.say(stage.hub.abandon(identity))
        assert outcomes == ["cancelled"]
    _, outcomes = invoke(stage)
    assert outcomes == ["limit-exceeded"]
    assert len(cancels(stage)) == limits.REQUESTS_MAX
    stage.speak({"id": stage.asked("component.invoke")["id"], "result": {"outputs": {}}})
    _, outcomes = invoke(stage)
    assert outcomes == []


def test_a_component_that_does_not_read_is_not_told_without_end(stage: Stage) -> None:
    identities = [invoke(stage)[0] for _ in range(10)]
    stage.channel.outbox.add(b" " * (limits.CHANNEL_OUTBOX_BYTES_MAX + 1))
    before = stage.channel.outbox.bytes
    for identity in identities:
        stage.say(stage.hub.abandon(identity))
    assert stage.channel.outbox.bytes == before


# -- what the component asks -----------------------------------------------------------------------


def ask(identity: int, method: str = "hub.call") -> dict[str, Any]:
    return {"id": identity, "method": method, "params": {"target": "x", "operation": "o"}}


def cancel(identity: Any) -> dict[str, Any]:
    return {"method": "rpc.cancel", "params": {"id": identity}}


def test_the_component_cancels_its_request_at_the_hub(stage: Stage) -> None:
    stage.speak(ask(7))
    (request,) = stage.requests
    assert stage.speak(cancel(7)) == []
    assert request.cancelled
    assert stage.hub.reply(request, EMPTY_BODY) == b""
    assert stage.channel.outstanding == stage.hub.outstanding == 0


def test_the_end_of_its_connection_cancels_what_it_asked(stage: Stage) -> None:
    other = stage.open()
    stage.speak(ask(7))
    stage.speak(ask(7), channel=other)
    mine, others = stage.requests
    stage.session.channel_closed(other)
    stage.listen()
    assert (mine.cancelled, others.cancelled) == (False, True)


def test_one_connection_cannot_cancel_what_another_asked(stage: Stage) -> None:
    other = stage.open()
    stage.speak(ask(7))
    stage.speak(cancel(7), cancel(1), cancel(2), channel=other)
    assert [r.cancelled for r in stage.requests] == [False]


def test_a_request_that_is_held_for_a_hub_is_cancelled_here(stage: Stage) -> None:
    stage.session.hub_lost(0.5)
    stage.speak(ask(7), ask(8))
    stage.speak(cancel(7))
    stage.connect()
    assert len(stage.requests) == 1
    assert stage.channel.outstanding == 1
    stage.speak(cancel(8))
    assert stage.requests[0].cancelled
    assert stage.channel.outstanding == 0


def test_a_watch_that_is_cancelled_while_it_is_opened_is_closed_again(stage: Stage) -> None:
    stage.speak({"id": 7, "method": "hub.watch", "params": {"group": "g"}})
    (request,) = stage.requests
    stage.requests.clear()
    stage.speak(cancel(7))
    stage.say(stage.hub.reply(request, codec.pack({"watch": 3, "snapshot": [], "index": 1})))
    (closing,) = stage.requests
    assert (closing.method, codec.unpack(closing.params)) == ("hub.unwatch", {"watch": 3})
    assert stage.hear() == []
