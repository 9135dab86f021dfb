"""Speaks to its harness byte by byte, and breaks the protocol when asked to."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any

channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
channel.connect(os.environ["PAAS_SOCKET"])
heard: list[Any] = []


def send(value: Any) -> None:
    channel.sendall(json.dumps({"jsonrpc": "2.0", **value}).encode() + b"\n")


def answer(identity: Any, outputs: Any) -> None:
    send({"id": identity, "result": {"outputs": outputs}})


def invoke(identity: Any, operation: str) -> None:
    if operation == "twice":
        answer(identity, {"answer": 1})
        answer(identity, {"answer": 2})
    elif operation == "never":
        return
    elif operation == "garbage":
        channel.sendall(b"\xff\xfe this { is [ not JSON\n\n[]\n42\n{}\n" + b'{"jsonrpc":"2.0"}\n')
        answer(identity, {"sent": "garbage"})
    elif operation == "stranger":
        send({"id": 10**9, "result": {"outputs": "nobody asked"}})
        send({"id": "x", "error": {"code": 1, "message": "nor for this"}})
        answer(identity, {"sent": "stranger"})
    elif operation == "shapeless":
        send({"id": identity, "result": [1, 2, 3]})
    elif operation == "half":
        channel.sendall(b'{"jsonrpc":"2.0","id":%d,"result":{"outp' % identity)
        channel.shutdown(socket.SHUT_RDWR)
        time.sleep(1000)
    elif operation == "oversized":
        try:
            channel.sendall(b'{"jsonrpc":"2.0","id":%d,"result":"' % identity)
            for _ in range(8):
                channel.sendall(b"x" * (1 << 20))
        except OSError:
            pass  # the harness has hung up
        time.sleep(1000)
    elif operation == "deep":
        channel.sendall(b'{"id":%d,"result":%s%s}\n' % (identity, b"[" * 5000, b"]" * 5000))
    elif operation == "heard":
        answer(identity, heard)
    else:
        answer(identity, {"operation": operation})


send({"id": 1, "method": "component.ready"})
for line in channel.makefile("rb"):
    message = json.loads(line)
    method = message.get("method")
    if method == "component.invoke":
        invoke(message["id"], message["params"]["operation"])
    elif method is not None and "id" in message:
        send({"id": message["id"], "result": {"accepted": True}})
        if method == "component.terminate":
            sys.exit(0)
    elif method is None:
        heard.append(message.get("error"))
