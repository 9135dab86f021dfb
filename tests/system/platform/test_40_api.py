"""Bad input on the operators' socket: each gets a clear error, and the connection goes on."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

IDLE_CONNECTIONS = 10_000


class Lines:
    """JSON lines by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def send(self, value: Any) -> None:
        self.sock.sendall(value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n")

    def receive(self) -> Any:
        while b"\n" not in self._rest:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def ask(self, value: Any) -> Any:
        self.send(value)
        return self.receive()

    def works(self) -> bool:
        answer = self.ask(request("cluster.status", id="check"))
        return bool(answer["id"] == "check" and "result" in answer)


def request(method: str, params: Any = None, /, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}, **more}


@pytest.fixture
def lines(platform: Any) -> Iterator[Lines]:
    with platform.raw() as sock:
        yield Lines(sock)


def code(answer: Any) -> str:
    found: str = answer["error"]["data"]["code"]
    return found


MALFORMED = {
    "not JSON": b"{this is not json\n",
    "half an object": b'{"jsonrpc": "2.0", "id": 1, "method"\n',
    "not UTF-8": b'{"method": "\xff\xfe"}\n',
    "not a number": b'{"id": NaN, "method": "x"}\n',
    "too deep": b'{"id": 1, "method": "x", "params": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}\n",
}

NO_REQUEST = {
    "no method": {"jsonrpc": "2.0", "id": 7},
    "a method that is no string": request("x", method=5),
    "an id that is a list": request("x", id=[1]),
    "another version": request("x", jsonrpc="1.0"),
    "an empty batch": [],
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_is_a_parse_error(lines: Lines, case: str) -> None:
    lines.send(b"{}\n")
    lines.receive()
    answer = lines.ask(MALFORMED[case])
    assert answer["error"]["code"] == -32700
    assert answer["id"] is None
    assert answer["error"]["data"]["hint"]
    assert lines.works()


@pytest.mark.parametrize("case", NO_REQUEST)
def test_what_is_no_request_is_said_to_be_none(lines: Lines, case: str) -> None:
    answer = lines.ask(NO_REQUEST[case])
    assert answer["error"]["code"] == -32600, answer
    assert lines.works()


def test_an_unknown_method_is_named(lines: Lines) -> None:
    answer = lines.ask(request("controller.creat"))
    assert (answer["id"], answer["error"]["code"]) == (7, -32601)
    assert "controller.creat" in answer["error"]["message"]
    assert lines.works()


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("controller.create", {}, "type"),
        ("controller.create", {"type": 5}, "type"),
        ("controller.create", {"type": "probe", "count": "many"}, "count"),
        ("controller.create", {"type": "probe", "count": 0}, "count"),
        ("controller.create", {"type": "probe", "count": 10**9}, "count"),
        ("controller.create", {"type": "probe", "name": "Not A Name"}, "name"),
        ("controller.create", {"type": "probe", "groups": ["a:b"]}, "groups"),
        ("controller.create", {"type": "probe", "restart": "sometimes"}, "restart"),
        ("controller.destroy", {"component": "probe", "grace": -1}, "grace"),
        ("controller.components", {"filter": {"colour": "red"}}, "filter"),
        ("hub.call", {"target": "x"}, "operation"),
        ("hub.call", {"target": "x", "operation": "y", "selector": "best"}, "selector"),
        ("hub.call", {"target": "x", "operation": "y", "timeout": "soon"}, "timeout"),
        ("hub.await", {}, "group"),
        ("log.query", {"limit": -1}, "limit"),
        ("bundle.append", {"upload": 1, "offset": 0, "data": "not base64!"}, "data"),
    ],
)
def test_wrong_params_name_the_field(
    platform: Any, lines: Lines, method: str, params: dict[str, Any], field: str
) -> None:
    if method == "controller.destroy":
        platform.create("probe", name="probe")
    answer = lines.ask(request(method, params))
    assert code(answer) == "invalid"
    assert field in answer["error"]["message"]
    assert answer["error"]["code"] in (-32602, -32000)
    assert lines.works()


def test_params_by_position_and_unknown_fields_are_taken(lines: Lines) -> None:
    answer = lines.ask(request("hub.groups", ["any-prefix"]))
    assert answer["result"] == {"groups": {}}
    answer = lines.ask(request("hub.groups", {"prefix": "x", "of-a-later-version": 1}))
    assert answer["result"] == {"groups": {}}


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("hub.call", {"target": "nobody", "operation": "x"}, "no-such-target"),
        ("hub.call", {"target": "0" * 40, "operation": "x"}, "no-such-target"),
        ("hub.call", {"target": "group:none", "operation": "x"}, "no-such-target"),
        ("hub.cast", {"target": "nobody", "operation": "x"}, "no-such-target"),
        ("controller.component", {"component": "nobody"}, "no-such-target"),
        ("controller.destroy", {"component": "nobody"}, "no-such-target"),
        ("controller.create", {"type": "nothing"}, "no-such-type"),
        ("controller.type", {"type": "nothing"}, "no-such-type"),
        ("bundle.remove", {"digest": "sha256:" + "0" * 64}, "no-such-bundle"),
        ("hub.unwatch", {"watch": 99}, "no-such-target"),
        ("hub.join", {"groups": ["x"]}, "denied"),
        ("resource.resolve", {"name": "x"}, "denied"),
        ("harness.hello", {"component": "0" * 40, "incarnation": 1}, "denied"),
    ],
)
def test_an_unknown_target_and_a_forbidden_method_are_typed(
    lines: Lines, method: str, params: dict[str, Any], expected: str
) -> None:
    answer = lines.ask(request(method, params))
    assert code(answer) == expected, answer
    assert answer["error"]["message"]
    assert lines.works()


def test_what_has_expired_is_not_done(platform: Any, lines: Lines) -> None:
    component = platform.create("probe")
    inputs = {"target": component, "operation": "note", "inputs": {"late": True}}
    answer = lines.ask(request("hub.call", {**inputs, "deadline": time.time() - 5}))
    assert code(answer) == "timeout"
    answer = lines.ask(request("hub.call", {**inputs, "timeout": 0}))
    assert code(answer) in ("timeout", "invalid")
    answer = lines.ask(request("controller.create", {"type": "probe", "deadline": 1.0}))
    assert code(answer) == "timeout"
    assert platform.call(component, "notes") == []
    assert len(platform.components()) == 1


def test_a_batch_is_answered_as_one(platform: Any, lines: Lines) -> None:
    answers = lines.ask(
        [
            request("cluster.status", id=1),
            {"jsonrpc": "2.0", "method": "hub.groups"},
            request("no.such", id=2),
            5,
            request("hub.groups", id="three"),
        ]
    )
    found = {answer["id"]: answer for answer in answers}
    assert set(found) == {1, 2, "three", None}
    assert found[1]["result"]["cluster"]
    assert found[2]["error"]["code"] == -32601
    assert found[None]["error"]["code"] == -32600
    answer = lines.ask([request("hub.groups", id=n) for n in range(1_001)])
    assert code(answer) == "limit-exceeded"


def test_a_notification_is_done_and_not_answered(
    platform: Any, lines: Lines, wait_until: Any
) -> None:
    component = platform.create("probe")
    params = {"target": component, "operation": "note", "inputs": {"n": 1}}
    lines.send({"jsonrpc": "2.0", "method": "hub.cast", "params": params})
    lines.send([{"jsonrpc": "2.0", "method": "hub.cast", "params": params}])
    lines.send({"jsonrpc": "2.0", "method": "no.such.method"})
    assert lines.works(), "the next thing that comes is the answer to the next request"
    wait_until(lambda: len(platform.call(component, "notes")) == 2)


def test_an_oversized_line_ends_this_connection_with_a_word(platform: Any, lines: Lines) -> None:
    with platform.raw() as other:
        piece = b"x" * (1 << 20)
        try:
            other.sendall(b'{"jsonrpc":"2.0","id":1,"method":"')
            for _ in range(6):
                other.sendall(piece)
        except OSError:
            assert lines.works()
        said = _rest(other)
    assert b"limit" in said or b"large" in said or b"frame" in said, said
    assert lines.works()


def test_an_oversized_frame_ends_this_connection_only(platform: Any, lines: Lines) -> None:
    with platform.raw() as other:
        other.sendall(struct.pack(">I", (4 << 20) + 1) + b"x" * 100)
        _rest(other)
    assert lines.works()


def test_half_a_request_disturbs_nobody(platform: Any, lines: Lines) -> None:
    with platform.raw() as json_half, platform.raw() as packed_half:
        json_half.sendall(b'{"jsonrpc": "2.0", "id": 1, "meth')
        packed_half.sendall(struct.pack(">I", 1000) + b"\x83")
        assert lines.works()
        json_half.sendall(b'od": "cluster.status"}\n')
        assert Lines(json_half).receive()["result"]["cluster"]
    assert lines.works()


def test_more_requests_than_allowed_are_refused_and_the_others_answered(
    platform: Any, lines: Lines
) -> None:
    params = {"group": "nobody-ever-joins", "timeout": 3}
    count = 1_050
    for number in range(count):
        lines.send(request("hub.await", params, id=number))
    answers = [lines.receive() for _ in range(count)]
    codes = [code(answer) for answer in answers]
    assert codes.count("limit-exceeded") == count - 1_000
    assert codes.count("timeout") == 1_000
    assert lines.works()


def test_more_watches_than_allowed_are_refused(lines: Lines) -> None:
    for number in range(1_001):
        answer = lines.ask(request("hub.watch", {"group": f"g{number}"}))
    assert code(answer) == "limit-exceeded"
    assert lines.works()


def test_inputs_as_large_as_a_frame_go_through_and_larger_ones_do_not(platform: Any) -> None:
    component = platform.create("probe")
    text = "y" * (3 << 20)
    assert platform.call(component, "echo", text=text)["inputs"]["text"] == text
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "echo", text="y" * (5 << 20))
    assert caught.value.code == "limit-exceeded"


def test_ten_thousand_idle_connections_cost_nobody_a_call(platform: Any) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE_CONNECTIONS, hard - 1_000)
    component = platform.create("probe")
    idle: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            idle.append(sock)
            sock.connect(str(platform.runtime / "api.sock"))
        assert platform.call(component, "echo")["from"] == component
        late = platform.connect()
        params = {"target": component, "operation": "echo"}
        begun_s = time.monotonic()
        for _ in range(50):
            late.call("hub.call", params, timeout_s=30)
        took_ms = (time.monotonic() - begun_s) * 1e3 / 50
        late.close()
        print(f"a call beside {count} idle connections: {took_ms:.2f} ms")  # noqa: T201
        assert platform.run("call", component, "echo").json["from"] == component
        idle[-1].settimeout(30)
        assert Lines(idle[-1]).works(), "the last of them is served, too"
    finally:
        for sock in idle:
            sock.close()
    assert platform.call(component, "echo")["from"] == component


def test_who_does_not_read_his_answers_is_not_waited_for(platform: Any, lines: Lines) -> None:
    """Long answers to one who never reads: the hub's memory is bounded, others are served."""
    hub = platform.agent("hub")
    before = resident_bytes(hub)
    asked = 0
    with platform.raw() as deaf:
        deaf.settimeout(2.0)
        with contextlib.suppress(OSError):
            for number in range(5_000):
                deaf.sendall(json.dumps(request("rpc.discover", id=number)).encode() + b"\n")
                asked += 1
        assert lines.works()
        grown = resident_bytes(hub) - before
    assert asked > 100
    print(f"{asked} requests of one who does not read: {grown >> 20} MiB more")  # noqa: T201
    assert grown < 128 << 20
    assert lines.works()


def test_a_user_who_is_no_operator_is_refused(platform: Any, as_nobody: Any) -> None:
    done = as_nobody(platform.environment(), "-m", "paas.cli", "status")
    assert done.status == 4, done
    assert "65534 is no operator" in done.err


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _rest(sock: socket.socket) -> bytes:
    """What is said until the connection is closed."""
    said = b""
    try:
        while data := sock.recv(1 << 16):
            said += data
    except ConnectionResetError:
        return said
    return said
