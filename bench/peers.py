"""Messages of components beside those of Ray and NATS: same machine, same run, same payload.

    python -m bench peers [--quick]

Peers are not needed for anything else, so they are looked for: Ray and nats-py in the interpreter
that PAAS_BENCH_PYTHON names (else in this one), `nats-server` in PATH.  What is missing is said as
`unsupported`, with what to install; nothing is measured then.

Ours is a pair of components in containers, through harness, hub and harness; one round measures it
in every style (messengers.py), then each peer, which runs only during its turn.  Ray is measured as
it measures itself: a driver and an actor, `ray.get` of each call, or of 1,000 begun together.  NATS
is a server of its own on the loopback, and two clients.  The median of the rounds counts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import Cluster
from bench.figures import Figure, spread
from bench.messengers import BEST, DEFAULT, IN_FLIGHT, STYLES, Pair, Style, pairs
from paas.base.errors import PlatformError

PROGRAMS = Path(__file__).resolve().parent / "peer_programs"
PYTHON = "PAAS_BENCH_PYTHON"

RAY_BAR = 1.5
NATS_BAR = 0.5
NATS_ADDED_BAR_MS = 0.4
ROUNDS = 5
END_S = 20.0


@dataclass(slots=True)
class Taken:
    """What the rounds of one of them gave."""

    p50_ms: list[float] = field(default_factory=list)
    in_turn_per_s: list[float] = field(default_factory=list)
    many_per_s: list[float] = field(default_factory=list)

    def one(self, took_ms: list[float]) -> None:
        self.p50_ms.append(statistics.median(took_ms))
        self.in_turn_per_s.append(1e3 * len(took_ms) / sum(took_ms))


def peers(quick: bool) -> list[Figure]:
    """Rounds of all of them."""
    python, server = _needs()
    rounds = 2 if quick else ROUNDS
    count = 500 if quick else 2_000
    ours: dict[Style, Taken] = {style: Taken() for style in STYLES}
    ray, nats = Taken(), Taken()
    with Cluster() as cluster, cluster.client() as client:
        made = pairs(cluster, client)
        for _ in range(rounds):
            for style, pair in made.items():
                _ours(pair, ours[style], count)
            with _ray(python) as actor:
                _theirs(actor, ray, count, f"many {10 * count}")
            with _nats(python, server) as requester:
                _theirs(requester, nats, count, f"many {10 * count} {IN_FLIGHT}")
    return [figure for style in STYLES for figure in _beside(style, ours[style], ray, nats)]


def _ours(pair: Pair, taken: Taken, count: int) -> None:
    taken.one(pair.one_at_a_time(count))
    taken.many_per_s.append(pair.calls_per_s(10 * count))


def _theirs(peer: Talker, taken: Taken, count: int, many: str) -> None:
    taken.one(peer.ask(f"one {count}")["took_ms"])
    taken.many_per_s.append(10 * count / peer.ask(many)["seconds"])


def _beside(style: Style, ours: Taken, ray: Taken, nats: Taken) -> list[Figure]:
    """Rows of one style; the bars are for the default, and for the best, whichever is better."""
    rows = []
    for word, mine, peer, name, bar in (
        ("one at a time", ours.in_turn_per_s, ray.in_turn_per_s, "Ray, sync", RAY_BAR),
        (f"{IN_FLIGHT} in flight", ours.many_per_s, ray.many_per_s, "Ray, async", RAY_BAR),
        ("one at a time", ours.in_turn_per_s, nats.in_turn_per_s, "NATS", NATS_BAR),
        (f"{IN_FLIGHT} in flight", ours.many_per_s, nats.many_per_s, "NATS", NATS_BAR),
    ):
        rows.append(
            Figure(
                what=f"calls, {style.word}, {word}, beside {name.partition(',')[0]}",
                value=statistics.median(mine),
                unit="/s",
                higher=True,
                peer=statistics.median(peer),
                peer_name=name,
                ratio_bar=bar if style in (BEST, DEFAULT) else None,
                samples=spread(mine),
                note=f"peer {min(peer):,.0f} … {max(peer):,.0f} /s",
            )
        )
    mine_ms, theirs_ms, rays_ms = (statistics.median(t.p50_ms) for t in (ours, nats, ray))
    rows.append(
        Figure(
            what=f"call, {style.word}, p50 beyond that of NATS",
            value=mine_ms - theirs_ms,
            unit="ms",
            bar=NATS_ADDED_BAR_MS if style in (BEST, DEFAULT) else None,
            note=f"{mine_ms:.3f} beside {theirs_ms:.3f} ms; Ray {rays_ms:.3f}",
        )
    )
    return rows


# -- peers -----------------------------------------------------------------------------------------


class Talker:
    """A program that is told by lines and answers with JSON."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        """The end of its input is its end; else by force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def _talking(*words: str) -> Iterator[Talker]:
    talker = Talker(list(words))
    try:
        talker.answer()  # it is ready
        yield talker
    finally:
        talker.end()


@contextmanager
def _ray(python: str) -> Iterator[Talker]:
    """Ray's processes end with the driver; their files are ours to remove."""
    folder = tempfile.mkdtemp(prefix="bench-ray-")
    try:
        with _talking(python, str(PROGRAMS / "ray_actor.py"), folder) as talker:
            yield talker
        _wait_gone(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_gone(folder: str) -> None:
    """Until no process names the folder, as all of this Ray do."""
    end_s = time.monotonic() + END_S
    while time.monotonic() < end_s:
        if not any(folder.encode() in _command(pid) for pid in os.listdir("/proc")):
            return
        time.sleep(0.05)
    raise RuntimeError("processes of Ray are left")


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() if pid.isdigit() else b""
    except OSError:
        return b""


@contextmanager
def _nats(python: str, server: str) -> Iterator[Talker]:
    port = _free_port()
    process = subprocess.Popen(
        [server, "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_listening(port)
        url, program = f"nats://127.0.0.1:{port}", str(PROGRAMS / "nats_pair.py")
        with ExitStack() as stack:
            stack.enter_context(_talking(python, program, url, "answer"))
            yield stack.enter_context(_talking(python, program, url, "ask"))
    finally:
        process.terminate()
        process.wait(END_S)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_listening(port: int) -> None:
    end_s = time.monotonic() + END_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.02)


def _needs() -> tuple[str, str]:
    """The interpreter with the peers' clients, and the server; raises `unsupported`."""
    python = os.environ.get(PYTHON, sys.executable)
    missing = []
    for module, package in (("ray", "ray"), ("nats", "nats-py")):
        found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        if found.returncode:
            missing.append(f"the Python package {package} for {python}")
    server = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/sbin")
    if server is None:
        missing.append("the Debian package nats-server")
    if missing or server is None:
        raise PlatformError(
            "unsupported",
            f"the peers are not all here: install {', '.join(missing)}",
            hint=f"{PYTHON} may name an interpreter of its own environment that has them",
        )
    return python, server
