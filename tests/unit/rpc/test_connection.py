"""The connection core: two of them back to back, whole and byte by byte; JSON-RPC 2.0 §4-§7."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError, RemoteError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec
from paas.wire.frame import frame

FORMS = [Form.JSON, Form.MSGPACK, Form.COMPACT]


def talk(server: Connection, *values: object) -> tuple[list[Request], list[object]]:
    """Send JSON lines to a server; its requests, and what it answers by itself."""
    data = b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values)
    requests = server.receive(data)
    return requests, [json.loads(line) for line in server.take_outbox().splitlines()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_call_and_answer(form: Form, size: int) -> None:
    client, server = Connection(form), Connection(form if form is Form.COMPACT else None)
    answers: list[object] = []
    _, data = client.request("t.echo", codec.pack({"a": [1, "x"]}), answers.append, 10.0)
    requests = [r for i in range(0, len(data), size) for r in server.receive(data[i : i + size])]
    assert [r.method for r in requests] == ["t.echo"]
    assert codec.unpack(requests[0].params) == {"a": [1, "x"]}
    back = server.reply(requests[0], codec.pack({"ok": True}))
    for i in range(0, len(back), size):
        client.receive(back[i : i + size])
    assert [codec.unpack(a) for a in answers if isinstance(a, bytes)] == [{"ok": True}]
    assert client.waiting == 0
    assert server.outstanding == 0


@pytest.mark.parametrize("form", FORMS)
def test_an_error_keeps_code_message_hint_and_data(form: Form) -> None:
    client, server = Connection(form), Connection(form)
    answers: list[bytes | PlatformError] = []
    _, data = client.request("t.fail", codec.pack({}), answers.append, 10.0)
    (request,) = server.receive(data)
    client.receive(server.fail(request, PlatformError("conflict", "no", hint="do", holder="x")))
    (error,) = answers
    assert isinstance(error, PlatformError)
    assert (error.code, error.message, error.hint) == ("conflict", "no", "do")
    assert error.data == {"holder": "x"}


@pytest.mark.parametrize("form", FORMS)
def test_the_second_answer_is_dropped(form: Form) -> None:
    client, server = Connection(form), Connection(form)
    answers: list[object] = []
    _, data = client.request("t.echo", codec.pack({}), answers.append, 10.0)
    (request,) = server.receive(data)
    reply = server.reply(request, codec.pack({}))
    assert server.reply(request, codec.pack({})) == b""
    client.receive(reply)
    client.receive(reply)
    assert len(answers) == 1
    assert client.dropped_answers == 1


def test_a_late_answer_is_dropped_after_timeout() -> None:
    client, server = Connection(Form.COMPACT), Connection(Form.COMPACT)
    answers: list[bytes | PlatformError] = []
    _, data = client.request("t.echo", codec.pack({}), answers.append, 10.0)
    (request,) = server.receive(data)
    client.expire(9.9)
    assert answers == []
    client.expire(10.0)
    client.receive(server.reply(request, codec.pack({})))
    assert [a.code for a in answers if isinstance(a, PlatformError)] == ["timeout"]
    assert client.dropped_answers == 1


def test_the_end_of_a_connection_answers_everybody() -> None:
    client = Connection(Form.COMPACT)
    answers: list[bytes | PlatformError] = []
    for _ in range(3):
        client.request("t.echo", codec.pack({}), answers.append, 10.0)
    client.end(PlatformError("unknown-outcome"))
    assert [a.code for a in answers if isinstance(a, PlatformError)] == ["unknown-outcome"] * 3


def test_notifications_are_never_answered() -> None:
    server = Connection(None)
    requests, said = talk(server, {"jsonrpc": "2.0", "method": "t.tell", "params": {}})
    assert requests[0].notification
    assert server.reply(requests[0], codec.pack({})) == b""
    assert server.fail(requests[0], PlatformError("failed")) == b""
    assert said == []


@pytest.mark.parametrize(
    ("value", "code", "identity"),
    [
        (b"{nonsense", -32700, None),
        (3, -32600, None),
        ([], -32600, None),
        ({"jsonrpc": "1.0", "method": "a", "id": 1}, -32600, 1),
        ({"method": 5, "id": 2}, -32600, 2),
        ({"method": "a", "id": [1]}, -32600, None),
        ({"method": "a", "id": True}, -32600, None),
        ({"method": "a", "id": 3, "params": "x"}, -32602, 3),
        ({"id": 4}, -32600, 4),
    ],
)
def test_what_is_no_request_gets_the_standard_error(
    value: object, code: int, identity: object
) -> None:
    server = Connection(Form.JSON)
    requests, said = talk(server, value)
    assert requests == []
    (answer,) = said if isinstance(said[0], dict) else said[0]
    assert answer["error"]["code"] == code
    assert answer["id"] == identity


def test_a_batch_is_answered_together_when_all_is_known() -> None:
    server = Connection(Form.JSON)
    requests, said = talk(
        server,
        [
            {"jsonrpc": "2.0", "id": 1, "method": "a"},
            {"jsonrpc": "2.0", "method": "told"},
            17,
            {"jsonrpc": "2.0", "id": "two", "method": "b"},
        ],
    )
    assert said == []
    first, told, second = requests
    assert told.notification
    assert server.reply(first, codec.pack({"n": 1})) == b""
    answers = json.loads(server.reply(second, codec.pack({"n": 2})))
    assert {a["id"]: a.get("result") for a in answers} == {None: None, 1: {"n": 1}, "two": {"n": 2}}


def test_a_batch_of_notifications_gets_no_answer() -> None:
    server = Connection(Form.JSON)
    requests, said = talk(server, [{"method": "a"}, {"method": "b"}])
    assert len(requests) == 2
    assert said == []


def test_requests_above_the_limit_are_refused_and_the_rest_goes_on() -> None:
    server = Connection(Form.JSON, outstanding_max=2)
    requests, said = talk(server, *({"id": i, "method": "a"} for i in range(4)))
    assert [r.id for r in requests] == [0, 1]
    assert [s["error"]["data"]["code"] for s in said] == ["limit-exceeded"] * 2
    server.reply(requests[0], codec.pack({}))
    requests, said = talk(server, {"id": 9, "method": "a"})
    assert [r.id for r in requests] == [9]


def test_an_oversized_frame_ends_the_connection() -> None:
    with pytest.raises(RemoteError):
        Connection(None, frame_bytes_max=64).receive(b"\x00\x10\x00\x00")


def test_positional_parameters_get_the_declared_names() -> None:
    import paas.hub.messages  # noqa: F401

    server = Connection(Form.JSON)
    requests, _ = talk(server, {"id": 1, "method": "hub.call", "params": ["t", "op"]})
    assert codec.unpack(requests[0].params) == {"target": "t", "operation": "op"}


def test_an_unknown_number_is_an_unknown_method() -> None:
    server = Connection(Form.COMPACT)
    assert server.receive(frame(codec.pack([0, 5, 9_999, {}]))) == []
    client = Connection(Form.COMPACT)
    answers: list[bytes | PlatformError] = []
    for _ in range(5):
        client.request("x", codec.pack({}), answers.append, 1.0)
    client.receive(server.take_outbox())
    assert [a.code for a in answers if isinstance(a, PlatformError)] == ["no-such-method"]


@given(st.lists(st.binary(max_size=120), max_size=6), st.sampled_from([None, Form.COMPACT]))
def test_no_input_breaks_the_core(chunks: list[bytes], form: Form | None) -> None:
    server = Connection(form)
    try:
        for chunk in chunks:
            for request in server.receive(frame(chunk) if len(chunk) % 2 else chunk):
                server.reply(request, codec.pack({}))
            server.take_outbox()
    except RemoteError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_value_is_answered_or_ignored(value: object) -> None:
    server = Connection(Form.JSON)
    for request in server.receive(json.dumps(value).encode() + b"\n"):
        server.fail(request, PlatformError("failed"))
    for line in server.take_outbox().splitlines():
        json.loads(line)
