"""What one cluster has on a machine, as a picture that can be compared (io).

An orderly end leaves no process, mount, link, cgroup, rule, socket or directory.  Everything that a
cluster makes carries the short name that is derived from its state directory, or from the one of
one of its nodes, or lies below that directory; the picture holds only that, so that other clusters
and whatever else comes and goes on the machine do not disturb it.

What is inside a machine of a cluster of several nodes (its links, rules and mounts) goes with the
machine's processes, and needs no looking for.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.cli import limits, place, supervisor
from paas.cli.session import Session

CGROUP_ROOT = Path("/sys/fs/cgroup")


def leftovers(session: Session) -> int:
    """`paas doctor --leftovers`: exit status 1 when there are any."""
    state = Path(os.path.realpath(session.state))
    if place.running(state):
        raise PlatformError(
            "conflict",
            f"the cluster with its state in {state} runs",
            hint=f"end it first: paas down --state {state}",
        )
    found = sorted(picture(str(state), with_state=False))
    text = "\n".join(found) if found else "nothing is left"
    session.output.value({"leftovers": found}, text, found)
    return Exit.FAILED if found else Exit.DONE


def picture(state: str, *, with_state: bool = True) -> set[str]:
    """Everything on this machine that belongs to the cluster with this state directory.

    `with_state` False leaves out the directory itself, which `paas down` without `--purge` keeps.
    """
    real = os.path.realpath(state)
    nodes = Path(real) / place.NODES_DIRECTORY
    states = [real, *(str(nodes / f"n{n}") for n in range(1, limits.NODES_MAX + 1))]
    shorts = [supervisor.digits(Path(one)) for one in states]
    return {
        *_processes(states, shorts),
        *_mounts(states, shorts),
        *_links(shorts),
        *_cgroups(shorts),
        *_tables(shorts),
        *_runtime(states),
        *_loops(real),
        *({f"directory {real}"} if with_state and os.path.isdir(real) else set()),
    }


def _processes(states: Sequence[str], shorts: Sequence[str]) -> set[str]:
    """Agents write their logs below the state directory, components are in its control groups."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            groups = (entry / "cgroup").read_text()
            outputs = [os.readlink(entry / "fd" / number) for number in ("1", "2")]
        except OSError:  # it has ended meanwhile, or is a thread of the kernel
            continue
        command = b" ".join(words).decode(errors="replace").strip()
        ours = "paas" in command and any(state.encode() in words for state in states)
        ours |= any(f"/paas-{short}" in groups for short in shorts)
        if ours or any(o.startswith(f"{states[0]}/") for o in outputs):
            found.add(f"process {entry.name} {command[:100]}")
    return found


def _mounts(states: Sequence[str], shorts: Sequence[str]) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    runtimes = [supervisor.runtime_directory(Path(state)) for state in states]
    marks = (f"{states[0]}/", *runtimes, *(f"paas-{short}" for short in shorts))
    return {f"mount {line.split()[4]}" for line in lines if any(mark in line for mark in marks)}


def _links(shorts: Sequence[str]) -> set[str]:
    """Bridges and links of nodes, and of machines: all digits, or the first six."""
    names = os.listdir("/sys/class/net")
    marks = [f"pb{short}" for short in shorts] + [f"pv{short[:6]}" for short in shorts]
    marks += [f"pm{shorts[0][:6]}"]
    return {f"link {name}" for name in names if name.startswith(tuple(marks))}


def _cgroups(shorts: Sequence[str]) -> set[str]:
    patterns = [p for short in shorts for p in (f"*/paas-{short}", f"paas-{short}")]
    places = [found for pattern in patterns for found in CGROUP_ROOT.glob(pattern)]
    return {f"cgroup {found}" for place in places for found in (place, *place.glob("*/"))}


def _tables(shorts: Sequence[str]) -> set[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return {f"rules {line}" for line in lines if any(f"paas-{short}" in line for short in shorts)}


def _runtime(states: Sequence[str]) -> set[str]:
    roots = [Path(supervisor.runtime_directory(Path(state))) for state in states]
    return {
        f"socket {path}" for root in roots if root.is_dir() for path in (root, *root.rglob("*"))
    }


def _loops(state: str) -> set[str]:
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = path.read_text().strip()
        except OSError:
            continue
        if backing.startswith(f"{state}/"):
            found.add(f"loop {backing}")
    return found
