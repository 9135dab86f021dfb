"""What the Python SDK costs by itself: a component on a socket pair, this program as its harness.

No harness process and no hub: what remains is the SDK's own work, so that what it adds to a call
is known apart.  `answered` are calls that a component answers with an echo operation, `asked` are
calls that it makes and gets answered; both with many on their way.  Beside the rate, the processor
time of the component's process for each call, which a busy machine changes less.

    python bench/sdk.py                 every front end, JSON, and msgpack where it is installed
    python bench/sdk.py --profile threads-inline    where one of them spends its time
    python bench/sdk.py --json          the figures as one JSON object
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SDK = Path(__file__).resolve().parents[1] / "paas" / "sdk"
COUNT = 30_000
IN_FLIGHT = 256
ID = re.compile(rb'"id":(\d+)')
FRONTS = ("threads", "threads-inline", "asyncio", "asyncio-inline", "trio", "trio-inline")


# -- the component's process -----------------------------------------------------------------------


def component_main(front: str, codec: str) -> None:
    sys.path.insert(0, str(SDK))
    import paas_component as sdk  # type: ignore[import-not-found]

    kind, _, inline = front.partition("-")
    made: Any = {
        "threads": lambda: sdk.Component(codec=codec),
        "asyncio": lambda: sdk.AsyncComponent(codec=codec),
        "trio": lambda: sdk.TrioComponent(codec=codec),
    }[kind]()

    async def echo_in_task(inputs: Any, call: Any) -> Any:
        return inputs

    plain = kind == "threads" or inline
    echo = (lambda inputs, call: inputs) if plain else echo_in_task
    made.operation("echo", inline=bool(inline))(echo)
    made.operation("cpu", inline=True)(lambda inputs, call: time.process_time())
    if kind == "threads":
        ask: Any = lambda inputs, call: ask_with_threads(made, inputs["count"])  # noqa: E731
    else:

        async def ask(inputs: Any, call: Any) -> None:
            await ask_with_tasks(made, kind, inputs["count"])

    made.operation("ask")(ask)
    if kind == "threads":
        made.run()
    elif kind == "asyncio":
        import asyncio

        asyncio.run(made.run())
    else:
        import trio

        trio.run(made.run)


def ask_with_threads(component: Any, count: int) -> None:
    """One thread with many calls on their way."""
    waiting = [component.begin_call("x", "echo", {"n": 1}) for _ in range(IN_FLIGHT)]
    for _ in range(count - IN_FLIGHT):
        waiting.pop(0).result()
        waiting.append(component.begin_call("x", "echo", {"n": 1}))
    for pending in waiting:
        pending.result()


async def ask_with_tasks(component: Any, kind: str, count: int) -> None:
    async def caller() -> None:
        for _ in range(count // IN_FLIGHT):
            await component.call("x", "echo", {"n": 1})

    if kind == "asyncio":
        import asyncio

        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    else:
        import trio

        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(caller)


# -- the harness that is played --------------------------------------------------------------------


class Played:
    """The other end of the socket pair; knows only what it needs of each codec."""

    def __init__(self, sock: socket.socket, codec: str) -> None:
        self.socket = sock
        self.json = codec == "json"
        self._rest = b""
        if not self.json:
            import msgpack

            self._pack, self._unpack = msgpack.packb, msgpack.unpackb

    def encode(self, message: dict[str, Any]) -> bytes:
        if self.json:
            return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"
        body: bytes = self._pack({"jsonrpc": "2.0", **message})
        return len(body).to_bytes(4, "big") + body

    def bodies(self) -> list[bytes]:
        data = self._rest + self.socket.recv(1 << 20)
        if self.json:
            *found, self._rest = data.split(b"\n")
            return [body for body in found if body]
        found = []
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
            found.append(data[4:end])
            data = data[end:]
        self._rest = data
        return found

    def decode(self, body: bytes) -> Any:
        return json.loads(body) if self.json else self._unpack(body)

    def ask(self, operation: str, inputs: Any = None) -> Any:
        """One invocation, and its outputs."""
        self.socket.sendall(self.invocation(1, operation, inputs))
        while True:
            for body in self.bodies():
                message = self.decode(body)
                if message.get("id") == 1 and "result" in message:
                    return message["result"]["outputs"]

    def invocation(self, identity: int, operation: str, inputs: Any = None) -> bytes:
        params = {"operation": operation, "object": "", "inputs": inputs or {}, "from": "ab" * 20}
        params["deadline"] = time.time() + 600
        return self.encode({"id": identity, "method": "component.invoke", "params": params})

    def until_ready(self) -> None:
        while True:
            for body in self.bodies():
                message = self.decode(body)
                if message.get("method") == "component.ready":
                    self.socket.sendall(self.encode({"id": message["id"], "result": {}}))
                    return

    def answered(self, count: int) -> float:
        """Calls a second."""
        one = [
            self.invocation(2 + n, "echo", {"name": "Ada", "limit": 5}) for n in range(IN_FLIGHT)
        ]
        since = time.perf_counter()
        self.socket.sendall(b"".join(one))
        sent, got = IN_FLIGHT, 0
        while got < count:
            found = len(self.bodies())
            got += found
            more = min(found, count - sent)
            if more > 0:
                self.socket.sendall(b"".join(one[:more]))
                sent += more
        return count / (time.perf_counter() - since)

    def asked(self, count: int) -> float:
        """Calls a second that the component makes."""
        self.socket.sendall(self.invocation(1, "ask", {"count": count}))
        template = self.encode({"id": 7, "result": {"outputs": {"n": 1}, "component": "ab" * 20}})
        since = time.perf_counter()
        while True:
            answers = []
            for body in self.bodies():
                if self.json:
                    if b'"method":"hub.call"' not in body:
                        return count / (time.perf_counter() - since)
                    match = ID.search(body)
                    assert match is not None
                    answers.append(template.replace(b'"id":7', b'"id":' + match[1]))
                else:
                    message = self._unpack(body)
                    if "method" not in message:
                        return count / (time.perf_counter() - since)
                    result = {"outputs": {"n": 1}, "component": "ab" * 20}
                    answers.append(self.encode({"id": message["id"], "result": result}))
            self.socket.sendall(b"".join(answers))


def measure(front: str, codec: str, count: int) -> dict[str, float]:
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PAAS_FD": str(theirs.fileno())}
    environment.pop("PAAS_SOCKET", None)
    words = [sys.executable, str(Path(__file__).resolve()), "--component", front, codec]
    process = subprocess.Popen(words, env=environment, pass_fds=(theirs.fileno(),))
    theirs.close()
    played = Played(ours, codec)
    try:
        played.until_ready()
        played.answered(count // 10)  # once without counting
        figures = {}
        for name, run in (("answered", played.answered), ("asked", played.asked)):
            before = played.ask("cpu")
            rate = run(count)
            used = played.ask("cpu") - before
            figures[f"{name}_per_s"] = round(rate)
            figures[f"{name}_cpu_us"] = round(used / count * 1e6, 1)
        return figures
    finally:
        ours.close()
        process.wait(20)


def profiled(front: str) -> None:
    """The component under the profiler, in a thread of its own for the harness."""
    import threading

    ours, theirs = socket.socketpair()
    os.environ["PAAS_FD"] = str(theirs.detach())
    os.environ.pop("PAAS_SOCKET", None)

    def drive() -> None:
        played = Played(ours, "json")
        played.until_ready()
        played.answered(COUNT)
        played.asked(COUNT)
        ours.close()

    threading.Thread(target=drive, daemon=True).start()
    profile = cProfile.Profile()
    threading.setprofile(None)
    profile.runcall(component_main, front, "json")
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/sdk.py", description="Measure the Python SDK.")
    parser.add_argument("--component", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--profile", choices=FRONTS, metavar="FRONT")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args()
    if given.component:
        component_main(*given.component)
        return
    if given.profile:
        profiled(given.profile)
        return
    codecs = ["json"]
    try:
        import msgpack  # noqa: F401

        codecs.append("msgpack")
    except ImportError:
        pass
    figures = {
        f"{front}, {codec}": measure(front, codec, given.count)
        for codec in codecs
        for front in FRONTS
    }
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, found in figures.items():
        sys.stdout.write(
            f"{name:<24} answered {found['answered_per_s']:>7}/s {found['answered_cpu_us']:>6} us"
            f"   asked {found['asked_per_s']:>7}/s {found['asked_cpu_us']:>6} us\n"
        )


if __name__ == "__main__":
    main()
