"""The SDK's file against a harness that the test plays on the other end of a socket pair."""

from __future__ import annotations

import ast
import base64
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.sdk import paas_component as sdk
from paas.sdk.joined import source

TESTING = Path(__file__).parents[3] / "paas" / "sdk" / "paas_testing.py"
PATIENCE_S = 20.0


class PlayedHarness:
    """Speaks lines; keeps what it hears apart: answers by id, requests in order."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.settimeout(PATIENCE_S)
        self._buffer = b""
        self._last_id = 100
        self.kept: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self._socket.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._last_id += 1
        identity = self._last_id
        self.send(id=identity, method=method, params=params)
        return self._find(lambda m: "method" not in m and m["id"] == identity)

    def invoke(self, operation: str, inputs: Any = None, **more: Any) -> dict[str, Any]:
        return self.ask(
            "component.invoke", operation=operation, inputs=inputs, **{"from": "caller", **more}
        )

    def asked(self, method: str) -> dict[str, Any]:
        return self._find(lambda m: m.get("method") == method)

    def close(self) -> None:
        self._socket.close()

    def _find(self, wanted: Any) -> dict[str, Any]:
        while True:
            for message in self.kept:
                if wanted(message):
                    self.kept.remove(message)
                    return message
            data = self._socket.recv(65_536)
            assert data, "the component closed the channel"
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self.kept += [json.loads(line) for line in lines if line]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedHarness]:
    ours, theirs = socket.socketpair()
    monkeypatch.delenv("PAAS_SOCKET", raising=False)
    monkeypatch.setenv("PAAS_FD", str(theirs.detach()))
    monkeypatch.setenv("PAAS_COMPONENT_ID", "cd" * 20)
    played = PlayedHarness(ours)
    yield played
    played.close()


class Running:
    """A component whose `run` goes on in a thread."""

    def __init__(self, component: sdk.Component, harness: PlayedHarness) -> None:
        self.component = component
        self.thread = threading.Thread(target=component.run, daemon=True)
        self.thread.start()
        ready = harness.asked("component.ready")
        harness.send(id=1_000, method="component.configure", params={"configuration": {"a": 1}})
        harness.send(id=ready["id"], result={})

    def wait(self) -> None:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def make(**options: Any) -> sdk.Component:
    component = sdk.Component(**options)

    @component.operation("double")
    def double(inputs: Any, call: sdk.Call) -> Any:
        return {"value": inputs["value"] * 2, "sender": call.sender}

    @component.operation("fail")
    def fail(inputs: Any, call: sdk.Call) -> Any:
        raise ValueError("a secret path is not in here")

    @component.operation("refuse")
    def refuse(inputs: Any, call: sdk.Call) -> Any:
        raise sdk.ComponentError("refused", "not today", retry=5)

    return component


def test_operations_answer_with_their_outputs(harness: PlayedHarness) -> None:
    Running(make(), harness)
    answer = harness.invoke("double", {"value": 21})
    assert answer["result"] == {"outputs": {"value": 42, "sender": "caller"}}


def test_a_component_may_be_object_oriented(harness: PlayedHarness) -> None:
    component = make()

    @component.operation("get", object="cart")
    def get(inputs: Any, call: sdk.Call) -> Any:
        return call.object

    Running(component, harness)
    assert harness.invoke("get", object="cart")["result"] == {"outputs": "cart"}
    assert harness.invoke("get")["error"]["data"]["code"] == "no-such-operation"


def test_an_exception_is_failed_with_its_message_only(
    harness: PlayedHarness, capfd: pytest.CaptureFixture[str]
) -> None:
    Running(make(), harness)
    error = harness.invoke("fail")["error"]
    assert error["data"]["code"] == "failed"
    assert error["message"] == "ValueError: a secret path is not in here"
    assert "Traceback" not in json.dumps(error)
    assert "Traceback" in capfd.readouterr().err


def test_an_error_with_a_code_keeps_it(harness: PlayedHarness) -> None:
    Running(make(), harness)
    error = harness.invoke("refuse")["error"]
    assert error["message"] == "not today"
    assert error["data"] == {"code": "refused", "retry": 5}


def test_outputs_that_are_no_json_are_a_failure_not_silence(harness: PlayedHarness) -> None:
    component = make()
    component.operation("strange")(lambda inputs, call: {"object": object()})
    Running(component, harness)
    assert harness.invoke("strange")["error"]["data"]["code"] == "failed"


def test_an_unknown_operation_names_those_there_are(harness: PlayedHarness) -> None:
    Running(make(), harness)
    error = harness.invoke("dance")["error"]
    assert error["data"]["code"] == "no-such-operation"
    assert "double, fail, refuse" in error["message"]


def test_an_unknown_method_is_answered(harness: PlayedHarness) -> None:
    Running(make(), harness)
    assert harness.ask("component.dance")["error"]["code"] == -32601


def test_an_expired_call_is_not_run(harness: PlayedHarness) -> None:
    component = make()
    ran: list[float] = []
    component.operation("note")(lambda inputs, call: ran.append(call.remaining()))
    Running(component, harness)
    params = {"operation": "note", "inputs": {}, "deadline": time.time() - 1}
    harness.send(id=5, method="component.invoke", params=params)
    harness.invoke("note", deadline=time.time() + 60)
    assert len(ran) == 1
    assert ran[0] > 0


def test_a_cast_is_run_and_not_answered(harness: PlayedHarness) -> None:
    component = make()
    done = threading.Event()
    component.operation("note")(lambda inputs, call: done.set())
    Running(component, harness)
    harness.send(method="component.invoke", params={"operation": "note", "oneway": True})
    assert done.wait(PATIENCE_S)
    harness.invoke("double", {"value": 1})
    assert [m for m in harness.kept if "method" not in m and m["id"] != 1_000] == []


def test_an_operation_that_waits_does_not_keep_others_waiting(harness: PlayedHarness) -> None:
    component = make(workers=2)
    go = threading.Event()
    component.operation("wait")(lambda inputs, call: go.wait(PATIENCE_S))
    Running(component, harness)
    harness.send(id=7, method="component.invoke", params={"operation": "wait", "inputs": {}})
    assert "result" in harness.invoke("double", {"value": 1})
    go.set()
    assert harness._find(lambda m: m.get("id") == 7)["result"] == {"outputs": True}


def test_an_operation_may_call_another_component(harness: PlayedHarness) -> None:
    component = make()
    component.operation("ask")(
        lambda inputs, call: component.call("group:b", "get", {"k": 1}, timeout=5)
    )
    Running(component, harness)
    harness.send(id=8, method="component.invoke", params={"operation": "ask", "inputs": {}})
    asked = harness.asked("hub.call")
    wanted = {"target": "group:b", "operation": "get", "inputs": {"k": 1}, "timeout": 5}
    assert asked["params"] == wanted
    harness.send(id=asked["id"], result={"outputs": {"v": 2}, "component": "x"})
    assert harness._find(lambda m: m.get("id") == 8)["result"] == {"outputs": {"v": 2}}


def test_errors_of_others_are_raised_with_code_and_data(harness: PlayedHarness) -> None:
    component = make()
    Running(component, harness)
    caught: list[sdk.ComponentError] = []

    def call() -> None:
        try:
            component.call("nobody", "get")
        except sdk.ComponentError as exc:
            caught.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    asked = harness.asked("hub.call")
    error = {"code": -32000, "message": "no", "data": {"code": "no-such-target", "x": 1}}
    harness.send(id=asked["id"], error=error)
    thread.join(PATIENCE_S)
    assert (caught[0].code, caught[0].message, caught[0].data) == ("no-such-target", "no", {"x": 1})


def test_attachments_are_bytes_for_the_program_and_base64_on_the_wire(
    harness: PlayedHarness,
) -> None:
    component = make()

    @component.operation("reverse")
    def reverse(inputs: Any, call: sdk.Call) -> sdk.Result:
        data = call.attachments[0]["data"][::-1]
        return sdk.Result({}, [{"name": "r", "type": "t", "data": data}])

    Running(component, harness)
    sent = [{"name": "a", "type": "t", "data": base64.b64encode(b"abc").decode()}]
    answer = harness.invoke("reverse", attachments=sent)["result"]["attachments"]
    assert base64.b64decode(answer[0]["data"]) == b"cba"


def test_configuration_is_there_before_ready_and_changes_are_told(harness: PlayedHarness) -> None:
    component = make()
    changes: list[Any] = []
    told = threading.Event()

    @component.on_configure
    def changed(configuration: dict[str, Any]) -> None:
        changes.append(configuration)
        told.set()

    harness.send(id=1, method="component.configure", params={"configuration": {"a": 1}})
    assert component.configuration == {"a": 1}
    harness.send(id=2, method="component.configure", params={"configuration": {"a": 2}})
    assert told.wait(PATIENCE_S)
    assert changes == [{"a": 2}]
    assert component.configuration == {"a": 2}


def test_terminate_ends_run_unless_the_program_refuses(harness: PlayedHarness) -> None:
    component = make()
    refusals = [sdk.ComponentError("refused", "busy"), None, False]

    @component.on_terminate
    def terminate(reason: str, inputs: Any) -> Any:
        refusal = refusals.pop(0)
        if isinstance(refusal, Exception):
            raise refusal
        return refusal

    running = Running(component, harness)
    refused = harness.ask("component.terminate", reason="r")["result"]
    assert refused == {"accepted": False, "reason": "busy"}
    assert running.thread.is_alive()
    assert harness.ask("component.terminate")["result"]["accepted"] is True
    running.wait()


def test_stop_announces_and_ends(harness: PlayedHarness) -> None:
    component = make()
    running = Running(component, harness)
    component.stop("done")
    assert harness.asked("component.exit")["params"] == {"reason": "done"}
    running.wait()


def test_a_lost_harness_ends_everything_that_waits(harness: PlayedHarness) -> None:
    component = make()
    running = Running(component, harness)
    caught: list[str] = []

    def call() -> None:
        try:
            component.call("x", "y")
        except sdk.ComponentError as exc:
            caught.append(exc.code)

    thread = threading.Thread(target=call)
    thread.start()
    harness.asked("hub.call")
    harness.close()
    running.wait()
    thread.join(PATIENCE_S)
    assert caught == ["unknown-outcome"]


def test_events_come_in_order_even_if_they_are_faster_than_the_answer(
    harness: PlayedHarness,
) -> None:
    component = make()
    Running(component, harness)
    events: list[int] = []
    done = threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        events.append(event["index"])
        if len(events) == 50:
            done.set()

    def watch() -> None:
        assert component.watch(on_event, group="g")["snapshot"] == []

    thread = threading.Thread(target=watch)
    thread.start()
    asked = harness.asked("hub.watch")
    for index in range(25):
        harness.send(method="component.event", params={"watch": 4, "index": index, "event": "x"})
    harness.send(id=asked["id"], result={"watch": 4, "snapshot": [], "index": 0})
    for index in range(25, 50):
        harness.send(method="component.event", params={"watch": 4, "index": index, "event": "x"})
    thread.join(PATIENCE_S)
    assert done.wait(PATIENCE_S)
    assert events == list(range(50))


def test_everything_else_of_the_api_is_one_call_away(harness: PlayedHarness) -> None:
    component = make()
    Running(component, harness)
    component.log("hello", "warning", size=3)
    wanted = {"message": "hello", "level": "warning", "fields": {"size": 3}}
    assert harness.asked("log.write")["params"] == wanted
    calls = [
        (lambda: component.join("a", "b", unique=True), "hub.join", {"token": {}}),
        (lambda: component.leave("a"), "hub.leave", {}),
        (lambda: component.members("a"), "hub.members", {"members": []}),
        (lambda: component.cast("x", "y"), "hub.cast", {"accepted": 1}),
        (lambda: component.unavailable("busy"), "component.unavailable", {}),
        (lambda: component.available(), "component.available", {}),
        (lambda: component.monitor("c", lambda e: None), "controller.monitor", {"watch": 9}),
        (lambda: component.unwatch(9), "hub.unwatch", {}),
    ]
    for call, method, result in calls:
        thread = threading.Thread(target=call)
        thread.start()
        harness.send(id=harness.asked(method)["id"], result=result)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_large_message_arrives_whole(harness: PlayedHarness) -> None:
    component = make()
    component.operation("size")(lambda inputs, call: len(inputs["x"]))
    Running(component, harness)
    assert harness.invoke("size", {"x": "y" * 1_000_000})["result"] == {"outputs": 1_000_000}


def test_an_answer_that_is_too_long_is_an_error_and_the_component_goes_on(
    harness: PlayedHarness,
) -> None:
    component = make()
    component.operation("long")(lambda inputs, call: "x" * (5 << 20))
    Running(component, harness)
    assert harness.invoke("long")["error"]["data"]["code"] == "limit-exceeded"
    assert harness.invoke("double", {"value": 1})["result"]["outputs"]["value"] == 2


def test_outside_of_the_platform_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAAS_SOCKET", raising=False)
    monkeypatch.delenv("PAAS_FD", raising=False)
    with pytest.raises(sdk.ComponentError, match="runs as a component only"):
        make().connect()


def test_it_needs_nothing_but_the_standard_library_of_3_9() -> None:
    text = source()
    later = text.partition("_LATER = r'''")[2].rpartition("'''")[0]
    assert "class TrioComponent" in later
    for chapters in (text, later, TESTING.read_text()):
        _check_for_3_9(ast.parse(chapters, feature_version=(3, 9)))


def _check_for_3_9(tree: ast.Module) -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
