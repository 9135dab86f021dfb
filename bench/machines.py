"""What the processes of a cluster of several nodes use, as the host counts it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from paas.testing.dev_cluster import DevCluster


def used_ticks(cluster: DevCluster) -> int:
    """Processor time of all processes of all nodes so far, in clock ticks."""
    namespaces = {_namespace(_first(cluster, node)) for node in cluster.names}
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and _namespace(int(name)) in namespaces:
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
    return total


def _first(cluster: DevCluster, node: str) -> int:
    record = json.loads((cluster.node_state(node) / "machine.json").read_text())
    return int(record["pid"])


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
