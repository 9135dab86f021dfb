"""What a platform could leave behind on a machine, as a picture that can be compared.

Take one before and one after: the difference must be empty (issue of every orderly end: no process,
mount, link, cgroup, rule, socket or directory).  The picture holds only what the platform makes, so
that other things that come and go on the machine do not disturb it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def picture(state: str = "") -> set[str]:
    """Everything on this machine that looks like the platform's; `state` limits nothing but paths."""
    return {
        *_processes(),
        *_mounts(),
        *_links(),
        *_cgroups(),
        *_tables(),
        *_sockets(),
        *_loops(),
        *({f"directory {state}"} if state and os.path.isdir(state) else set()),
    }


def _processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (entry / "cgroup").read_text()
        except OSError:
            continue
        if "-m paas " in command or "/paas-" in groups:
            found.add(f"process {entry.name} {command.strip()[:100]}")
    return found


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {line.split()[4]}" for line in lines if "paas" in line}


def _links() -> set[str]:
    names = os.listdir("/sys/class/net")
    return {f"link {n}" for n in names if n.startswith(("pb", "pv", "paas", "veth"))}


def _cgroups() -> set[str]:
    return {f"cgroup {path}" for path in CGROUP_ROOT.glob("*/paas-*")} | {
        f"cgroup {path}" for path in CGROUP_ROOT.glob("paas-*")
    }


def _tables() -> set[str]:
    result = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return {f"table {line}" for line in result.stdout.splitlines() if "paas" in line}


def _sockets() -> set[str]:
    root = Path("/run/paas")
    return {f"runtime {path}" for path in root.iterdir()} if root.is_dir() else set()


def _loops() -> set[str]:
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = path.read_text().strip()
        except OSError:
            continue
        if "paas" in backing or "containers" in backing:
            found.add(f"loop {backing}")
    return found
