"""The gateway's data path beside nginx and haproxy, in turns, in front of the same members.

    python -m bench gateway [--quick]

Members are two nginx processes that answer twelve bytes; wrk asks over 64 connections that are
kept.  Each round measures ours, then each peer, which runs only during its turn: everything shares
the machine with wrk and the members, so what counts is one beside the other.  The peers have one
worker, as ours is one process.  HTTPS with TLS 1.3, bodies of 64 KiB and the time a single request
takes are measured of ours alone.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import Figure, spread
from paas.base.errors import PlatformError
from paas.testing.edge_world import make_certificate

BAR_PER_S = 3_000.0
CONNECTIONS = 64
ROUNDS = 5
SECONDS = 5
READY_S = 15.0

_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_P50 = re.compile(r"50%\s+([0-9.]+)(us|ms|s)")
_P99 = re.compile(r"99%\s+([0-9.]+)(us|ms|s)")
_BAD = re.compile(r"Non-2xx or 3xx responses: ([0-9]+)|Socket errors: (.*)")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def gateway(quick: bool) -> list[Figure]:
    """Rounds of ours and the peers."""
    for program in ("wrk", "nginx", "haproxy", "openssl"):
        if shutil.which(program) is None:
            raise PlatformError("invalid", f"unsupported here: install {program}", field="peers")
    rounds, seconds = (2, 2) if quick else (ROUNDS, SECONDS)
    taken: dict[str, list[float]] = {}
    spans: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        members = [stack.enter_context(member(folder, number)) for number in range(2)]
        fronts = {"ours": ours, "nginx": nginx, "haproxy": haproxy}
        for _ in range(rounds):
            for front, start in fronts.items():
                with start(folder, members) as ports:
                    note(taken, spans, front, wrk(f"http://127.0.0.1:{ports[0]}/", seconds))
                    if front != "ours":
                        continue
                    url = f"http://127.0.0.1:{ports[0]}/64k"
                    note(taken, spans, "64k", wrk(url, seconds))
                    note(taken, spans, "one", wrk(f"http://127.0.0.1:{ports[0]}/", seconds, 1))
                    note(taken, spans, "tls", wrk(f"https://127.0.0.1:{ports[1]}/", seconds))
    return figures(taken, spans)


def figures(taken: dict[str, list[float]], spans: dict[str, list[float]]) -> list[Figure]:
    """The rows."""
    rows = [_beside(peer, taken, spans) for peer in ("nginx", "haproxy")]
    for key, what in (
        ("tls", "gateway, the same by HTTPS (TLS 1.3)"),
        ("64k", "gateway, replies of 64 KiB, 64 connections"),
    ):
        rows.append(
            Figure(
                what=what,
                value=statistics.median(taken[key]),
                unit="/s",
                higher=True,
                samples=spread(taken[key]),
            )
        )
    rows.append(
        Figure(
            what="gateway, one request at a time, p50",
            value=statistics.median(spans["one 50"]),
            unit="ms",
            samples=spread(spans["one 50"]),
        )
    )
    return rows


def _beside(peer: str, taken: dict[str, list[float]], spans: dict[str, list[float]]) -> Figure:
    late, theirs = (statistics.median(spans[f"{name} 99"]) for name in ("ours", peer))
    return Figure(
        what=f"gateway, endpoint route, small reply, 64 connections, beside {peer}",
        value=statistics.median(taken["ours"]),
        unit="/s",
        higher=True,
        bar=BAR_PER_S,
        peer=statistics.median(taken[peer]),
        peer_name=f"{peer}, one worker",
        samples=spread(taken["ours"]),
        note=f"p99 {late:.1f} ms, peer {theirs:.1f} ms",
    )


def note(
    taken: dict[str, list[float]],
    spans: dict[str, list[float]],
    name: str,
    found: tuple[float, float, float],
) -> None:
    taken.setdefault(name, []).append(found[0])
    spans.setdefault(f"{name} 50", []).append(found[1])
    spans.setdefault(f"{name} 99", []).append(found[2])


def wrk(url: str, seconds: int, connections: int = CONNECTIONS) -> tuple[float, float, float]:
    """Requests a second, p50 and p99 in milliseconds.  Raises RuntimeError when one failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if bad := _BAD.search(said):
        raise RuntimeError(f"wrk: {bad[0]}")
    rate, p50, p99 = _RATE.search(said), _P50.search(said), _P99.search(said)
    assert rate is not None, said
    assert p50 is not None, said
    assert p99 is not None, said
    return float(rate[1]), _ms(p50), _ms(p99)


def _ms(found: re.Match[str]) -> float:
    return float(found[1]) * _UNITS[found[2]]


# -- what runs -------------------------------------------------------------------------------------


@contextmanager
def member(folder: Path, number: int) -> Iterator[int]:
    """An nginx that answers by itself."""
    port = free_port()
    (folder / "64k").write_bytes(b"x" * 65_536)
    where = f"""
        location / {{ return 200 "hello world\\n"; }}
        location = /64k {{ root {folder}; }}"""
    with started(nginx_command(folder, f"member{number}", port, where), port):
        yield port


@contextmanager
def ours(folder: Path, members: list[int]) -> Iterator[list[int]]:
    """Plain, and by TLS."""
    ports = [free_port(), free_port()]
    certificates = folder / "certificates"
    if not certificates.exists():
        certificates.mkdir()
        make_certificate(certificates, "default", "localhost")
    rows = "".join(
        f'[[member]]\ngroup = "web"\nhost = "127.0.0.1"\nport = {port}\n' for port in members
    )
    file = folder / "gateway.toml"
    file.write_text(
        f'[gateway]\nlisten = ["127.0.0.1:{ports[0]}"]\ntls = ["127.0.0.1:{ports[1]}"]\n'
        f'certificates = "{certificates}"\naccess_log = "errors"\n'
        f'[[route]]\nname = "site"\ngroup = "web"\n{rows}'
    )
    with started([sys.executable, "-m", "paas.gateway", "--config", str(file)], ports[0]):
        yield ports


@contextmanager
def nginx(folder: Path, members: list[int]) -> Iterator[list[int]]:
    """With connections to members that are kept, as its manual says."""
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{member};" for member in members)
    upstream = f"upstream web {{ {servers} keepalive 128; keepalive_requests 1000000; }}"
    where = """
        location / {
            proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
        }"""
    with started(nginx_command(folder, "front", port, where, upstream), port):
        yield [port]


@contextmanager
def haproxy(folder: Path, members: list[int]) -> Iterator[list[int]]:
    """One thread."""
    port = free_port()
    servers = "\n".join(
        f"  server m{number} 127.0.0.1:{member}" for number, member in enumerate(members)
    )
    file = folder / "haproxy.cfg"
    file.write_text(
        f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  default_backend web
backend web
  balance random
{servers}
"""
    )
    with started(["haproxy", "-db", "-f", str(file)], port):
        yield [port]


def nginx_command(folder: Path, name: str, port: int, where: str, upstream: str = "") -> list[str]:
    """One worker, nothing written."""
    home = folder / name
    home.mkdir(exist_ok=True)
    temporary = " ".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / f"{name}.conf"
    file.write_text(
        f"""
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log; user root;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000; {temporary}
    {upstream}
    server {{ listen 127.0.0.1:{port}; {where} }}
}}
"""
    )
    return ["nginx", "-c", str(file)]


@contextmanager
def started(command: list[str], port: int) -> Iterator[None]:
    """A program, once its port answers; killed afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment) as process:
        try:
            until_s = time.monotonic() + READY_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"{command[0]} does not listen")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
