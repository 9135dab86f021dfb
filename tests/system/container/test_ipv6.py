"""Containers have IPv6 as they have IPv4: what was granted, and nothing else; or none at all."""

# ruff: noqa: ASYNC110

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio

from paas.base.dual_stack import twin
from paas.real import kernel_netns6

pytestmark = pytest.mark.system

PREFIX = "fd7b:40c1:5d02::/64"
SERVER = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT6_WEB"].rsplit(":", 1)
server = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6)
while True:
    connection, sender = server.accept()
    try:
        connection.sendall(f"hello {sender[0]}\\n".encode())
    except OSError:
        pass
    connection.close()
"""
CLIENT = """
import socket, sys
own, host, port = sys.argv[1:]
with socket.socket(socket.AF_INET6) as connection:
    connection.settimeout(1)
    try:
        if own:
            connection.bind((own, 0))
        connection.connect((host, int(port)))
        print(connection.recv(100).decode().strip())
    except OSError as exc:
        print(type(exc).__name__)
"""
SHOUT = """
import socket, struct, sys
own, victim, link = sys.argv[1:]
number = socket.if_nametoindex(link)
hardware = open(f"/sys/class/net/{link}/address").read().strip()
target = socket.inet_pton(socket.AF_INET6, victim)
said = bytes.fromhex(hardware.replace(":", ""))
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
    advert = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\\x02\\x01" + said
    router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    for message in (advert, router):
        for to in ("ff02::1", sys.argv[2]):
            try:
                raw.sendto(message, (to, 0, 0, number))
            except OSError as exc:
                print(exc)
"""


POSSIBLE = not kernel_netns6.lacking()


@pytest.fixture(params=[PREFIX] if POSSIBLE else [])
async def node6(fresh_node: Any) -> AsyncIterator[Any]:
    """A node whose containers have IPv6; none where the machine cannot (see the first test)."""
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, ipv6="auto", prefix6=PREFIX)
    async with fresh_node.running():
        yield fresh_node


async def start_server(node: Any, **changes: Any) -> Any:
    started = await node.start(
        "/usr/bin/python3", "-c", SERVER, endpoints={"web": "tcp"}, **changes
    )
    with trio.fail_after(20):
        while (await connect("", started.address6, started.endpoints["web"][1])) in REFUSALS:
            await trio.sleep(0.05)
    return started


REFUSALS = ("ConnectionRefusedError", "TimeoutError", "OSError")


async def connect(own: str, host: str, port: int, *, pid: int = 0) -> str:
    enter = ["nsenter", "-t", str(pid), "-n"] if pid else []
    command = [*enter, "/usr/bin/python3", "-c", CLIENT, own, host, str(port)]
    done = await trio.run_process(command, capture_stdout=True)
    return done.stdout.decode().strip()


async def enter(pid: int, *words: str) -> str:
    command = ["nsenter", "-t", str(pid), "-n", *words]
    done = await trio.run_process(command, capture_stdout=True, check=False)
    return done.stdout.decode()


async def test_there_is_an_address_where_the_machine_can(fresh_node: Any) -> None:
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, ipv6="auto", prefix6=PREFIX)
    async with fresh_node.running():
        started = await fresh_node.start("sleep", "60")
        assert started.address6 == (twin(PREFIX, started.address) if POSSIBLE else "")
        words = ["ip", "-6", "-j", "addr", "show", "dev", "eth0"]
        listed = json.loads(await enter(started.pid, *words) or "[]")
        found = [info["local"] for entry in listed for info in entry.get("addr_info", [])]
        assert found == [started.address6] * POSSIBLE


async def test_a_container_hears_no_router(node6: Any) -> None:
    started = await node6.start("sleep", "60")
    for name in ("accept_ra", "accept_redirects", "autoconf"):
        path = f"/proc/sys/net/ipv6/conf/eth0/{name}"
        assert (await enter(started.pid, "cat", path)).strip() == "0"


async def test_a_grant_opens_the_path_of_both_versions_and_closes_it(node6: Any) -> None:
    server = await start_server(node6)
    port = server.endpoints["web"][1]
    client = await node6.start("sleep", "60")
    stranger = await node6.start("sleep", "60")
    where = (server.address6, port)
    assert await connect("", *where, pid=client.pid) == "TimeoutError"
    await node6.engine.paths.grant(client.component, server.component, port)
    assert await connect("", *where, pid=client.pid) == f"hello {client.address6}"
    assert await connect("", *where, pid=stranger.pid) == "TimeoutError"
    await node6.engine.paths.revoke(client.component, server.component, port)
    assert await connect("", *where, pid=client.pid) == "TimeoutError"
    await node6.engine.paths.grant(client.component, server.component, port)
    await node6.engine.destroy(server.component)
    table = ["nft", "list", "set", "inet", node6.settings.table, "grants6"]
    assert b"elements" not in (await trio.run_process(table, capture_stdout=True)).stdout


@pytest.mark.parametrize("prefix", [PREFIX] if POSSIBLE else [])
async def test_paths_are_there_again_after_the_controller_has_begun_anew(
    fresh_node: Any, prefix: str
) -> None:
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, ipv6="auto", prefix6=prefix)
    async with fresh_node.running():
        server = await start_server(fresh_node)
        client = await fresh_node.start("sleep", "60")
        port = server.endpoints["web"][1]
        await fresh_node.engine.paths.grant(client.component, server.component, port)
    async with fresh_node.running():
        said = await connect("", server.address6, port, pid=client.pid)
        assert said == f"hello {client.address6}"
        (line,) = [i for i in fresh_node.engine.list() if i.component == server.component]
        assert line.address6 == server.address6


async def test_nobody_takes_the_address_of_another(node6: Any) -> None:
    server = await start_server(node6)
    port = server.endpoints["web"][1]
    client, thief = await node6.start("sleep", "60"), await node6.start("sleep", "60")
    await node6.engine.paths.grant(client.component, server.component, port)
    # With the host's power in its network it takes the other's address, and says so to everybody.
    await enter(thief.pid, "ip", "addr", "add", f"{client.address6}/128", "dev", "eth0", "nodad")
    assert await connect(client.address6, server.address6, port, pid=thief.pid) == "TimeoutError"
    shout = ["/usr/bin/python3", "-c", SHOUT, thief.address6, client.address6, "eth0"]
    before = await neighbours(node6)
    await enter(thief.pid, *shout)
    assert await neighbours(node6) == before
    assert before[client.address6] != before[thief.address6]
    said = await connect("", server.address6, port, pid=client.pid)
    assert said == f"hello {client.address6}"
    routes = json.loads(await enter(client.pid, "ip", "-6", "-j", "route"))
    assert not [route for route in routes if route["dst"] == "default"], "heard of a router"


async def neighbours(node: Any) -> dict[str, str]:
    words = ["ip", "-6", "-j", "neigh", "show", "dev", node.settings.bridge, "nud", "permanent"]
    done = await trio.run_process(words, capture_stdout=True)
    return {line["dst"]: line["lladdr"] for line in json.loads(done.stdout)}


async def test_addresses_of_the_link_lead_nowhere(node6: Any) -> None:
    server = await start_server(node6)
    client = await node6.start("sleep", "60")
    words = ["ip", "-6", "-j", "addr", "show", "dev", node6.settings.bridge]
    done = await trio.run_process(words, capture_stdout=True)
    found = [info for entry in json.loads(done.stdout) for info in entry.get("addr_info", [])]
    assert {info["scope"] for info in found} == {"global"}
    for pid, number in ((server.pid, "1"), (client.pid, "2")):
        await enter(pid, "ip", "addr", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
    ping = ["python3", "-c", CLIENT, "", "fe80::1%eth0", "9"]
    assert (await enter(client.pid, *ping)).strip() in ("TimeoutError", "OSError")


async def test_the_host_is_out_of_reach(node6: Any) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        client = await node6.start("sleep", "60")
        gateway = node6.engine.ready().addresses
        host = gateway.twin(gateway.gateway)
        assert await connect("", host, port, pid=client.pid) == "TimeoutError"
        assert await connect("", host, port) != "ConnectionRefusedError"


async def test_a_published_port_leads_to_the_component(node6: Any) -> None:
    with socket.socket(socket.AF_INET6) as tried:
        tried.bind(("::", 0))
        public = tried.getsockname()[1]
    server = await start_server(node6, published={"web": public})
    link = node6.settings.link_prefix + "t"
    await trio.run_process(["ip", "link", "add", link, "type", "bridge"])
    try:
        words = ["ip", "addr", "add", "2001:db8:77::1/64", "dev", link, "nodad"]
        await trio.run_process(words)
        await trio.run_process(["ip", "link", "set", link, "up"])
        said = await connect("2001:db8:77::1", "2001:db8:77::1", public)
        assert said == "hello 2001:db8:77::1"
        await node6.engine.destroy(server.component)
        refused = await connect("2001:db8:77::1", "2001:db8:77::1", public)
        assert refused == "ConnectionRefusedError"
    finally:
        await trio.run_process(["ip", "link", "del", link])


async def test_switched_off_there_is_none(fresh_node: Any) -> None:
    changes = {"prefix6": PREFIX, "ipv6": "off"}
    fresh_node.settings = msgspec.structs.replace(fresh_node.settings, **changes)
    async with fresh_node.running():
        started = await fresh_node.start("/bin/sh", "-c", "env; sleep 60", endpoints={"web": "tcp"})
        assert started.address6 == ""
        assert await enter(started.pid, "ip", "-6", "addr") == ""
        words = ["ip", "-6", "addr", "show", "dev", fresh_node.settings.bridge]
        assert (await trio.run_process(words, capture_stdout=True)).stdout == b""
        environment = await enter(started.pid, "cat", f"/proc/{started.pid}/environ")
        assert "PAAS_ENDPOINT6" not in environment
