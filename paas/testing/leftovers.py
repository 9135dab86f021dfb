"""What one cluster could leave behind on a machine, as a picture that can be compared.

Take one before and one after: the difference must be empty (issue of every orderly end: no process,
mount, link, cgroup, rule, socket or directory).  Everything that a cluster makes carries the short
name that `node.settings` derives from its state directory, or lies below that directory; the
picture holds only that, so that other clusters and whatever else comes and goes on the machine do
not disturb it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from paas.node.settings import runtime_of, short_name

CGROUP_ROOT = Path("/sys/fs/cgroup")


def picture(state: str, *, with_state: bool = True) -> set[str]:
    """Everything on this machine that belongs to the cluster with this state directory.

    `with_state` False leaves out the directory itself, which `paas down` without `--purge` keeps.
    """
    real = os.path.realpath(state)
    short = short_name(real)
    return {
        *_processes(real, short),
        *_mounts(real, short),
        *_links(short),
        *_cgroups(short),
        *_tables(short),
        *_runtime(real),
        *_loops(real),
        *({f"directory {real}"} if with_state and os.path.isdir(real) else set()),
    }


def _processes(state: str, short: str) -> set[str]:
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
        ours = "paas" in command and state.encode() in words
        if ours or f"/paas-{short}" in groups or any(o.startswith(f"{state}/") for o in outputs):
            found.add(f"process {entry.name} {command[:100]}")
    return found


def _mounts(state: str, short: str) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    marks = (f"{state}/", runtime_of(state), f"paas-{short}")
    return {f"mount {line.split()[4]}" for line in lines if any(mark in line for mark in marks)}


def _links(short: str) -> set[str]:
    names = os.listdir("/sys/class/net")
    return {f"link {name}" for name in names if name.startswith((f"pb{short}", f"pv{short[:6]}"))}


def _cgroups(short: str) -> set[str]:
    places = [*CGROUP_ROOT.glob(f"*/paas-{short}"), *CGROUP_ROOT.glob(f"paas-{short}")]
    return {f"cgroup {found}" for place in places for found in (place, *place.glob("*/"))}


def _tables(short: str) -> set[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return {f"rules {line}" for line in done.stdout.splitlines() if f"paas-{short}" in line}


def _runtime(state: str) -> set[str]:
    root = Path(runtime_of(state))
    return {f"socket {path}" for path in (root, *root.rglob("*"))} if root.is_dir() else set()


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
