"""Containers of two nodes reach each other over plain routes, and over tunnels through a router
that knows nothing of them; other rules and routes of the machines are not touched."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paas.container.settings import ContainerSettings
from paas.real import kernel_netns6

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

_HERE = Path(__file__).parent
_NUMBERS = itertools.count()
PREFIX6 = "fd7b:40c1:5d02::/64"
SERVER = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT_WEB"].rsplit(":", 1)
if "PAAS_ENDPOINT6_WEB" in os.environ:  # of both versions; those of IPv4 have an address like this
    server = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
else:
    server = socket.create_server((host, int(port)))
while True:
    connection, sender = server.accept()
    connection.sendall(f"hello {sender[0].removeprefix('::ffff:')}\\n".encode())
    connection.close()
"""
FOREIGN = """
table ip somebody {
    set kept { type ipv4_addr; elements = { 192.0.2.77 } }
    chain forward { type filter hook forward priority 5; policy accept; ip saddr @kept drop; }
}
"""


def sh(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True)


class Machine:
    """A machine in a network namespace, with a container controller on it."""

    def __init__(self, name: str, address: str, network: str, folder: Path, between: str) -> None:
        self.name, self.address, self.network = name, address, network
        self.process: subprocess.Popen[str] | None = None
        short = f"w{os.getpid():x}{next(_NUMBERS)}"
        self.folder = folder / name
        (self.folder / "bundle").mkdir(parents=True)
        (self.folder / "hub").mkdir()
        self.settings = ContainerSettings(
            cluster=short,
            state_dir=str(self.folder / "state"),
            bridge=f"b{short}",
            link_prefix=f"v{short}"[:10],
            network=network,
            harness="plain_init:main",
            tunnel_id=7_777,
            between=between,
            ipv6="auto",
            prefix6=PREFIX6,
        )

    def start(self) -> None:
        program = [sys.executable, str(_HERE / "node_process.py")]
        container = str(_HERE.parent / "container")
        paths = [str(_HERE.parents[2]), container, os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.name}"),
                *(*program, msgspec.json.encode(self.settings).decode()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join(p for p in paths if p)},
        )
        assert self.read() == {"ready": True}

    def read(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def tell(self, verb: str, given: Any) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({verb: given}) + "\n")
        self.process.stdin.flush()
        return self.read()

    def container(self, number: int, *command: str, **more: Any) -> Any:
        spec = {
            "component": f"{number:040x}",
            "command": command,
            "bundle_dir": str(self.folder / "bundle"),
            "hub_dir": str(self.folder / "hub"),
            **more,
        }
        return self.tell("start", spec)["started"]

    def neighbours(self, *others: Machine) -> None:
        listed = [{"node": o.name, "network": o.network, "address": o.address} for o in others]
        answer = self.tell("neighbours", {"address": self.address, "neighbours": listed})
        assert answer == {"done": True}

    def show(self, *words: str) -> str:
        command = ["nsenter", f"--net=/run/netns/{self.name}", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


class Wire:
    """Two machines: on one link, or with a router between them."""

    def __init__(self, folder: Path, between: str, *, routed: bool) -> None:
        mark = f"{os.getpid():x}{next(_NUMBERS)}"
        names = [f"one{mark}", f"two{mark}", f"router{mark}"]
        ends = ("192.0.2.1", "198.51.100.1") if routed else ("192.0.2.1", "192.0.2.2")
        self.names = names
        folder.chmod(0o755)
        self.one = Machine(names[0], ends[0], "10.64.0.0/21", folder, between)
        self.two = Machine(names[1], ends[1], "10.64.8.0/21", folder, between)
        for name in names:
            sh(f"ip netns add {name}", f"ip -n {name} link set lo up")
            if kernel_netns6.lacking():  # the kernel may forward for all links only
                sh(f"ip netns exec {name} sysctl -qew net.ipv6.conf.all.forwarding=1")
        if routed:
            for machine, gateway in ((self.one, "192.0.2.254"), (self.two, "198.51.100.254")):
                link = f"r{machine.name}"[:15]
                pair = f"ip link add eth0 netns {machine.name} type veth peer name {link}"
                sh(
                    f"{pair} netns {names[2]}",
                    f"ip -n {names[2]} addr add {gateway}/24 dev {link}",
                    f"ip -n {names[2]} link set {link} up",
                    f"ip -n {machine.name} addr add {machine.address}/24 dev eth0",
                    f"ip -n {machine.name} link set eth0 up",
                    f"ip -n {machine.name} route add default via {gateway}",
                )
            sh(f"ip netns exec {names[2]} sysctl -qw net.ipv4.ip_forward=1")
        else:
            pair = f"ip link add eth0 netns {names[0]} type veth peer name eth0"
            sh(f"{pair} netns {names[1]}")
            for machine in (self.one, self.two):
                sh(
                    f"ip -n {machine.name} addr add {machine.address}/24 dev eth0",
                    f"ip -n {machine.name} link set eth0 up",
                )

    def close(self) -> None:
        self.one.end()
        self.two.end()
        for name in self.names:
            sh(f"ip netns del {name}")


@pytest.fixture(params=["routes", "router", "forced"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    """Plain routes; tunnels through a router; tunnels though both are on one link."""
    between = "tunnels" if request.param == "forced" else "auto"
    made = Wire(tmp_path, between, routed=request.param == "router")
    yield made
    made.close()


def path_between(one: Machine, client: Any, two: Machine, server: Any) -> tuple[Any, Any]:
    """Its two ends."""
    port = server["endpoints"]["web"][1]
    common = {"incarnation": 1, "peer_incarnation": 1, "port": port}
    source = {
        "component": client["component"],
        "end": "source",
        "peer": server["component"],
        "peer_node": two.name,
        "peer_address": server["address"],
        **common,
    }
    target = {
        "component": server["component"],
        "end": "target",
        "peer": client["component"],
        "peer_node": one.name,
        "peer_address": client["address"],
        **common,
    }
    return source, target


def test_containers_of_two_nodes_reach_each_other_and_nothing_else_changes(wire: Wire) -> None:
    one, two = wire.one, wire.two
    for machine in (one, two):
        subprocess.run(
            ["nsenter", f"--net=/run/netns/{machine.name}", "nft", "-f", "-"],
            input=FOREIGN,
            text=True,
            check=True,
        )
    before = {m.name: (m.show("nft", "list", "ruleset"), m.show("ip", "route")) for m in (one, two)}
    for machine in (one, two):
        machine.start()
    one.neighbours(two)
    two.neighbours(one)
    server = two.container(2, "/usr/bin/python3", "-c", SERVER, endpoints={"web": "tcp"})
    client = one.container(1, "sleep", "120")
    where = [client["component"], *server["endpoints"]["web"]]
    assert one.tell("ask", where) == {"said": "TimeoutError"}
    source, target = path_between(one, client, two, server)
    assert one.tell("admit", source) == {"address": client["address"]}
    assert one.tell("ask", where) == {"said": "TimeoutError"}, "one end is not enough"
    assert two.tell("admit", target) == {"address": server["address"]}
    assert one.tell("ask", where) == {"said": f"hello {client['address']}"}
    assert two.tell("shut", target) == {"done": True}
    assert one.tell("ask", where) == {"said": "TimeoutError"}
    assert two.tell("admit", target) == {"address": server["address"]}
    assert one.tell("shut", source) == {"done": True}
    assert one.tell("ask", where) == {"said": "TimeoutError"}
    assert one.tell("admit", source) == {"address": client["address"]}
    assert one.tell("ask", where) == {"said": f"hello {client['address']}"}
    if client["address6"]:
        where6 = [client["component"], server["address6"], where[2]]
        assert two.tell("shut", target) == {"done": True}
        assert one.tell("ask", where6) == {"said": "TimeoutError"}
        assert two.tell("admit", target) == {"address": server["address"]}
        assert one.tell("ask", where6) == {"said": f"hello {client['address6']}"}
    # A node that is none any more: there is no way, and no tunnel from it is heard.
    two.neighbours()
    assert one.tell("ask", where)["said"] != f"hello {client['address']}"
    tables = two.show("nft", "list", "table", "ip", "somebody")
    assert tables.strip() in before[two.name][0]
    for machine in (one, two):
        machine.end()
    after = {m.name: (m.show("nft", "list", "ruleset"), m.show("ip", "route")) for m in (one, two)}
    assert after == before
    for machine in (one, two):
        links = {
            line.split(":")[1].strip() for line in machine.show("ip", "-o", "link").split("\n")[:-1]
        }
        assert {link.split("@")[0] for link in links} == {"lo", "eth0"}
        assert machine.show("cat", "/proc/sys/net/ipv4/conf/eth0/forwarding").strip() == "0"
        assert "fd7b:" not in machine.show("ip", "-6", "route")


def test_a_network_of_another_node_is_never_the_own(tmp_path: Path) -> None:
    wire = Wire(tmp_path, "auto", routed=False)
    try:
        wire.one.start()
        wire.two.network = wire.one.network
        listed = [{"node": "two", "network": wire.two.network, "address": wire.two.address}]
        given = {"address": wire.one.address, "neighbours": listed}
        assert wire.one.tell("neighbours", given)["error"] == "conflict"
    finally:
        wire.close()


WORLD = """
import socket
with socket.create_server(("2001:db8::2", 7000), family=socket.AF_INET6) as server:
    print("listening", flush=True)
    while True:
        connection, sender = server.accept()
        connection.sendall(f"hello {sender[0]}\\n".encode())
        connection.close()
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as connection:
    print(connection.recv(100).decode())
"""


@contextmanager
def world_of(machine: Machine) -> Iterator[None]:
    """Somebody there who answers by IPv6."""
    command = ["nsenter", f"--net=/run/netns/{machine.name}", sys.executable, "-c", WORLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as world:
        try:
            assert world.stdout is not None
            assert world.stdout.readline() == "listening\n"
            yield
        finally:
            world.kill()


@pytest.fixture
def wire6(tmp_path: Path) -> Iterator[Wire]:
    """Two machines on one link that know each other by IPv6; containers of the first have it."""
    wire = Wire(tmp_path, "auto", routed=False)
    for machine, host in ((wire.one, "2001:db8::1"), (wire.two, "2001:db8::2")):
        sh(f"ip -n {machine.name} addr add {host}/64 dev eth0 nodad")
    yield wire
    wire.close()


def test_by_version_6_the_world_is_what_the_manifest_says(wire6: Wire) -> None:
    one, two = wire6.one, wire6.two
    forwarding = ("sysctl", "-a", "-r", r"net.ipv6.conf.(all|eth0)\..*forwarding")
    before = one.show(*forwarding)
    with world_of(two):
        one.start()
        outward = one.container(1, "sleep", "120", egress=["[2001:db8::2]:7000"])
        ordinary = one.container(2, "sleep", "120")
        serving = ("/usr/bin/python3", "-c", SERVER)
        inward = one.container(3, *serving, endpoints={"web": "tcp"}, published={"web": 8080})
        assert outward["address6"], "the kernel of the tests forwards IPv6"
        where = ["2001:db8::2", 7000]
        said = one.tell("ask", [outward["component"], *where])
        assert said == {"said": "hello 2001:db8::1"}, "the node's own address"
        other = one.tell("ask", [outward["component"], "2001:db8::2", 7001])
        assert other == {"said": "TimeoutError"}
        for stranger in (ordinary, inward):
            said = one.tell("ask", [stranger["component"], *where])["said"]
            assert said in ("OSError", "TimeoutError")
        entered = two.show("/usr/bin/python3", "-c", ASK, "2001:db8::1", "8080")
        assert entered.strip() == "hello 2001:db8::2"
        one.end()
    assert one.show(*forwarding) == before
