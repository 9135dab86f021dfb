"""The Python SDK where things go wrong: a harness that does not read, is lost, or says nonsense.

In the test's own process, over a socket pair, so that the test decides when something is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from paas.sdk.python.aio import AsyncComponent
from paas.sdk.python.core import UNSENT_BYTES_MAX
from paas.sdk.python.events import WATCH_EVENTS_MAX, Backlog
from paas.sdk.python.nursery import TrioComponent
from paas.sdk.python.threads import Component
from paas.sdk.python.wire import ComponentError, JsonLines

PATIENCE_S = 20.0
KINDS: dict[str, Any] = {"threads": Component, "asyncio": AsyncComponent, "trio": TrioComponent}
EVERY = pytest.mark.parametrize("kind", sorted(KINDS))


class Peer:
    """The other end: reads only when it is asked to."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(PATIENCE_S)
        self.wire = JsonLines()
        self.messages: list[Any] = []

    def send(self, **message: Any) -> None:
        self.socket.sendall(self.wire.encode({"jsonrpc": "2.0", **message}))

    def invoke(self, identity: int, operation: str, **more: Any) -> None:
        params = {"operation": operation, "inputs": {}, **more}
        self.send(id=identity, method="component.invoke", params=params)

    def find(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            for message in self.messages:
                if wanted(message):
                    self.messages.remove(message)
                    return message
            data = self.socket.recv(1 << 20)
            assert data, "the component has closed the channel"
            self.messages += self.wire.feed(data)

    def asked(self, method: str) -> Any:
        return self.find(lambda m: m.get("method") == method)

    def answer(self, identity: int) -> Any:
        return self.find(lambda m: "method" not in m and m["id"] == identity)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    ours, theirs = socket.socketpair()
    monkeypatch.delenv("PAAS_SOCKET", raising=False)
    monkeypatch.setenv("PAAS_FD", str(theirs.detach()))
    yield Peer(ours)
    ours.close()


def in_thread(run: Callable[[], Any]) -> threading.Thread:
    """Run it; that the channel ends is what some of these tests are about."""

    def quietly() -> None:
        with contextlib.suppress(ComponentError, ExceptionGroup):
            run()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def begin(component: Any) -> threading.Thread:
    """Its `run`, in a thread of its own."""
    if isinstance(component, Component):
        return in_thread(component.run)
    return in_thread(lambda: run_of(component, component.run))


def run_of(component: Any, main: Any) -> None:
    if isinstance(component, TrioComponent):
        trio.run(main)
    else:
        asyncio.run(main())


def ready(peer: Peer, component: Any) -> threading.Thread:
    thread = begin(component)
    peer.send(id=peer.asked("component.ready")["id"], result={})
    return thread


def until(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def settled(value: Callable[[], int]) -> int:
    """The value, when it has stopped to change for a while."""
    before, now = -1, value()
    while before != now:
        time.sleep(0.3)
        before, now = now, value()
    return now


@EVERY
def test_answers_that_wait_for_the_harness_are_written_before_the_end(
    peer: Peer, kind: str
) -> None:
    component = KINDS[kind]()
    text = "x" * 1_500_000
    component.operation("long", inline=True)(lambda inputs, call: text)
    thread = ready(peer, component)
    for identity in (1, 2, 3):
        peer.invoke(identity, "long")
    peer.send(id=4, method="component.terminate", params={})
    time.sleep(0.5)  # it is about to end, unless who would end it writes what the others left
    for identity in (1, 2, 3):
        assert peer.answer(identity)["result"]["outputs"] == text
    assert peer.answer(4)["result"]["accepted"] is True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@EVERY
@pytest.mark.parametrize(
    "nonsense", [b"[" * 200_000 + b"\n", b'{"a": "\xff\xfe"}\n', b"{oops}\n"], ids=range(3)
)
def test_what_is_not_the_protocol_ends_it_instead_of_silence(
    peer: Peer, kind: str, nonsense: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    thread = ready(peer, KINDS[kind]())
    peer.socket.sendall(nonsense)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert "Error" in capfd.readouterr().err


@EVERY
def test_strange_messages_harm_nothing(peer: Peer, kind: str) -> None:
    component = KINDS[kind]()
    component.operation("echo", inline=True)(lambda inputs, call: inputs)
    ready(peer, component)
    peer.socket.sendall(b'[1]\n5\n"x"\nnull\n{}\n{"method":"component.invoke","id":9}\n')
    peer.socket.sendall(b'{"method":"component.event","params":{"watch":5}}\n')
    peer.send(id=None, error={"code": -32700, "message": "not JSON"})
    peer.invoke(1, "echo")
    assert peer.answer(1)["result"] == {"outputs": {}}


@EVERY
def test_an_exception_is_answered_also_if_nobody_reads_the_log(
    peer: Peer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Broken:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    def fail(inputs: Any, call: Any) -> None:
        raise Odd

    component = KINDS[kind]()
    component.operation("fail")(fail)
    ready(peer, component)
    monkeypatch.setattr(sys, "stderr", Broken())
    peer.invoke(1, "fail")
    assert peer.answer(1)["error"]["message"] == "Odd"


@EVERY
def test_calls_are_cancelled_when_the_harness_is_lost(peer: Peer, kind: str) -> None:
    component = KINDS[kind]()
    seen = threading.Event()
    began = threading.Event()
    sleep: Any = trio.sleep if kind == "trio" else asyncio.sleep

    def wait(inputs: Any, call: Any) -> None:
        began.set()
        if call.cancelled.wait(PATIENCE_S):
            seen.set()

    async def wait_in_task(inputs: Any, call: Any) -> None:
        began.set()
        try:
            await sleep(PATIENCE_S)
        finally:
            if call.cancelled.is_set():
                seen.set()

    component.operation("wait")(wait if kind == "threads" else wait_in_task)
    thread = ready(peer, component)
    peer.invoke(1, "wait")
    assert began.wait(PATIENCE_S)
    peer.socket.shutdown(socket.SHUT_RDWR)
    assert seen.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_threads_wait_when_the_harness_does_not_read(peer: Peer) -> None:
    component = Component()
    component.connect()
    size, threads = 100_000, []
    for _ in range(4):
        threads.append(threading.Thread(target=speak, args=(component, 60, size), daemon=True))
        threads[-1].start()
    waiting = settled(lambda: component._unsent_bytes)
    assert UNSENT_BYTES_MAX < waiting < UNSENT_BYTES_MAX + 8 * size
    for _ in range(4 * 60):
        peer.asked("log.write")
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    until(lambda: component._unsent_bytes == 0)


def test_threads_that_wait_for_the_harness_are_released_when_it_is_lost(peer: Peer) -> None:
    component = Component()
    component.connect()
    threads = [
        threading.Thread(target=speak, args=(component, 60, 100_000), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    settled(lambda: component._unsent_bytes)
    peer.socket.close()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def speak(component: Component, times: int, size: int) -> None:
    with contextlib.suppress(ComponentError):
        for _ in range(times):
            component.log("x" * size)


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_tasks_wait_when_the_harness_does_not_read(
    peer: Peer, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    component = KINDS[kind]()
    size, count, ended = 100_000, 240, []

    async def ask(number: int) -> None:
        with contextlib.suppress(ComponentError):
            await component.call("x", "y", "x" * size)
        ended.append(number)

    async def ask_all() -> None:
        if kind == "asyncio":
            asking = [asyncio.ensure_future(ask(n)) for n in range(count)]
            await component.run()
            await asyncio.gather(*asking)
            return
        async with trio.open_nursery() as nursery, component:
            for n in range(count):
                nursery.start_soon(ask, n)
            await component.run()

    thread = in_thread(lambda: run_of(component, ask_all))
    waiting = settled(lambda: component._unsent_bytes)
    assert UNSENT_BYTES_MAX < waiting < UNSENT_BYTES_MAX + 2 * size
    for _ in range(count // 2):
        peer.send(id=peer.asked("hub.call")["id"], result={"outputs": {}})
    until(lambda: len(ended) == count // 2)
    peer.socket.close()  # the others learn that nobody will answer
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert len(ended) == count


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_who_still_waits_when_it_has_ended_is_told_so(peer: Peer, kind: str) -> None:
    component = KINDS[kind]()
    codes: list[str] = []

    async def ask() -> None:
        try:
            await component.call("x", "y")
        except ComponentError as exc:
            codes.append(exc.code)

    async def with_asyncio() -> None:
        asking = asyncio.ensure_future(ask())
        await component.run()
        await asyncio.wait_for(asking, PATIENCE_S)

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery, component:
            nursery.start_soon(ask)
            await component.run()

    run = (
        (lambda: asyncio.run(with_asyncio())) if kind == "asyncio" else lambda: trio.run(with_trio)
    )
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    peer.asked("hub.call")
    peer.send(id=peer.asked("component.ready")["id"], result={})
    peer.send(id=4, method="component.terminate", params={})
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert codes == ["unknown-outcome"]


@EVERY
def test_it_may_be_stopped_before_it_runs(peer: Peer, kind: str) -> None:
    component = KINDS[kind]()
    component.stop("not today")
    thread = ready(peer, component)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_watch_that_was_opened_when_the_harness_was_lost_ends(peer: Peer) -> None:
    component = Component()
    found: list[Any] = []

    def follow() -> None:
        found.extend(component.watching(group="g"))
        found.append("end")

    thread = threading.Thread(target=follow, daemon=True)
    opened = component._watch_opened

    def lost_meanwhile(answer: Any, target: Any) -> Any:
        peer.socket.close()
        until(lambda: component._lost_channel and component._stopping.is_set())
        return opened(answer, target)

    component._watch_opened = lost_meanwhile  # type: ignore[method-assign]
    thread.start()
    peer.send(id=peer.asked("hub.watch")["id"], result={"watch": 1, "snapshot": [], "index": 0})
    thread.join(PATIENCE_S)
    assert found == ["end"]


def test_what_went_wrong_in_a_watch_is_not_hidden_by_its_end(peer: Peer) -> None:
    component = Component()
    caught: list[BaseException] = []

    def follow() -> None:
        try:
            with component.watching(group="g") as events:
                next(events)
                peer.socket.close()
                until(component._stopping.is_set)
                events._ended = False  # it was lost this very moment
                raise KeyError("mine")
        except Exception as exc:
            caught.append(exc)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    peer.send(id=peer.asked("hub.watch")["id"], result={"watch": 1, "snapshot": [], "index": 0})
    peer.send(method="component.event", params={"watch": 1, "event": "joined", "index": 1})
    thread.join(PATIENCE_S)
    assert [type(exc) for exc in caught] == [KeyError]


def test_a_callback_may_end_its_own_watch(peer: Peer) -> None:
    component = Component()
    numbers: list[int] = []
    done = threading.Event()

    def hear(event: Any) -> None:
        numbers.append(event["n"])
        component.unwatch(1)
        done.set()

    thread = threading.Thread(target=lambda: component.watch(hear, group="g"), daemon=True)
    thread.start()
    asked = peer.asked("hub.watch")
    for n in range(3):
        peer.send(method="component.event", params={"watch": 1, "event": "joined", "n": n})
    peer.send(id=asked["id"], result={"watch": 1, "snapshot": [], "index": 0})
    peer.send(id=peer.asked("hub.unwatch")["id"], result={})
    assert done.wait(PATIENCE_S)
    settled(lambda: len(numbers))
    assert numbers == [0]


def test_events_are_bounded_by_their_bytes_and_the_gap_is_where_it_was() -> None:
    backlog = Backlog(7)
    for n in range(20):
        backlog.put({"n": n}, 1 << 20)
    found = []
    while (taken := backlog.taken()) is not None:
        found.append(taken[0])
        if len(found) == 3:
            backlog.put({"n": "later"}, 1)  # must not come before the gap
    assert [event.get("n") for event in found] == [*range(16), None]
    assert found[-1] == {"watch": 7, "event": "gap", "index": 0, "dropped": 5}
    assert backlog.put({"n": 1}, 32 << 20)  # one is always taken


def test_many_threads_take_and_put_without_losing_count() -> None:
    backlog = Backlog()
    taken: list[int] = []

    def take() -> None:
        while len(taken) < WATCH_EVENTS_MAX - 1:
            event = backlog.taken()
            if event is not None:
                taken.append(event[0]["n"])

    threads = [threading.Thread(target=take, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(WATCH_EVENTS_MAX):
        backlog.put({"n": n}, 3)
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    while (event := backlog.taken()) is not None:
        taken.append(event[0]["n"])
    assert sorted(taken) == list(range(WATCH_EVENTS_MAX))
    assert backlog._bytes == 0


def test_large_attachments_of_a_call_begun_go_by_blob(peer: Peer) -> None:
    component = Component()
    data = {"name": "a", "type": "t", "data": b"x" * (2 << 20)}
    made: list[Any] = []

    def call() -> None:
        made.append(component.begin_call("x", "y", attachments=[data]))

    threading.Thread(target=call, daemon=True).start()
    peer.send(id=peer.asked("blob.begin")["id"], result={"upload": "u"})
    for _ in range(2):
        peer.send(id=peer.asked("blob.append")["id"], result={})
    place = {"blob": "ff", "size": 2 << 20, "node": "n", "key": "k"}
    peer.send(id=peer.asked("blob.commit")["id"], result=place)
    (item,) = peer.asked("hub.call")["params"]["attachments"]
    assert item == {"name": "a", "type": "t", **place}


def test_a_watch_that_nobody_waited_for_is_left(peer: Peer) -> None:
    component = Component()
    caught: list[str] = []

    def follow() -> None:
        try:
            component.request("hub.watch", {"group": "g"}, timeout=-1.9)  # and two for the answer
        except ComponentError as exc:
            caught.append(exc.code)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    asked = peer.asked("hub.watch")
    thread.join(PATIENCE_S)
    assert caught == ["timeout"]
    assert peer.asked("rpc.cancel")["params"] == {"id": asked["id"]}
    peer.send(id=asked["id"], result={"watch": 3, "snapshot": [], "index": 0})  # too late
    assert peer.asked("hub.unwatch")["params"] == {"watch": 3}
