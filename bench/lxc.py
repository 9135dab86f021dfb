"""How long the back ends take, beside `lxc-execute` of a program in the same tree, in the same run.

    python bench/lxc.py [--count 40] [--json]

Milliseconds from the moment that a start is asked for until code runs inside:

    lxc                  LXC's part of our back end: from writing its configuration until its init
                         runs, in the tree that our containers have
    lxc-execute          the same by lxc-execute (mapped users, no capabilities, a network namespace
                         that exists, the same /usr, /proc, /tmp) until the first output of `echo`
    whole: lxc, whole: namespaces
                         from the order (network and layer are there) until the harness is called:
                         with building the tree, giving up powers, and the journal

All are taken in turns, so that noise of the machine hits all.  Needs root; leaves nothing behind.
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

BACK_ENDS = ("lxc", "namespaces")
WARM_UP = 3
FIRST_USER = 900_000_000


def init(handoff: Any) -> int:
    """A harness that only says when it was called."""
    words = {"code": 0, "signal": None, "reason": str(time.monotonic())}
    os.write(handoff.exit_file_fd, json.dumps(words).encode())
    return 0


class Execute:
    """`lxc-execute` over the same base."""

    def __init__(self, directory: Path, base: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o755)
        root = directory / "root"
        shutil.copytree(base, root, symlinks=True)
        for name in ("usr", "proc", "tmp", "dev", "sys"):
            (root / name).mkdir(mode=0o755, exist_ok=True)
            os.chown(root / name, FIRST_USER, FIRST_USER)
        lines = [
            f"lxc.rootfs.path = dir:{root}",
            "lxc.uts.name = bench",
            f"lxc.idmap = u 0 {FIRST_USER} 65536",
            f"lxc.idmap = g 0 {FIRST_USER} 65536",
            f"lxc.namespace.share.net = {os.getpid()}",
            "lxc.cap.keep = none",
            "lxc.no_new_privs = 1",
            "lxc.apparmor.profile = unconfined",
            "lxc.autodev = 0",
            "lxc.tty.max = 0",
            "lxc.pty.max = 0",
            "lxc.console.path = none",
            "lxc.mount.entry = /usr usr none rbind,ro 0 0",
            "lxc.mount.entry = proc proc proc nosuid,nodev,noexec 0 0",
            "lxc.mount.entry = tmpfs tmp tmpfs nosuid,nodev 0 0",
        ]
        (directory / "config").write_text("\n".join(lines) + "\n")
        self._before = set(_traces())
        self._number = 0

    def run(self) -> float:
        """Milliseconds until the program's first output."""
        self._number += 1
        name = f"bench-{os.getpid()}-{self._number}"
        words = ["lxc-execute", "-n", name, "-P", str(self._directory)]
        words += ["-f", str(self._directory / "config"), "--", "/usr/bin/echo", "runs"]
        since = time.monotonic()
        # Without newuidmap in its PATH it writes the maps itself, as ours does.
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/nonexistent"},
            executable=shutil.which("lxc-execute"),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = process.stdout.readline()
            took = (time.monotonic() - since) * 1e3
            process.wait()
            if said != b"runs\n":
                raise SystemExit(f"lxc-execute: {process.stderr.read().decode()}")
        return took

    def close(self) -> None:
        """Remove what LXC leaves on the host: control groups and locks."""
        for path in set(_traces()) - self._before:
            if path.is_relative_to("/sys"):
                path.rmdir()
            else:
                shutil.rmtree(path)


def _traces() -> list[Path]:
    groups = Path("/sys/fs/cgroup")
    return [*groups.glob("lxc.*"), *groups.glob("*/lxc.*"), *Path("/run").glob("lxc")]


class Ours:
    """One engine, and how long its containers take with each back end."""

    def __init__(self, directory: Path) -> None:
        import trio

        from paas.container.engine import Engine
        from paas.container.messages import Exited
        from paas.container.settings import ContainerSettings
        from paas.real.clock import SystemClock

        self._directory = directory
        for name in ("bundle", "hub"):
            (directory / name).mkdir(mode=0o755)
        tag = f"{os.getpid():x}"
        settings = ContainerSettings(
            cluster=f"bench-{tag}",
            state_dir=str(directory / "state"),
            bridge=f"bb{tag}",
            link_prefix=f"bv{tag}"[:10],
            network="10.118.0.0/16",
            harness="lxc:init",
        )
        send, self._ends = trio.open_memory_channel[Exited](10)
        self.engine = Engine(settings, clock=SystemClock(), on_exit=send.send_nowait)
        self._number = 0

    async def run(self, backend: str) -> tuple[float, dict[str, float]]:
        """(milliseconds from the order until the harness was called, of which steps)"""
        import trio

        from paas.container.messages import ContainerSpec

        self._number += 1
        spec = ContainerSpec(
            component=f"{self._number:040x}",
            command=("/usr/bin/true",),
            bundle_dir=str(self._directory / "bundle"),
            hub_dir=str(self._directory / "hub"),
            backend=backend,
        )
        since = time.monotonic()
        started = await self.engine.start(spec)
        exited = await self._ends.receive()
        await self.engine.destroy(spec.component)
        before = sum(v for k, v in started.timings_ms.items() if "." not in k and k != "process")
        await trio.sleep(0.1)  # the pools make up for what was taken
        return (float(exited.reason) - since) * 1e3 - before, started.timings_ms


async def measure(directory: Path, count: int) -> dict[str, Any]:
    import trio

    figures: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    ours = Ours(directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.engine.run)
        peer = Execute(directory / "execute", directory / "state" / "base-host")
        try:
            for turn in range(count + WARM_UP):
                if turn == WARM_UP:  # the first ones have filled caches and pools
                    figures.clear()
                    steps.clear()
                for backend in BACK_ENDS:
                    whole, of_steps = await ours.run(backend)
                    figures.setdefault(f"whole: {backend}", []).append(whole)
                    for name, value in of_steps.items():
                        steps.setdefault(f"{backend}: {name}", []).append(value)
                figures.setdefault("lxc", []).append(steps["lxc: process.lxc"][-1])
                taken = await trio.to_thread.run_sync(peer.run)
                figures.setdefault("lxc-execute", []).append(taken)
        finally:
            peer.close()
            await ours.engine.teardown_node()
    found: dict[str, Any] = {name: _summary(values) for name, values in figures.items()}
    found["ratio lxc to lxc-execute"] = _ratio(found, "lxc")
    found["ratio whole to lxc-execute"] = _ratio(found, "whole: lxc")
    medians = {name: round(statistics.median(values), 2) for name, values in steps.items()}
    return found | {"steps p50": medians}


def _ratio(found: dict[str, Any], name: str) -> float:
    return round(float(found[name]["p50"] / found["lxc-execute"]["p50"]), 2)


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at_99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(at_99, 2),
        "count": len(ordered),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here.parent), str(here)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    import trio

    with tempfile.TemporaryDirectory(prefix="paas-bench-lxc-") as name:
        os.chmod(name, 0o755)
        found = trio.run(measure, Path(name), arguments.count)
    sys.stdout.write(json.dumps(found, indent=None if arguments.json else 2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
