"""Reads documents, and hands their items to the timeline (io).

    fetcher ── index + document ──> indexer ── add {source, feed, items} ──> group feeds.timelines
                                       └── a process that parses, with bounded memory and time

Nothing is kept here; any indexer may end at any moment, and the fetcher's call then goes to another
one or fails, in which case the document is fetched again.
"""

from __future__ import annotations

import json
import time
from typing import Any

from paas_component import Call, Component, ComponentError
from workers import Workers

GROUP = "feeds.indexers"
TIMELINES = "group:feeds.timelines"
STORE_TIMEOUT_S = 10.0
PART_BYTES = 1 << 20
"""Of items in one message; the platform's have 4 MiB at most."""


component = Component(workers=8)
counts = {"documents": 0, "refused": 0, "items": 0}
workers: Workers


@component.operation("index")
def index(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """One document; `added`: how many of its items nobody had seen."""
    (document,) = call.attachments
    question = {"url": inputs["url"], "type": inputs.get("type", ""), "now_s": time.time()}
    feed = workers.parse(question, document.read())
    counts["documents"] += 1
    if "error" in feed:
        counts["refused"] += 1
        component.log("refused", level="warning", url=str(inputs["url"])[:200], why=feed["error"])
        raise ComponentError("invalid", str(feed["error"]))
    counts["items"] += len(feed["items"])
    added, backlog = 0, False
    for part in parts(feed["items"]):
        stored = {
            "source": inputs["source"],
            "title": feed["title"],
            "link": feed["link"],
            "format": feed["format"],
            "fetched": inputs.get("fetched", 0.0),
            "backlog": backlog,
            "items": part,
        }
        taken = component.call(TIMELINES, "add", stored, timeout=STORE_TIMEOUT_S)
        added, backlog = added + taken["added"], taken["backlog"]
    return {"added": added, "items": len(feed["items"]), "title": feed["title"]}


def parts(items: list[Any]) -> list[list[Any]]:
    """Items, newest first, as lists that fit into a message each; the oldest part comes first."""
    found: list[list[Any]] = [[]]
    size = 0
    for item in items:
        size += len(json.dumps(item))
        if size > PART_BYTES and found[-1]:
            found.append([])
            size = len(json.dumps(item))
        found[-1].append(item)
    return found[::-1]


@component.operation("statistics", inline=True)
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {**counts, "replaced": workers.replaced}


def main() -> None:
    global workers
    workers = Workers(int(component.configuration.get("workers", 1)))
    component.join(GROUP)
    component.run()


if __name__ == "__main__":
    main()
