"""Between a container and the world: what the manifest allows, and nothing else."""

# ruff: noqa: ASYNC110, ASYNC221, ASYNC240

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container import names
from tests.system.container.conftest import PYTHON

pytestmark = pytest.mark.system

HERE, WORLD = "198.51.100.1", "198.51.100.2"
NAMES = {
    "api.example.com": [WORLD],
    "deep.example.org": [WORLD],
    "example.org": [WORLD],
    "metadata.example.com": ["169.254.169.254"],
    "gateway.example.com": ["10.64.0.1", HERE, "127.0.0.1", "224.0.0.1"],
    "other.example.com": [WORLD],
}
ASK = """
import json, socket, sys
found = {}
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1.5) as connection:
            found[target] = connection.recv(100).decode().strip()
    except OSError as exc:
        found[target] = type(exc).__name__
print(json.dumps(found))
"""
SERVER = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT_WEB"].rsplit(":", 1)
server = socket.create_server((host, int(port)))
while True:
    connection, sender = server.accept()
    try:
        connection.sendall(f"hello {sender[0]}\\n".encode())
        while data := connection.recv(100):
            connection.sendall(data)
    except OSError:
        pass
    connection.close()
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Another machine, reached by a link; its name server is the host's.  Its namespace's name."""
    name, link = f"world{os.getpid()}", f"tw{os.getpid()}"
    program = str(Path(__file__).with_name("world.py"))
    for words in (
        f"ip netns add {name}",
        f"ip link add {link} type veth peer name eth0 netns {name}",
        f"ip addr add {HERE}/24 dev {link}",
        f"ip link set {link} up",
        f"ip -n {name} addr add {WORLD}/24 dev eth0",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} link set lo up",
    ):
        subprocess.run(words.split(), check=True)
    server = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, program, json.dumps(NAMES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    assert server.stdout.readline() == b"ready\n"
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text(f"nameserver {WORLD}\n")
    monkeypatch.setattr(names, "HOST_RESOLVERS", resolvers)
    yield name
    server.stdin.close()
    server.wait()
    server.stdout.close()
    subprocess.run(["ip", "link", "del", link], check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)


async def ask(node: Any, *targets: str, egress: tuple[str, ...] = ()) -> dict[str, str]:
    found: dict[str, str] = await node.python(ASK, *targets, egress=egress)
    return found


async def test_without_egress_the_world_is_absent(node: Any, world: str) -> None:
    found = await ask(node, f"{WORLD}:80", "api.example.com:80")
    assert set(found.values()) <= {"OSError", "gaierror", "TimeoutError"}


async def test_addresses_and_names_of_the_list_are_reached_and_no_others(
    node: Any, world: str
) -> None:
    allow = ("api.example.com:80", "*.example.org:81")
    found = await ask(
        node,
        f"{WORLD}:80",  # an address that nobody has asked for by its name yet
        "api.example.com:80",
        "api.example.com:81",
        "deep.example.org:81",
        "example.org:81",
        "other.example.com:80",
        egress=allow,
    )
    assert found[f"{WORLD}:80"] == "TimeoutError"
    assert found["api.example.com:80"] == HERE, "from the address of the node"
    assert found["deep.example.org:81"] == HERE
    # Both names mean one machine: what one of them opened is open, another port is not.
    assert found["example.org:81"] == found["other.example.com:80"] == "gaierror"


async def test_networks_of_the_list_are_reached_at_their_port(node: Any, world: str) -> None:
    allow = ("198.51.100.0/24:80",)
    found = await ask(node, f"{WORLD}:80", f"{WORLD}:81", f"{HERE}:22", egress=allow)
    assert found == {
        f"{WORLD}:80": HERE,
        f"{WORLD}:81": "TimeoutError",
        f"{HERE}:22": "TimeoutError",
    }


async def test_no_name_leads_to_metadata_the_node_or_the_cluster(node: Any, world: str) -> None:
    allow = ("metadata.example.com:80", "gateway.example.com:80", "169.254.0.0/16:80")
    targets = ("metadata.example.com:80", "gateway.example.com:80", "169.254.169.254:80")
    found = await ask(node, *targets, egress=allow)
    assert found[targets[0]] == found[targets[1]] == "gaierror"
    assert found[targets[2]] in ("TimeoutError", "OSError", "ConnectionRefusedError")
    listed = await _set(node, "resolved")
    assert listed == []


async def test_the_egress_list_does_not_open_other_containers(node: Any, world: str) -> None:
    server = await _server(node)
    host, port = server.endpoints["web"]
    found = await ask(node, f"{host}:{port}", egress=(f"{host}:{port}", f"10.0.0.0/8:{port}"))
    assert found == {f"{host}:{port}": "TimeoutError"}


async def test_names_are_answered_at_the_new_address_of_a_node(node: Any, world: str) -> None:
    await ask(node, "api.example.com:80", egress=("api.example.com:80",))
    number = int(node.settings.network.split(".")[2])
    await node.engine.between.renumber(f"10.96.{number}.0/24")
    found = await ask(node, "api.example.com:80", egress=("api.example.com:80",))
    assert found == {"api.example.com:80": HERE}


async def test_what_was_opened_ends_with_the_container(node: Any, world: str) -> None:
    started = await node.start("sleep", "60", egress=("api.example.com:80", "192.0.2.0/24:9"))
    assert await _set(node, "outgoing") == [started.address]
    assert len(await _set(node, "egress")) == 1
    await node.engine.destroy(started.component)
    for name in ("outgoing", "egress", "resolved", "entrances", "published"):
        assert await _set(node, name) == [], name


async def test_names_are_resolved_and_connections_live_after_a_restart(
    fresh_node: Any, world: str
) -> None:
    node = fresh_node
    waiting = """
import os, socket, sys, time
first = socket.create_connection(("api.example.com", 80), timeout=2)
first.recv(100)
print("connected", flush=True)
sys.stdout = None
while not os.path.exists("/tmp/go"):
    time.sleep(0.05)
first.sendall(b"there?")
print(first.recv(100).decode(), file=sys.stderr, flush=True)
"""
    async with node.running():
        started = await node.start(
            *("/usr/bin/python3", "-c", waiting), egress=("api.example.com:80", "*.example.org:82")
        )
        log = f"{node.settings.state_dir}/containers/{started.component}/harness.log"
        with trio.fail_after(20):
            while "connected" not in open(log).read():  # noqa: ASYNC230, SIM115
                await trio.sleep(0.05)
    async with node.running() as engine:
        context = engine.containers[started.component].context
        assert context.record.egress == ("api.example.com:80", "*.example.org:82")
        assert await _set(node, "outgoing") == [started.address]
        with trio.fail_after(20):  # what the name means passes again before anybody asks
            while not await _set(node, "resolved"):
                await trio.sleep(0.05)
        inside = await _inside(started.pid, "api.example.com:80")
        assert inside == {"api.example.com:80": HERE}
        Path(f"/proc/{started.pid}", "root", "tmp/go").touch()
        exited = await node.wait_exit(started.component)
        assert "there?" in exited.harness_log


async def _inside(pid: int, *targets: str) -> Any:
    """What a program in the container's network and files gets (entered from the host)."""
    words = ["nsenter", "-t", str(pid), "-n", "-m", "/usr/bin/python3", "-c", ASK, *targets]
    done = await trio.run_process(words, capture_stdout=True)
    return json.loads(done.stdout)


# -- published ports -----------------------------------------------------------------------------


async def _server(node: Any, **changes: Any) -> Any:
    started = await node.start(
        "/usr/bin/python3", "-c", SERVER, endpoints={"web": "tcp"}, **changes
    )
    with trio.fail_after(20):
        while True:
            try:
                stream = await trio.open_tcp_stream(*started.endpoints["web"])
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return started


def _from_world(name: str, target: str) -> str:
    words = ["ip", "netns", "exec", name, sys.executable, "-c", ASK, target]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)[target])


def _free_port() -> int:
    return 20_000 + os.getpid() % 20_000


async def test_a_published_port_leads_to_the_endpoint_with_the_askers_address(
    node: Any, world: str
) -> None:
    port = _free_port()
    server = await _server(node, published={"web": port})
    host, own = server.endpoints["web"]
    where = f"{HERE}:{port}"
    assert await trio.to_thread.run_sync(_from_world, world, where) == f"hello {WORLD}"
    stream = await trio.open_tcp_stream(HERE, port)
    assert (await stream.receive_some(100)).startswith(b"hello ")
    await stream.aclose()
    # The container's own address stays out of reach, also for one that knows the way.
    subprocess.run(["ip", "-n", world, "route", "add", host, "via", HERE], check=True)
    direct = await trio.to_thread.run_sync(_from_world, world, f"{host}:{own}")
    assert direct == "TimeoutError"
    await node.engine.destroy(server.component)
    assert await trio.to_thread.run_sync(_from_world, world, where) == "ConnectionRefusedError"


async def test_a_port_that_is_taken_is_refused(node: Any, world: str) -> None:
    port = _free_port()
    await _server(node, published={"web": port})
    listener = await trio.open_tcp_listeners(0, host="0.0.0.0")
    taken = listener[0].socket.getsockname()[1]
    for wanted, who in ((port, "leads to"), (taken, "a program of this machine")):
        with pytest.raises(PlatformError, match=who) as caught:
            await node.start("sleep", "9", endpoints={"web": "tcp"}, published={"web": wanted})
        assert caught.value.code == "conflict"
        assert caught.value.data["port"] == wanted
    await listener[0].aclose()


async def test_a_component_does_not_reach_published_ports_of_its_node(
    node: Any, world: str
) -> None:
    port = _free_port()
    await _server(node, published={"web": port})
    found = await ask(node, f"{HERE}:{port}", egress=(f"{HERE}:{port}",))
    assert found == {f"{HERE}:{port}": "TimeoutError"}


async def test_links_forward_only_for_us_and_are_put_back(fresh_node: Any, world: str) -> None:
    link = Path(f"/proc/sys/net/ipv4/conf/tw{os.getpid()}/forwarding")
    before = link.read_text()
    link.write_text("0")
    async with fresh_node.running() as engine:
        await fresh_node.start("sleep", "60", egress=("192.0.2.0/24:9",))
        assert link.read_text().strip() == "1"
        assert [f"tw{os.getpid()}"] == [u for u in await _set(fresh_node, "uplinks") if "tw" in u]
        await engine.teardown_node()
    assert link.read_text().strip() == "0"
    link.write_text(before)


SAY = """
import socket, sys
server = socket.create_server(("", 9))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
HEAR = "import socket; print(socket.create_connection(('203.0.113.3', 9), 2).recv(9).decode())"


@pytest.fixture
def bridged() -> Iterator[tuple[str, str]]:
    """A bridge of the machine's own with two machines on it: its name, a neighbour's namespace."""
    bridge, names = f"ub{os.getpid()}", [f"{which}{os.getpid()}" for which in ("hear", "say")]
    commands = [
        f"ip link add {bridge} type bridge",
        f"ip addr add 203.0.113.1/24 dev {bridge}",
        f"ip link set {bridge} up",
    ]
    for number, name in enumerate(names, 2):
        commands += [
            f"ip netns add {name}",
            f"ip link add {bridge}p{number} type veth peer name eth0 netns {name}",
            f"ip link set {bridge}p{number} master {bridge} up",
            f"ip -n {name} addr add 203.0.113.{number}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
        ]
    for words in commands:
        subprocess.run(words.split(), check=True)
    # As with br_netfilter loaded, which container engines and virtual machines' managers do.
    shown = Path(f"/sys/class/net/{bridge}/bridge/nf_call_iptables")
    if shown.exists():
        shown.write_text("1")
    server = subprocess.Popen(
        ["ip", "netns", "exec", names[1], PYTHON, "-c", SAY], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    yield bridge, names[0]
    server.kill()
    server.wait()
    server.stdout.close()
    subprocess.run(["ip", "link", "del", bridge], check=True)
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def test_neighbours_on_a_bridge_of_the_machine_are_left_alone(
    node: Any, bridged: tuple[str, str]
) -> None:
    """What a node keeps from being routed by its uplink is not what the uplink itself bridges."""
    bridge, neighbour = bridged
    started = await node.start("sleep", "60", egress=("203.0.113.0/24:9",))
    assert bridge in await _set(node, "uplinks")
    hears = ["ip", "netns", "exec", neighbour, PYTHON, "-c", HEAR]
    assert (await trio.run_process(hears, capture_stdout=True)).stdout == b"hello\n"
    await node.engine.destroy(started.component)


async def _set(node: Any, name: str) -> list[Any]:
    words = ["nft", "-j", "list", "table", "inet", node.settings.table]
    done = await trio.run_process(words, capture_stdout=True)
    for item in json.loads(done.stdout)["nftables"]:
        found = item.get("set", item.get("map", {}))
        if found.get("name") == name:
            return list(found.get("elem", []))
    raise AssertionError(f"no set {name}")
