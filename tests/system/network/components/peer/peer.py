"""Listens on its endpoint and echoes; connects to others and keeps the connection if asked to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any

from paas_component import Call, Component

component = Component()
kept: dict[int, socket.socket] = {}


def serve() -> None:
    host, port = os.environ["PAAS_ENDPOINT_HTTP"].rsplit(":", 1)
    server = socket.create_server((host, int(port)))
    other = socket.create_server((host, int(port) + 1))
    threading.Thread(target=_accept, args=(other, b"another port\n"), daemon=True).start()
    _accept(server, f"this is {component.id}\n".encode())


def _accept(server: socket.socket, greeting: bytes) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_echo, args=(connection, greeting), daemon=True).start()


def _echo(connection: socket.socket, greeting: bytes) -> None:
    with contextlib.suppress(OSError), connection:
        connection.sendall(greeting)
        while data := connection.recv(65_536):
            connection.sendall(data)


@component.operation("request")
def request(inputs: Any, call: Call) -> Any:
    """Any method of the API, as this component."""
    return component.request(inputs["method"], inputs.get("params", {}))


@component.operation("reach")
def reach(inputs: Any, call: Call) -> Any:
    """What somebody says who listens there; with `keep`, the connection stays."""
    try:
        connection = socket.create_connection((inputs["host"], inputs["port"]), timeout=1.0)
        said = connection.recv(100).decode().strip()
    except OSError as exc:
        return {"reached": False, "error": type(exc).__name__}
    if inputs.get("keep"):
        kept[connection.fileno()] = connection
        return {"reached": True, "said": said, "number": connection.fileno()}
    connection.close()
    return {"reached": True, "said": said}


@component.operation("talk")
def talk(inputs: Any, call: Call) -> Any:
    """Does a kept connection answer?"""
    connection = kept[inputs["number"]]
    connection.settimeout(inputs.get("seconds", 1.0))
    try:
        connection.sendall(b"still there?")
        return {"answered": connection.recv(100) == b"still there?"}
    except OSError:
        return {"answered": False}


@component.operation("exit")
def leave(inputs: Any, call: Call) -> Any:
    threading.Timer(0.05, os._exit, [inputs.get("code", 0)]).start()
    return {}


if __name__ == "__main__":
    threading.Thread(target=serve, daemon=True).start()
    component.run()
