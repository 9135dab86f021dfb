"""File systems of containers: starts on each of them, snapshots, going back; in turns, in one run.

    python -m bench.filesystems [--rounds 20] [--written 8]

Prints JSON: for each file system the median and 95th percentile in ms of a start (nothing of the
control plane), of what of it is spent on the file system, of a snapshot of `--written` MiB, and of
a start with the files of that snapshot.  Btrfs is made in a file and mounted.  Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from paas.container.engine import Engine
from paas.container.messages import ContainerSpec, Limits
from paas.container.settings import ContainerSettings
from paas.container.snapshots import Snapshots
from paas.real.clock import SystemClock

KINDS: dict[str, dict[str, str]] = {
    "overlay-image": {"filesystem": "overlay", "disk": "image"},
    "overlay-memory": {"filesystem": "overlay", "disk": "memory"},
    "btrfs": {"filesystem": "btrfs"},
    "binds-memory": {"filesystem": "binds", "disk": "memory"},
}
KEEPING = ("overlay-image", "btrfs")
STEPS = ("rootfs", "process.layer", "process.root")
WRITE = (
    "import os,sys,time; open('/app/x','wb').write(os.urandom(int(sys.argv[1]))); time.sleep(99)"
)
PAUSE_S = 0.15
"""Between two starts, so that pools are full again."""


@contextlib.contextmanager
def btrfs(directory: Path) -> Iterator[Path]:
    image, place = directory / "btrfs.img", directory / "btrfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Node:
    """One engine with one file system."""

    def __init__(self, kind: str, number: int, directory: Path, place: Path) -> None:
        self.kind, self.directory = kind, directory
        name = f"f{os.getpid():x}x{number}"
        settings = ContainerSettings(
            cluster=name,
            state_dir=str(place / f"state-{kind}"),
            bridge=f"b{name}",
            link_prefix=f"v{name[1:]}"[:9],
            network=f"10.{120 + number}.{os.getpid() % 250}.0/24",
            **KINDS[kind],
        )
        self.engine = Engine(settings, clock=SystemClock(), on_exit=lambda _exited: None)
        self.snapshots = Snapshots(self.engine, SystemClock())
        self.figures: dict[str, list[float]] = {}
        self._numbers = iter(range(1, 1 << 20))

    def note(self, name: str, value_ms: float) -> None:
        self.figures.setdefault(name, []).append(value_ms)

    async def start(self, component: str, name: str, *command: str) -> int:
        spec = ContainerSpec(
            component=component,
            command=command,
            bundle_dir=str(self.directory / "bundle"),
            hub_dir=str(self.directory / "hub"),
            limits=Limits(disk_bytes=64 << 20),
            protocol="none",
        )
        since_s = time.perf_counter()
        started = await self.engine.start(spec)
        self.note(name, (time.perf_counter() - since_s) * 1e3)
        steps = sum(started.timings_ms.get(step, 0.0) for step in STEPS)
        self.note(f"{name}, the files' part", steps)
        return started.pid

    async def round(self, written: int) -> None:
        component = f"{next(self._numbers):040x}"
        pid = await self.start(component, "start", "/usr/bin/python3", "-c", WRITE, str(written))
        if self.kind in KEEPING:
            await _written(pid, written)
            since_s = time.perf_counter()
            await self.snapshots.create(component, "one")
            self.note("snapshot", (time.perf_counter() - since_s) * 1e3)
        await self.engine.destroy(component)
        if self.kind in KEEPING:
            self.snapshots.rollback(component, "one")
            await trio.sleep(PAUSE_S)
            await self.start(component, "start from a snapshot", "/bin/sleep", "99")
            await self.engine.destroy(component)
            await self.snapshots.drop(component)
        await trio.sleep(PAUSE_S)


async def _written(pid: int, written: int) -> None:
    path = os.path.join(f"/proc/{pid}", "root", "app/x")
    with trio.fail_after(30):
        while not os.path.exists(path) or os.stat(path).st_size < written:  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 2),
        "count": len(ordered),
    }


async def measure(rounds: int, written: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as text, btrfs(Path(text)) as disk:
        directory = Path(text)
        for path in (directory, directory / "bundle", directory / "hub", disk):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        nodes = [
            Node(kind, number, directory, disk if kind == "btrfs" else directory)
            for number, kind in enumerate(KINDS)
        ]
        async with trio.open_nursery() as nursery:
            for node in nodes:
                await nursery.start(node.engine.run)
            for number in range(rounds + 1):
                for node in nodes:
                    await node.round(written)
                    if not number:
                        node.figures.clear()  # the first fills pools and makes templates
            for node in nodes:
                await node.engine.teardown_node()
    return {
        node.kind: {name: summary(values) for name, values in node.figures.items()}
        for node in nodes
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--written", type=int, default=8, help="MiB before the snapshot")
    given = parser.parse_args()
    result = trio.run(measure, given.rounds, given.written << 20)
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
