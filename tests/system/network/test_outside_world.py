"""Through the whole platform: what a manifest says about the world is what is open."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

_PEER = Path(__file__).parent / "components" / "peer"
PUBLISHED = 18_099


@pytest.fixture
def host(world: Any) -> Iterator[tuple[str, int]]:
    """A server on the host, as the machines of the cluster see it: a piece of the world."""
    address = world.cluster.machine("n1").address.rsplit(".", 1)[0] + ".254"
    server = socket.create_server((address, 0))

    def answer() -> None:
        while True:
            try:
                connection, sender = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"you are {sender[0]}\n".encode())

    thread = threading.Thread(target=answer)
    thread.start()
    yield address, server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def push(world: Any, name: str, sections: str) -> str:
    """A type of its own, with these sections in its manifest."""
    directory = world.cluster.folder / "sources" / name
    directory.mkdir(parents=True)
    manifest = (_PEER / "component.toml").read_text().replace('"peer"', f'"{name}"', 1)
    (directory / "component.toml").write_text(manifest + sections)
    (directory / "peer.py").write_text((_PEER / "peer.py").read_text())
    pushed: str = world.cluster.push(directory)
    return pushed


def test_a_component_reaches_of_the_world_what_its_manifest_allows(
    world: Any, host: tuple[str, int]
) -> None:
    address, port = host
    allow = json.dumps([f"{address}:{port}"])
    kind = push(world, "outward", f"\n[egress]\nallow = {allow}\n")
    outward = world.cluster.create(kind, constraints=["node=n2"])
    ordinary = world.create("n2")
    where = {"host": address, "port": port}
    said = world.reach(outward, where)
    assert said.get("said") == f"you are {world.cluster.machine('n2').address}"
    assert world.reach(ordinary, where)["reached"] is False
    # Agents of other nodes, whose addresses are the cluster's own, stay out of reach.
    for node in ("n1", "n2", "n3"):
        hub = {"host": world.cluster.machine(node).address, "port": 7420}
        assert world.reach(outward, hub)["reached"] is False


def test_a_published_port_of_the_node_leads_to_the_component(world: Any) -> None:
    sections = f'\n[endpoints.web]\nscope = "internet"\npublish = {PUBLISHED}\n'
    kind = push(world, "inward", sections)
    source = (_PEER / "peer.py").read_text()
    assert "PAAS_ENDPOINT_HTTP" in source
    inward = world.cluster.create(kind, constraints=["node=n3"])
    endpoints = world.cluster.component(inward)["endpoints"]
    # The peer listens on the port after its first endpoint's, too: that is the second endpoint's.
    assert endpoints["web"]["port"] == endpoints["http"]["port"] + 1
    address = world.cluster.machine("n3").address

    def said() -> str:
        try:
            with socket.create_connection((address, PUBLISHED), timeout=2) as connection:
                return connection.recv(100).decode().strip()
        except OSError:
            return ""

    assert world.cluster.until(said) == "another port"
    with pytest.raises(PlatformError) as caught:
        world.cluster.create(kind, constraints=["node=n3"], restart="temporary")
    assert str(PUBLISHED) in str(caught.value)
    world.cluster.api("controller.destroy", component=inward, grace=0.0)
    world.cluster.until(lambda: not said())
