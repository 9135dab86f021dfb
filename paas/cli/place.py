"""Where the cluster is that a command means, and what its directory says about it (io).

    --state DIR, PAAS_STATE, --context or PAAS_CONTEXT, the current context, the default: the first

A state directory holds `cluster.json`: {"name", "runtime", "pid", "development", "version"}; the
operators' socket is <runtime>/api.sock.  `pid` is the outermost supervisor of a development
cluster, null while none runs; whether it really runs is told by its lock, not by the number (which
may be somebody else's by now).  Contexts: $XDG_CONFIG_HOME/paas/config.toml.

A development cluster of several nodes has "nodes": {name: facts} there, and the state directory of
each node, made like that of a single one, below `nodes/`; what runs and listens are those.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paas.base.errors import PlatformError

CLUSTER_FILE = "cluster.json"
LOCK_FILE = "agents/supervisor.lock"
LOG_FILE = "agents/supervisor.log"
SOCKET_NAME = "api.sock"
NODES_DIRECTORY = "nodes"
MACHINE_FILE = "machine.json"
NODE_FILE = "node.json"
ROOT_STATE = "/var/lib/paas/dev"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `cluster.json` says."""

    state: Path
    name: str
    runtime: str
    pid: int | None
    development: bool
    facts: dict[str, Any]

    @property
    def socket(self) -> str:
        return f"{self.runtime}/{SOCKET_NAME}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes, if they are machines of their own; empty for a single node."""
        return tuple(self.facts.get("nodes") or ())

    def node_state(self, name: str) -> Path:
        return self.state / NODES_DIRECTORY / name


def config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "paas"


def data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "paas"


def cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paas"


def default_state() -> Path:
    if os.geteuid() == 0:
        return Path(ROOT_STATE)
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(home) / "paas" / "dev"


def state_directory(state: str | None, context: str | None) -> Path:
    """The state directory that is meant; raises `invalid` for an unknown context."""
    if chosen := state or (None if context else os.environ.get("PAAS_STATE")):
        return Path(os.path.realpath(chosen))
    contexts = read_contexts()
    name = context or os.environ.get("PAAS_CONTEXT") or contexts.current
    if not name:
        return default_state()
    if name not in contexts.states:
        raise PlatformError(
            "invalid", f"no context is called {name!r}", hint="list them: paas context"
        )
    return Path(contexts.states[name])


def read_cluster(state: Path) -> Cluster | None:
    """What the directory says; None when no cluster was ever started there."""
    try:
        facts = json.loads((state / CLUSTER_FILE).read_text(encoding="utf-8"))
        pid = facts.get("pid")
        return Cluster(
            state=state,
            name=str(facts["name"]),
            runtime=str(facts["runtime"]),
            pid=pid if isinstance(pid, int) else None,
            development=facts.get("development") is True,
            facts=facts,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PlatformError("denied", f"{state} may not be read by you") from None
    except (ValueError, KeyError, AttributeError, OSError):
        raise PlatformError("corrupt", f"{state / CLUSTER_FILE} is not readable") from None


def require_cluster(state: Path) -> Cluster:
    """The cluster of the directory; raises `unavailable` when there is none."""
    cluster = read_cluster(state)
    if cluster is None:
        raise PlatformError(
            "unavailable",
            f"no cluster has its state in {state}",
            hint="start one: paas dev   choose another: --state DIR, paas context use NAME",
        )
    return cluster


def refuse_machine(state: Path) -> None:
    """Raises `conflict` for the directory of one node of several: it is started with the others."""
    if (state / MACHINE_FILE).exists():
        raise PlatformError(
            "conflict",
            f"{state} belongs to one node of the cluster in {state.parents[1]}",
            hint=f"use --state {state.parents[1]}, or: paas nodes kill|resume {state.name}",
        )


def running(state: Path) -> bool:
    """Does a supervisor hold the lock of this directory, or of one of its nodes'?"""
    return _locked(state) or any(_locked(node) for node in (state / NODES_DIRECTORY).glob("*"))


def _locked(state: Path) -> bool:
    try:
        descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return True  # somebody else's directory: the socket will tell
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True, slots=True)
class Contexts:
    """Names for clusters, and the current one (empty: none)."""

    current: str
    states: dict[str, str]


def read_contexts() -> Contexts:
    """The contexts file; an unreadable one is an error, a missing one is empty."""
    file = config_home() / "config.toml"
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Contexts("", {})
    import tomllib

    try:
        plain = tomllib.loads(text)
        states = {str(n): str(entry["state"]) for n, entry in plain.get("contexts", {}).items()}
        return Contexts(str(plain.get("current", "")), states)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PlatformError(
            "invalid", f"{file}: not a contexts file", hint="see: paas help addressing"
        ) from None


def write_contexts(contexts: Contexts) -> None:
    """Replace the contexts file at once."""
    folder = config_home()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [f"current = {json.dumps(contexts.current)}", ""]
    for name, state in sorted(contexts.states.items()):
        lines += [f"[contexts.{json.dumps(name)}]", f"state = {json.dumps(state)}", ""]
    write_whole(folder / "config.toml", "\n".join(lines), 0o600)


def write_whole(file: Path, text: str, mode: int) -> None:
    """Write a file so that a reader sees the old or the new text, never half of one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, mode)
        opened.write(text)
    os.replace(temporary, file)
