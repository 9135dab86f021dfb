"""Answers what it is asked, and calls others, over msgpack frames: one thread, no SDK.

The benchmark puts the package `msgpack` beside this file, as a bundle carries what it needs.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]

LENGTH = struct.Struct(">I")
READ_BYTES = 1 << 16


class Channel:
    """Frames on the channel to the harness."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(os.environ["PAAS_SOCKET"])
        self._rest = b""
        self._last = 0

    def send(self, *messages: dict[str, Any]) -> None:
        bodies = [msgpack.packb({"jsonrpc": "2.0", **m}) for m in messages]
        if bodies:
            self._socket.sendall(b"".join(LENGTH.pack(len(b)) + b for b in bodies))

    def receive(self) -> list[dict[str, Any]]:
        """What has arrived, at least one message."""
        while True:
            data = self._socket.recv(READ_BYTES)
            if not data:
                sys.exit(0)
            data, at, messages = self._rest + data, 0, []
            while len(data) - at >= 4:
                end = at + 4 + LENGTH.unpack_from(data, at)[0]
                if end > len(data):
                    break
                messages.append(msgpack.unpackb(data[at + 4 : end]))
                at = end
            self._rest = data[at:]
            if messages:
                return messages

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        return {"id": self._last, "method": method, "params": params}


def measure(channel: Channel, inputs: dict[str, Any]) -> dict[str, Any]:
    """`count` calls of `target`, `parallel` at once: seconds, and milliseconds of each call."""
    params = {"target": inputs["target"], "operation": "echo", "inputs": {"x": 1}}
    left, parallel = inputs["count"], inputs["parallel"]
    sent: dict[int, float] = {}
    took_ms: list[float] = []
    since = time.perf_counter()
    room = parallel
    while left or sent:
        batch = [channel.request("hub.call", params) for _ in range(min(room, left))]
        left -= len(batch)
        now = time.perf_counter()
        sent.update((request["id"], now) for request in batch)
        channel.send(*batch)
        answers = [m for m in channel.receive() if "method" not in m]
        now = time.perf_counter()
        for answer in answers:
            took_ms.append((now - sent.pop(answer["id"])) * 1e3)
            if "error" in answer:
                raise RuntimeError(answer["error"])
        room = len(answers)
    return {"seconds": time.perf_counter() - since, "took_ms": took_ms}


def invoke(channel: Channel, params: dict[str, Any]) -> dict[str, Any]:
    if params["operation"] == "measure":
        return {"outputs": measure(channel, params["inputs"])}
    return {"outputs": params["inputs"]}


def answer_to(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if message["method"] == "component.invoke":
        result = invoke(channel, message["params"])
    elif message["method"] == "component.terminate":
        result = {"accepted": True}
    return {"id": message["id"], "result": result}


def main() -> None:
    channel = Channel()
    channel.send(channel.request("component.ready", {}))
    while True:
        asked = [m for m in channel.receive() if "method" in m and "id" in m]
        channel.send(*(answer_to(channel, m) for m in asked))
        if any(m["method"] == "component.terminate" for m in asked):
            return


if __name__ == "__main__":
    main()
