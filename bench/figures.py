"""What is reported: figures beside their bars, statistics of samples, the machine they are from.

A figure is one row of docs/benchmarks.md.  It may have a bar (what must hold), a peer (another
program doing the same in the same run, in turns with ours, so that noise of the machine hits both)
and a bar for the ratio of the two.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest sample that `percent` of the samples do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def spread(values: Sequence[float]) -> dict[str, float]:
    """p50, p99, smallest, largest and number of samples."""
    return {
        "p50": round(statistics.median(values), 4),
        "p99": round(percentile(values, 99), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "count": len(values),
    }


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value.  `higher` is better for rates; `samples` is what it was made from."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    higher: bool = False
    peer: float | None = None
    peer_name: str = ""
    ratio_bar: float | None = None
    note: str = ""
    samples: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer if self.peer else None

    @property
    def holds(self) -> bool | None:
        """Are its bars kept?  None when it has none."""
        kept = []
        if self.bar is not None:
            kept.append(self.value >= self.bar if self.higher else self.value <= self.bar)
        if self.ratio_bar is not None and self.ratio is not None:
            enough = self.ratio >= self.ratio_bar if self.higher else self.ratio <= self.ratio_bar
            kept.append(enough)
        return all(kept) if kept else None

    def to_plain(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


def number(value: float) -> str:
    """Three digits or so, as a person wants them."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(figure: Figure) -> list[str]:
    """The row: what, bar, measured, peer, ratio, kept, spread."""
    bars = []
    if figure.bar is not None:
        bars.append(f"{'≥' if figure.higher else '≤'} {number(figure.bar)} {figure.unit}")
    if figure.ratio_bar is not None:
        bars.append(f"{'≥' if figure.higher else '≤'} {figure.ratio_bar:.1f} × peer")
    peer = f"{number(figure.peer)} {figure.unit} ({figure.peer_name})" if figure.peer else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
    kept = {True: "yes", False: "NO", None: ""}[figure.holds]
    many = ""
    if figure.samples:
        s = figure.samples
        many = f"{number(s['min'])} … {number(s['max'])}, n = {s['count']:.0f}"
    measured = f"{number(figure.value)} {figure.unit}"
    return [figure.what, ", ".join(bars), measured, peer, ratio, kept, many, figure.note]


HEAD = ["what", "bar", "measured", "peer", "ratio", "kept", "smallest … largest", "note"]


def markdown(figures: Sequence[Figure]) -> str:
    rows = [HEAD, ["---"] * len(HEAD), *map(cells, figures)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def machine() -> str:
    """Where the figures are from, in one line."""
    model = _find("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory = int((_find("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / (1 << 20)
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load at the start {load:.1f}"
    )


def _find(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""
