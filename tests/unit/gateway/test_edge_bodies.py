"""Bodies in chunks, and the heads of members' answers."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.gateway.http.answer import UNTIL_CLOSE, AnswerHead, read
from paas.gateway.http.chunked import LAST, Chunks, chunk
from paas.gateway.http.head import UNKNOWN, Refused

pieces_of = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@settings(deadline=None)
@given(pieces_of, st.binary(max_size=20), st.integers(1, 7))
def test_however_it_is_cut_a_body_is_the_same(body: list[bytes], rest: bytes, step: int) -> None:
    wire = b"".join(chunk(piece) for piece in body) + LAST + rest
    chunks, found, at = Chunks(), b"", 0
    while not chunks.done:
        found += b"".join(chunks.feed(wire[at : at + step]))
        at += step
    assert found == b"".join(body)
    assert chunks.rest == wire[:at][len(wire) - len(rest) :]


_FORMS = (b"3\r\nabc\r\n", b"0\r\n\r\n", b"3;x\r\nabc\r\n", b"a", b"\n", b"\r\n", b"0", b"5\r\nab")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_FORMS), max_size=6).map(b"".join))
def test_what_is_accepted_is_read_the_same_by_another_reader(wire: bytes) -> None:
    chunks = Chunks()
    try:
        mine = b"".join(chunks.feed(wire))
    except Refused:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + wire)
    other.next_event()
    theirs = b""
    while isinstance(event := other.next_event(), h11.Data):
        theirs += bytes(event.data)
    assert theirs == mine
    assert isinstance(event, h11.EndOfMessage) is chunks.done


def answered(text: str, method: str = "GET") -> AnswerHead:
    return read(text.replace("\n", "\r\n").encode("latin-1"), method)


@pytest.mark.parametrize(
    ("text", "method", "length"),
    [
        ("HTTP/1.1 200 OK", "GET", UNTIL_CLOSE),
        ("HTTP/1.1 200 OK\ncontent-length: 5", "GET", 5),
        ("HTTP/1.1 200 OK\ncontent-length: 5\nContent-Length: 5", "GET", 5),
        ("HTTP/1.1 200\ntransfer-encoding: Chunked", "GET", UNKNOWN),
        ("HTTP/1.1 200 OK\ncontent-length: 5", "HEAD", 0),
        ("HTTP/1.1 204 No Content", "GET", 0),
        ("HTTP/1.1 304 Not Modified\ncontent-length: 5", "GET", 0),
        ("HTTP/1.1 100 Continue", "POST", 0),
    ],
)
def test_where_an_answer_ends(text: str, method: str, length: int) -> None:
    assert answered(text, method).length == length


@pytest.mark.parametrize(
    "text",
    [
        "HTTP/1.1 200 OK\ncontent-length: 5\ncontent-length: 6",
        "HTTP/1.1 200 OK\ncontent-length: 5\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\ntransfer-encoding: gzip",
        "HTTP/1.0 200 OK\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\ncontent-length: 0x5",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 No",
        "HTTP/1.1 200 OK\n folded: yes",
        "HTTP/1.1 200 OK\nname : value",
        "HTTP/1.1 200 OK\na: b\x00c",
        "",
    ],
)
def test_answers_with_two_readings_are_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        answered(text)
    assert caught.value.status == 502


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    for given_ in (data, b"HTTP/1.1 200 OK\r\n" + data):
        try:
            answer = read(given_, "GET")
        except Refused:
            continue
        assert all("\r" not in v and "\n" not in v for _, v in answer.headers)


def test_whether_a_connection_to_a_member_goes_on() -> None:
    assert answered("HTTP/1.1 204 x").keep_alive
    assert not answered("HTTP/1.1 204 x\nconnection: close").keep_alive
    assert not answered("HTTP/1.0 204 x").keep_alive
    assert answered("HTTP/1.0 204 x\nconnection: keep-alive").keep_alive
    assert not answered("HTTP/1.1 200 x").keep_alive
