"""Every local socket of a node: garbage, too much, half a message, and what was said once already.

The ports that face other machines: tests/system/mesh/test_strangers.py (hubs) and
tests/system/certificates (joining); a component's own channel: tests/system/harness.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.system

MIB = 1 << 20
FLOOD_BYTES = 64 * MIB
GROWTH_BYTES_MAX = 24 * MIB
"""Of an agent that is flooded: what one connection may hold, and what Python keeps for later."""

SOCKETS = {
    "api": ("api.sock", "hub"),
    "harness": ("harness/harness.sock", "hub"),
    "certificates": ("authority/certificates.sock", "certificates"),
    "containers": ("containers.sock", "containers"),
}

dice = random.Random(42)
GARBAGE = {
    "random bytes": dice.randbytes(20_000),
    "zeros": bytes(20_000),
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a handshake with nobody": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "deep": b"[" * 20_000 + b"\n",
    "a line that is no object": b'"x"\n' * 1_000,
    "a frame that is no message": b"\0\0\0\x04\xc1\xc1\xc1\xc1" * 1_000,
    "a frame of another type": b"\0\0\0\x05\x95\x01\x02\x03\x04",
    "half a frame": b"\0\0\xff\xff\x90",
    "half a line": b'{"jsonrpc": "2.0", "id": 1, "method": "clus',
    "nothing": b"",
}


def runtime(platform: Any) -> Path:
    return Path(json.loads((platform.state / "cluster.json").read_text())["runtime"])


def talk(path: Path, said: bytes) -> bytes:
    """Say it, and hear what there is to hear until the other side ends."""
    heard = bytearray()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65_536):
                heard += data
    return bytes(heard)


def agents(platform: Any) -> dict[str, int]:
    return {role: platform.agent(role) for role in ("hub", "certificates", "containers", "node")}


@pytest.mark.parametrize("name", SOCKETS)
def test_garbage_ends_its_connection_and_nothing_else(platform: Any, name: str) -> None:
    path, before = runtime(platform) / SOCKETS[name][0], agents(platform)
    component = platform.create("probe")
    for case, garbage in GARBAGE.items():
        heard = talk(path, garbage)
        # What is not understood is refused; nothing is ever granted.
        assert b'"result"' not in heard, case
    assert agents(platform) == before
    assert platform.api("cluster.status")["nodes"][0]["state"] == "available"
    assert platform.component(component)["state"] == "available"
    platform.destroy(component)  # the hub, the certificates' and the containers' agent all work


@pytest.mark.parametrize("name", SOCKETS)
@pytest.mark.parametrize("kind", ["a frame", "a line"])
def test_more_than_a_message_may_have_is_cut_off_and_not_kept(
    platform: Any, name: str, kind: str
) -> None:
    path, role = SOCKETS[name]
    before, pid = agents(platform), platform.agent(role)
    agent = psutil.Process(pid)
    least = agent.memory_info().rss
    sent = most = 0
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        sock.settimeout(20)
        sock.connect(str(runtime(platform) / path))
        sock.sendall(b"\x7f\xff\xff\xff" if kind == "a frame" else b'{"method": "')
        while sent < FLOOD_BYTES:
            sock.sendall(b"x" * MIB)
            sent += MIB
            most = max(most, agent.memory_info().rss)
    assert sent < FLOOD_BYTES  # it was hung up on
    assert most - least < GROWTH_BYTES_MAX
    assert agents(platform) == before
    assert platform.api("cluster.status")["nodes"][0]["state"] == "available"


def test_what_an_operator_said_is_done_once_however_often_it_is_said(platform: Any) -> None:
    """The bytes of a request to create, with its identity, as somebody recorded them."""
    params = {"type": "probe", "request_id": f"recorded-{time.time_ns()}", "wait": "accepted"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "controller.create", "params": params}
    said = json.dumps(body).encode() + b"\n"
    made = set()
    for _ in range(5):
        with platform.raw() as sock:
            sock.sendall(said)
            answer = b""
            while not answer.endswith(b"\n"):
                answer += sock.recv(65_536)
        made.update(json.loads(answer)["result"]["components"])
    assert len(made) == 1
    assert {one["id"] for one in platform.components()} == made
