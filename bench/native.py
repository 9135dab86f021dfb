"""A native program in a bundle, and `runc run` of the same program in the same file system.

The program is the smallest there is: a static C program that says `started` and sleeps.  Where
there is no C compiler a shell does the same, and the figures say so.

For runc the clock stops when the first byte of the program's output arrives, for us when
`controller.create` has answered.  runc gets the base and the bundle of a component of ours as they
are mounted for it, the same limits, and every namespace but the user's (the cheaper choice); it
makes no link to any network and no writable layer, so the comparison is in its favour.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time

from bench.cluster import Cluster

FALLBACK = ["/bin/sh", "-c", "echo started; exec sleep infinity"]


class Native:
    """The program's source directory; `command` is how it is run, `note` what is special."""

    def __init__(self, cluster: Cluster) -> None:
        self.source = cluster.source("sleeper")
        self.command = ["/app/sleeper"]
        self.note = "static C program"
        compiler = shutil.which("gcc") or shutil.which("cc")
        program = [str(self.source / "sleeper.c"), "-o", str(self.source / "sleeper")]
        tried = compiler and subprocess.run(
            [compiler, "-O2", "-static", *program], capture_output=True, check=False
        )
        if not tried or tried.returncode:
            self.command, self.note = FALLBACK, "no C compiler: sh and sleep"
            manifest = self.source / "component.toml"
            text = manifest.read_text().replace('["/app/sleeper"]', json.dumps(FALLBACK))
            manifest.write_text(text)


class Runc:
    """runc on the file system of a component that has run."""

    def __init__(self, cluster: Cluster, native: Native) -> None:
        self._bundle = cluster.folder / "runc"
        self._bundle.mkdir()
        self._prefix = f"bench-{os.getpid()}-{cluster.folder.name[-4:]}"
        self._numbers = itertools.count(1)
        subprocess.run(["runc", "spec", "--bundle", str(self._bundle)], check=True)
        file = self._bundle / "config.json"
        config = json.loads(file.read_text())
        config["process"] |= {"terminal": False, "args": native.command, "cwd": "/app"}
        config["root"] = {"path": str(cluster.state / "containers/base-host"), "readonly": True}
        for source, inside in (("/usr", "/usr"), (native.source, "/app")):
            options = ["bind", "ro", "nosuid", "nodev"]
            mount = {"source": str(source), "destination": inside, "type": "none"}
            config["mounts"].append({**mount, "options": options})
        config["linux"].setdefault("resources", {}).update(
            memory={"limit": 64 << 20}, cpu={"quota": 50_000, "period": 100_000}, pids={"limit": 64}
        )
        file.write_text(json.dumps(config))

    def run(self) -> float:
        """One run; milliseconds until the program has said something."""
        name = f"{self._prefix}-{next(self._numbers)}"
        since = time.perf_counter()
        words = ["runc", "run", "--bundle", str(self._bundle), name]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = process.stdout.read(1)
            took_ms = (time.perf_counter() - since) * 1e3
            if said != b"s":
                raise RuntimeError("runc run: the program did not start")
            subprocess.run(["runc", "kill", name, "KILL"], check=True)
        return took_ms


def runc_available() -> bool:
    return shutil.which("runc") is not None
