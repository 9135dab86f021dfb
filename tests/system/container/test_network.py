"""Nothing is reachable but what was granted; the node's operators reach everything."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

SERVER = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT_WEB"].rsplit(":", 1)
server = socket.create_server((host, int(port)))
other = socket.create_server((host, int(port) + 1))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    try:
        connection.sendall(b"hello\\n")
        while connection.recv(100):
            connection.sendall(b"again\\n")
    except OSError:
        pass  # a client that goes without reading
    connection.close()
"""

CLIENT = """
import json, socket, sys
results = []
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=0.5) as connection:
            results.append(connection.recv(100).decode().strip())
    except OSError as exc:
        results.append(type(exc).__name__)
print(json.dumps(results))
"""


@pytest.fixture
def host_server() -> Iterator[int]:
    """A server on every address of the host."""
    server = socket.create_server(("0.0.0.0", 0))
    threading.Thread(target=_answer, args=(server,), daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def _answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"host\n")


async def start_server(node: Any) -> Any:
    started = await node.start("/usr/bin/python3", "-c", SERVER, endpoints={"web": "tcp"})
    with trio.fail_after(20):
        while True:
            try:
                stream = await trio.open_tcp_stream(*started.endpoints["web"])
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.receive_some(100)
                await stream.aclose()
                return started


async def ask(node: Any, *targets: str, component: str | None = None) -> Any:
    changes = {} if component is None else {"component": component}
    return await node.python(CLIENT, *targets, **changes)


async def test_the_host_reaches_an_endpoint(node: Any) -> None:
    server = await start_server(node)
    stream = await trio.open_tcp_stream(*server.endpoints["web"])
    assert await stream.receive_some(100) == b"hello\n"
    await stream.aclose()


async def test_a_container_reaches_neither_host_nor_world_nor_neighbour(
    node: Any, host_server: int
) -> None:
    server = await start_server(node)
    host, port = server.endpoints["web"]
    gateway = host.rsplit(".", 1)[0] + ".1"
    targets = [
        f"{host}:{port}",
        f"{gateway}:{host_server}",
        f"127.0.0.1:{host_server}",
        f"{_own_address()}:{host_server}",
        "169.254.169.254:80",
        "192.0.2.1:80",
    ]
    found = await ask(node, *targets)
    assert "hello" not in found
    assert "host" not in found
    assert len(found) == len(targets)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.99", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def test_a_grant_opens_one_port_for_one_component(node: Any) -> None:
    server = await start_server(node)
    host, port = server.endpoints["web"]
    client = await node.start("sleep", "60")
    stranger = await node.start("sleep", "60")
    await node.engine.paths.grant(client.component, server.component, port)
    await node.engine.paths.grant(client.component, server.component, port)  # twice is once
    assert await inside(client.pid, host, port) == "hello"
    assert await inside(client.pid, host, port + 1) == "TimeoutError"
    assert await inside(stranger.pid, host, port) == "TimeoutError"
    await node.engine.paths.revoke(client.component, server.component, port)
    await node.engine.paths.revoke(client.component, server.component, port)
    assert await inside(client.pid, host, port) == "TimeoutError"


async def inside(pid: int, host: str, port: int) -> str:
    """What a client in the network of process `pid` gets (entered from the host for this test)."""
    command = ["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", CLIENT]
    done = await trio.run_process([*command, f"{host}:{port}"], capture_stdout=True)
    return str(json.loads(done.stdout)[0])


async def test_revoking_cuts_a_connection_that_is_there(node: Any) -> None:
    server = await start_server(node)
    host, port = server.endpoints["web"]
    client_source = f"""
import json, socket, time
connection = None
while connection is None:
    try:
        connection = socket.create_connection(({host!r}, {port}), timeout=0.3)
    except OSError:
        time.sleep(0.05)
connection.recv(100)
print("connected", flush=True)
connection.settimeout(1)
answers = True
while answers:
    try:
        connection.sendall(b"x")
        answers = bool(connection.recv(100))
        time.sleep(0.05)
    except OSError:
        answers = False
print(json.dumps("cut"))
"""
    client = await node.start("/usr/bin/python3", "-c", client_source)
    await node.engine.paths.grant(client.component, server.component, port)
    log = f"{node.settings.state_dir}/containers/{client.component}/harness.log"
    with trio.fail_after(20):
        while "connected" not in open(log).read():  # noqa: ASYNC230, SIM115
            await trio.sleep(0.05)
    await node.engine.paths.revoke(client.component, server.component, port)
    exited = await node.wait_exit(client.component)
    assert "cut" in exited.harness_log


async def test_a_grant_ends_with_either_container(node: Any) -> None:
    server = await start_server(node)
    port = server.endpoints["web"][1]
    client = await node.start("sleep", "60")
    await node.engine.paths.grant(client.component, server.component, port)
    await node.engine.destroy(client.component)
    table = ["nft", "list", "set", "inet", node.settings.table, "grants"]
    done = await trio.run_process(table, capture_stdout=True)
    assert b"elements" not in done.stdout


async def test_a_grant_needs_two_containers_and_a_port(node: Any) -> None:
    started = await node.start("sleep", "60")
    with pytest.raises(PlatformError) as caught:
        await node.engine.paths.grant(started.component, "f" * 40, 80)
    assert caught.value.code == "no-such-target"
    other = await node.start("sleep", "60")
    for port, protocol in ((0, "tcp"), (65_536, "tcp"), (80, "icmp")):
        with pytest.raises(PlatformError) as caught:
            await node.engine.paths.grant(started.component, other.component, port, protocol)
        assert caught.value.code == "invalid"


async def test_a_port_of_the_bridge_may_use_its_own_address_only(node: Any) -> None:
    started = await node.start("sleep", "60")
    server = await start_server(node)
    host, port = server.endpoints["web"]
    await node.engine.paths.grant(started.component, server.component, port)
    false = host.rsplit(".", 1)[0] + ".200"
    # With the host's power in the container's network: it takes another address.
    script = f"ip addr add {false}/32 dev eth0"
    done = await trio.run_process(["nsenter", "-t", str(started.pid), "-n", "sh", "-c", script])
    assert done.returncode == 0
    source = f"""
import socket
with socket.socket() as s:
    s.settimeout(0.5)
    s.bind(({false!r}, 0))
    try:
        s.connect(({host!r}, {port}))
        print("reached")
    except OSError as exc:
        print(type(exc).__name__)
"""
    command = ["nsenter", "-t", str(started.pid), "-n", "/usr/bin/python3", "-c", source]
    done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout.strip() == b"TimeoutError"
