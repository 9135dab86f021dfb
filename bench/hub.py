"""How fast the hub leads a call: caller -> router -> component and back, over UNIX sockets.

Three processes, as on a node: the router in one, a peer that answers like a component's harness in
another, a calling peer in the third; no containers, no replicated log, no program behind the
harness.  What remains is the price of frames, envelopes, routing and the event loop.

    python bench/hub.py                 p50 with one call in flight, rate with 64 in flight
    python bench/hub.py --profile       also where the router's process spends its time
    python bench/hub.py --json          the figures as one JSON object
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.harness.messages import Invoke, InvokeResult
from paas.hub.messages import CALL, Call
from paas.hub.router import Router
from paas.real.clock import SystemClock
from paas.rpc.client import connected_unix
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve
from paas.wire import codec
from paas.wire.registry import decode

IN_FLIGHT = 64
SOCKET = "hub.sock"
HELLO = "bench.component"
TARGET = "the-component"


class One:
    """A directory with one component."""

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return [TARGET]

    def state(self, component: str) -> str:
        return "available"


async def router_main(path: str) -> None:
    router = Router(One(), SystemClock())

    def on_request(peer: Peer, request: Request) -> None:
        if request.method == HELLO:
            router.attach(TARGET, peer, ready=True)
            peer.reply(request)
            return
        try:
            router.call(peer, request)
        except PlatformError as exc:
            peer.fail(request, exc)

    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        run = partial(serve, form=Form.COMPACT, connections_max=10)
        await nursery.start(run, listen_unix(path), on_request, sweeper)
        await trio.lowlevel.wait_readable(sys.stdin)  # the parent closes it: the end
        nursery.cancel_scope.cancel()


async def component_main(path: str) -> None:
    def on_request(peer: Peer, request: Request) -> None:
        peer.reply(request, InvokeResult(outputs=decode(request.params, Invoke).inputs))

    async with connected_unix(path, on_request, Form.COMPACT) as peer:
        await peer.call_raw(HELLO, codec.pack({}), 10.0)
        await trio.lowlevel.wait_readable(sys.stdin)


def call_body() -> bytes:
    inputs = msgspec.Raw(codec.pack({"name": "Ada", "limit": 5}))
    return codec.pack(Call(target=TARGET, operation="greet", inputs=inputs, timeout=30.0))


async def alone(peer: Peer, count: int) -> list[float]:
    """Seconds of each of `count` calls, one after the other."""
    body, times = call_body(), []
    for _ in range(count):
        begin = time.perf_counter()
        await peer.call_raw(CALL.name, body, 30.0)
        times.append(time.perf_counter() - begin)
    return times


async def together(peer: Peer, count: int) -> float:
    """Calls a second with IN_FLIGHT of them always on their way; by callbacks, so that the caller
    costs little beside what is measured."""
    body, left, done = call_body(), count, trio.Event()
    answered = 0

    def answer(value: bytes | PlatformError) -> None:
        nonlocal left, answered
        if isinstance(value, PlatformError):
            raise value
        answered += 1
        if left > 0:
            left -= 1
            peer.send_request(CALL.name, body, answer, timeout_s=30.0)
        elif answered == count:
            done.set()

    begin = time.perf_counter()
    for _ in range(IN_FLIGHT):
        left -= 1
        peer.send_request(CALL.name, body, answer, timeout_s=30.0)
    await done.wait()
    return count / (time.perf_counter() - begin)


async def caller_main(path: str, calls: int) -> dict[str, float]:
    async with connected_unix(path, form=Form.COMPACT) as peer:
        await alone(peer, 300)
        times = await alone(peer, calls // 10)
        await together(peer, 1_000)
        rate = await together(peer, calls)
    times.sort()
    return {
        "p50_ms": statistics.median(times) * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "rate_64_per_s": rate,
    }


def child(role: str, path: str, profile: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--role", role, "--socket", path]
    if profile:
        command += ["--profile-file", profile]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def wait_for(condition: object, path: str) -> None:
    for _ in range(500):
        if os.path.exists(path):
            return
        time.sleep(0.01)
    raise SystemExit(f"{condition} did not start")


def measure(calls: int, profile: bool) -> dict[str, float]:
    """Start the processes, measure, end them."""
    with tempfile.TemporaryDirectory(prefix="bench-hub-") as folder:
        path = str(Path(folder) / SOCKET)
        profile_file = str(Path(folder) / "profile") if profile else ""
        router = child("router", path, profile_file)
        wait_for("the router", path)
        component = child("component", path)
        try:
            time.sleep(0.7)
            return trio.run(caller_main, path, calls)
        finally:
            for process in (component, router):
                assert process.stdin is not None
                process.stdin.close()
                process.wait(20)
            if profile:
                pstats.Stats(profile_file).sort_stats("tottime").print_stats(30)


def run_role(role: str, path: str, profile_file: str) -> None:
    main = partial(trio.run, router_main if role == "router" else component_main, path)
    if not profile_file:
        main()
        return
    profiler = cProfile.Profile()
    profiler.runcall(main)
    profiler.dump_stats(profile_file)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the hub's call path.")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--socket", help=argparse.SUPPRESS)
    parser.add_argument("--profile-file", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        run_role(given.role, given.socket, given.profile_file)
        return
    figures = measure(given.calls, given.profile)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(
        f"one in flight:  p50 {figures['p50_ms']:.3f} ms, p99 {figures['p99_ms']:.3f} ms\n"
        f"{IN_FLIGHT} in flight:   {figures['rate_64_per_s']:.0f} calls/s\n"
    )


if __name__ == "__main__":
    main()
