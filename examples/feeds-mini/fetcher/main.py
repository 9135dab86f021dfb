"""Fetches feeds and hands their items to the indexers, no more often than the feeds change.

    source <── conditional GET ── fetcher ── call index ──> group feeds.indexers

A request that finds the same feed being fetched waits for that fetch instead of making another.
Items that nobody took are kept and offered again.  `resend` (cast by an indexer or timeline that
has just started and knows nothing) offers everything again.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import Future
from typing import Any

import feed_parser
import schedule
from paas_component import Call, Component, ComponentError

GROUP = "feeds.fetchers"
INDEXERS = "group:feeds.indexers"
HTTP_TIMEOUT_S = 10.0
TICK_S = 0.5
ITEMS_A_CALL = 50

component = Component()


class Feed:
    """What is known about one feed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = ""
        self.etag = ""
        self.modified = ""
        self.items: list[dict[str, Any]] = []
        self.delivered = True
        self.interval_s = schedule.FIRST_S
        self.due_s = 0.0
        self.outcome = "new"
        self.error = ""
        self.requests = 0
        self.unchanged = 0

    def describe(self) -> dict[str, Any]:
        return {
            "feed": self.name,
            "title": self.title,
            "items": len(self.items),
            "outcome": self.outcome,
            "error": self.error,
            "interval_s": round(self.interval_s, 1),
            "requests": self.requests,
            "unchanged": self.unchanged,
        }


feeds: dict[str, Feed] = {}
lock = threading.Lock()
fetching: dict[str, Future[dict[str, Any]]] = {}


def connect() -> http.client.HTTPConnection:
    """A connection to the source, wherever it is now."""
    found = component.request("resource.resolve", {"name": "source"})
    for endpoint in found["endpoints"]:
        if endpoint["protocol"] == "http":
            return http.client.HTTPConnection(
                endpoint["host"], endpoint["port"], timeout=HTTP_TIMEOUT_S
            )
    raise ComponentError("not-available", "no component serves feeds at the moment")


def get(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = connect()
    try:
        connection.request("GET", path, headers={"User-Agent": "feeds-mini/1.0", **headers})
        response = connection.getresponse()
        body = response.read(feed_parser.DOCUMENT_BYTES_MAX + 1)
        return response.status, {k.lower(): v for k, v in response.getheaders()}, body
    finally:
        connection.close()


def fetch(feed: Feed) -> dict[str, Any]:
    """Fetch once, whoever asks: a second asker waits for the first one's result."""
    with lock:
        running = fetching.get(feed.name)
        if running is None:
            mine = fetching[feed.name] = Future()
    if running is not None:
        return {**running.result(HTTP_TIMEOUT_S * 2), "merged": True}
    try:
        fetch_once(feed)
        mine.set_result(feed.describe())
    except BaseException as exc:
        mine.set_exception(exc)
        raise
    finally:
        with lock:
            del fetching[feed.name]
    return feed.describe()


def fetch_once(feed: Feed) -> None:
    """One conditional request, and the next time by its outcome."""
    began = time.monotonic()
    headers = {"If-None-Match": feed.etag} if feed.etag else {}
    if feed.modified:
        headers["If-Modified-Since"] = feed.modified
    feed.requests += 1
    try:
        feed.outcome, feed.error = read(feed, *get(f"/{feed.name}", headers)), ""
    except (OSError, http.client.HTTPException, feed_parser.FeedError, ComponentError) as exc:
        feed.outcome, feed.error = "failed", f"{type(exc).__name__}: {exc}"
    feed.interval_s = schedule.next_interval(feed.interval_s, feed.outcome)
    feed.due_s = time.monotonic() + feed.interval_s
    took_ms = round((time.monotonic() - began) * 1000)
    level = "warning" if feed.outcome == "failed" else "info"
    component.log(
        f"{feed.outcome} {feed.name}",
        level=level,
        items=len(feed.items),
        ms=took_ms,
        next_s=round(feed.interval_s, 1),
        **({"error": feed.error} if feed.error else {}),
    )
    deliver(feed)


def read(feed: Feed, status: int, headers: dict[str, str], body: bytes) -> str:
    """Take over what the source answered; the outcome."""
    if status == 304:
        feed.unchanged += 1
        return "unchanged"
    if status != 200:
        raise feed_parser.FeedError(f"the source answered {status}")
    parsed = feed_parser.parse(body)
    feed.title = parsed["title"]
    feed.etag, feed.modified = headers.get("etag", ""), headers.get("last-modified", "")
    changed = parsed["items"] != feed.items
    feed.items = parsed["items"]
    feed.delivered = feed.delivered and not changed
    return "changed" if changed else "unchanged"


def deliver(feed: Feed) -> None:
    """Offer the items until an indexer has taken all of them."""
    if feed.delivered:
        return
    try:
        for start in range(0, len(feed.items), ITEMS_A_CALL):
            part = feed.items[start : start + ITEMS_A_CALL]
            inputs = {"feed": feed.name, "title": feed.title, "items": part}
            component.call(INDEXERS, "index", inputs, timeout=10)
        feed.delivered = True
    except ComponentError as exc:
        component.log(f"nobody took the items of {feed.name}", level="warning", error=str(exc))


def follow_source() -> None:
    """Follow every feed that the source has."""
    status, _, body = get("/", {})
    if status == 200:
        with lock:
            for name in json.loads(body)["feeds"]:
                feeds.setdefault(name, Feed(name))


def work() -> None:
    """The scheduler: whatever is due, one after the other."""
    while True:
        try:
            if not feeds:
                follow_source()
            for feed in list(feeds.values()):
                if time.monotonic() >= feed.due_s:
                    fetch(feed)
                elif not feed.delivered:
                    deliver(feed)
        except (OSError, http.client.HTTPException, ComponentError, ValueError) as exc:
            component.log("will try again", level="debug", error=str(exc))
        time.sleep(TICK_S)


def known(inputs: dict[str, Any]) -> Feed:
    feed = feeds.get(str(inputs.get("feed", "")))
    if feed is None:
        raise ComponentError("invalid", f"feed: expected one of {', '.join(sorted(feeds))}")
    return feed


@component.operation("feeds")
def list_feeds(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {"feeds": [feeds[name].describe() for name in sorted(feeds)]}


@component.operation("fetch")
def fetch_now(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return fetch(known(inputs))


@component.operation("follow")
def follow(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Look for feeds that the source has got meanwhile."""
    follow_source()
    return list_feeds(inputs, call)


@component.operation("resend")
def resend(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with lock:
        for feed in feeds.values():
            feed.delivered = not feed.items
    return {"feeds": len(feeds)}


def main() -> None:
    component.join(GROUP)
    threading.Thread(target=work, daemon=True).start()
    component.run()


if __name__ == "__main__":
    main()
