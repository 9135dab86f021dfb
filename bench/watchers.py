"""What it costs to tell many: a join seen by 1,000 watchers, a signal to 100.

One process has a hub over a log in memory; the watchers are connections over UNIX sockets, in
another process, which tells when the last of them has heard.

    python bench/watchers.py            p50, p99 and worst, in milliseconds
    python bench/watchers.py --json     the figures as one JSON object
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec
import trio

from paas.hub.attribute_messages import SIGNAL, Signal, WatchSignals
from paas.hub.messages import WATCH, Watch
from paas.hub.state import JoinGroups, LeaveGroups
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Context
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve
from paas.testing.hub_in_memory import hub_world
from paas.wire import codec

JOIN_WATCHERS = 1_000
SIGNAL_WATCHERS = 100
READY = "bench.ready"
HEARD = "bench.heard"


class Line:
    """A connection of the watchers' process: bytes of the real core, a bare socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.connection = Connection(Form.COMPACT)

    def ask(self, method: str, params: bytes) -> None:
        """Send a request and wait for its answer."""
        answers: list[object] = []
        self.socket.sendall(self.connection.request(method, params, answers.append, 1e12)[1])
        while not answers:
            self.connection.receive(self.socket.recv(65_536))


def count_rounds(main: Line, path: str, number: int, what: Watch) -> None:
    """Watch `number` times; whenever all have heard something, tell the hub's process.

    What an event says is not looked at: that is the price of the watchers, not of the hub.
    """
    lines = [Line(path) for _ in range(number)]
    for line in lines:
        line.ask(WATCH.name, codec.pack(what))
    answers: list[object] = []
    heard = main.connection.notify(HEARD, codec.pack({}))
    main.socket.sendall(main.connection.request(READY, codec.pack({}), answers.append, 1e12)[1])
    with selectors.EpollSelector() as selector:
        selector.register(main.socket, selectors.EVENT_READ)
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ)
        left = number
        while not answers:
            for key, _ in selector.select():
                data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if key.fileobj is main.socket:
                    main.connection.receive(data)
                else:
                    left -= 1
                if left == 0:
                    left = number
                    main.socket.sendall(heard)
    for line in lines:
        line.socket.close()


def watchers_main(path: str) -> None:
    """The watchers' process."""
    main = Line(path)
    count_rounds(main, path, JOIN_WATCHERS, Watch(group="g"))
    count_rounds(main, path, SIGNAL_WATCHERS, Watch(signals=WatchSignals(target="a")))


class Bench:
    """The hub's process."""

    def __init__(self) -> None:
        self._say_ready, self._ready = trio.open_memory_channel[tuple[Peer, Request]](1)
        self.heard = trio.Event()

    async def rounds(self, count: int, act: object) -> dict[str, float]:
        """Seconds from an act to the moment that every watcher has heard of it."""
        times = []
        for number in range(count):
            self.heard = trio.Event()
            begin = time.perf_counter()
            act(number)  # type: ignore[operator]
            await self.heard.wait()
            times.append((time.perf_counter() - begin) * 1000)
        times.sort()
        return {
            "p50_ms": round(times[count // 2], 2),
            "p99_ms": round(times[int(count * 0.99)], 2),
            "worst_ms": round(times[-1], 2),
        }

    def on_request(self, dispatcher: object, peer: Peer, request: Request) -> None:
        if request.method == READY:
            self._say_ready.send_nowait((peer, request))
        elif request.method == HEARD:
            self.heard.set()
        else:
            dispatcher(peer, request)  # type: ignore[operator]

    async def until_ready(self) -> tuple[Peer, Request]:
        with trio.fail_after(120):
            return await self._ready.receive()


async def hub_main(path: str, rounds: int) -> dict[str, float]:
    bench, figures = Bench(), {}
    async with hub_world() as world, trio.open_nursery() as nursery:
        component = await world.component("a")
        world.becomes("a", "available")
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)

        def opened(peer: Peer) -> None:
            peer.info["roles"] = frozenset({"operator"})

        run = partial(
            serve,
            form=Form.COMPACT,
            connections_max=2_000,
            on_open=opened,
            on_close=world.hub.connection_closed,
        )
        handler = partial(bench.on_request, world.dispatcher)
        await nursery.start(run, listen_unix(path), handler, sweeper)
        child = watchers_process(path)
        peer, request = await bench.until_ready()

        def join(number: int) -> None:
            kind = LeaveGroups if number % 2 else JoinGroups
            world.log.apply(kind(component="a", groups=["g"]))

        for name, value in (await bench.rounds(rounds, join)).items():
            figures[f"join_{JOIN_WATCHERS}_{name}"] = value
        peer.reply(request)
        peer, request = await bench.until_ready()
        payload = msgspec.Raw(codec.pack({"text": "x" * 100}))
        signal = Signal(signal="on", payload=payload)
        context = Context(component_peer(world, component), Request(None, SIGNAL.name, b""), 30.0)

        def send(_number: int) -> None:
            world.hub.signals.signal(signal, context)

        for name, value in (await bench.rounds(5 * rounds, send)).items():
            figures[f"signal_{SIGNAL_WATCHERS}_{name}"] = value
        figures["signal_cost_us"] = await cost_us(world, peer, signal, context)
        peer.reply(request)
        await trio.to_thread.run_sync(child.wait, 10.0)
        nursery.cancel_scope.cancel()
    return figures


def watchers_process(path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--role", "watchers", "--socket", path])


async def cost_us(world: object, peer: Peer, signal: Signal, context: Context) -> float:
    """Time in the hub for one signal to all of them, without waiting for anybody."""
    best = 1e9
    for _ in range(20):
        begin = time.perf_counter()
        world.hub.signals.signal(signal, context)  # type: ignore[attr-defined]
        best = min(best, time.perf_counter() - begin)
        await trio.sleep(0.01)
    return round(best * 1e6, 1)


def component_peer(world: object, _far: object) -> Peer:
    """The hub's end of the component's connection."""
    peer = world.hub.router.peer("a")  # type: ignore[attr-defined]
    assert peer is not None
    return peer  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", default="")
    parser.add_argument("--socket", default="")
    given = parser.parse_args()
    if given.role == "watchers":
        watchers_main(given.socket)
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = trio.run(hub_main, os.fspath(Path(folder) / "hub.sock"), given.rounds)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:24} {value:10.2f}\n")


if __name__ == "__main__":
    main()
