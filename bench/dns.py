"""Answers to questions for names, beside dnsmasq's: same machine, same run, same zone, in turns.

    python -m bench dns [--quick]

The zone has 1,000 names with an address each, asked for in an order by chance by dnsperf on the
loopback.  Three servers take turns: the hub of a cluster (its names were published), our server as
a program of its own (`python -m paas.dns`), dnsmasq.  Each round measures answers per second with
100 questions under way; then each is asked for half of what the hub gave in that round, and the
times of all answers are kept.  The median of the rounds counts.

"A change is visible" is measured on the hub: from the moment that `dns.publish` is sent until an
answer has it, asked for over and over.

Needs dnsperf and dnsmasq (Debian packages of these names).
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.cluster import ROOT, Client, Cluster
from bench.figures import Figure, percentile, spread
from paas.base.errors import PlatformError

NAMES = 1_000
ROUNDS = 5
SECONDS = 5
CHANGES = 100
RATIO_BAR = 0.5
P99_BAR_MS = 5.0
VISIBLE_BAR_MS = 100.0
ZONE = "paas.internal"
_PER_S = re.compile(r"Queries per second:\s+([0-9.]+)")
_LOST = re.compile(r"Queries lost:\s+([0-9]+)")
_TOOK = re.compile(r"^> NOERROR \S+ \S+ ([0-9.]+)", re.MULTILINE)

Address = tuple[str, int]


def dns(quick: bool) -> list[Figure]:
    """Rounds of all three."""
    dnsperf, dnsmasq = _needs()
    rounds, seconds = (1, 2) if quick else (ROUNDS, SECONDS)
    rates: dict[str, list[float]] = {}
    took_ms: dict[str, list[float]] = {}
    lost = 0
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        client = stack.enter_context(cluster.client())
        questions = _files(cluster.folder)
        servers = {
            "hub": _published(client),
            "alone": stack.enter_context(_alone(cluster.folder)),
            "dnsmasq": stack.enter_context(_dnsmasq(dnsmasq, cluster.folder)),
        }
        for _ in range(rounds):
            for name, address in servers.items():
                said = _dnsperf(dnsperf, address, questions, seconds)
                rates.setdefault(name, []).append(_number(_PER_S, said))
                lost += int(_number(_LOST, said)) if name == "hub" else 0
            half = rates["hub"][-1] / 2
            for name, address in servers.items():
                said = _dnsperf(dnsperf, address, questions, seconds, "-v", "-Q", str(int(half)))
                took = [1e3 * float(word) for word in _TOOK.findall(said)]
                took_ms.setdefault(name, []).append(percentile(took, 99))
        changes = _changes(client, servers["hub"], 10 if quick else CHANGES)
    note = f"{lost} of the hub's were lost" if lost else ""
    return [*_rows(rates, took_ms, note), _visible(changes)]


def _rows(
    rates: dict[str, list[float]], took_ms: dict[str, list[float]], note: str
) -> Iterator[Figure]:
    for name, what in (("hub", "names, of a hub"), ("alone", "names, server alone")):
        yield Figure(
            what=f"{what}, answers by UDP",
            value=statistics.median(rates[name]),
            unit="/s",
            higher=True,
            peer=statistics.median(rates["dnsmasq"]),
            peer_name="dnsmasq",
            ratio_bar=RATIO_BAR,
            samples=spread(rates[name]),
            note=note if name == "hub" else "",
        )
        yield Figure(
            what=f"{what}, p99 at half load",
            value=statistics.median(took_ms[name]),
            unit="ms",
            bar=P99_BAR_MS,
            peer=statistics.median(took_ms["dnsmasq"]),
            peer_name="dnsmasq",
            samples=spread(took_ms[name]),
        )


def _visible(changes_ms: list[float]) -> Figure:
    return Figure(
        what="names, from publishing to the first answer with it, p99",
        value=percentile(changes_ms, 99),
        unit="ms",
        bar=VISIBLE_BAR_MS,
        samples=spread(changes_ms),
    )


# -- the zone --------------------------------------------------------------------------------------


def _names() -> Iterator[tuple[str, str]]:
    for number in range(NAMES):
        yield f"h{number}.bench.app", f"10.200.{number >> 8}.{number & 255}"


def _files(folder: Path) -> Path:
    """The zone as each server wants it, and the questions."""
    lines = list(_names())
    (folder / "zone").write_text("".join(f"{name} A {at}\n" for name, at in lines))
    hosts = "".join(f"host-record={name}.{ZONE},{at},5\n" for name, at in lines)
    (folder / "dnsmasq.conf").write_text(hosts)
    asked = [f"{name}.{ZONE} A\n" for name, _ in lines]
    random.Random(7).shuffle(asked)
    questions = folder / "questions"
    questions.write_text("".join(asked))
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o644)
    return questions


def _published(client: Client) -> Address:
    """The hub of the cluster, when all names are there."""
    for name, at in _names():
        client.call("dns.publish", name=name, kind="A", data=at, ttl=5)
    host, _, port = client.call("dns.status")["address"].rpartition(":")
    return host, int(port)


@contextmanager
def _alone(folder: Path) -> Iterator[Address]:
    words = [sys.executable, "-m", "paas.dns", "--zone", str(folder / "zone")]
    with _running(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode().split()
        host, _, port = said[1].rpartition(":")
        yield host, int(port)


@contextmanager
def _dnsmasq(program: str, folder: Path) -> Iterator[Address]:
    port = _free_port()
    words = [program, "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--port={port}"]
    words += ["--listen-address=127.0.0.1", "--bind-interfaces", "--cache-size=10000"]
    words += [f"--conf-file={folder / 'dnsmasq.conf'}", "--user=root", "--pid-file"]
    with _running(words, stdout=subprocess.DEVNULL):
        address = ("127.0.0.1", port)
        _until(lambda: _ask(address, f"h0.bench.app.{ZONE}"), "dnsmasq does not answer")
        yield address


@contextmanager
def _running(words: list[str], *, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdout=stdout, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- asking ----------------------------------------------------------------------------------------


def _dnsperf(program: str, address: Address, questions: Path, seconds: int, *more: str) -> str:
    words = [program, "-s", address[0], "-p", str(address[1]), "-d", str(questions)]
    words += ["-l", str(seconds), "-c", "4", "-q", "100", *more]
    with tempfile.TemporaryFile("w+") as out:  # a reader of a pipe would take processor time
        subprocess.run(words, stdout=out, stderr=subprocess.DEVNULL, check=True)
        out.seek(0)
        return out.read()


def _number(pattern: re.Pattern[str], said: str) -> float:
    found = pattern.search(said)
    if found is None:
        raise RuntimeError(f"dnsperf said nothing like {pattern.pattern!r}: {said[-500:]}")
    return float(found[1])


def _changes(client: Client, address: Address, count: int) -> list[float]:
    took_ms = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(1.0)
        for number in range(count):
            name = f"fresh{number}.bench.app"
            data = _question(f"{name}.{ZONE}")
            begin_s = time.perf_counter()
            client.send("dns.publish", {"name": name, "kind": "A", "data": "192.0.2.1"})
            while True:
                sock.send(data)
                if sock.recv(4_096)[3] & 15 == 0:
                    break
            took_ms.append(1e3 * (time.perf_counter() - begin_s))
            client.receive()
    return took_ms


def _question(name: str) -> bytes:
    labels = b"".join(bytes((len(word),)) + word.encode() for word in name.split("."))
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def _ask(address: Address, name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(address)
            sock.send(_question(name))
            return sock.recv(4_096)[3] & 15 == 0
        except OSError:
            return False


def _until(condition: Callable[[], bool], why: str) -> None:
    end_s = time.monotonic() + 20.0
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError(why)
        time.sleep(0.05)


def _needs() -> tuple[str, str]:
    """dnsperf and dnsmasq; raises `unsupported`."""
    found = {name: shutil.which(name, path="/usr/bin:/usr/sbin") for name in ("dnsperf", "dnsmasq")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise PlatformError("unsupported", f"install {', '.join(missing)}")
    return str(found["dnsperf"]), str(found["dnsmasq"])
