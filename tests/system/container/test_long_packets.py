"""What two containers of a node say to each other is in packets longer than a wire would take."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import hashlib
import json
import os
import socket
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.system

SENT_BYTES = 256 << 20
OF_A_WIRE_BYTES = 65_536

SINK = """
import hashlib, json, os, socket
host, port = os.environ["PAAS_ENDPOINT_SINK"].rsplit(":", 1)
connection, _ = socket.create_server((host, int(port))).accept()
whole = hashlib.sha256()
while data := connection.recv(1 << 20):
    whole.update(data)
print(json.dumps({"hash": whole.hexdigest()}))
"""

SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as connection:
    for _ in range(int(sys.argv[3])):
        connection.sendall(bytes(range(256)) * 4096)
"""


def has_long_packets() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 3)


async def sent(pid: int) -> tuple[int, int]:
    """(packets, bytes) that a container's link sent."""
    command = ["nsenter", "-t", str(pid), "-n", "ip", "-j", "-s", "link", "show", "eth0"]
    done = await trio.run_process(command, capture_stdout=True)
    told = json.loads(done.stdout)[0]["stats64"]["tx"]
    return told["packets"], told["bytes"]


async def test_a_stream_between_containers_goes_in_long_packets_and_arrives_whole(
    node: Any,
) -> None:
    sink = await node.start("/usr/bin/python3", "-c", SINK, endpoints={"sink": "tcp"})
    host, port = sink.endpoints["sink"]
    source = await node.start("sleep", "60")
    await node.engine.paths.grant(source.component, sink.component, port)
    with trio.fail_after(20):
        while not await listens(sink.pid, port):
            await trio.sleep(0.05)
    before = await sent(source.pid)
    count = SENT_BYTES >> 20
    program = ["/usr/bin/python3", "-c", SOURCE, host, str(port), str(count)]
    await trio.run_process(["nsenter", "-t", str(source.pid), "-n", *program])
    exited = await node.wait_exit(sink.component)
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(bytes(range(256)) * 4096)
    assert json.loads(exited.harness_log.split("\n")[-2])["hash"] == whole.hexdigest()
    after = await sent(source.pid)
    mean = (after[1] - before[1]) / (after[0] - before[0])
    assert (mean > OF_A_WIRE_BYTES) == has_long_packets()


async def listens(pid: int, port: int) -> bool:
    command = ["nsenter", "-t", str(pid), "-n", "ss", "-ltnH", f"sport = :{port}"]
    done = await trio.run_process(command, capture_stdout=True)
    return bool(done.stdout.strip())


async def test_the_host_sends_and_receives_packets_of_any_length(node: Any) -> None:
    """What leaves by a link that takes less is cut there; from the host to a container as well."""
    sink = await node.start("/usr/bin/python3", "-c", SINK, endpoints={"sink": "tcp"})
    host, port = sink.endpoints["sink"]
    with trio.fail_after(20):
        while not await listens(sink.pid, port):
            await trio.sleep(0.05)
    data = os.urandom(8 << 20)
    with socket.create_connection((host, port), timeout=20) as connection:
        await trio.to_thread.run_sync(connection.sendall, data)
    exited = await node.wait_exit(sink.component)
    wanted = hashlib.sha256(data).hexdigest()
    assert json.loads(exited.harness_log.split("\n")[-2])["hash"] == wanted
