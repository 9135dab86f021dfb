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
from paas.network.messages import FarPath, Neighbour, SetNeighbours

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


OTHER = "192.0.2.77"
OTHER_NETWORK = "10.99.0.0/24"
OTHER_NODE = Neighbour(node="other", network=OTHER_NETWORK, address=OTHER)


def far_path(component: str, end: str, port: int, **changes: Any) -> FarPath:
    given: dict[str, Any] = {
        "component": component,
        "incarnation": 1,
        "end": end,
        "peer": "e" * 40,
        "peer_incarnation": 3,
        "peer_node": "other",
        "peer_address": "10.99.0.7",
        "port": port,
    }
    return FarPath(**(given | changes))


async def granted(node: Any) -> list[list[Any]]:
    words = ["nft", "-j", "list", "set", "inet", node.settings.table, "grants"]
    done = await trio.run_process(words, capture_stdout=True)
    (found,) = [i["set"] for i in json.loads(done.stdout)["nftables"] if "set" in i]
    return sorted(element["concat"] for element in found.get("elem", []))


async def test_ends_of_paths_to_other_nodes_outlive_the_controller_and_end_with_the_container(
    fresh_node: Any,
) -> None:
    node = fresh_node
    async with node.running() as engine:
        await engine.between.have(SetNeighbours(address="192.0.2.1", neighbours=[OTHER_NODE]))
        server = await start_server(node)
        address, port = server.endpoints["web"]
        outward, inward = (
            far_path(server.component, "source", 80),
            far_path(server.component, "target", port),
        )
        assert await engine.between.admit(outward) == address
        assert await engine.between.admit(inward) == address
        wanted = sorted([[address, "10.99.0.7", "tcp", 80], ["10.99.0.7", address, "tcp", port]])
        assert await granted(node) == wanted
    async with node.running() as engine:
        assert sorted(engine.paths.far) == sorted([outward, inward])
        assert await granted(node) == wanted
        await engine.paths.shut([outward, outward])
        assert await granted(node) == [["10.99.0.7", address, "tcp", port]]
        await engine.destroy(server.component)
        assert engine.paths.far == []
        assert await granted(node) == []


async def test_one_path_is_closed_while_another_of_the_same_addresses_is_open(node: Any) -> None:
    await node.engine.between.have(SetNeighbours(address="192.0.2.1", neighbours=[OTHER_NODE]))
    server = await start_server(node)
    port = server.endpoints["web"][1]
    old = far_path(server.component, "target", port)
    new = far_path(server.component, "target", port, peer_incarnation=4)
    await node.engine.between.admit(old)
    await node.engine.between.admit(new)
    await node.engine.paths.shut([old])
    assert len(await granted(node)) == 1
    await node.engine.paths.shut([new])
    assert await granted(node) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peer_address": "10.98.0.7"}, "conflict"),
        ({"peer_address": "own"}, "conflict"),
        ({"peer_node": "stranger"}, "conflict"),
        ({"incarnation": 2}, "conflict"),
        ({"peer_address": "nonsense"}, "invalid"),
        ({"port": 22}, "invalid"),
        ({"component": "f" * 40}, "no-such-target"),
    ],
)
async def test_an_end_is_opened_only_for_what_is_known_here(
    node: Any, changes: dict[str, Any], code: str
) -> None:
    await node.engine.between.have(SetNeighbours(address="192.0.2.1", neighbours=[OTHER_NODE]))
    server = await start_server(node)
    address, port = server.endpoints["web"]
    if changes.get("peer_address") == "own":
        changes = {"peer_address": address}
    path = far_path(server.component, "target", port)
    with pytest.raises(PlatformError) as caught:
        await node.engine.between.admit(FarPath(**(_fields(path) | changes)))
    assert caught.value.code == code
    assert await granted(node) == []


def _fields(path: FarPath) -> dict[str, Any]:
    return {name: getattr(path, name) for name in path.__struct_fields__}


async def test_another_network_is_taken_while_there_are_no_containers(node: Any) -> None:
    number = int(node.settings.network.split(".")[2])
    network = f"10.98.{number}.0/24"
    await node.engine.between.renumber(network)
    assert node.engine.between.facts().network == network
    server = await start_server(node)
    assert server.address.startswith(f"10.98.{number}.")
    with pytest.raises(PlatformError) as caught:
        await node.engine.between.renumber("10.97.0.0/24")
    assert caught.value.code == "conflict"


SPOOF = """
import socket, struct, sys
victim, gateway, own = (socket.inet_aton(a) for a in sys.argv[1:4])
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0x0806))
for operation in (1, 2):  # a question and an answer, both in the victim's name
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body = head + mac + victim + b"\\xff" * 6 + gateway
    raw.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + body)
print("sent")
"""


async def test_a_container_cannot_speak_for_the_address_of_another(node: Any) -> None:
    server = await start_server(node)
    attacker = await node.start("sleep", "60")
    gateway = server.address.rsplit(".", 1)[0] + ".1"
    before = await _neighbour(node, server.address)
    # With the host's power in the container's network: a component has no such sockets.
    words = ["nsenter", "-t", str(attacker.pid), "-n", "/usr/bin/python3", "-c", SPOOF]
    done = await trio.run_process(
        [*words, server.address, gateway, attacker.address], capture_stdout=True
    )
    assert done.stdout == b"sent\n"
    await trio.sleep(0.2)
    assert await _neighbour(node, server.address) == before
    assert await _neighbour(node, server.address) != await _mac(attacker.pid)


async def _neighbour(node: Any, address: str) -> str:
    words = ["ip", "-j", "neigh", "show", address, "dev", node.settings.bridge]
    done = await trio.run_process(words, capture_stdout=True)
    (found,) = json.loads(done.stdout)
    return str(found["lladdr"])


async def _mac(pid: int) -> str:
    words = ["nsenter", "-t", str(pid), "-n", "ip", "-j", "link", "show", "eth0"]
    done = await trio.run_process(words, capture_stdout=True)
    return str(json.loads(done.stdout)[0]["address"])


async def test_there_is_no_ipv6_even_for_who_switches_it_on(node: Any) -> None:
    one, other = await node.start("sleep", "60"), await node.start("sleep", "60")
    script = (
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0"
        " net.ipv6.conf.eth0.accept_dad=0; ip -6 addr add fd00:7::%d/64 dev eth0 nodad"
    )
    for number, started in enumerate((one, other), 1):
        words = ["nsenter", "-t", str(started.pid), "-n", "sh", "-c", script % number]
        await trio.run_process(words)
    for target in ("fd00:7::2", f"{await _link_local(node)}%eth0"):
        ping = ["nsenter", "-t", str(one.pid), "-n", "/usr/bin/python3", "-c", PING6, target]
        done = await trio.run_process(ping, capture_stdout=True)
        assert done.stdout != b"reached\n"


PING6 = """
import socket, sys
address, _, link = sys.argv[1].partition("%")
number = socket.if_nametoindex(link) if link else 0
with socket.socket(socket.AF_INET6) as connection:
    connection.settimeout(1)
    try:
        connection.connect((address, 9, 0, number))
        print("reached")
    except ConnectionRefusedError:
        print("reached")
    except OSError as exc:
        print(type(exc).__name__)
"""


async def _link_local(node: Any) -> str:
    """The address that the bridge would have."""
    words = ["ip", "-j", "link", "show", node.settings.bridge]
    done = await trio.run_process(words, capture_stdout=True)
    mac = bytes.fromhex(json.loads(done.stdout)[0]["address"].replace(":", ""))
    parts = bytes([mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]])
    return "fe80::" + ":".join(parts[i : i + 2].hex() for i in range(0, 8, 2))


async def test_a_change_of_the_filter_happens_whole_or_not_at_all(node: Any) -> None:
    firewall = node.engine.ready().firewall
    good = ("10.99.0.1", "10.99.0.2", "tcp", 80)
    await firewall.grant(good)
    bad = ("10.99.0.1", "no address at all", "tcp", 80)
    other = ("10.99.0.3", "10.99.0.4", "tcp", 80)
    with pytest.raises(OSError, match="nft"):
        await firewall.change(add={"grants": [other, bad]}, delete={"grants": [good]})
    assert await granted(node) == [list(good)]
    await firewall.change(add={"grants": [other]}, delete={"grants": [good, good, bad]})
    assert await granted(node) == [list(other)]


async def test_changes_at_the_same_time_all_happen(node: Any) -> None:
    firewall = node.engine.ready().firewall
    paths = [("10.99.0.1", "10.99.0.2", "tcp", port) for port in range(1, 25)]
    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(firewall.grant, path)
            nursery.start_soon(firewall.grant, path)
    assert await granted(node) == [list(path) for path in paths]
    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(firewall.revoke, path)
            nursery.start_soon(firewall.revoke, path)
    assert await granted(node) == []
