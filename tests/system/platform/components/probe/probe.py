"""Does what a test asks, from inside of a container: talks to others, ends itself, misbehaves."""

from __future__ import annotations

import glob
import os
import pathlib
import socket
import sys
import threading
import time
from typing import Any

from paas_component import Call, Component, ComponentError

component = Component()
events: list[dict[str, Any]] = []
notes: list[Any] = []


@component.operation("echo")
def echo(inputs: Any, call: Call) -> Any:
    return {"inputs": inputs, "from": component.id, "sender": call.sender}


@component.operation("facts")
def facts(inputs: Any, call: Call) -> Any:
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "host": socket.gethostname(),
        "state": glob.glob(f"{inputs.get('path', '/nowhere')}/*"),
        "environment": dict(os.environ),
        "configuration": component.configuration,
        "deadline": call.deadline,
    }


@component.operation("request")
def request(inputs: Any, call: Call) -> Any:
    """Any method of the API, as this component."""
    return component.request(inputs["method"], inputs.get("params", {}))


@component.operation("ask")
def ask(inputs: Any, call: Call) -> Any:
    """Call another component."""
    more = {k: inputs[k] for k in ("selector", "timeout") if k in inputs}
    return component.call(inputs["target"], inputs["operation"], inputs.get("inputs"), **more)


@component.operation("watch")
def watch(inputs: Any, call: Call) -> Any:
    return component.watch(events.append, **inputs)


@component.operation("monitor")
def monitor(inputs: Any, call: Call) -> Any:
    return component.monitor(inputs["component"], events.append)


@component.operation("events")
def get_events(inputs: Any, call: Call) -> Any:
    return list(events)


@component.operation("note")
def note(inputs: Any, call: Call) -> Any:
    notes.append({"inputs": inputs, "oneway": call.oneway, "sender": call.sender})
    return {}


@component.operation("notes")
def get_notes(inputs: Any, call: Call) -> Any:
    return notes


@component.operation("log")
def log(inputs: Any, call: Call) -> Any:
    for level in ("debug", "info", "warning", "error"):
        component.log(f"a record of level {level}", level, number=len(level))
    print("a line of standard output", flush=True)  # noqa: T201
    print("a line of standard error", file=sys.stderr, flush=True)  # noqa: T201
    return {}


@component.operation("flood")
def flood(inputs: Any, call: Call) -> Any:
    """As much output as possible for a while; how many lines."""
    end_s, lines = time.monotonic() + inputs["seconds"], 0
    block = b"".join(b"flood %d\n" % n for n in range(500))
    while time.monotonic() < end_s:
        os.write(1, block)
        lines += 500
    return {"lines": lines}


@component.operation("sleep")
def sleep(inputs: Any, call: Call) -> Any:
    time.sleep(inputs["seconds"])
    return {}


@component.operation("exit")
def leave(inputs: Any, call: Call) -> Any:
    os._exit(inputs["code"])


@component.operation("signal")
def send_signal(inputs: Any, call: Call) -> Any:
    os.kill(os.getpid(), inputs["number"])
    time.sleep(5)


@component.operation("pause")
def pause(inputs: Any, call: Call) -> Any:
    component.unavailable(inputs.get("reason", ""))
    threading.Timer(inputs.get("seconds", 0.3), component.available).start()
    return {}


@component.operation("eat")
def eat(inputs: Any, call: Call) -> Any:
    """Memory, until there is no more."""
    eaten = []
    while True:
        block = bytearray(1 << 20)
        block[::4096] = b"x" * len(block[::4096])
        eaten.append(block)


@component.operation("fork")
def fork_bomb(inputs: Any, call: Call) -> Any:
    """Processes, until there is no more."""
    children = 0
    while children < 10_000:
        try:
            pid = os.fork()
        except OSError as exc:
            return {"children": children, "error": exc.errno}
        if pid == 0:
            time.sleep(1000)
            os._exit(0)
        children += 1
    return {"children": children, "error": 0}


@component.operation("fill")
def fill(inputs: Any, call: Call) -> Any:
    """A directory, until there is no more room; then frees it again."""
    path, written = os.path.join(inputs["directory"], "filler"), 0
    try:
        with open(path, "wb", buffering=0) as file:
            while written < 1 << 30:
                written += file.write(b"x" * 65536)
    except OSError as exc:
        return {"written": written, "error": exc.errno}
    finally:
        os.unlink(path)
    return {"written": written, "error": 0}


@component.operation("reach")
def reach(inputs: Any, call: Call) -> Any:
    """Does the endpoint answer?"""
    try:
        with socket.create_connection((inputs["host"], inputs["port"]), timeout=1.5) as sock:
            sock.settimeout(3.0)
            return {"reached": True, "said": sock.recv(100).decode()}
    except OSError as exc:
        return {"reached": False, "error": str(exc)}


@component.operation("large")
def large(inputs: Any, call: Call) -> Any:
    return {"data": "x" * inputs["bytes"]}


@component.on_terminate
def terminate(reason: str, inputs: Any) -> bool:
    if component.configuration.get("stays") and not (inputs or {}).get("really"):
        raise ComponentError("refused", "there is work to do")
    return True


def serve() -> None:
    host, port = os.environ["PAAS_ENDPOINT_HTTP"].rsplit(":", 1)
    with socket.create_server((host, int(port))) as listener:
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(f"this is {component.id}".encode())


if __name__ == "__main__":
    threading.Thread(target=serve, daemon=True).start()
    pathlib.Path("/tmp/started").touch()
    component.run()
