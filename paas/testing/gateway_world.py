"""A cluster with gateways and members, and clients that ask them over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request, TextMessage

from paas.base.errors import PlatformError
from paas.testing.census import processes
from paas.testing.dev_cluster import ROOT, DevCluster

MEMBER = ROOT / "tests" / "system" / "gateway" / "member"
PUBLISHED = 8083
KIND = "member@1.0.0"


class World:
    """A cluster whose nodes can have a gateway each, at one port, of this data path."""

    def __init__(self, cluster: DevCluster, data_path: str) -> None:
        self.cluster = cluster
        self.data_path = data_path
        self.kind = ""

    def prepare(self) -> None:
        """Push the types."""
        folder = self.cluster.folder / "gateway"
        self.cluster.run("gateway", "build", str(folder), "--publish", str(PUBLISHED))
        self.kind = self.cluster.push(folder)
        assert self.cluster.push(MEMBER) == KIND

    def begin(self, *nodes: str) -> list[str]:
        """Nothing of the tests before is left but gateways that are well; one on each node."""
        for found in self.cluster.api("gateway.routes")["routes"]:
            self.cluster.api("gateway.remove_route", name=found["route"]["name"])
        kept: dict[str, str] = {}
        for one in self.cluster.api("controller.components")["components"]:
            well = one["type"] == self.kind and one["state"] == "available"
            if well and one["node"] in nodes:
                kept[one["node"]] = one["id"]
            else:
                with contextlib.suppress(PlatformError):
                    self.destroy(one["id"], grace=0)
        return [kept.get(node) or self.gateway(node) for node in nodes]

    def gateway(self, node: str) -> str:
        return self.cluster.create(
            self.kind,
            constraints=[f"node={node}"],
            configuration={"data_path": self.data_path},
        )

    def member(self, node: str = "", **more: Any) -> str:
        where = {"constraints": [f"node={node}"]} if node else {}
        return self.cluster.create(KIND, groups=["web"], **where, **more)

    def route(self, name: str = "site", **fields: Any) -> None:
        given = {"name": name, "group": "web", "application": "shop", **fields}
        self.cluster.api("gateway.set_route", route=given)

    def serving(self, count: int, path: str = "/who", node: str = "n1") -> None:
        """Until the gateway of this node has asked so many different members."""
        seen: set[str] = set()

        def enough() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = self.ask("GET", path, node=node)
                if status == 200:
                    seen.add(body)
            return len(seen) >= count

        self.cluster.until(enough)

    def address(self, node: str = "n1") -> tuple[str, int]:
        return self.cluster.machine(node).address, PUBLISHED

    def ask(
        self, method: str, path: str, body: bytes = b"", *, node: str = "n1", timeout_s: float = 20
    ) -> tuple[int, str]:
        """One request on a connection of its own; status and body."""
        connection = http.client.HTTPConnection(*self.address(node), timeout=timeout_s)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def members(self, name: str = "site") -> dict[str, str]:
        """Component to state, as the platform sees the route."""
        shown = self.cluster.api("gateway.route", name=name)
        return {member["component"]: member["state"] for member in shown["members"]}

    def destroy(self, component: str, grace: float = 5.0) -> None:
        """By a connection of its own, so that other threads can ask meanwhile."""
        there = self.cluster.listen("n1")
        try:
            there.ask("controller.destroy", component=component, grace=grace, timeout_s=120)
        finally:
            there.close()

    def main_process(self, component: str) -> int:
        """The component's own process on the host."""
        mark = f"PAAS_COMPONENT_ID={component}".encode()
        for pid, words in processes():
            if any(word in ("member.py", "paas.gateway.component.main") for word in words):
                with contextlib.suppress(OSError):
                    if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                        return pid
        raise AssertionError(f"{component} has no process")

    def take_link(self, component: str) -> None:
        """Take the link of its container away: its connections end without a word."""
        inside = links(self.main_process(component))
        peer = next(end for _, _, end in inside if end)
        machine = self.cluster.machine(self.cluster.component(component)["node"]).pid
        assert machine is not None
        (name,) = [name for number, name, _ in links(machine) if number == peer]
        subprocess.run([*_inside(machine), "ip", "link", "delete", name], check=True)


def _inside(pid: int) -> list[str]:
    return ["nsenter", "-t", str(pid), "-n"]


def links(pid: int) -> list[tuple[str, str, str]]:
    """Number, name, and number of the other end, in the network of a process."""
    command = [*_inside(pid), "ip", "-o", "link"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split()[:2] for line in said.splitlines()]
    parts = [(number.rstrip(":"), *name.rstrip(":").partition("@if")) for number, name in rows]
    return [(number, name, end) for number, name, _, end in parts]


class Load(threading.Thread):
    """Requests one after the other on one connection that is kept, until stopped."""

    def __init__(self, address: tuple[str, int], method: str, path: str, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.address, self.method, self.path, self.pause_s = address, method, path, pause_s
        self.answers: dict[str, int] = {}
        self.wrong: list[str] = []
        self._end = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        while not self._end.wait(self.pause_s):
            try:
                connection.request(self.method, self.path, b"x" if self.method == "POST" else None)
                answer = connection.getresponse()
                said = answer.read().decode()
                if answer.status == 200:
                    self.answers[said] = self.answers.get(said, 0) + 1
                else:
                    self.wrong.append(f"{answer.status} {said[:120]}")
            except (OSError, http.client.HTTPException) as exc:
                self.wrong.append(repr(exc))
                connection.close()
        connection.close()

    def finish(self) -> Load:
        self._end.set()
        self.join(40)
        return self


@contextlib.contextmanager
def load(
    address: tuple[str, int], method: str, path: str, clients: int = 8, pause_s: float = 0.02
) -> Iterator[list[Load]]:
    """Clients that ask all the time; look at them after the block."""
    found = [Load(address, method, path, pause_s) for _ in range(clients)]
    for one in found:
        one.start()
    try:
        yield found
    finally:
        for one in found:
            one.finish()


class Socket:
    """A WebSocket client over a plain socket."""

    def __init__(self, address: tuple[str, int], path: str = "/ws") -> None:
        self._sock = socket.create_connection(address, timeout=20)
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._sock.sendall(self._ws.send(Request(host="x", target=path)))
        self.closed: CloseConnection | None = None
        self.texts: list[str] = []
        self.accepted = False
        while not self.accepted:
            self._receive()

    def say(self, text: str) -> None:
        self._sock.sendall(self._ws.send(Message(data=text)))

    def hear(self, timeout_s: float = 20) -> str:
        """The next text."""
        self._until(lambda: bool(self.texts), timeout_s)
        return self.texts.pop(0)

    def wait_closed(self, timeout_s: float = 60) -> CloseConnection:
        self._until(lambda: self.closed is not None, timeout_s)
        assert self.closed is not None
        return self.closed

    def _until(self, condition: Any, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            left_s = end_s - time.monotonic()
            assert left_s > 0, "nothing came"
            self._sock.settimeout(left_s)
            self._receive()

    def _receive(self) -> None:
        data = self._sock.recv(65_536)
        self._ws.receive_data(data or None)
        for event in self._ws.events():
            if isinstance(event, AcceptConnection):
                self.accepted = True
            elif isinstance(event, TextMessage):
                self.texts.append(event.data)
            elif isinstance(event, CloseConnection):
                self.closed = event
                with contextlib.suppress(Exception):
                    self._sock.sendall(self._ws.send(event.response()))

    def close(self) -> None:
        self._sock.close()
