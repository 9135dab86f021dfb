"""The feeds application: 1,000 sources, 10,000 subscriptions, browsers that listen.

On a cluster of one node with a gateway, deployed as anybody would (`paas app deploy`).  500 people
follow 20 sources each; 50 of them listen on WebSockets through the gateway, and follow a stream
besides.  Measured, after every source was polled once:

- polls of each source, counted by the origin: one for each interval, whoever follows it
- from the end of a fetch, and from `publish` on a streaming source, until a browser has the item
- processor time of all processes of the platform and of the application (the origin is told
  apart: it stands for the world)
"""

from __future__ import annotations

import json
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from wsproto import ConnectionType, WSConnection
from wsproto.events import Ping, Request, TextMessage

from bench.cluster import ROOT, Client, Cluster
from bench.figures import Figure, percentile, spread
from paas.cli.demo import free_port, own_address

EXAMPLE = ROOT / "examples" / "feeds"
SOURCES, PEOPLE, FOLLOWED, LISTENERS = 1_000, 500, 20, 50
INTERVAL_S = 60.0
STREAM = "http://live.origin/live/desk"
STREAM_PATH = "/desk.atom"
FETCH_BAR_MS, STREAM_BAR_MS, CORES_BAR, POLLS_BAR = 1_000.0, 2_000.0, 1.0, 1.0
WARM_UP_S_MAX = 240.0
SPREAD = 0.1
"""By which the scheduler may make an interval longer."""


class Listeners(threading.Thread):
    """Browsers: many WebSockets in one thread; when what came, and how late."""

    def __init__(self, host: str, port: int, people: list[str]) -> None:
        super().__init__(daemon=True)
        self.after_fetch_ms: list[float] = []
        self.after_publish_ms: list[float] = []
        self.measuring = False
        self.lost = 0
        self._selector = selectors.DefaultSelector()
        self._end = threading.Event()
        for person in people:
            self._connect(host, port, person)

    def _connect(self, host: str, port: int, person: str) -> None:
        sock = socket.create_connection((host, port), timeout=20)
        ws = WSConnection(ConnectionType.CLIENT)
        cookie = [(b"cookie", f"feeds_user={person}".encode())]
        sock.sendall(ws.send(Request(host=f"{host}:{port}", target="/live", extra_headers=cookie)))
        sock.settimeout(None)
        self._selector.register(sock, selectors.EVENT_READ, (ws, []))

    def run(self) -> None:
        while not self._end.is_set():
            for key, _ in self._selector.select(0.2):
                sock, (ws, parts) = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                data = sock.recv(262_144)
                now_s = time.time()
                if not data:
                    self.lost += 1
                    self._selector.unregister(sock)
                    continue
                ws.receive_data(data)
                for event in ws.events():
                    if isinstance(event, Ping):
                        sock.sendall(ws.send(event.response()))
                    elif isinstance(event, TextMessage):
                        parts.append(event.data)
                        if event.message_finished:
                            self._heard(json.loads("".join(parts)), now_s)
                            parts.clear()

    def _heard(self, message: dict[str, Any], now_s: float) -> None:
        if not self.measuring or message["type"] != "items":
            return
        for item in message["items"]:
            if item["title"].startswith("published "):
                self.after_publish_ms.append((now_s - float(item["title"].split()[1])) * 1000)
            elif item.get("fetched"):
                self.after_fetch_ms.append((now_s - item["fetched"]) * 1000)

    def stop(self) -> None:
        self._end.set()
        self.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


def feeds(quick: bool) -> list[Figure]:
    """All figures; a quick run looks for one interval only."""
    with Cluster() as cluster, cluster.client() as client:
        host, port = own_address(), gateway(cluster)
        with application() as file:
            cluster.paas("app", "deploy", str(file), "--timeout", "180s")
        urls = subscribe(client)
        settle(client)
        people = [f"person{n}" for n in range(LISTENERS)]
        listeners = Listeners(host, port, people)
        listeners.start()
        until_stream(client)
        window_s = (1 if quick else 3) * INTERVAL_S
        before = polls(client, urls), seconds(cluster, client)
        began_s = time.monotonic()
        listeners.measuring = True
        publish_until(client, began_s + window_s)
        took_s = time.monotonic() - began_s
        after = polls(client, urls), seconds(cluster, client)
        listeners.stop()
    counted = [after[0][path] - before[0][path] for path in urls]
    total_s, origin_s = (b - a for a, b in zip(before[1], after[1], strict=True))
    return figures(listeners, counted, took_s, total_s, origin_s)


def figures(
    listeners: Listeners, counted: list[int], took_s: float, total_s: float, origin_s: float
) -> list[Figure]:
    intervals = took_s / INTERVAL_S
    often = max(counted) / (int(intervals) + 1)
    fetched, published = listeners.after_fetch_ms, listeners.after_publish_ms
    assert fetched, "no item came after a poll"
    assert published, "no item came by the stream"
    assert not listeners.lost, f"{listeners.lost} connections were lost"
    assert min(counted) >= int(intervals / (1 + SPREAD)) - 1, "a source was not polled"
    return [
        Figure(
            what=f"feeds: polls of a source / polls that its intervals allow, most of {SOURCES}",
            value=round(often, 3),
            unit="",
            bar=POLLS_BAR,
            note=f"{sum(counted)} polls in {intervals:.1f} intervals of {INTERVAL_S:g} s; "
            f"{PEOPLE * FOLLOWED} subscriptions",
        ),
        Figure(
            what="feeds: end of a fetch → item in a browser, p95",
            value=round(percentile(fetched, 95), 1),
            unit="ms",
            bar=FETCH_BAR_MS,
            samples=spread(fetched),
        ),
        Figure(
            what="feeds: appears on a streaming source → item in a browser, p95",
            value=round(percentile(published, 95), 1),
            unit="ms",
            bar=STREAM_BAR_MS,
            samples=spread(published),
        ),
        Figure(
            what="feeds: processor time of platform and application",
            value=round(total_s / took_s, 3),
            unit="cores",
            bar=CORES_BAR,
            note=f"of this {origin_s / took_s:.3f} by the origin; {LISTENERS} browsers",
        ),
    ]


# -- the world -------------------------------------------------------------------------------------


def gateway(cluster: Cluster) -> int:
    """Its port."""
    port = free_port()
    folder = cluster.folder / "gateway"
    cluster.paas("gateway", "build", str(folder), "--publish", str(port))
    cluster.paas("create", cluster.push(folder), "--name", "gateway")
    return port


@contextmanager
def application() -> Iterator[Path]:
    """The example's file, with one interval for all sources."""
    text = (EXAMPLE / "application.toml").read_text()
    head, _, rest = text.partition("configuration = { interval_min_s")
    given = f"configuration = {{ interval_min_s = {INTERVAL_S}, interval_max_s = {INTERVAL_S} }}"
    text = head + given + rest.partition("}")[2]
    text = text.replace('source = "', f'source = "{EXAMPLE}/')
    with tempfile.TemporaryDirectory(prefix="paas-bench-feeds-") as folder:
        file = Path(folder) / "application.toml"
        file.write_text(text)
        yield file


def ask(client: Client, group: str, operation: str, **inputs: Any) -> Any:
    params: dict[str, Any] = {
        "target": f"group:feeds.{group}",
        "operation": operation,
        "inputs": inputs,
    }
    return client.call("hub.call", **params, timeout=30)["outputs"]


def subscribe(client: Client) -> list[str]:
    """Everybody follows; the paths of the sources."""
    known: list[dict[str, Any]] = []
    while len(known) < SOURCES + 50:
        page = ask(client, "origins", "catalogue", offset=len(known), limit=500, copies=2)
        known += page["feeds"]
    urls = [f["url"] for f in known if "/feeds/" in f["url"] and "broken" not in f["url"]]
    urls = urls[:SOURCES]
    assert len(urls) == SOURCES
    for person in range(PEOPLE):
        for number in range(FOLLOWED):
            url = urls[(person * FOLLOWED + number) % SOURCES]
            ask(client, "timelines", "subscribe", user=f"person{person}", url=url)
        if person < LISTENERS:
            ask(client, "timelines", "subscribe", user=f"person{person}", url=STREAM)
    return [url.partition(".origin")[2] for url in urls]


def settle(client: Client) -> None:
    """Until every source was polled."""
    until_s = time.monotonic() + WARM_UP_S_MAX
    while ask(client, "timelines", "statistics")["polls"] < SOURCES:
        assert time.monotonic() < until_s, "not every source was polled"
        time.sleep(0.5)
    time.sleep(3.0)


def until_stream(client: Client) -> None:
    until_s = time.monotonic() + 30.0
    while not ask(client, "fetchers", "statistics")["streams"]:
        ask(client, "origins", "publish", title="warm", path=STREAM_PATH)
        assert time.monotonic() < until_s, "the stream is not followed"
        time.sleep(0.3)
    time.sleep(2.0)


def publish_until(client: Client, until_s: float) -> None:
    """An item on the streaming source, every second."""
    while time.monotonic() < until_s:
        title = f"published {time.time():.4f}"
        ask(client, "origins", "publish", title=title, path=STREAM_PATH)
        time.sleep(1.0)


def polls(client: Client, paths: list[str]) -> dict[str, int]:
    """How often each was asked for, by the origin."""
    found: dict[str, int] = ask(client, "origins", "statistics", paths=paths)["paths"]
    return found


def seconds(cluster: Cluster, client: Client) -> tuple[float, float]:
    """Processor time so far: of everything of the cluster, and of the origin in it."""
    total_s = 0.0
    origin = client.call("controller.component", component="feeds-origin-1")["pid"]
    inside: set[int] = set()
    root = psutil.Process(cluster.supervisor)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        inside.add(process.pid)
        total_s += times.user + times.system
    assert origin in inside, "the components are not among the processes that were counted"
    origins = [psutil.Process(origin), *psutil.Process(origin).children(recursive=True)]
    return total_s, sum(p.cpu_times().user + p.cpu_times().system for p in origins)
