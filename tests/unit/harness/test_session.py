"""The decisions of a harness, without a process, a socket or a clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError, RemoteError
from paas.harness import limits
from paas.harness.channel import Channel
from paas.harness.lifecycle import Phase
from paas.harness.messages import Records
from paas.harness.session import AskToEnd, Ending, KillAll, Session
from paas.harness.settings import Handoff
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec
from paas.wire.registry import decode

WALL_S = 1_700_000_000.0


def handoff(**more: Any) -> Handoff:
    settings: dict[str, Any] = {
        "component": "ab" * 20,
        "command": ("true",),
        "environment": {},
        "cwd": "/",
        "protocol": "json",
        "configuration": None,
        "endpoints": {},
        "hub_directory_fd": -1,
        "exit_file_fd": -1,
        "cgroup_fds": (),
        "component_uid": 0,
        "component_gid": 0,
        "seccomp_program": b"",
        "ready_timeout_s": 10.0,
    }
    return Handoff(**{**settings, **more})


class Stage:
    """A session between a played hub and a played component."""

    def __init__(self, **more: Any) -> None:
        self.session = Session(handoff(**more))
        self.session.at(0.0, WALL_S)
        self.hub = Connection(Form.COMPACT)
        self.phases: list[tuple[str, str]] = []
        self.requests: list[Request] = []
        self.messages: list[dict[str, Any]] = []
        self.channel = self.open()
        self.connect()

    def open(self) -> Channel:
        channel = self.session.channel_opened()
        assert channel is not None
        return channel

    def connect(self) -> None:
        self.hub = Connection(Form.COMPACT)
        self.session.uplink.connected()
        self.listen()
        (hello,) = [r for r in self.requests if r.method == "harness.hello"]
        self.requests.remove(hello)
        self.say(self.hub.reply(hello, codec.pack({"version": 1, "node": "n"})))

    def say(self, data: bytes) -> None:
        self.session.receive_hub(data)
        self.listen()

    def listen(self) -> None:
        """Take what the session said to the hub."""
        for request in self.hub.receive(self.session.uplink.outbox.take()):
            if request.method == "harness.phase":
                change = codec.unpack(request.params)
                self.phases.append((change["phase"], change.get("reason", "")))
            else:
                self.requests.append(request)

    def ask(self, method: str, **params: Any) -> list[Any]:
        answers: list[Any] = []

        def answer(value: bytes | PlatformError) -> None:
            answers.append(value.code if isinstance(value, PlatformError) else codec.unpack(value))

        self.say(self.hub.request(method, codec.pack(params), answer, 1e9)[1])
        return answers

    def speak(self, *messages: Any, channel: Channel | None = None) -> list[Any]:
        """The component says these; what it hears, without the harness's requests."""
        channel = channel or self.channel
        data = b"".join(codec.to_json({"jsonrpc": "2.0", **m}) + b"\n" for m in messages)
        self.session.receive_component(channel, data)
        self.listen()
        return self.hear(channel)

    def hear(self, channel: Channel | None = None) -> list[Any]:
        lines = (channel or self.channel).outbox.take().splitlines()
        heard = [codec.from_json(line) for line in lines]
        self.messages += [m for m in heard if "method" in m]
        return [m for m in heard if "method" not in m]

    def asked(self, method: str) -> dict[str, Any]:
        self.hear()
        found = next(m for m in self.messages if m["method"] == method)
        self.messages.remove(found)
        return found

    def ready(self) -> None:
        self.session.started()
        self.speak({"id": 1, "method": "component.ready"})
        self.speak({"id": self.asked("component.configure")["id"], "result": {}})

    def at(self, now_s: float) -> None:
        self.session.at(now_s, WALL_S + now_s)
        self.session.tick()
        self.listen()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_ready_once_and_again_is_harmless(stage: Stage) -> None:
    stage.ready()
    stage.speak({"id": 2, "method": "component.ready"})
    assert stage.phases == [("available", "")]


def test_a_program_without_a_protocol_is_ready_when_it_runs() -> None:
    stage = Stage(protocol="none")
    stage.session.started()
    stage.listen()
    assert stage.phases == [("available", "")]
    assert stage.session.next_deadline_s() is None


def test_not_ready_in_time_is_the_end(stage: Stage) -> None:
    stage.session.started()
    stage.at(9.9)
    assert stage.session.take_effects() == []
    stage.at(10.0)
    assert stage.session.take_effects() == [KillAll()]
    stage.session.ended(None, 9, "SIGKILL")
    assert stage.session.ending == Ending(None, 9, "not-ready")


def test_ready_ends_the_wait_for_it(stage: Stage) -> None:
    stage.ready()
    stage.at(1_000.0)
    assert stage.session.phase is Phase.AVAILABLE
    assert stage.session.take_effects() == []


@pytest.mark.parametrize(
    ("code", "number", "name", "reason"),
    [
        (0, None, "", "normal"),
        (3, None, "", "exit:3"),
        (None, 11, "SIGSEGV", "signal:SIGSEGV"),
        (None, 60, "60", "signal:60"),
    ],
)
def test_reasons_of_an_end_that_nobody_asked_for(
    stage: Stage, code: int | None, number: int | None, name: str, reason: str
) -> None:
    stage.ready()
    stage.session.ended(code, number, name)
    stage.listen()
    assert stage.session.ending == Ending(code, number, reason)
    assert stage.phases[-1] == ("exited", reason)


def test_invocations_wait_for_nobody_who_is_not_available(stage: Stage) -> None:
    assert stage.ask("component.invoke", operation="o") == ["not-available"]
    stage.ready()
    stage.session.stop(5.0, "destroyed")
    assert stage.ask("component.invoke", operation="o") == ["not-available"]


def test_a_deadline_reaches_the_component_and_is_kept_for_it(stage: Stage) -> None:
    stage.ready()
    answers = stage.ask("component.invoke", operation="o", deadline=WALL_S + 2)
    assert stage.asked("component.invoke")["params"]["deadline"] == WALL_S + 2
    stage.at(1.9)
    assert answers == []
    stage.at(2.0)
    assert answers == ["timeout"]


def test_a_call_beyond_the_limit_is_refused(stage: Stage) -> None:
    stage.ready()
    for _ in range(limits.REQUESTS_MAX):
        assert stage.ask("component.invoke", operation="o") == []
        stage.hear()
    stage.hub.outstanding = 0
    assert stage.ask("component.invoke", operation="o") == ["limit-exceeded"]


def test_inputs_that_grow_beyond_a_frame_in_json_are_refused(stage: Stage) -> None:
    stage.ready()
    answers = stage.ask("component.invoke", operation="o", inputs={"x": b"\0" * (3_300_000)})
    assert answers == ["limit-exceeded"]
    assert stage.channel.waiting == 0


def test_inputs_that_json_cannot_say_are_invalid(stage: Stage) -> None:
    stage.ready()
    answers: list[Any] = []
    params = b"\x82\xa9operation\xa1o\xa6inputs\xd4\x05\x00"  # an extension type
    data = stage.hub.request("component.invoke", params, answers.append, 1e9)[1]
    stage.say(data)
    assert [a.code for a in answers] == ["invalid"]


def test_a_result_that_outgrows_a_frame_is_limit_exceeded(stage: Stage) -> None:
    stage.ready()
    answers = stage.ask("component.invoke", operation="o")
    identity = stage.asked("component.invoke")["id"]
    stage.speak({"id": identity, "result": {"outputs": [0.5] * 600_000}})
    assert answers == ["limit-exceeded"]


def test_params_that_outgrow_a_frame_are_limit_exceeded(stage: Stage) -> None:
    (answer,) = [
        a
        for a in stage.speak({"id": 9, "method": "hub.call", "params": {"x": [0.5] * 600_000}})
        if a["id"] == 9
    ]
    assert answer["error"]["data"]["code"] == "limit-exceeded"


def test_only_listed_names_are_relayed(stage: Stage) -> None:
    for method in ("hub.x", "controller.x", "log.x", "resource.x", "metrics.x", "credentials.x"):
        stage.speak({"id": 5, "method": method})
    stage.speak({"id": 6, "method": "rpc.discover"})
    assert len(stage.requests) == 7
    for method in ("harness.hello", "cluster.status", "hubris", "", "component.invoke"):
        answers = stage.speak({"id": 7, "method": method})
        assert [a["error"]["code"] for a in answers if a["id"] == 7] == [-32601]
    assert len(stage.requests) == 7


def test_the_component_cannot_be_harmed_by_unknown_requests_of_the_hub(stage: Stage) -> None:
    assert stage.ask("harness.dance") == ["no-such-method"]


def test_terminate_before_ready_is_a_signal(stage: Stage) -> None:
    stage.session.started()
    assert stage.ask("component.terminate") == [{"accepted": True, "reason": ""}]
    assert stage.session.take_effects() == [AskToEnd()]
    stage.session.ended(None, 15, "SIGTERM")
    assert stage.session.ending == Ending(None, 15, "normal")


def test_an_accepted_terminate_is_helped_by_a_signal_then_by_force(stage: Stage) -> None:
    stage.ready()
    answers = stage.ask("component.terminate")
    stage.speak({"id": stage.asked("component.terminate")["id"], "result": {"accepted": True}})
    assert answers == [{"accepted": True, "reason": ""}]
    assert stage.phases[-1] == ("stopping", "asked to end")
    assert stage.session.take_effects() == []
    stage.at(limits.TERMINATE_ACCEPTED_S)
    assert stage.session.take_effects() == [AskToEnd()]
    stage.at(limits.TERMINATE_ACCEPTED_S + limits.TERMINATE_GRACE_S)
    assert stage.session.take_effects() == [KillAll()]


def test_a_refused_terminate_changes_nothing(stage: Stage) -> None:
    stage.ready()
    answers = stage.ask("component.terminate")
    result = {"accepted": False, "reason": "busy"}
    stage.speak({"id": stage.asked("component.terminate")["id"], "result": result})
    assert answers == [result]
    assert stage.session.phase is Phase.AVAILABLE
    stage.at(1_000.0)
    assert stage.session.take_effects() == []


def test_stop_of_a_leaving_component_keeps_its_reason_but_not_its_time(stage: Stage) -> None:
    stage.ready()
    stage.speak({"method": "component.exit", "params": {"reason": "done"}})
    stage.session.stop(1.0, "destroyed")
    assert stage.session.take_effects() == [AskToEnd()]
    stage.at(1.0)
    assert stage.session.take_effects() == [KillAll()]


def test_a_later_stop_with_a_longer_grace_does_not_prolong(stage: Stage) -> None:
    stage.ready()
    stage.session.stop(1.0, "destroyed")
    stage.session.stop(100.0, "destroyed")
    assert stage.session.take_effects() == [AskToEnd()]
    stage.at(1.0)
    assert stage.session.take_effects() == [KillAll()]


def test_new_configuration_reaches_the_component(stage: Stage) -> None:
    assert stage.ask("component.configure", configuration={"a": 1}) == ["not-available"]
    stage.ready()
    answers = stage.ask("component.configure", configuration={"a": 2})
    asked = stage.asked("component.configure")
    assert asked["params"]["configuration"] == {"a": 2}
    stage.speak({"id": asked["id"], "result": {}})
    assert answers == [{}]


def test_a_connection_that_closes_is_given_a_moment(stage: Stage) -> None:
    stage.ready()
    stage.session.channel_closed(stage.channel)
    assert stage.ask("component.invoke", operation="o") == ["not-available"]
    assert stage.phases == [("available", "")]
    stage.at(limits.PRIMARY_GONE_S)
    assert stage.phases[-1] == ("unavailable", "the component closed its connection")


def test_a_component_that_ends_is_not_unavailable_in_between(stage: Stage) -> None:
    stage.ready()
    stage.session.channel_closed(stage.channel)
    stage.session.ended(0)
    stage.at(limits.PRIMARY_GONE_S)
    assert [p for p, _ in stage.phases] == ["available", "exited"]


def test_too_many_connections_are_refused(stage: Stage) -> None:
    for _ in range(limits.CHANNELS_MAX - 1):
        stage.open()
    assert stage.session.channel_opened() is None


def test_requests_are_limited_over_all_connections(stage: Stage) -> None:
    other = stage.open()
    half = limits.REQUESTS_MAX // 2
    many = [{"id": n, "method": "hub.groups"} for n in range(half + 1)]
    assert stage.speak(*many) == []
    heard = stage.speak(*many, channel=other)
    assert [a["error"]["data"]["code"] for a in heard] == ["limit-exceeded"] * 2


def test_an_oversized_frame_leaves_last_words_and_a_record(stage: Stage) -> None:
    channel = stage.open()
    with pytest.raises(RemoteError) as caught:
        stage.session.receive_component(channel, b"\xff\xff\xff\xff")
    assert b"limit" in stage.session.last_words(channel, caught.value)
    batch = stage.session.capture.batch()
    assert batch is not None
    assert "closed a connection" in decode(batch, Records).records[0].message


def test_watch_limit_and_unknown_watch(stage: Stage) -> None:
    (answer,) = [
        a
        for a in stage.speak({"id": 3, "method": "hub.unwatch", "params": {"watch": 99}})
        if a["id"] == 3
    ]
    assert answer["error"]["data"]["field"] == "watch"
    for number in range(limits.COMPONENT_WATCHES_MAX + 1):
        heard = stage.speak({"id": number, "method": "hub.watch", "params": {"group": "g"}})
        if number < limits.COMPONENT_WATCHES_MAX:
            request = stage.requests.pop()
            result = codec.pack({"watch": 5_000 + number, "snapshot": [], "index": 1})
            stage.say(stage.hub.reply(request, result))
            stage.hear()
    assert heard[0]["error"]["data"]["code"] == "limit-exceeded"


def test_a_watch_whose_first_answer_is_lost_is_not_opened_behind_its_back(stage: Stage) -> None:
    stage.speak({"id": 3, "method": "hub.watch", "params": {"group": "g"}})
    stage.requests.clear()
    stage.session.hub_lost(0.5)
    (answer,) = [a for a in stage.hear() if a["id"] == 3]
    assert answer["error"]["data"]["code"] == "unknown-outcome"
    stage.connect()
    assert stage.requests == []


def test_a_watch_asked_for_without_a_hub_is_opened_once(stage: Stage) -> None:
    stage.session.hub_lost(0.5)
    stage.speak({"id": 3, "method": "hub.watch", "params": {"group": "g"}})
    stage.connect()
    assert [r.method for r in stage.requests] == ["hub.watch"]


def test_a_monitor_ends_with_its_one_event(stage: Stage) -> None:
    stage.speak({"id": 3, "method": "controller.monitor", "params": {"component": "c"}})
    stage.say(stage.hub.reply(stage.requests.pop(), codec.pack({"watch": 8})))
    down = codec.pack({"watch": 8, "index": 1, "event": "down", "reason": "normal"})
    stage.say(stage.hub.notify("component.event", down))
    assert stage.asked("component.event")["params"]["event"] == "down"
    stage.session.hub_lost(0.5)
    stage.connect()
    assert stage.requests == []


def test_the_watches_of_a_closed_connection_end(stage: Stage) -> None:
    stage.speak({"id": 3, "method": "hub.watch", "params": {"group": "g"}})
    stage.say(stage.hub.reply(stage.requests.pop(), codec.pack({"watch": 8})))
    stage.session.channel_closed(stage.channel)
    stage.listen()
    (unwatch,) = stage.requests
    assert codec.unpack(unwatch.params) == {"watch": 8}


def test_events_for_a_component_that_does_not_read_are_dropped_and_counted(stage: Stage) -> None:
    stage.speak({"id": 3, "method": "hub.watch", "params": {"group": "g"}})
    stage.say(stage.hub.reply(stage.requests.pop(), codec.pack({"watch": 8})))
    event = codec.pack({"watch": 8, "index": 1, "event": "x", "data": "y" * (1 << 20)})
    for _ in range(20):
        stage.say(stage.hub.notify("component.event", event))
    assert stage.channel.dropped_events > 0
    stage.at(0.1)
    batch = stage.session.capture.batch()
    assert batch is not None
    assert decode(batch, Records).records[0].fields["missed"] == stage.channel.dropped_events
    assert stage.channel.outbox.bytes < limits.CHANNEL_OUTBOX_BYTES_MAX + (2 << 20)


def test_a_log_record_of_the_component_needs_a_level_that_exists(stage: Stage) -> None:
    params = {"message": "m", "level": "loud"}
    (answer,) = [
        a for a in stage.speak({"id": 3, "method": "log.write", "params": params}) if a["id"] == 3
    ]
    assert answer["error"]["data"]["field"] == "level"


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_no_bytes_of_a_component_break_the_harness(pieces: list[bytes], json: bool) -> None:
    stage = Stage()
    stage.session.started()
    first = b"{" if json else b"\x00"
    try:
        for piece in [first, *pieces]:
            stage.session.receive_component(stage.channel, piece)
    except RemoteError as exc:
        stage.session.last_words(stage.channel, exc)
        stage.session.channel_closed(stage.channel)
    stage.listen()
    stage.channel = stage.open()
    stage.ready()
    assert stage.session.phase is Phase.AVAILABLE


@given(
    st.lists(
        st.sampled_from(
            [
                "ready",
                "unavailable",
                "available",
                "exit",
                "stop",
                "invoke",
                "terminate",
                "close",
                "open",
                "lose",
                "connect",
                "later",
            ]
        ),
        max_size=25,
    )
)
def test_in_whatever_order_things_happen_everybody_is_answered(steps: list[str]) -> None:
    """No step may raise; in the end every call of the hub has exactly one answer."""
    stage = Stage()
    stage.session.started()
    answers: list[list[Any]] = []
    now_s, connected = 0.0, True
    for step in steps:
        if step in ("ready", "unavailable", "available", "exit"):
            if not stage.channel.closed:
                stage.speak({"id": 1, "method": f"component.{step}"})
        elif step == "stop":
            stage.session.stop(1.0, "destroyed")
        elif step in ("invoke", "terminate") and connected:
            answers.append(stage.ask(f"component.{step}", operation="o"))
        elif step == "close" and not stage.channel.closed:
            stage.session.channel_closed(stage.channel)
        elif step == "open" and stage.channel.closed:
            stage.channel = stage.open()
        elif step == "lose" and connected:
            stage.session.hub_lost(0.5)
            stage.hub.end(PlatformError("unknown-outcome"))
            connected = False
        elif step == "connect" and not connected:
            stage.connect()
            connected = True
        elif step == "later":
            now_s += 7.0
            stage.at(now_s)
    stage.session.ended(0)
    if connected:
        stage.listen()
        stage.say(stage.hub.take_outbox())
    assert all(len(a) == 1 for a in answers)
    assert stage.session.phase is Phase.EXITED
