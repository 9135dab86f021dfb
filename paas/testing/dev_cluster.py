"""A development cluster of several nodes for tests and benchmarks, driven as a user drives it.

`with dev_cluster(3) as cluster:` starts it in a temporary directory by the command line, and ends
it with everything of it.  Requests go to the operators' socket of a node of one's choice, or of
any that answers.  `Census` (census.py) counts on the host which processes run: the truth, whatever
the platform believes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.cli.machine_record import Machine, process_state, read
from paas.node.settings import runtime_of
from paas.testing.census import Census, namespace_of, processes

__all__ = [
    "PATIENCE_S",
    "Census",
    "DevCluster",
    "Listener",
    "PlainNode",
    "dev_cluster",
    "when_back",
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""For what must happen, on a machine that does much else at the same time."""


def when_back(ask: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """What is answered, once the harness of the component is back at a hub that was lost.

    Until then a call is refused, and nothing of it was begun: it may be repeated whatever it does.
    """
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except PlatformError as error:
            back = not error.message.endswith("is reconnecting")
            if back or time.monotonic() > end_s:
                raise
        time.sleep(0.05)


class DevCluster:
    """One cluster, by its state directory."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.count = count
        self.hurt: set[str] = set()
        """Nodes that are off, paused, or cut off from most."""
        self._connections: dict[str, Connection] = {}
        self._sources = 0

    # -- the command line ------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAAS_", "XDG_"))}
        return {
            **kept,
            "HOME": str(self.folder),
            "PAAS_STATE": str(self.state),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def run(self, *words: str, status: int | None = 0, timeout_s: float = 120.0) -> str:
        """A `paas` command; what it printed.  Another exit status is an AssertionError."""
        done = self.say(*words, status=status, timeout_s=timeout_s)
        return done.stdout if done.returncode == 0 else done.stderr

    def say(
        self, *words: str, status: int | None = 0, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """The same; with its status, and what it printed for people beside its results."""
        done = subprocess.run(
            [sys.executable, "-m", "paas.cli", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if status is not None and done.returncode != status:
            said = f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
            raise AssertionError(f"paas {' '.join(words)}: {said}")
        return done

    def start(self) -> None:
        self.run("dev", "--nodes", str(self.count), "--detach")

    def down(self) -> None:
        self.disconnect()
        self.run("down", "--purge", "--yes", timeout_s=200)

    # -- the API ---------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.count + 1)]

    def node_state(self, node: str) -> Path:
        return self.state / "nodes" / node

    def socket(self, node: str) -> str:
        """The operators' socket of a node."""
        return f"{runtime_of(os.path.realpath(self.node_state(node)))}/api.sock"

    def disconnect(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def at(self, node: str, method: str, /, *, timeout_s: float = 30.0, **params: Any) -> Any:
        """A request to the hub of this node, over a connection that is kept."""
        connection = self._connections.get(node)
        if connection is None:
            connection = self._connections[node] = connect(self.socket(node), expected=False)
        try:
            return connection.call(method, params, timeout_s=timeout_s)
        except PlatformError as error:
            if error.code in ("unavailable", "unknown-outcome", "timeout"):
                self._connections.pop(node).close()
            raise

    def api(self, method: str, /, *, timeout_s: float = 30.0, **params: Any) -> Any:
        """A request to whichever hub answers first, of those that no fault of ours has hit."""
        last: PlatformError | None = None
        for node in [name for name in self.names if name not in self.hurt]:
            try:
                return self.at(node, method, timeout_s=timeout_s, **params)
            except PlatformError as error:
                last = error
                if error.code not in ("unavailable", "unknown-outcome"):
                    raise
        assert last is not None
        raise last

    def call(self, target: str, operation: str, /, *, node: str = "", **inputs: Any) -> Any:
        """Run an operation of a component; its outputs."""
        params: dict[str, Any] = {"target": target, "operation": operation, "inputs": inputs}
        one = partial(self.at, node) if node else self.api
        return when_back(lambda: one("hub.call", **params))["outputs"]

    def nodes(self, node: str = "") -> dict[str, dict[str, Any]]:
        """Name to facts, as one hub sees them."""
        answer = self.at(node, "nodes.list") if node else self.api("nodes.list")
        return {facts["name"]: facts for facts in answer["nodes"]}

    def leader(self) -> str:
        """Who leads the log, as most see it."""
        return str(self.until(lambda: self._leader()))

    def _leader(self) -> str:
        for node in [name for name in self.names if name not in self.hurt]:
            with contextlib.suppress(PlatformError):
                log = self.at(node, "cluster.status", timeout_s=2.0)["log"]
                if log["role"] == "leader" and (log.get("last_contact_s") or 0) < 1:
                    return node
        return ""

    def until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """What the condition says, once it is true; what hubs refuse meanwhile is no answer."""
        end_s = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < end_s:
            try:
                value = condition()
            except PlatformError as error:
                last = error
            else:
                if value:
                    return value
                last = value
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s:.0f} s: {last!r}")

    # -- types and components --------------------------------------------------------------------

    def source(
        self,
        name: str,
        files: dict[str, str],
        command: list[str],
        *,
        protocol: str = "json",
        supervision: str = "",
    ) -> Path:
        """A directory with a component's source."""
        self._sources += 1
        directory = self.folder / "sources" / f"{name}-{self._sources}"
        directory.mkdir(parents=True)
        lines = [
            "[component]",
            f'name = "{name}"',
            'version = "1.0.0"',
            f"command = {json.dumps(command)}",
            f'protocol = "{protocol}"',
            "[limits]",
            'memory = "64M"\npids = 32\ndisk = "16M"',
            "[supervision]",
            supervision,
        ]
        (directory / "component.toml").write_text("\n".join(lines) + "\n")
        for path, content in files.items():
            (directory / path).write_text(content)
        return directory

    def push(self, source: Path | str, node: str = "") -> str:
        """Push a directory; `name@version`."""
        chosen = ["--node", node] if node else []
        return self.run("push", str(source), "-o", "name", *chosen).strip()

    def create(self, kind: str, /, **params: Any) -> str:
        """One component; its id."""
        created: list[str] = self.api("controller.create", type=kind, **params)["components"]
        return created[0]

    def component(self, target: str, node: str = "") -> dict[str, Any]:
        params: dict[str, Any] = {"component": target}
        method = "controller.component"
        found: dict[str, Any] = (
            self.at(node, method, **params) if node else self.api(method, **params)
        )
        return found

    def available(self, target: str, *, besides: str = "", timeout_s: float = PATIENCE_S) -> str:
        """Wait until a component is available on a node other than `besides`; the node."""

        def there() -> str:
            found = self.component(target)
            good = found["state"] == "available" and found["node"] != besides
            return str(found["node"]) if good else ""

        return str(self.until(there, timeout_s))

    def destroy_all(self) -> None:
        """Every component, wherever it is."""
        for one in self.api("controller.components")["components"]:
            with contextlib.suppress(PlatformError):
                self.api("controller.destroy", component=one["id"], grace=0.0, timeout_s=60)

    # -- listening -------------------------------------------------------------------------------

    def listen(self, node: str) -> Listener:
        """A connection to the hub of this node for watches."""
        return Listener(connect(self.socket(node), expected=True))

    # -- machines --------------------------------------------------------------------------------

    def kill(self, node: str) -> None:
        self._hung_up(node)
        self.run("nodes", "kill", node)

    def pause(self, node: str) -> None:
        self._hung_up(node)
        self.run("nodes", "pause", node)

    def resume(self, node: str) -> None:
        self.run("nodes", "resume", node)
        self.hurt.discard(node)

    def partition(self, groups: str, *, one_way: bool = False) -> None:
        """`n1|n2,n3`; one way: the second group does not hear the first."""
        self.run("nodes", "partition", groups, *(["--one-way"] if one_way else []))
        parts = sorted((part.split(",") for part in groups.split("|")), key=len)
        self.hurt.update(*parts[:-1])

    def heal(self) -> None:
        self.run("nodes", "heal")
        self.hurt.clear()

    def _hung_up(self, node: str) -> None:
        self.hurt.add(node)
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()

    def machine(self, node: str) -> Machine:
        found = read(self.node_state(node))
        assert found is not None, f"{node} has no machine"
        return found

    def agents(self, node: str) -> dict[str, int]:
        """The host's process numbers of a node's agents, by role; `fence` and `template` too."""
        first = self.machine(node).pid
        assert first is not None, f"{node} is off"
        found: dict[str, int] = {}
        space = namespace_of(first)
        for pid, words in processes():
            role = next((r for r, sign in SIGNS.items() if sign(words)), "")
            if role and namespace_of(pid) == space:
                # One that is about to become another program looks like its parent.
                found[role] = min(found.get(role, pid), pid, key=_started)
        return found

    def kill_agents(self, node: str, *roles: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to agents of a node, one right after the other.

        When the node controller is killed, the others may have died with it before their turn.
        """
        running = self.agents(node)
        first, *others = roles
        os.kill(running[first], number)
        for role in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running[role], number)

    # -- being well ------------------------------------------------------------------------------

    def calm(self) -> None:
        """Undo all faults that a test may have left, and wait until every node is well again."""
        machines = {name: self.machine(name) for name in self.names}
        if any(machine.unheard for machine in machines.values()):
            self.heal()
        for name, machine in machines.items():
            if machine.condition != "running":
                self.resume(name)
        self.hurt.clear()
        for name in self.names:
            for pid in self.agents(name).values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.wait_well()

    def wait_well(self, timeout_s: float = 2 * PATIENCE_S) -> None:
        """Until every hub says of every node that it is available, and all know the same."""
        self.until(self._well, timeout_s)

    def _well(self) -> bool:
        for node in self.names:
            found = self.nodes(node)
            if {facts["state"] for facts in found.values()} != {"available"}:
                return False
            if any(facts["cordoned"] or facts["draining"] for facts in found.values()):
                return False
        return len({self.applied(node) for node in self.names}) == 1

    def applied(self, node: str) -> int:
        """Up to which entry of the log this hub's state is."""
        return int(self.at(node, "cluster.status")["log"]["applied"])


def _started(pid: int) -> tuple[int, int]:
    state = process_state(pid)
    return (1 << 62 if state is None else state[1]), pid


def _is_agent(role: str) -> Callable[[list[str]], bool]:
    return lambda words: "paas" in words and role in words


SIGNS: dict[str, Callable[[list[str]], bool]] = {
    **{role: _is_agent(role) for role in ("node", "hub", "containers", "certificates")},
    "fence": lambda words: any(word.endswith("/kernel_fence.py") for word in words),
    "template": lambda words: "paas.container.template" in words,
}
"""How the processes of a node are told from each other by their command lines."""


class Listener:
    """The watches of one connection, and what they have brought."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard: list[dict[str, Any]] = []

    def open(self, method: str, **params: Any) -> int:
        """`hub.watch`, `controller.monitor` or `log.follow`; the number of the watch."""
        return int(self._connection.call(method, params)["watch"])

    def ask(self, method: str, /, timeout_s: float = 60.0, **params: Any) -> Any:
        """Any request, over this connection."""
        return self._connection.call(method, params, timeout_s=timeout_s)

    def events(self, watch: int, *, until: int = 0, patience_s: float = PATIENCE_S) -> list[Any]:
        """Everything that the watch has brought, once that is `until` events at least."""
        end_s = time.monotonic() + patience_s
        while True:
            found = [event for event in self.heard if event["watch"] == watch]
            if len(found) >= until:
                return found
            assert time.monotonic() < end_s, f"only {found}"
            self.gather(0.2)

    def gather(self, for_s: float) -> None:
        """Take what comes within this time."""
        with contextlib.suppress(PlatformError):
            self.heard.extend(self._connection.notifications(for_s))

    def close(self) -> None:
        self._connection.close()


class PlainNode:
    """One node by a state directory of its own, as on a machine of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.state = home / "state"

    def run(
        self, *words: str, status: int | None = 0, refused: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A `paas` command on this node; `refused`: it must not succeed."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAAS_", "XDG_"))}
        done = subprocess.run(
            [sys.executable, "-m", "paas.cli", "--state", str(self.state), *words],
            env={**kept, "HOME": str(self.home), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        wrong = done.returncode == 0 if refused else status not in (None, done.returncode)
        if wrong or "Traceback" in done.stderr:
            said = f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
            raise AssertionError(f"paas {' '.join(words)}: {said}")
        return done

    def join(
        self, address: str, token: str, *, listen: str, name: str = "", status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        words = ["--token", token, "--listen", listen, *(["--name", name] if name else [])]
        return self.run("cluster", "join", address, *words, status=status)

    def nodes(self) -> dict[str, dict[str, Any]]:
        said = self.run("nodes", "-o", "json", status=None).stdout
        return {n["name"]: n for n in json.loads(said)["nodes"]} if said else {}

    def count_of(self, role: str) -> int:
        return sum(facts["role"] == role for facts in self.nodes().values())

    def component(self, name: str) -> dict[str, Any]:
        said = self.run("show", name, "-o", "json", status=None).stdout
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    @staticmethod
    def until(condition: Callable[[], Any], why: str, timeout_s: float = PATIENCE_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                raise AssertionError(why)
            time.sleep(0.2)

    def destroy(self) -> None:
        """The machine burns."""
        self.run("down", "--purge", "--yes", status=None)


@contextlib.contextmanager
def dev_cluster(count: int) -> Iterator[DevCluster]:
    """A cluster of `count` nodes, at least two, for the length of a block.

    One node alone runs on this machine itself (`paas dev`): it has no machine to act on.
    """
    if count < 2:
        raise ValueError("one node alone has no machine of its own: ask for two")
    folder = Path(tempfile.mkdtemp(prefix="paas-cluster-", dir="/var/tmp"))
    cluster = DevCluster(folder, count)
    try:
        cluster.start()
        yield cluster
    finally:
        try:
            cluster.down()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
