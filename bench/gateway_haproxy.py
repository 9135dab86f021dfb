"""`python bench/gateway_haproxy.py`: the HAProxy data path beside HAProxy configured by hand.

    wrk, 64 connections ──> HAProxy, as the gateway renders it            ──┐
                        ├─> HAProxy, as a person writes it for the same   ──┼──> nginx, two servers
                        └─> HAProxy, bare: one frontend, one backend      ──┘

In turns, in the same run, so that the machine's noise hits all; every round gives a ratio, and the
median counts.  Small answers, keep-alive, one thread of HAProxy, no access log in any.  The time of
the processor that HAProxy takes for a request is told too: it depends less on what else runs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

from bench.figures import Figure, spread
from paas.base.errors import PlatformError
from paas.gateway.haproxy.agent import Haproxy
from paas.gateway.haproxy.settings import HaproxySettings
from paas.gateway.messages import Route, RouteMember

BAR = 0.9
Found = dict[str, list[tuple[float, float]]]
"""Requests a second and microseconds of the processor for each, of every round."""

CONNECTIONS = 64

BARE = """
global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 30s
  timeout http-request 10s
  option forwardfor
  retries 2
  option redispatch
frontend site
  bind 127.0.0.1:{port}
  default_backend web
backend web
  balance roundrobin
  server one 127.0.0.1:{one} check
  server two 127.0.0.1:{two} check
"""
"""The least that balances between two members: nothing is checked, told to them but one address,
or repeated."""

BY_HAND = """
global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 30s
  timeout http-request 10s
  option forwardfor
  retries 2
  option redispatch
frontend site
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Forwarded for=%[src];host="\"%[req.hdr(host)]\"";proto=http
  acl site_host hdr(host),host_only -i 127.0.0.1 site.example.org
  use_backend web if site_host {{ path_beg / }}
backend web
  balance roundrobin
  retry-on conn-failure empty-response
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS PUT DELETE }}
  server one 127.0.0.1:{one} check
  server two 127.0.0.1:{two} check
"""
"""As a person would write it for the same purpose: requests are told apart, members are told who
asks, safe requests are repeated."""

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{one}; listen 127.0.0.1:{two}; return 200 "hello"; }}
}}
"""


async def load(port: int, seconds: int) -> float:
    """Requests a second."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    done = await trio.run_process(words, capture_stdout=True)
    said = done.stdout.decode()
    found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(found[1])


def processor_s(port: int) -> float:
    """Seconds of the processor that those who listen there have taken."""
    done = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True)
    pids = set(re.findall(r"pid=([0-9]+)", done.stdout))
    return sum(int(Path(f"/proc/{p}/schedstat").read_text().split()[0]) for p in pids) / 1e9


async def one_load(port: int, seconds: int) -> tuple[float, float]:
    """Requests a second, microseconds of the processor for each."""
    before = processor_s(port)
    rate = await load(port, seconds)
    return rate, (processor_s(port) - before) / (rate * seconds) * 1e6


async def measure(rounds: int, seconds: int) -> Found:
    ours, hand, bare, one, two = (free_port() for _ in range(5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nginx = folder / "nginx.conf"
        nginx.write_text(NGINX.format(folder=folder, one=one, two=two))
        (folder / "hand.cfg").write_text(BY_HAND.format(port=hand, one=one, two=two))
        (folder / "bare.cfg").write_text(BARE.format(port=bare, one=one, two=two))
        haproxy = Haproxy(
            HaproxySettings(
                folder=f"{folder}/hx",
                listen=(f"127.0.0.1:{ours}",),
                edge="127.0.0.1:9",
                access_log="none",
            )
        )
        haproxy.update([Route(name="site", group="web")], [member(one), member(two)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "nginx", "-c", str(nginx))
            for name in ("hand", "bare"):
                nursery.start_soon(alone, "haproxy", "-db", "-f", f"{folder}/{name}.cfg")
            await nursery.start(haproxy.run)
            await haproxy.settled()
            await trio.sleep(1)
            ports = [("ours", ours), ("hand", hand), ("bare", bare)]
            for _, port in ports:
                await load(port, 1)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in ports}
            for number in range(rounds):
                turn = number % len(ports)
                for name, port in [*ports[turn:], *ports[:turn]]:
                    found[name].append(await one_load(port, seconds))
            nursery.cancel_scope.cancel()
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def member(port: int) -> RouteMember:
    return RouteMember(
        route="site",
        component=f"{port:040x}",
        incarnation=1,
        node="n",
        host="127.0.0.1",
        port=port,
        state="serving",
        weight=100,
    )


async def run(*words: str) -> None:
    await trio.run_process(words, capture_stderr=True, check=False)


async def alone(*words: str) -> None:
    """In a session of its own, as the agent starts its HAProxy: the kernel shares processors out
    by session."""
    await trio.run_process(words, capture_stderr=True, check=False, start_new_session=True)


def report(found: Found) -> dict[str, Any]:
    rates = {name: [rate for rate, _ in pairs] for name, pairs in found.items()}
    ratios = {
        name: [a / b for a, b in zip(rates["ours"], rates[name], strict=True)]
        for name in ("hand", "bare")
    }
    ratio = statistics.median(ratios["hand"])
    return {
        "what": "endpoint route by HAProxy, small reply, wrk 64 connections",
        "requests_per_s": {name: round(statistics.median(r)) for name, r in rates.items()},
        "processor_us_a_request": {
            name: round(statistics.median(us for _, us in pairs), 1)
            for name, pairs in found.items()
        },
        "ratio_to_by_hand": round(ratio, 3),
        "ratio_to_bare": round(statistics.median(ratios["bare"]), 3),
        "ratios": {name: [round(x, 3) for x in some] for name, some in ratios.items()},
        "bar": BAR,
        "holds": ratio >= BAR,
    }


def haproxy(quick: bool) -> list[Figure]:
    """Rounds of ours and the two others."""
    for program in ("wrk", "nginx", "haproxy", "ss"):
        if shutil.which(program) is None:
            raise PlatformError("invalid", f"unsupported here: install {program}", field="peers")
    found = trio.run(measure, 3 if quick else 9, 2 if quick else 5)
    facts = report(found)
    cost = facts["processor_us_a_request"]
    return [
        Figure(
            what="HAProxy as the gateway renders it, beside HAProxy by hand for the same",
            value=facts["requests_per_s"]["ours"],
            unit="/s",
            higher=True,
            peer=facts["requests_per_s"]["ours"] / facts["ratio_to_by_hand"],
            peer_name="HAProxy",
            ratio_bar=BAR,
            note=f"processor: {cost['ours']} and {cost['hand']} µs a request",
            samples=spread([rate for rate, _ in found["ours"]]),
        ),
        Figure(
            what="… beside a bare HAProxy",
            value=facts["requests_per_s"]["ours"],
            unit="/s",
            higher=True,
            peer=facts["requests_per_s"]["ours"] / facts["ratio_to_bare"],
            peer_name="HAProxy",
            note=f"processor: {cost['bare']} µs a request",
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print nothing else")
    given = parser.parse_args()
    found = report(trio.run(measure, given.rounds, given.seconds))
    sys.stdout.write(json.dumps(found, indent=None if given.json else 2) + "\n")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
