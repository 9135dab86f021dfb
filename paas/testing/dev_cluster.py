"""A development cluster of several nodes for tests and benchmarks, driven as a user drives it.

`with dev_cluster(3) as cluster:` starts it in a temporary directory by the command line, and ends
it with everything of it.  Requests go to the operators' socket of a node of one's choice, or of
any that answers.  `Census` counts, on the host, which processes carry a mark: the truth about what
runs, whatever the platform believes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.node.settings import runtime_of

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""For what must happen, on a machine that does much else at the same time."""


class DevCluster:
    """One cluster, by its state directory."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.count = count
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
        return done.stdout if done.returncode == 0 else done.stderr

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
        """A request to whichever hub answers first."""
        last: PlatformError | None = None
        for node in self.names:
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
        answer = self.at(node, "hub.call", **params) if node else self.api("hub.call", **params)
        return answer["outputs"]

    def nodes(self, node: str = "") -> dict[str, dict[str, Any]]:
        """Name to facts, as one hub sees them."""
        answer = self.at(node, "nodes.list") if node else self.api("nodes.list")
        return {facts["name"]: facts for facts in answer["nodes"]}

    def leader(self) -> str:
        """Who leads the log, as most see it."""
        return str(self.until(lambda: self._leader()))

    def _leader(self) -> str:
        for node in self.names:
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

    # -- faults ----------------------------------------------------------------------------------

    def agents(self, node: str) -> dict[str, int]:
        """The host's process numbers of a node's agents, by role."""
        record = json.loads((self.node_state(node) / "machine.json").read_text())
        first = int(record["pid"])
        found: dict[str, int] = {}
        for pid, words in _processes():
            if _pid_namespace(pid) == _pid_namespace(first) and "paas" in words:
                for role in ("node", "hub", "containers", "certificates"):
                    if role in words:
                        found[role] = pid
        return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{name}/cmdline").read_bytes()
                yield int(name), text.decode("utf-8", "replace").split("\0")


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


class Census:
    """Looks, again and again, how many living processes carry each of the marks on their command
    line; the most that were ever seen at once of each mark is in `most`.
    """

    def __init__(self, marks: list[str], period_s: float = 0.005) -> None:
        self.most = dict.fromkeys(marks, 0)
        self.rounds = 0
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(self._period_s):
            seen = dict.fromkeys(self.most, 0)
            for pid, words in _processes():
                for mark in seen:
                    if mark in words and _alive(pid):
                        seen[mark] += 1
            self.rounds += 1
            for mark, count in seen.items():
                self.most[mark] = max(self.most[mark], count)


def _alive(pid: int) -> bool:
    """A killed process is listed until it is reaped, and does nothing any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


@contextlib.contextmanager
def dev_cluster(count: int) -> Iterator[DevCluster]:
    """A cluster of `count` nodes for the length of a block."""
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
