"""One cluster of three nodes whose names are asked for: by dig on its machines, by components."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.testing.census import processes
from paas.testing.dev_cluster import DevCluster, dev_cluster

PEER = Path(__file__).parents[1] / "network" / "components" / "peer"
PATIENCE_S = 30.0
ZONE = "paas.internal"


class Named:
    """A cluster, and what its name servers say."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster

    def inside(self, node: str, *command: str, status: int | None = 0) -> str:
        """What a command says that is run in the network of this machine."""
        network = self.cluster.machine(node).network
        done = subprocess.run(
            ["nsenter", f"--net={network}", *command], capture_output=True, text=True, check=False
        )
        assert status is None or done.returncode == status, done
        return done.stdout

    def server(self, node: str) -> tuple[str, str]:
        """Where this node answers for names."""
        host, _, port = self.cluster.at(node, "dns.status")["address"].rpartition(":")
        return host, port

    def dig(self, node: str, *words: str, of: str = "", status: int | None = 0) -> list[str]:
        """Asked on the machine `node`, of the server of this node or of another one."""
        host, port = self.server(of or node)
        options = ["+short", "+tries=2", "+time=2", *words]
        return self.inside(
            node, "dig", f"@{host}", "-p", port, *options, status=status
        ).splitlines()

    def name(self, node: str, name: str, kind: str = "A", **more: Any) -> list[str]:
        return self.dig(node, f"{name}.{ZONE}", kind, **more)

    def until(self, node: str, name: str, wanted: list[str], kind: str = "A") -> None:
        """Until the name means this, in this order."""
        end_s = time.monotonic() + PATIENCE_S
        while (found := self.name(node, name, kind)) != wanted:
            assert time.monotonic() < end_s, f"{name} is {found} on {node}, not {wanted}"
            time.sleep(0.05)

    def endpoint(self, component: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.component(component)["endpoints"]["http"]
        return found

    def host(self, component: str) -> str:
        return str(self.endpoint(component)["host"])

    def kill(self, component: str, program: str) -> None:
        """Its process whose command line has this word at the end of one of its words."""
        mark = f"PAAS_COMPONENT={component}".encode()
        for pid, words in processes():
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if mark in environment and any(word.endswith(program) for word in words):
                    os.kill(pid, signal.SIGKILL)
                    return
        raise AssertionError(f"{component} has no process")

    def push(self, name: str, *, application: str = "", requires: str = "stores") -> str:
        """The peer as a type of its own."""
        directory = self.cluster.folder / "sources" / name
        directory.mkdir(parents=True)
        manifest = (PEER / "component.toml").read_text().replace('"peer"', f'"{name}"', 1)
        manifest = manifest.replace('"stores"', f'"{requires}"')
        if application:
            manifest = manifest.replace("sdk =", f'application = "{application}"\nsdk =', 1)
        (directory / "component.toml").write_text(manifest)
        (directory / "peer.py").write_text((PEER / "peer.py").read_text())
        return self.cluster.push(directory)


@pytest.fixture(scope="module")
def shared() -> Iterator[DevCluster]:
    with dev_cluster(3) as one:
        yield one


@pytest.fixture(scope="module")
def named(shared: DevCluster) -> Named:
    return Named(shared)
