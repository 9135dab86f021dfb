"""How long a container takes, beside `runc run` of the same tree and program in the same run.

    python bench/container.py [--count 100] [--at-once 50] [--json]

Measures (milliseconds): `start` = asked until the harness runs in full isolation; `start to exit` =
until the end of a native program (`/usr/bin/true`) is reported; `destroy` = until nothing is left;
`runc run` = the same program in the same base, every namespace, by runc.  The two are taken in
turns, so that noise of the machine hits both.  Needs root; leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = "/usr/bin/true"


def init(handoff: Any) -> int:
    """The smallest harness: run the command, wait, write the exit file."""
    pid = os.fork()
    if pid == 0:
        try:
            for fd in handoff.cgroup_fds:
                os.write(fd, b"0")
            os.setgroups([])
            os.setresgid(*[handoff.component_gid] * 3)
            os.setresuid(*[handoff.component_uid] * 3)
            os.chdir(handoff.cwd)
            os.execve(handoff.command[0], handoff.command, dict(handoff.environment))
        finally:
            os._exit(127)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(handoff.exit_file_fd, json.dumps({"code": code, "signal": None}).encode())
    return 0


class RuncBundle:
    """A bundle for runc over the same tree that our containers have."""

    def __init__(self, directory: Path, base: Path) -> None:
        self._directory = directory
        directory.mkdir()
        command = ["runc", "spec", "--bundle", str(directory)]
        subprocess.run(command, check=True)
        config = json.loads((directory / "config.json").read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = [PROGRAM]
        config["root"] = {"path": str(base), "readonly": True}
        bind = {"source": "/usr", "destination": "/usr", "type": "none"}
        config["mounts"].append(bind | {"options": ["bind", "ro", "nosuid", "nodev"]})
        (directory / "config.json").write_text(json.dumps(config))
        self._number = 0

    def run(self) -> float:
        """One run; milliseconds."""
        self._number += 1
        name = f"bench-{os.getpid()}-{self._number}"
        since = time.perf_counter()
        command = ["runc", "run", "--bundle", str(self._directory), name]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return (time.perf_counter() - since) * 1e3


class Bench:
    """One engine, and what it was measured to take."""

    def __init__(self, directory: Path) -> None:
        import trio

        from paas.container.engine import Engine
        from paas.container.settings import ContainerSettings
        from paas.real.clock import SystemClock

        self._directory = directory
        for name in ("bundle", "hub"):
            (directory / name).mkdir()
        tag = f"{os.getpid():x}"
        settings = ContainerSettings(
            cluster=f"bench-{tag}",
            state_dir=str(directory / "state"),
            bridge=f"bb{tag}",
            link_prefix=f"bv{tag}"[:10],
            network="10.119.0.0/16",
            harness="container:init",
        )
        self._ends: dict[str, float] = {}
        self._changed = trio.Event()
        self.engine = Engine(
            settings,
            clock=SystemClock(),
            on_exit=self._note_end,
        )
        self._number = 0
        self.steps: dict[str, list[float]] = {}

    def _note_end(self, exited: Any) -> None:
        self._ends[exited.component] = time.perf_counter()
        self._changed.set()

    async def start(self, *command: str) -> tuple[str, float, float]:
        """(component, when asked, milliseconds until its harness ran)."""
        from paas.container.messages import ContainerSpec

        self._number += 1
        component = f"{self._number:040x}"
        spec = ContainerSpec(
            component=component,
            command=command,
            bundle_dir=str(self._directory / "bundle"),
            hub_dir=str(self._directory / "hub"),
        )
        since = time.perf_counter()
        started = await self.engine.start(spec)
        took = (time.perf_counter() - since) * 1e3
        for step, value in started.timings_ms.items():
            self.steps.setdefault(step, []).append(value)
        return component, since, took

    async def exit(self, component: str, since: float) -> float:
        """Milliseconds from `since` to the reported end."""
        import trio

        while component not in self._ends:
            self._changed = trio.Event()
            await self._changed.wait()
        return (self._ends[component] - since) * 1e3

    async def destroy(self, component: str) -> float:
        since = time.perf_counter()
        await self.engine.destroy(component)
        return (time.perf_counter() - since) * 1e3


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at_99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(at_99, 2),
        "count": len(ordered),
    }


async def measure(directory: Path, count: int, at_once: int) -> dict[str, Any]:
    import trio

    bench = Bench(directory)
    figures: dict[str, list[float]] = {"start": [], "start to exit": [], "destroy": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.engine.run)
        runc = None
        if shutil.which("runc"):
            runc = RuncBundle(directory / "runc", directory / "state" / "base-host")
            figures["runc run"] = []
        for turn in range(count + 3):
            component, since, took = await bench.start(PROGRAM)
            whole = await bench.exit(component, since)
            gone = await bench.destroy(component)
            other = await trio.to_thread.run_sync(runc.run) if runc else 0.0
            if turn >= 3:  # the first ones fill caches and pools
                for name, value in zip(figures, (took, whole, gone, other), strict=False):
                    figures[name].append(value)
        steps = {name: round(statistics.median(v), 2) for name, v in bench.steps.items()}
        burst = await measure_burst(bench, at_once)
        memory = await measure_memory(bench)
        await bench.engine.teardown_node()
    found: dict[str, Any] = {name: summary(values) for name, values in figures.items()}
    if runc:
        ratio = found["start to exit"]["p50"] / found["runc run"]["p50"]
        found["ratio to runc"] = round(ratio, 2)
    return found | {"at once": burst, "steps p50": steps, "harness PSS MiB": memory}


async def measure_burst(bench: Bench, count: int) -> dict[str, float]:
    """Seconds until `count` containers that were asked for at once all run, and are all gone."""
    import trio

    components: list[str] = []

    async def one() -> None:
        components.append((await bench.start("/usr/bin/sleep", "600"))[0])

    since = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    running = time.perf_counter() - since
    since = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for component in components:
            nursery.start_soon(bench.destroy, component)
    gone = time.perf_counter() - since
    return {"count": count, "all running s": round(running, 2), "all gone s": round(gone, 2)}


async def measure_memory(bench: Bench) -> float:
    """PSS of a harness that does nothing: what a container costs beside its component."""
    component, _, _ = await bench.start("/usr/bin/sleep", "600")
    stats = await bench.engine.stats(component)
    await bench.destroy(component)
    return round(stats.harness_pss_bytes / (1 << 20), 2)


def main() -> int:
    import trio

    parser = argparse.ArgumentParser(description="containers beside runc")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    here = Path(__file__).resolve().parent
    os.environ["PYTHONPATH"] = f"{here.parent}:{here}"
    sys.path.insert(0, str(here.parent))
    with tempfile.TemporaryDirectory(prefix="bench-container-") as directory:
        os.chmod(directory, 0o755)
        figures = trio.run(measure, Path(directory), given.count, given.at_once)
    text = json.dumps(figures, indent=None if given.json else 2)
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
