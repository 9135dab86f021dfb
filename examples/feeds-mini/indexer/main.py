"""Finds which items are new, remembers where words occur, and hands new items to the timeline.

fetcher ── call index ──> indexer ── call add ──> group feeds.timelines
"""

from __future__ import annotations

import re
import threading
from typing import Any

from paas_component import Call, Component, ComponentError

GROUP = "feeds.indexers"
TIMELINES = "group:feeds.timelines"
FETCHERS = "group:feeds.fetchers"
WORD = re.compile(r"\w{2,40}")
ITEMS_MAX = 20_000

component = Component()
lock = threading.Lock()
words: dict[str, dict[str, int]] = {}
"""Word to the items it occurs in, with how often."""
seen: dict[str, None] = {}


def remember(item: dict[str, Any]) -> None:
    seen[item["id"]] = None
    for word in WORD.findall(f"{item['title']} {item['title']} {item['summary']}".casefold()):
        places = words.setdefault(word, {})
        places[item["id"]] = places.get(item["id"], 0) + 1


@component.operation("index")
def index(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Take items of one feed; those that are new go on to the timeline first, so none is lost."""
    with lock:
        room = ITEMS_MAX - len(seen)
        fresh = [item for item in inputs["items"] if item["id"] not in seen][:room]
        if fresh:
            feed = {"feed": inputs["feed"], "feed_title": inputs.get("title", "")}
            items = [{**item, **feed} for item in fresh]
            component.call(TIMELINES, "add", {"items": items}, timeout=10)
            for item in fresh:
                remember(item)
    if fresh:
        component.log(f"{len(fresh)} new items of {inputs['feed']}", words=len(words))
    return {"new": len(fresh)}


@component.operation("search")
def search(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Identifiers of the items that have every word, the most fitting first."""
    query = WORD.findall(str(inputs.get("query", "")).casefold())
    if not query:
        raise ComponentError("invalid", "query: expected at least one word of two letters")
    with lock:
        found = [words.get(word, {}) for word in query]
        common = set(found[0]).intersection(*found[1:])
        ranked = sorted(common, key=lambda i: (-sum(f[i] for f in found), i))
    limit = max(1, min(100, int(inputs.get("limit", 10))))
    return {"ids": ranked[:limit], "total": len(ranked)}


@component.operation("forget")
def forget(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """A timeline has lost its items: whatever comes again is new."""
    with lock:
        forgotten = len(seen)
        seen.clear()
        words.clear()
    return {"forgotten": forgotten}


@component.operation("statistics")
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with lock:
        return {"items": len(seen), "words": len(words)}


def main() -> None:
    component.join(GROUP)
    try:
        component.cast(FETCHERS, "resend", selector="all")
    except ComponentError as exc:
        component.log("no fetcher is there yet", level="debug", error=exc.code)
    component.run()


if __name__ == "__main__":
    main()
