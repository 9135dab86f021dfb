"""Answers people: the newest items, a search, what is followed.  It has no state of its own."""

from __future__ import annotations

from typing import Any

from paas_component import Call, Component, ComponentError

GROUP = "feeds.frontends"
TIMELINES = "group:feeds.timelines"
INDEXERS = "group:feeds.indexers"
FETCHERS = "group:feeds.fetchers"
SHOWN = ("title", "link", "date", "feed", "feed_title", "summary")

component = Component()


def shown(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item.get(key, "") for key in SHOWN}


def limit_of(inputs: dict[str, Any]) -> int:
    limit = inputs.get("limit", 10)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 100:
        raise ComponentError(
            "invalid", "limit: expected a whole number from 1 to 100", field="limit"
        )
    return limit


@component.operation("latest")
def latest(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    wanted = {"limit": limit_of(inputs)}
    if inputs.get("feed"):
        wanted["feed"] = inputs["feed"]
    found = component.call(TIMELINES, "latest", wanted, timeout=call.remaining())
    return {"items": [shown(item) for item in found["items"]], "total": found["total"]}


@component.operation("search")
def search(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    query = {"query": inputs.get("query", ""), "limit": limit_of(inputs)}
    found = component.call(INDEXERS, "search", query, timeout=call.remaining())
    items = component.call(TIMELINES, "get", {"ids": found["ids"]}, timeout=call.remaining())
    return {"items": [shown(item) for item in items["items"]], "total": found["total"]}


@component.operation("feeds")
def feeds(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """What every fetcher follows; one that does not answer does not spoil the others' answers."""
    replies = component.call(FETCHERS, "feeds", {}, selector="all", timeout=call.remaining())
    known = [feed for reply in replies for feed in reply.get("outputs", {}).get("feeds", [])]
    return {"feeds": sorted(known, key=lambda feed: str(feed["feed"]))}


def main() -> None:
    component.join(GROUP)
    component.run()


if __name__ == "__main__":
    main()
