"""How long a container takes, beside `runc run` of the same tree and program in the same run.

    python bench/container.py [--count 100] [--at-once 50] [--json]

Measures (milliseconds), of a container for which all is prepared (bundle, base, pools), with every
isolation that there is (user namespace, filters, network, limits), without the control plane:

    start             asked until the harness is told to go
    running           asked until the program's first instruction, by its own clock
    start to exit     until the end of the program is reported
    destroy           until nothing is left
    runc run          the same program on the same base: asked until its first instruction; every
                      namespace but the user's, no link to a network, no writable layer

The program is a static C program that says when it began; without a C compiler it is
`/usr/bin/true`, and `running` is not measured.  Ours and runc are taken in turns, so that noise of
the machine hits both.  Freezing and thawing are of the kernel's groups.  Needs root; leaves nothing
behind.
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

FALLBACK = "/usr/bin/true"
RUNNING_BAR_MS = 12.0
ISOLATED_BAR_MS = 25.0
RUNC_RATIO_BAR = 0.5


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
            os.dup2(2, 1)
            os.execve(handoff.command[0], handoff.command, dict(handoff.environment))
        finally:
            os._exit(127)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(handoff.exit_file_fd, json.dumps({"code": code, "signal": None}).encode())
    return 0


def compile_program(directory: Path) -> str:
    """The program's path in a container whose bundle is this directory."""
    source = Path(__file__).resolve().parent / "components" / "stamp" / "stamp.c"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return FALLBACK
    command = [compiler, "-O2", "-static", str(source), "-o", str(directory / "stamp")]
    done = subprocess.run(command, capture_output=True, check=False)
    return FALLBACK if done.returncode else "/app/stamp"


def began(text: str) -> float | None:
    """When the program says that it began; None when it says nothing of the kind."""
    for line in text.splitlines():
        if line.startswith('{"began"'):
            return float(json.loads(line)["began"])
    return None


class RuncBundle:
    """A bundle for runc over the same tree that our containers have."""

    def __init__(self, directory: Path, base: Path, bundle: Path, program: str) -> None:
        self._directory = directory
        directory.mkdir()
        command = ["runc", "spec", "--bundle", str(directory)]
        subprocess.run(command, check=True)
        config = json.loads((directory / "config.json").read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = [program]
        config["root"] = {"path": str(base), "readonly": True}
        bind = {"source": "/usr", "destination": "/usr", "type": "none"}
        options = {"options": ["bind", "ro", "nosuid", "nodev"]}
        config["mounts"].append(bind | options)
        app = {"source": str(bundle), "destination": "/app", "type": "none"}
        config["mounts"].append(app | options)
        (directory / "config.json").write_text(json.dumps(config))
        self._number = 0

    def run(self) -> float:
        """One run; milliseconds until the program began (or, where that is not said, ended)."""
        self._number += 1
        name = f"bench-{os.getpid()}-{self._number}"
        since = time.perf_counter()
        command = ["runc", "run", "--bundle", str(self._directory), name]
        done = subprocess.run(
            command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        ended = time.perf_counter()
        return ((began(done.stdout) or ended) - since) * 1e3


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
        self.program = compile_program(directory / "bundle")
        self._ends: dict[str, float] = {}
        self._began: dict[str, float | None] = {}
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
        self._began[exited.component] = began(exited.harness_log)
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

    def running(self, component: str, since: float) -> float | None:
        """Milliseconds from `since` to the program's own beginning."""
        moment = self._began[component]
        return None if moment is None else (moment - since) * 1e3

    async def destroy(self, component: str) -> float:
        since = time.perf_counter()
        await self.engine.destroy(component)
        return (time.perf_counter() - since) * 1e3


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at_99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {
        "min": round(ordered[0], 2),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(at_99, 2),
        "count": len(ordered),
    }


async def measure(directory: Path, count: int, at_once: int) -> dict[str, Any]:
    import trio

    bench = Bench(directory)
    names = ("start", "running", "start to exit", "destroy", "runc run")
    figures: dict[str, list[float]] = {name: [] for name in names}
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.engine.run)
        runc = None
        if shutil.which("runc"):
            base = directory / "state" / "base-host"
            runc = RuncBundle(directory / "runc", base, directory / "bundle", bench.program)
        for turn in range(count + 3):
            component, since, took = await bench.start(bench.program)
            whole = await bench.exit(component, since)
            ran = bench.running(component, since)
            gone = await bench.destroy(component)
            other = await trio.to_thread.run_sync(runc.run) if runc else None
            if turn >= 3:  # the first ones fill caches and pools
                for name, value in zip(names, (took, ran, whole, gone, other), strict=True):
                    if value is not None:
                        figures[name].append(value)
        steps = {name: round(statistics.median(v), 2) for name, v in bench.steps.items()}
        standing = await measure_freezing(bench, count)
        burst = await measure_burst(bench, at_once)
        memory = await measure_memory(bench)
        await bench.engine.teardown_node()
    found: dict[str, Any] = {name: summary(values) for name, values in figures.items() if values}
    measured = "running" if "running" in found else "start to exit"
    found["bars"] = {f"{measured} p50 ms": RUNNING_BAR_MS, "isolated p50 ms": ISOLATED_BAR_MS}
    if runc:
        ratio = found[measured]["p50"] / found["runc run"]["p50"]
        found["ratio to runc"] = round(ratio, 2)
        found["bars"]["ratio to runc"] = RUNC_RATIO_BAR
    more = {"at once": burst, "steps p50": steps, "harness PSS MiB": memory}
    return found | standing | more | {"load at the end": round(os.getloadavg()[0], 1)}


async def measure_freezing(bench: Bench, count: int) -> dict[str, Any]:
    """Of a program that does nothing: until it stands still, until it may go on."""
    component, _, _ = await bench.start("/usr/bin/sleep", "600")
    froze: list[float] = []
    thawed: list[float] = []
    for _ in range(count):
        begin = time.perf_counter()
        await bench.engine.living.freeze(component)
        middle = time.perf_counter()
        await bench.engine.living.thaw(component)
        froze.append((middle - begin) * 1e3)
        thawed.append((time.perf_counter() - middle) * 1e3)
    await bench.destroy(component)
    return {"freeze": summary(froze), "thaw": summary(thawed)}


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
