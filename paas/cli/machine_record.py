"""What is written down about a machine of a development cluster, and whether it runs (io).

machine.json in a node's state directory: {"name", "address", "length", "bridge", "link", "pid",
"ticks", "netns", "unheard"}.  `pid` is process 1 of the machine as the host numbers it, `ticks`
its start time; together they name it for good, so a record needs no care when the machine ends.

Looked at by every command that must choose among nodes, so it imports nothing heavy.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from paas.base.errors import PlatformError
from paas.cli import place


@dataclass(frozen=True, slots=True)
class Machine:
    """What machine.json says.  `unheard` are networks that the packet filter keeps from it."""

    name: str
    state: Path
    address: str
    length: int
    bridge: str
    link: str
    pid: int | None = None
    ticks: int | None = None
    unheard: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    @property
    def condition(self) -> str:
        """`running`, `paused` or `off`."""
        found = process_state(self.pid) if self.pid is not None else None
        if found is None or found[1] != self.ticks or found[0] in "ZX":
            return "off"
        return "paused" if found[0] == "T" else "running"


def read(state: Path) -> Machine | None:
    """The machine of a node; None when none was ever made.  Raises `corrupt`."""
    path = state / place.MACHINE_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        plain["unheard"] = tuple(plain["unheard"])
        del plain["netns"]
        return Machine(**{**plain, "state": state})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise PlatformError("corrupt", f"{path} is not readable") from None


def write(machine: Machine) -> None:
    plain = {k: v for k, v in asdict(machine).items() if k != "state"}
    plain["netns"] = machine.network if machine.pid is not None else ""
    place.write_whole(machine.state / place.MACHINE_FILE, json.dumps(plain) + "\n", 0o644)


def process_state(pid: int) -> tuple[str, int] | None:
    """State and start time of a process (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])
