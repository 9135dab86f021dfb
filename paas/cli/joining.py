"""Beginning a cluster with a network, and joining one: node.json, and the program that joins (io).

    paas cluster join ──> python -m paas join --state DIR …    token on its standard input
                              └─ node.json, cluster.json        then the node is started

The token is a secret: it goes through a pipe, never into arguments or the environment of a process
that others can look at.  What the program says on standard error, `error: CODE: TEXT`, becomes this
command's error.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paas.base.errors import CATALOGUE, PlatformError, invalid
from paas.cli import limits, place, supervisor
from paas.cli.connection import connect

Spawn = Callable[[list[str]], "subprocess.Popen[str]"]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a node listens: for hubs, and for nodes that want to join."""

    hub: str
    join: str

    @classmethod
    def of(cls, text: str) -> Listen:
        """From `ADDRESS` or `ADDRESS:PORT`; raises `invalid`."""
        host, colon, port = text.partition(":")
        number = int(port) if port.isdigit() else (limits.LISTEN_PORT if not colon else 0)
        if not host or "/" in host or not 0 < number <= 65_535 - limits.JOIN_PORT_STEP:
            raise invalid("listen", f"expected ADDRESS or ADDRESS:PORT, not {text!r}")
        return cls(f"{host}:{number}", f"{host}:{number + limits.JOIN_PORT_STEP}")


def own_address() -> str:
    """The address of this machine by which its network reaches it.  Raises `invalid` without one.

    Nothing is sent: connecting a datagram socket only asks the routes (udp(7)).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
            return str(asked.getsockname()[0])
        except OSError:
            raise invalid("listen", "expected ADDRESS: this machine has no default route") from None


def spawn_here(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=supervisor.environment(),
        text=True,
    )


def join_address(text: str) -> str:
    """Where to ask for membership: `ADDRESS` or `ADDRESS:PORT` of the joining port."""
    return text if ":" in text else Listen.of(text).join


def write_node(
    state: Path, *, cluster: str, node: str, listen: Listen, containers: str = ""
) -> None:
    """The node with this state directory begins a cluster."""
    facts = {
        "cluster": cluster,
        "node": node,
        "listen": listen.hub,
        "join": listen.join,
        "peers": {},
        "kind": "init",
        "containers": containers,
    }
    place.write_whole(state / place.NODE_FILE, json.dumps(facts, indent=2) + "\n", 0o644)


def create_token(path: str, life_s: float = limits.TOKEN_LIFE_S) -> str:
    """A token for one node, from the hub at this socket."""
    connection = connect(path, expected=True)
    try:
        return str(connection.call("cluster.create_token", {"ttl": life_s})["token"])
    finally:
        connection.close()


class Join:
    """One run of the program that joins.  It waits for its token."""

    def __init__(
        self,
        state: Path,
        *,
        node: str,
        address: str,
        listen: Listen,
        containers: str = "",
        spawn: Spawn,
    ) -> None:
        words = [sys.executable, "-m", "paas", "join", "--state", str(state), "--node", node]
        words += ["--address", address, "--listen", listen.hub, "--join-listen", listen.join]
        if containers:
            words += ["--containers", containers]
        self._node = node
        self._process = spawn(words)

    def send_token(self, token: str) -> None:
        """It goes on from here; others may do so at the same time."""
        stdin, self._process.stdin = self._process.stdin, None
        assert stdin is not None, "a token is sent once"
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(token + "\n")

    def wait(self) -> dict[str, Any]:
        """What it has joined: {"cluster", "node", "peers"}.  Raises what it says instead."""
        try:
            out, err = self._process.communicate(timeout=limits.JOIN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise PlatformError("timeout", f"{self._node} was not taken in in time") from None
        if self._process.returncode == 0:
            found: dict[str, Any] = json.loads(out)
            return found
        raise error_of(err, f"{self._node} did not join: ")

    def close(self) -> None:
        """End it if it still waits."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def error_of(said: str, before: str = "") -> PlatformError:
    """What a program of ours said at its end, as an error: `error: CODE: TEXT`, and perhaps
    `hint: TEXT` in the line before."""
    lines = said.strip().splitlines() or ["it ended without a word"]
    last, previous = lines[-1], lines[-2] if len(lines) > 1 else ""
    hint = previous.removeprefix("hint: ") if previous.startswith("hint: ") else ""
    code, colon, text = last.removeprefix("error: ").partition(": ")
    if colon and code in CATALOGUE:
        return PlatformError(code, before + text, hint=hint)
    return PlatformError("failed", before + last)
