"""Reads the battery (probes.txt) and runs it: in containers, and outside as a control.

A line of the table:

    name  component  user0  user0-without-rules  control  [- why the control cannot tell more]

`component` is what the component's user gets; `user0` user 0 of the container, whose user pid 1 has
too, with its three capabilities; the third is the same without Landlock, so that every other wall
must hold alone.  `=` repeats the column before.  Alternatives are separated by `|`.

`control` is what the same attempt gets with the host's power: in throw-away namespaces, or
(`host:`) beside the platform, where nothing is changed by it.  It must differ from the refusal; `-`
says that it is not run at all, with the reason.  ENOENT among its alternatives: not every machine
has it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyseccomp

from tests.system.escape.calls import CALLS

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
TIME_OUT_S = 90.0
USERS = ("component", "user0", "bare")
CONFIGURATIONS: dict[str, Any] = {
    "component": None,
    "user0": {"root": True},
    "bare": {"root": True, "without_rules": True},
}

_OUTSIDE = """
mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mkdir /dev/pts &&
mount -t devpts -o newinstance,ptmxmode=666 none /dev/pts && ln -s pts/ptmx /dev/ptmx &&
ip link set lo up && exec "$@"
"""
_THROW_AWAY = (
    *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork"),
    *("--mount-proc", "sh", "-c", _OUTSIDE, "sh"),
)


@dataclass(frozen=True)
class Probe:
    """One attempt and what must become of it."""

    name: str
    aim: str
    expected: dict[str, frozenset[str]]
    control: frozenset[str]
    on_host: bool
    reason: str


def read_table(text: str) -> list[Probe]:
    probes: list[Probe] = []
    aim = ""
    for line in text.splitlines():
        if line.startswith("["):
            aim = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            probes.append(_probe(line, aim))
    return probes


def _probe(line: str, aim: str) -> Probe:
    data, _, reason = line.partition(" - ")
    name, *columns = data.split()
    cells: list[str] = []
    for column in columns[:3]:
        cells.append(cells[-1] if column == "=" else column)
    expected = {user: frozenset(c.split("|")) for user, c in zip(USERS, cells, strict=True)}
    control = columns[3] if len(columns) > 3 else ""
    on_host = control.startswith("host:")
    outcomes = frozenset(control.removeprefix("host:").split("|")) if control else frozenset()
    return Probe(name, aim, expected, outcomes, on_host, reason.strip())


PROBES = read_table((HERE / "probes.txt").read_text())

_WORLD = (HERE / "attempts_world.py").read_text()
INSIDE_ONLY = {p.name for p in PROBES if f"def {p.name}(" not in _WORLD}
"""Attempts that need nothing set up outside."""


def order(wanted: Iterable[str], facts: dict[str, Any]) -> str:
    """The argument of inside.py."""
    names = {words[0] for words in CALLS.values() if isinstance(words[0], str)}
    for path in HERE.glob("attempts_*.py"):
        names |= set(re.findall(r'\bcall\("(\w+)"', path.read_text()))
    numbers = {n: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, n) for n in names}
    chosen = list(wanted)
    calls = {name: CALLS[name] for name in chosen if name in CALLS}
    return json.dumps({"wanted": chosen, "calls": calls, "facts": facts, "numbers": numbers})


async def inside(node: Any, wanted: list[str], facts: dict[str, Any], **how: Any) -> dict[str, str]:
    """Run attempts in a container of the node."""
    exited = await node.run(PYTHON, "-s", "-E", "/app/inside.py", order(wanted, facts), **how)
    assert exited.code == 0, exited
    return dict(zip(wanted, json.loads(exited.harness_log.splitlines()[-1]), strict=True))


def outside(wanted: list[str], facts: dict[str, Any], *, on_host: bool) -> dict[str, str]:
    """Run attempts with the host's power; the mounts of each are its own."""
    before = () if on_host else _THROW_AWAY
    command = [*before, PYTHON, "-s", "-E", str(HERE / "inside.py")]
    done = subprocess.run(
        [*command, order(wanted, facts | {"own_mounts": True})],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIME_OUT_S,
    )
    return dict(zip(wanted, json.loads(done.stdout.splitlines()[-1]), strict=True))
