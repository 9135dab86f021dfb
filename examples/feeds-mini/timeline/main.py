"""Keeps the newest items of all feeds, in order of time.

Bounded: beyond ITEMS_MAX the oldest items go.  Everything is in memory; a timeline that starts
anew asks the indexers to forget what they handed over, and the fetchers to send all again.
"""

from __future__ import annotations

import bisect
import threading
from typing import Any

from paas_component import Call, Component, ComponentError

GROUP = "feeds.timelines"
INDEXERS = "group:feeds.indexers"
FETCHERS = "group:feeds.fetchers"
ITEMS_MAX = 10_000
LIMIT_MAX = 100

component = Component()
lock = threading.Lock()
order: list[tuple[str, str]] = []
"""(date, id), oldest first; items without a date are the oldest."""
items: dict[str, dict[str, Any]] = {}


def keep(item: dict[str, Any]) -> bool:
    """Put an item in its place; False when it was there."""
    identity = str(item["id"])
    if identity in items:
        return False
    items[identity] = item
    bisect.insort(order, (item.get("date", ""), identity))
    if len(order) > ITEMS_MAX:
        _, oldest = order.pop(0)
        del items[oldest]
    return True


@component.operation("add")
def add(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with lock:
        added = sum([keep(item) for item in inputs["items"]])
    component.log(f"{added} items added", total=len(items))
    return {"added": added}


@component.operation("latest")
def latest(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    limit = max(1, min(LIMIT_MAX, int(inputs.get("limit", 10))))
    feed = inputs.get("feed")
    with lock:
        newest = (items[identity] for _, identity in reversed(order))
        chosen = [item for item in newest if not feed or item["feed"] == feed][:limit]
        return {"items": chosen, "total": len(order)}


@component.operation("get")
def get(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with lock:
        return {"items": [items[i] for i in inputs["ids"][:LIMIT_MAX] if i in items]}


@component.operation("counts")
def counts(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    found: dict[str, int] = {}
    with lock:
        for item in items.values():
            found[item["feed"]] = found.get(item["feed"], 0) + 1
    return {"feeds": found, "total": sum(found.values())}


def main() -> None:
    component.join(GROUP)
    try:
        component.call(INDEXERS, "forget", selector="all", timeout=10)
        component.cast(FETCHERS, "resend", selector="all")
    except ComponentError as exc:
        component.log("nobody is there who could send again", level="debug", error=exc.code)
    component.run()


if __name__ == "__main__":
    main()
