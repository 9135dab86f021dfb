"""What the platform takes while it does nothing, and what each further component adds."""

from __future__ import annotations

import time

from bench.cluster import Client, Cluster
from bench.figures import Figure
from bench.native import Native
from bench.processes import MIB, Process, alone_bytes, by_role, cpu_by_role, of_cluster, pss_by_role

PLATFORM_BAR_MIB = 250.0
CPU_BAR_PERCENT = 3.0
HARNESS_BAR_MIB = 12.0
SETTLE_S = 3.0
STEPS = (10, 50)


def idle(quick: bool) -> list[Figure]:
    """Nothing, then 10, then 50 sleeping native components."""
    look_s = 5.0 if quick else 30.0
    with Cluster() as cluster, cluster.client() as client:
        kind = cluster.push(Native(cluster).source)
        time.sleep(SETTLE_S)
        memory, cpu = _look(cluster, look_s)
        alone = alone_bytes(of_cluster(cluster)) / MIB
        empty = sum(memory.values())
        figures = [
            Figure(
                what="idle platform, memory (PSS)",
                value=empty,
                unit="MiB",
                bar=PLATFORM_BAR_MIB,
                note=_parts(memory, "{:.0f}"),
            ),
            Figure(
                what="idle platform, memory if nothing else ran on the machine",
                value=alone,
                unit="MiB",
                bar=PLATFORM_BAR_MIB,
                note="upper bound: pages of files are not shared with strangers",
            ),
            Figure(
                what=f"idle platform, processor, over {look_s:.0f} s",
                value=100 * sum(cpu.values()) / look_s,
                unit="% of a core",
                bar=CPU_BAR_PERCENT,
                note=_parts({r: 100 * s / look_s for r, s in cpu.items()}, "{:.2f}"),
            ),
        ]
        for count in STEPS:
            figures += _with(cluster, client, kind, count, empty, look_s)
    return figures


def _with(
    cluster: Cluster, client: Client, kind: str, count: int, empty: float, look_s: float
) -> list[Figure]:
    there = len(by_role(of_cluster(cluster), "harness"))
    client.call("controller.create", type=kind, count=count - there)
    time.sleep(SETTLE_S)
    memory, cpu = _look(cluster, look_s)
    added = sum(memory.values()) - memory.get("component", 0.0) - empty
    return [
        Figure(
            what=f"each harness with {count} components, memory (PSS)",
            value=memory["harness"] / count,
            unit="MiB",
            bar=HARNESS_BAR_MIB,
            note=f"all of the platform grew by {added / count:.1f} MiB a component",
        ),
        Figure(
            what=f"idle platform with {count} components, processor, over {look_s:.0f} s",
            value=100 * sum(cpu.values()) / look_s,
            unit="% of a core",
            note=_parts({r: 100 * s / look_s for r, s in cpu.items()}, "{:.2f}"),
        ),
    ]


def _look(cluster: Cluster, look_s: float) -> tuple[dict[str, float], dict[str, float]]:
    """MiB and processor seconds, each by role."""
    before: list[Process] = of_cluster(cluster)
    time.sleep(look_s)
    after = of_cluster(cluster)
    return pss_by_role(after), cpu_by_role(before, after)


def _parts(values: dict[str, float], form: str) -> str:
    largest = sorted(values.items(), key=lambda item: -item[1])
    return ", ".join(f"{role} {form.format(value)}" for role, value in largest)
