"""Our JSON-RPC 2.0 against an independent implementation, both ways, and the examples of §7.

pjrpc's client speaks to our connection core; our connection core speaks to pjrpc's dispatcher; and
both servers get the same texts and must answer with the same ids and error numbers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pjrpc.server
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pjrpc.client import AbstractClient, exceptions

from paas.base.errors import PlatformError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec, registry
from paas.wire.registry import Message, Params

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


class Subtract(Params, frozen=True, kw_only=True):
    """Test parameters, in positional order."""

    minuend: int
    subtrahend: int


class Echo(Params, frozen=True, kw_only=True):
    """Test parameters."""

    value: Any = None


class Anything(Message, frozen=True):
    """Test result."""


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """Positional parameters get their names from the declared fields."""
    made = [
        registry.method(9_960, "subtract", Subtract, Anything),
        registry.method(9_961, "echo", Echo, Anything),
    ]
    yield
    for method in made:
        del registry.BY_NAME[method.name], registry.BY_NUMBER[method.number]


class OurServer:
    """A connection core with a few methods; lines in, lines out."""

    def __init__(self) -> None:
        self.connection = Connection(Form.JSON)
        self.told: list[str] = []

    def answer(self, text: str) -> str:
        """Everything that is answered to one line."""
        out = b""
        for request in self.connection.receive(text.encode() + b"\n"):
            out += self._handle(request)
        return (self.connection.take_outbox() + out).decode()

    def _handle(self, request: Request) -> bytes:
        if request.notification:
            self.told.append(request.method)
        try:
            return self.connection.reply(request, codec.pack(self._result(request)))
        except PlatformError as exc:
            return self.connection.fail(request, exc)

    @staticmethod
    def _result(request: Request) -> Any:
        if request.method == "subtract":
            params = registry.decode(request.params, Subtract)
            return params.minuend - params.subtrahend
        if request.method == "echo":
            return registry.decode(request.params, Echo).value
        if request.method == "fail":
            raise PlatformError("conflict", "it is there already", hint="look", holder="x")
        if request.method in ("get_data", "update", "notify_sum", "notify_hello"):
            return ["hello", 5]
        raise PlatformError("no-such-method")


class TheirClient(AbstractClient):  # type: ignore[misc]
    """pjrpc's client on our server, without a network."""

    def __init__(self, server: OurServer) -> None:
        super().__init__()
        self._server = server

    def _request(
        self, request_text: str, is_notification: bool, request_kwargs: Mapping[str, Any]
    ) -> str | None:
        said = self._server.answer(request_text)
        assert said.count("\n") == (0 if is_notification else 1), "one line for one line"
        return said or None


class TheirServer:
    """pjrpc's dispatcher with the same methods."""

    def __init__(self) -> None:
        self.told: list[str] = []
        methods = pjrpc.server.MethodRegistry()

        def subtract(minuend: int, subtrahend: int) -> int:
            return minuend - subtrahend

        def echo(value: Any = None) -> Any:
            self.told.append("echo")
            return value

        def fail() -> None:
            raise pjrpc.server.exceptions.JsonRpcError(-32042, "broken", {"code": "conflict"})

        def several(a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> list[Any]:
            return ["hello", 5]

        for name, function in (("subtract", subtract), ("echo", echo), ("fail", fail)):
            methods.add_method(function, name)
        for name in ("get_data", "update", "notify_sum", "notify_hello"):
            methods.add_method(several, name)
        self._dispatcher = pjrpc.server.Dispatcher()
        self._dispatcher.add_methods(methods)

    def answer(self, text: str) -> str:
        answered = self._dispatcher.dispatch(text, context=None)
        return answered[0] if answered else ""


class OurClient:
    """A connection core on their server."""

    def __init__(self, server: TheirServer) -> None:
        self.server = server
        self.connection = Connection(Form.JSON)

    def ask(self, method: str, params: Any) -> bytes | PlatformError:
        answers: list[bytes | PlatformError] = []
        _, data = self.connection.request(method, codec.pack(params), answers.append, 9.0)
        self.connection.receive(self.server.answer(data.decode()).encode() + b"\n")
        (answer,) = answers
        return answer


# -- their client, our server ----


def test_their_client_calls_our_server() -> None:
    client = TheirClient(OurServer())
    assert client.call("subtract", 42, 23) == 19
    assert client.call("subtract", minuend=42, subtrahend=23) == 19
    assert client.proxy.echo(value={"a": [1, None]}) == {"a": [1, None]}
    assert client.call("echo") is None


def test_their_client_reads_our_errors() -> None:
    client = TheirClient(OurServer())
    with pytest.raises(exceptions.MethodNotFoundError):
        client.call("foobar")
    for params in ({"minuend": 1}, {"minuend": "x", "subtrahend": 1}):
        with pytest.raises(exceptions.InvalidParamsError) as invalid:
            client.call("subtract", **params)
        assert invalid.value.data["code"] == "invalid"
    with pytest.raises(exceptions.InvalidParamsError):
        client.call("subtract", 1, 2, 3)
    with pytest.raises(exceptions.JsonRpcError) as caught:
        client.call("fail")
    assert (caught.value.code, caught.value.message) == (-32000, "it is there already")
    assert caught.value.data == {"code": "conflict", "hint": "look", "holder": "x"}


def test_their_client_s_notifications_are_not_answered() -> None:
    server = OurServer()
    client = TheirClient(server)
    client.notify("update", 1, 2, 3)
    client.notify("foobar")
    client.notify("subtract", "wrong")
    assert server.told == ["update", "foobar", "subtract"]


def test_their_client_s_batches() -> None:
    server = OurServer()
    client = TheirClient(server)
    with client.batch() as batch:
        batch.call("subtract", 42, 23)
        batch.notify("update", 1)
        batch.call("echo", value="x")
        batch.call("subtract", 1, 2)
    assert list(batch.get_results()) == [19, "x", -1]
    assert server.told == ["update"]
    with client.batch() as batch:
        batch.call("echo", value=1)
        batch.call("foobar")
    response = batch.get_response()
    assert response[0].unwrap_result() == 1
    assert response[1].unwrap_error().code == -32601
    with client.batch() as batch:
        batch.notify("update", 1)
        batch.notify("update", 2)
    assert batch.get_response() is None
    assert server.connection.outstanding == 0


@settings(deadline=None)
@given(json_values)
def test_any_value_goes_through_their_client_and_our_server(value: Any) -> None:
    assert TheirClient(OurServer()).call("echo", value=value) == value


# -- our client, their server ----


def test_our_client_calls_their_server() -> None:
    client = OurClient(TheirServer())
    assert client.ask("subtract", {"minuend": 42, "subtrahend": 23}) == codec.pack(19)
    assert client.ask("echo", {"value": [None, {"ü": 1.5}]}) == codec.pack([None, {"ü": 1.5}])
    assert client.connection.waiting == 0


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("foobar", {}, "no-such-method"),
        ("subtract", {"wrong": 1}, "invalid"),
        ("fail", {}, "conflict"),
        ("subtract", {"minuend": "x", "subtrahend": {}}, "failed"),
    ],
)
def test_our_client_reads_their_errors(method: str, params: Any, code: str) -> None:
    answer = OurClient(TheirServer()).ask(method, params)
    assert isinstance(answer, PlatformError)
    assert answer.code == code


def test_our_notifications_are_notifications_to_their_server() -> None:
    server = TheirServer()
    data = Connection(Form.JSON).notify("echo", codec.pack({"value": 1}))
    assert server.answer(data.decode()) == ""
    assert server.told == ["echo"]


def test_their_answer_to_a_batch_is_understood() -> None:
    client = OurClient(TheirServer())
    answers: dict[int, Any] = {}
    lines = []
    for number, method in enumerate(["echo", "foobar", "echo"]):
        body = codec.pack({"value": number} if method == "echo" else {})
        _, data = client.connection.request(
            method, body, lambda value, n=number: answers.update({n: value}), 9.0
        )
        lines.append(data.decode())
    lines.append(client.connection.notify("echo", codec.pack({})).decode())
    said = client.server.answer(f"[{','.join(lines)}]")
    client.connection.receive(said.encode() + b"\n")
    assert codec.unpack(answers[0]) == 0
    assert answers[1].code == "no-such-method"
    assert codec.unpack(answers[2]) == 2


@settings(deadline=None)
@given(json_values)
def test_any_value_goes_through_our_client_and_their_server(value: Any) -> None:
    answer = OurClient(TheirServer()).ask("echo", {"value": value})
    assert isinstance(answer, bytes)
    assert codec.unpack(answer) == value


# -- the same text to both ----

V = '"jsonrpc": "2.0"'
EXAMPLES = [
    '{%s, "method": "subtract", "params": [42, 23], "id": 1}',
    '{%s, "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
    '{%s, "method": "update", "params": [1,2,3,4,5]}',
    '{%s, "method": "foobar"}',
    '{%s, "method": "foobar", "id": "1"}',
    '{%s, "method": "foobar, "params": "bar", "baz]',
    '{%s, "method": 1, "params": "bar"}',
    '[{%s, "method": "subtract", "params": [1, 2], "id": 1}, {%s, "method"',
    "[]",
    '[{%s, "method": "echo", "id": "a"}, {%s, "method": "foobar", "id": "b"}]',
    '{%s, "method": "echo", "params": {"value": null}, "id": 0}',
    '{%s, "method": "subtract", "params": [1], "id": 7}',
    "3",
    "null",
    '"text"',
]


def shape(text: str) -> Any:
    """Ids, results and error numbers; what is free to differ (messages, data) left out."""
    if not text.strip():
        return None
    value = json.loads(text)
    if isinstance(value, list):
        return sorted((shape(json.dumps(v)) for v in value), key=str)
    assert value["jsonrpc"] == "2.0"
    if "error" in value:
        assert isinstance(value["error"]["message"], str)
        assert "result" not in value
        return value["id"], "error", value["error"]["code"]
    return value["id"], "result", value["result"]


@pytest.mark.parametrize("text", [e.replace("%s", V) for e in EXAMPLES])
def test_both_servers_answer_alike(text: str) -> None:
    assert shape(OurServer().answer(text)) == shape(TheirServer().answer(text))


MIXED = '[1, {"foo": "boo"}, {%s, "method": "echo", "id": "9"}, {%s, "method": "update"}]'


def test_a_batch_with_invalid_entries_is_answered_entry_by_entry() -> None:
    """As the last examples of §7 want it; pjrpc refuses such a batch as a whole."""
    assert shape(OurServer().answer(MIXED.replace("%s", V))) == sorted(
        [(None, "error", -32600), (None, "error", -32600), ("9", "result", None)], key=str
    )
    assert shape(OurServer().answer("[1,2,3]")) == [(None, "error", -32600)] * 3


def test_a_batch_of_notifications_is_not_answered_with_an_empty_array() -> None:
    """§6; pjrpc's dispatcher does answer with one."""
    server = OurServer()
    text = '[{%s, "method": "notify_sum", "params": [1]}, {%s, "method": "notify_hello"}]'
    assert server.answer(text.replace("%s", V)) == ""
    assert server.told == ["notify_sum", "notify_hello"]


@pytest.mark.parametrize("identity", ['"text"', "0", "-7", "1.5", "null", "123456789012345678901"])
def test_the_id_comes_back_as_it_went(identity: str) -> None:
    said = OurServer().answer(f'{{{V}, "method": "echo", "id": {identity}}}')
    assert json.loads(said)["id"] == json.loads(identity)


def test_ids_of_our_requests_are_never_used_twice() -> None:
    client = Connection(Form.JSON)
    ids = [client.request("echo", codec.pack({}), print, 1.0)[0] for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(a < b for a, b in itertools.pairwise(ids))


def test_random_pieces_make_no_difference() -> None:
    """The bytes of several requests in pieces, as a socket may deliver them."""
    text = "".join(f'{{{V}, "method": "echo", "id": {n}}}\n' for n in range(20)).encode()
    for size in (1, 2, 7, 31):
        server, ids = Connection(None), []
        for start in range(0, len(text), size):
            ids += [r.id for r in server.receive(text[start : start + size])]
        assert ids == list(range(20))
