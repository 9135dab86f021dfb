"""Byte streams of a command: what a hub may say when, and what the command makes of it."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli import copy
from paas.cli.connection import Connection
from paas.cli.exec import _status, _variables
from paas.cli.streaming import WINDOW_BYTES, Channel, Streams, Wakes, carry


class Hub:
    """The other end, as a script: it says what it is told to, and keeps what it hears."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rwb")
        self.heard: list[dict[str, Any]] = []

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._file.readline())
        self.heard.append(message)
        return message

    def hear_until(self, method: str) -> dict[str, Any]:
        while (message := self.hear())["method"] != method:
            continue
        return message

    def say(self, *messages: dict[str, Any]) -> None:
        """All at once, as they may come."""
        self._file.write(b"".join(json.dumps(m).encode() + b"\n" for m in messages))
        self._file.flush()

    def accepted(self, request: dict[str, Any], window: int = WINDOW_BYTES) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": request["id"], "result": {"window": window}}


def told(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": f"stream.{method}", "params": {"stream": -1, **params}}


def data(text: bytes, channel: int = 0) -> dict[str, Any]:
    return told("data", data=base64.b64encode(text).decode(), channel=channel)


class FakeSession:
    """Implements what `Streams` needs of a session."""

    remote = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection(self, *, binary: bool) -> Connection:
        assert not binary, "bytes are base64 over a WebSocket"
        return self._connection

    def call(self, method: str, params: Any, *, timeout_s: float | None, binary: bool) -> Any:
        return self._connection.call(method, params, timeout_s=timeout_s)


Begin = Callable[[Callable[[Hub], None]], Streams]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """`begin(script)`: streams to a hub that follows the script in a thread of its own."""
    ours, theirs = socket.socketpair()
    threads: list[threading.Thread] = []
    failed: list[BaseException] = []

    def start(script: Callable[[Hub], None]) -> Streams:
        def run() -> None:
            try:
                script(Hub(theirs))
            except BaseException as exc:
                failed.append(exc)
            finally:
                theirs.shutdown(socket.SHUT_WR)

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return Streams(FakeSession(Connection(ours)))  # type: ignore[arg-type]

    yield start
    ours.close()
    for thread in threads:
        thread.join(10)
    theirs.close()
    assert not failed, failed


def opened(streams: Streams) -> Channel:
    return streams.open("controller.exec", {"component": "c"}, 5.0)


def test_what_comes_together_with_the_answer_is_not_lost(begin: Begin) -> None:
    def script(hub: Hub) -> None:
        request = hub.hear()
        hub.say(data(b"before "), hub.accepted(request), data(b"behind"), told("end", result=1))

    channel = opened(begin(script))
    assert b"".join(channel.chunks()) == b"before behind"
    assert channel.result == 1


def test_sending_waits_for_credit(begin: Begin) -> None:
    got: list[bytes] = []

    def script(hub: Hub) -> None:
        hub.say(hub.accepted(hub.hear(), window=10))
        while sum(map(len, got)) < 25:
            got.append(base64.b64decode(hub.hear_until("stream.data")["params"]["data"]))
            if sum(map(len, got)) % 10 == 0:
                hub.say(told("credit", bytes=10))

    channel = opened(begin(script))
    channel.send_all(bytes(range(25)))
    assert channel.credit == 5
    channel.end()


def test_credit_is_given_back_for_what_was_passed_on(begin: Begin) -> None:
    given: list[int] = []

    def script(hub: Hub) -> None:
        hub.say(hub.accepted(hub.hear()))
        for _ in range(4):
            hub.say(data(bytes(WINDOW_BYTES // 4)))
        given.extend(hub.hear_until("stream.credit")["params"]["bytes"] for _ in range(2))
        hub.say(told("end"))

    channel = opened(begin(script))
    assert sum(map(len, channel.chunks())) == WINDOW_BYTES
    assert given == [WINDOW_BYTES // 2] * 2


def test_a_break_is_raised_wherever_one_waits(begin: Begin) -> None:
    broken = told("reset", error=PlatformError("denied", "not you").to_rpc())

    def script(hub: Hub) -> None:
        hub.say(hub.accepted(hub.hear(), window=0), broken)

    channel = opened(begin(script))
    with pytest.raises(PlatformError, match="not you"):
        channel.send_all(b"x")
    with pytest.raises(PlatformError, match="not you"):
        list(channel.chunks())


def test_the_end_of_the_connection_is_an_error(begin: Begin) -> None:
    def script(hub: Hub) -> None:
        hub.say(hub.accepted(hub.hear()))

    channel = opened(begin(script))
    with pytest.raises(PlatformError) as caught:
        list(channel.chunks())
    assert caught.value.code == "unavailable"


def test_carry_brings_each_channel_to_its_place(begin: Begin) -> None:
    got: list[bytes] = []

    def script(hub: Hub) -> None:
        hub.say(hub.accepted(hub.hear()), data(b"out", 1), data(b"err", 2))
        while (message := hub.hear())["method"] == "stream.data":
            got.append(base64.b64decode(message["params"]["data"]))
        assert message["method"] == "stream.end"
        hub.say(data(b" more", 1), told("end", result={"code": 3}))

    pipes = [os.pipe() for _ in range(3)]
    (source, feed), (out, out_sink), (err, err_sink) = pipes
    os.write(feed, b"given")
    os.close(feed)
    streams = begin(script)
    channel = opened(streams)
    with Wakes({}) as wakes:
        sinks = {1: out_sink, 2: err_sink}
        assert carry(streams, channel, wakes, source=source, sinks=sinks) == {"code": 3}
    assert (os.read(out, 99), os.read(err, 99), b"".join(got)) == (b"out more", b"err", b"given")
    for descriptor in (source, out, out_sink, err, err_sink):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("result", "status"),
    [({"code": 0}, 0), ({"code": 7}, 7), ({"signal": "SIGKILL", "number": 9}, 137)],
)
def test_a_command_s_end_is_ours(result: object, status: int) -> None:
    assert _status(None, result) == status  # type: ignore[arg-type]


def test_variables_are_name_and_value() -> None:
    assert _variables(("A=1", "B=x=y", "C=")) == {"A": "1", "B": "x=y", "C": ""}
    for word in ("A", "=1"):
        with pytest.raises(PlatformError, match="NAME=VALUE"):
            _variables((word,))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("greeter:/etc/x", ("greeter", "/etc/x")),
        ("greeter:notes", ("greeter", "/app/notes")),
        ("greeter:", ("greeter", "/app/")),
        ("./a:b", None),
        ("/a:b", None),
        ("plain", None),
        (":x", None),
    ],
)
def test_which_side_of_a_copy_is_inside(word: str, expected: tuple[str, str] | None) -> None:
    assert copy._inside(word) == expected
