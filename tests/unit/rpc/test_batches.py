"""Batches: their answers leave together, once, in bounds, and each for itself."""

from __future__ import annotations

import json

import pytest

from paas.base.errors import PlatformError
from paas.base.limits import OUTSTANDING_REQUESTS_MAX
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.wire import codec
from paas.wire.frame import FrameParser, frame

FORMS = pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK])


def encode(form: Form, value: object) -> bytes:
    return json.dumps(value).encode() + b"\n" if form is Form.JSON else frame(codec.pack(value))


def decode(form: Form, data: bytes) -> list[dict]:
    if form is Form.JSON:
        assert data.count(b"\n") == 1
        return json.loads(data)
    (body,) = FrameParser(1 << 30).feed(data)
    return codec.unpack(body)


def calls(count: int) -> list[dict]:
    return [{"jsonrpc": "2.0", "id": i, "method": "t"} for i in range(count)]


@FORMS
def test_answers_in_any_order_leave_together(form: Form) -> None:
    server = Connection(form)
    requests = server.receive(encode(form, calls(3)))
    assert server.reply(requests[2], codec.pack(2)) == b""
    assert server.fail(requests[0], PlatformError("conflict")) == b""
    assert server.reply(requests[0], codec.pack(0)) == b"", "the second answer is dropped"
    answers = decode(form, server.reply(requests[1], codec.pack(1)))
    assert {a["id"]: a.get("result", "error") for a in answers} == {0: "error", 1: 1, 2: 2}
    assert server.outstanding == 0


def test_an_answer_that_cannot_be_said_spoils_only_itself() -> None:
    server = Connection(Form.JSON)
    requests = server.receive(encode(Form.JSON, calls(3)))
    server.reply(requests[0], codec.pack({"fine": True}))
    server.reply(requests[1], b"\x81\xc0\x01")
    answers = decode(Form.JSON, server.reply(requests[2], codec.pack(2)))
    assert [a["id"] for a in answers] == [0, 1, 2]
    assert answers[0]["result"] == {"fine": True}
    assert answers[1]["error"]["data"]["code"] == "failed"


@FORMS
def test_the_answers_of_a_batch_fit_in_a_frame_together(form: Form) -> None:
    limit = 100_000
    server, total = Connection(form, frame_bytes_max=limit), 0
    requests = server.receive(encode(form, calls(50)))
    for request in requests:
        data = server.reply(request, codec.pack("x" * 10_000))
        total += len(data)
    assert total < limit
    answers = decode(form, data)
    assert len(answers) == 50
    assert sum("result" in a for a in answers) == 7
    codes = {a["error"]["data"]["code"] for a in answers if "error" in a}
    assert codes == {"limit-exceeded"}


@FORMS
def test_a_batch_holds_so_many_requests(form: Form) -> None:
    server = Connection(form)
    assert server.receive(encode(form, calls(OUTSTANDING_REQUESTS_MAX + 1))) == []
    answer = decode(form, server.take_outbox())
    assert answer["error"]["data"]["code"] == "limit-exceeded"  # type: ignore[call-overload]
    assert server.outstanding == 0
    assert len(server.receive(encode(form, calls(OUTSTANDING_REQUESTS_MAX)))) == len(
        calls(OUTSTANDING_REQUESTS_MAX)
    )


@FORMS
def test_the_requests_of_a_batch_count_as_outstanding(form: Form) -> None:
    server = Connection(form, outstanding_max=2)
    requests = server.receive(encode(form, calls(4)))
    assert [r.id for r in requests] == [0, 1]
    server.reply(requests[0], codec.pack(0))
    answers = decode(form, server.reply(requests[1], codec.pack(1)))
    assert [("error" in a) for a in sorted(answers, key=lambda a: a["id"])] == [
        False,
        False,
        True,
        True,
    ]


def test_params_that_the_peer_s_codec_cannot_say_raise_and_leave_nothing_behind() -> None:
    client = Connection(Form.JSON)
    for body in (b"\x81\xc0\x01", b"\x81\xa1a\xc7\x01\x05x", b"\x91" * 5_000 + b"\x01"):
        for send in (
            lambda b=body: client.request("t", b, print, 1.0),
            lambda b=body: client.notify("t", b),
        ):
            with pytest.raises(PlatformError) as caught:
                send()
            assert caught.value.code == "invalid"
    assert client.waiting == 0
