"""The way to the hub as a core: what is held, sent again, reported lost; and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.harness import limits
from paas.harness.capture import Capture
from paas.harness.lifecycle import Phase, UplinkState
from paas.harness.reconnect import Uplink, read_head, remaining_s
from paas.harness.settings import LogSettings
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec


class Pair:
    """An uplink and the hub's end of it, on one hand-driven clock."""

    def __init__(self) -> None:
        self.capture = Capture(LogSettings())
        self.uplink = Uplink("ab" * 20, 2, self.capture)
        self.hub = Connection(Form.COMPACT)
        self.answers: list[Any] = []

    def at(self, now_s: float) -> None:
        self.uplink.now_s, self.uplink.wall_s = now_s, 1_000_000 + now_s
        self.uplink.tick()

    def connect(self, *, accept: bool = True) -> Request:
        self.hub = Connection(Form.COMPACT)
        self.uplink.connected()
        (hello,) = self.heard()
        if accept:
            self.say(self.hub.reply(hello, codec.pack({"version": 1, "node": "n1"})))
        return hello

    def heard(self) -> list[Request]:
        return self.hub.receive(self.uplink.outbox.take())

    def say(self, data: bytes) -> list[Request]:
        return self.uplink.receive(data)

    def request(self, method: str = "hub.groups", **params: Any) -> None:
        self.uplink.request(method, codec.pack(params), self.answers.append)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_the_greeting_says_who_and_in_which_phase(pair: Pair) -> None:
    pair.uplink.phase(Phase.AVAILABLE, "")
    hello = pair.connect()
    assert hello.method == "harness.hello"
    assert codec.unpack(hello.params) == {
        "component": "ab" * 20,
        "incarnation": 2,
        "phase": "available",
    }
    assert pair.uplink.attached


def test_requests_before_the_greeting_is_answered_are_held_then_sent(pair: Pair) -> None:
    pair.request(prefix="early")
    hello = pair.connect(accept=False)
    assert pair.heard() == []
    pair.say(pair.hub.reply(hello, codec.pack({"version": 1, "node": "n"})))
    (request,) = pair.heard()
    assert codec.unpack(request.params) == {"prefix": "early"}
    pair.say(pair.hub.reply(request, codec.pack({"groups": {}})))
    assert [codec.unpack(a) for a in pair.answers] == [{"groups": {}}]


def test_a_held_request_is_not_available_after_a_while(pair: Pair) -> None:
    pair.request()
    pair.at(limits.HOLD_S)
    assert [a.code for a in pair.answers] == ["not-available"]


def test_held_requests_are_bounded_in_number_and_bytes(pair: Pair) -> None:
    for _ in range(limits.HELD_REQUESTS_MAX):
        pair.request()
    with pytest.raises(PlatformError, match="not-available"):
        pair.request()
    other = Pair()
    with pytest.raises(PlatformError, match="not-available"):
        other.request(prefix="x" * limits.HELD_BYTES_MAX)


def test_a_lost_hub_leaves_unknown_outcomes_once(pair: Pair) -> None:
    pair.connect()
    pair.request()
    pair.uplink.lost(0.5)
    assert [a.code for a in pair.answers] == ["unknown-outcome"]
    pair.connect()
    assert len(pair.answers) == 1


def test_attempts_come_later_and_later_until_a_hub_accepts(pair: Pair) -> None:
    waits = []
    for _ in range(12):
        pair.uplink.lost(0.999)
        waits.append(pair.uplink.next_attempt_s)
    assert waits == sorted(waits)
    assert waits[0] <= limits.RECONNECT_FIRST_S
    assert limits.RECONNECT_CAP_S * 0.9 < waits[-1] <= limits.RECONNECT_CAP_S
    pair.connect()
    pair.uplink.lost(0.0)
    assert pair.uplink.next_attempt_s <= limits.RECONNECT_FIRST_S


def test_a_hub_that_accepts_connections_and_dies_is_not_hammered(pair: Pair) -> None:
    for _ in range(10):
        pair.connect(accept=False)
        pair.uplink.lost(0.5)
    assert pair.uplink.next_attempt_s > limits.RECONNECT_CAP_S / 2


def test_a_refused_greeting_makes_the_owner_hang_up(pair: Pair) -> None:
    hello = pair.connect(accept=False)
    assert not pair.uplink.overdue
    pair.say(pair.hub.fail(hello, PlatformError("denied")))
    assert pair.uplink.overdue
    pair.uplink.lost(0.0)
    assert pair.uplink.state is UplinkState.DISCONNECTED


def test_a_greeting_without_answer_is_overdue_in_the_end(pair: Pair) -> None:
    pair.connect(accept=False)
    pair.at(limits.HELLO_TIMEOUT_S)
    assert pair.uplink.overdue


def test_the_hub_answers_timeout_itself_and_the_harness_for_it_a_little_later(pair: Pair) -> None:
    pair.connect()
    pair.request(timeout=1.0)
    pair.at(1.0)
    assert pair.answers == []
    pair.at(1.0 + limits.ANSWER_MARGIN_S)
    assert [a.code for a in pair.answers] == ["timeout"]


def test_records_travel_in_confirmed_batches(pair: Pair) -> None:
    pair.connect()
    pair.capture.feed("stdout", b"a\nb\n", 0.0, 0)
    pair.at(limits.BATCH_PERIOD_S / 2)
    assert pair.heard() == []
    pair.at(limits.BATCH_PERIOD_S)
    (batch,) = pair.heard()
    pair.capture.feed("stdout", b"c\n", 0.0, 0)
    pair.at(1.0)
    assert pair.heard() == []
    pair.say(pair.hub.reply(batch, codec.pack({})))
    pair.at(2.0)
    (second,) = pair.heard()
    assert [r["message"] for r in codec.unpack(second.params)["records"]] == ["c"]


def test_a_batch_without_confirmation_goes_to_the_next_hub(pair: Pair) -> None:
    pair.connect()
    pair.capture.feed("stdout", b"a\n", 0.0, 0)
    pair.at(1.0)
    assert len(pair.heard()) == 1
    pair.uplink.lost(0.0)
    pair.connect()
    pair.at(2.0)
    (again,) = pair.heard()
    assert codec.unpack(again.params)["records"][0]["sequence"] == 1


def test_a_batch_that_the_hub_refuses_is_not_sent_for_ever(pair: Pair) -> None:
    pair.connect()
    pair.capture.feed("stdout", b"a\n", 0.0, 0)
    pair.at(1.0)
    (batch,) = pair.heard()
    pair.say(pair.hub.fail(batch, PlatformError("invalid")))
    assert pair.capture.empty


def test_a_phase_during_the_greeting_is_not_lost(pair: Pair) -> None:
    hello = pair.connect(accept=False)
    pair.uplink.phase(Phase.AVAILABLE, "")
    assert pair.heard() == []
    pair.say(pair.hub.reply(hello, codec.pack({"version": 1, "node": "n1"})))
    (phase,) = pair.heard()
    assert codec.unpack(hello.params).get("phase", "initializing") == "initializing"
    assert codec.unpack(phase.params) == {"phase": "available"}


def test_notifications_without_a_hub_are_lost(pair: Pair) -> None:
    pair.uplink.notify("hub.unwatch", codec.pack({"watch": 1}))
    assert pair.uplink.outbox.bytes == 0


@pytest.mark.parametrize(
    ("params", "left_s"),
    [
        ({}, 30.0),
        ({"timeout": 5}, 5.0),
        ({"deadline": 107.5}, 7.5),
        ({"deadline": 90}, -10.0),
        ({"timeout": 1e12}, 3_600.0),
        ({"timeout": float("inf")}, 3_600.0),
        ({"other": [1, 2]}, 30.0),
    ],
)
def test_how_long_a_sender_waits(params: dict[str, Any], left_s: float) -> None:
    assert remaining_s(read_head(codec.pack(params)), 100.0, 30.0) == left_s


@pytest.mark.parametrize("timeout", ["soon", [1], float("nan")])
def test_a_timeout_that_is_none_is_invalid(timeout: Any) -> None:
    with pytest.raises(PlatformError, match="invalid"):
        remaining_s(read_head(codec.pack({"timeout": timeout})), 0.0, 30.0)
