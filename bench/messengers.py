"""Pairs of components that call and tell each other: components/messenger, in several styles.

Both ends of a pair are the same program.  `default` is what a bundle has that says nothing: the
front end of threads, JSON lines.  The others are one line in the program: `codec="msgpack"` (with
the package in the bundle), `AsyncComponent` instead of `Component`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cluster import COMPONENTS, Client, Cluster

PAYLOAD = {"data": "x" * 89}
"""100 bytes as JSON."""

IN_FLIGHT = 256
PATIENCE_S = 60.0

assert len(json.dumps(PAYLOAD, separators=(",", ":"))) == 100


@dataclass(frozen=True, slots=True)
class Style:
    """How a program uses the SDK."""

    word: str
    front: str
    codec: str


DEFAULT = Style("default (threads, JSON)", "threads", "json")
BEST = Style("threads, msgpack", "threads", "msgpack")
"""One line of the program: `Component(codec="msgpack")`."""

STYLES = (
    DEFAULT,
    BEST,
    Style("asyncio, JSON", "asyncio", "json"),
    Style("asyncio, msgpack", "asyncio", "msgpack"),
)


class Pair:
    """A caller and a callee of one style."""

    def __init__(self, cluster: Cluster, client: Client, style: Style) -> None:
        self._client = client
        kind = cluster.push(_source(cluster, style))
        self._caller, self._callee = (f"{style.front}-{style.codec}-{n}" for n in ("asks", "does"))
        for name in (self._caller, self._callee):
            client.call("controller.create", type=kind, name=name)

    def one_at_a_time(self, count: int) -> list[float]:
        """Milliseconds of each call."""
        took_ms: list[float] = self._measure("call", count, 1)["took_ms"]
        return took_ms

    def calls_per_s(self, count: int, parallel: int = IN_FLIGHT) -> float:
        """Answered calls a second with `parallel` on their way."""
        return count / float(self._measure("call", count, parallel)["seconds"])

    def casts_per_s(self, what: str, count: int, parallel: int) -> tuple[float, int]:
        """Casts that arrived a second, at the receiver; and how many did not arrive."""
        before = self._noted()["count"]
        since_s = self._measure(what, count, parallel)["since_s"]
        noted = self._noted()
        end_s = time.monotonic() + 2
        while noted["count"] < before + count and time.monotonic() < end_s:
            time.sleep(0.02)
            noted = self._noted()
        arrived = noted["count"] - before
        return arrived / (noted["last_s"] - since_s), count - arrived

    def _noted(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(self._callee, "noted", {})
        return found

    def _measure(self, what: str, count: int, parallel: int) -> dict[str, Any]:
        inputs = {
            "what": what,
            "target": self._callee,
            "payload": PAYLOAD,
            "count": count,
            "parallel": parallel,
        }
        found: dict[str, Any] = self._ask(self._caller, "measure", inputs)
        return found

    def _ask(self, target: str, operation: str, inputs: Any) -> Any:
        params = {"target": target, "operation": operation, "inputs": inputs}
        return self._client.call("hub.call", timeout=PATIENCE_S, **params)["outputs"]


def pairs(cluster: Cluster, client: Client, styles: Sequence[Style] = STYLES) -> dict[Style, Pair]:
    """All of them, warm."""
    made = {style: Pair(cluster, client, style) for style in styles}
    for pair in made.values():
        pair.one_at_a_time(200)
        pair.calls_per_s(2_000)
    return made


def _source(cluster: Cluster, style: Style) -> Path:
    copy = cluster.folder / "sources" / f"{style.front}-{style.codec}"
    shutil.copytree(COMPONENTS / "messenger", copy, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = (copy / "component.toml").read_text()
    for before, after in (
        ('name = "messenger"', f'name = "messenger-{style.front}-{style.codec}"'),
        ('"threads", "json"]', f'"{style.front}", "{style.codec}"]'),
        ('protocol = "json"', f'protocol = "{style.codec}"'),
    ):
        manifest = manifest.replace(before, after)
    (copy / "component.toml").write_text(manifest)
    if style.codec == "msgpack":
        found = importlib.util.find_spec("msgpack")
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, copy / "msgpack")
    return copy
