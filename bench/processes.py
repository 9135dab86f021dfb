"""What the processes of one cluster use: memory, processor time.

Whose process is whose: everything below the cluster's supervisor, and everything in control groups
of its own (harnesses outlive the agent that started them).  PSS counts a page that n processes
share as 1/n for each, so that the sum over processes is what they really take together.  Programs
that are no part of the cluster but use the same libraries make it look smaller; `alone_bytes` is
the upper bound: what it would be if nothing else ran on the machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import Cluster

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    role: str
    """supervisor, node, certificates, containers, template, hub, harness, component, other."""
    ticks: int
    """Processor time, with that of reaped children, in clock ticks."""


def of_cluster(cluster: Cluster) -> list[Process]:
    """All processes of the cluster, at this moment."""
    mark = f"/paas-{Path(cluster.runtime).name}/"
    found = [p for p in map(_read, _pids()) if p is not None]
    ours: dict[int, Process] = {}
    for pid, parent, words, groups, ticks in sorted(found):
        inside = next((line for line in groups.splitlines() if mark in line), "")
        if inside:
            role = "harness" if inside.endswith("/harness") else "component"
        elif pid == cluster.supervisor or parent in ours:
            role = _role(words)
        else:
            continue
        ours[pid] = Process(pid, parent, role, ticks)
    return list(ours.values())


def by_role(processes: Iterable[Process], role: str) -> list[int]:
    return [p.pid for p in processes if p.role == role]


def pss_bytes(pid: int) -> int:
    """Proportional set size; 0 for a process that has ended."""
    return _rollup_kib(pid, "Pss") * 1024


def _rollup_kib(pid: int, name: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def pss_by_role(processes: Iterable[Process]) -> dict[str, float]:
    """MiB for each role."""
    total: Counter[str] = Counter()
    for process in processes:
        total[process.role] += pss_bytes(process.pid)
    return {role: round(size / MIB, 2) for role, size in total.items()}


def alone_bytes(processes: Iterable[Process]) -> int:
    """Memory of the cluster alone: its anonymous pages, and each page of a file once."""
    anonymous_kib = 0
    files: dict[tuple[str, ...], int] = {}
    for process in processes:
        anonymous_kib += _rollup_kib(process.pid, "Pss_Anon")
        for mapping, sizes in _mappings(process.pid):
            resident = sizes.get("Rss", 0) - sizes.get("Anonymous", 0)
            if resident > 0:
                files[mapping] = max(files.get(mapping, 0), resident)
    return (anonymous_kib + sum(files.values())) * 1024


def _mappings(pid: int) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """(offset, device, inode, permissions) and sizes in KiB of each mapping of a process."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return
    key: tuple[str, ...] = ()
    sizes: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            if key:
                yield key, sizes
            key, sizes = (words[2], words[3], words[4], words[1]), {}
        elif len(words) == 3 and words[2] == "kB":
            sizes[words[0][:-1]] = int(words[1])
    if key:
        yield key, sizes


def cpu_by_role(before: Iterable[Process], after: Iterable[Process]) -> dict[str, float]:
    """Seconds of processor time between two looks, for each role."""
    ticks = {p.pid: p.ticks for p in before}
    total: Counter[str] = Counter()
    for process in after:
        total[process.role] += process.ticks - ticks.get(process.pid, 0)
    return {role: used / TICKS_PER_S for role, used in total.items()}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int) -> tuple[int, int, list[str], str, int] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    return pid, int(stat[1]), words, groups, sum(map(int, stat[11:15]))


def _role(words: list[str]) -> str:
    if "paas.cli.supervisor" in words:
        return "supervisor"
    if "paas.container.template" in words:
        return "template"
    names = [w for w in words if w in ("node", "certificates", "containers", "hub")]
    return names[0] if names else "other"
