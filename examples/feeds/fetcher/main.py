"""Fetches what the scheduler asks for, and hands documents to the indexers (io).

    scheduler ── fetch {source, url, etag, …} ──> fetcher ── HTTP ──> the web
                                                     └── index + document ──> group feeds.indexers

    scheduler ── follow {source, url, lease_s} ──> the same for a stream, until the lease is over

A request for what is being fetched already waits for that fetch.  Nothing is kept here but the
times at which hosts were asked: any fetcher may end at any moment.  What is decided, is decided in
`addresses`, `redirects`, `throttle`, `answers`, `inflating` and `events`.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import addresses
import answers
import web
from addresses import Address, AddressError
from paas_component import Call, Component, ComponentError
from redirects import Trail, is_redirect
from throttle import Throttle

GROUP = "feeds.fetchers"
INDEXERS = "group:feeds.indexers"
RESOURCES = ("origin",)
INDEX_TIMEOUT_S = 20.0
RESOLVED_S = 5.0
STREAMS_MAX = 150
STREAM_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
WORKERS = 48

component = Component(workers=WORKERS)
throttle = Throttle()
lock = threading.Lock()
fetching: dict[str, Future[dict[str, Any]]] = {}
streams: dict[str, dict[str, Any]] = {}
resolved: dict[str, tuple[float, tuple[str, int]]] = {}
counts = {"fetches": 0, "merged": 0, "unchanged": 0, "changed": 0, "failed": 0, "bytes": 0}


def connect(address: Address, seconds: float) -> socket.socket:
    """A connection to a resource of the platform, or to the world."""
    resource = addresses.resource_of(address.host, RESOURCES)
    place = endpoint(resource) if resource else (address.host, address.port)
    try:
        return socket.create_connection(place, timeout=seconds)
    except OSError:
        resolved.pop(resource, None)
        raise


def endpoint(resource: str) -> tuple[str, int]:
    """Where a resource is now; asked for again after a while, and when it is not there."""
    known = resolved.get(resource)
    if known and time.monotonic() < known[0]:
        return known[1]
    for found in component.resolve(resource)["endpoints"]:
        if found["protocol"] == "http":
            place = (str(found["host"]), int(found["port"]))
            resolved[resource] = (time.monotonic() + RESOLVED_S, place)
            return place
    raise ConnectionError(f"no component serves {resource} at the moment")


@component.operation("fetch")
def fetch(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Fetch once, whoever asks: who comes second waits for the first one's result."""
    url = str(inputs["url"])
    with lock:
        running = fetching.get(url)
        if running is None:
            mine = fetching[url] = Future()
        else:
            counts["merged"] += 1
    if running is not None:
        return {**running.result(web.FETCH_S_MAX + INDEX_TIMEOUT_S), "merged": True}
    try:
        found = fetch_once(inputs)
        mine.set_result(found)
        return found
    except BaseException as exc:
        mine.set_exception(exc)
        raise
    finally:
        with lock:
            del fetching[url]


def fetch_once(inputs: dict[str, Any]) -> dict[str, Any]:
    """One poll: its outcome and how long it took."""
    began_s = time.monotonic()
    counts["fetches"] += 1
    try:
        trail = Trail(addresses.parse(str(inputs["url"])))
        found = follow_redirects(trail, inputs)
        if trail.remembered.text != str(inputs["url"]):
            found["url"] = trail.remembered.text
    except AddressError as exc:
        found = {"outcome": "failed", "error": str(exc)}
    except web.TROUBLE as exc:
        found = {"outcome": "failed", "error": f"{type(exc).__name__}: {exc}"[:300]}
    except ComponentError as exc:
        bad = exc.code == "invalid"
        found = {"outcome": "failed", "error": exc.message[:300], "ours": not bad}
    counts[found["outcome"]] = counts.get(found["outcome"], 0) + 1
    took_ms = round((time.monotonic() - began_s) * 1000)
    if found.get("new") or found["outcome"] in ("failed", "gone"):
        facts = {name: found[name] for name in ("new", "error") if name in found}
        component.log(f"{found['outcome']} {inputs['url']}", ms=took_ms, **facts)
    return {**found, "ms": took_ms}


def follow_redirects(trail: Trail, inputs: dict[str, Any]) -> dict[str, Any]:
    """Ask until there is an answer that is no redirect."""
    etag, modified = str(inputs.get("etag", "")), str(inputs.get("modified", ""))
    while True:
        host = trail.at.authority
        with lock:
            now, wait_s = throttle.begin(host, time.monotonic())
        if not now:
            error = "this host is asked for much already"
            return {"outcome": "later", "retry_after_s": wait_s, "error": error}
        try:
            time.sleep(wait_s)
            response = web.get(connect, trail.at, etag, modified)
        finally:
            with lock:
                throttle.end(host)
        if not is_redirect(response.status):
            return judge(response, inputs, host)
        trail.follow(response.status, response.headers.get("location", ""))


def judge(response: web.Response, inputs: dict[str, Any], host: str) -> dict[str, Any]:
    """What the answer means; a new document is handed over before it counts."""
    headers = response.headers
    if response.status == 304:
        return {"outcome": "unchanged", "max_age_s": answers.max_age_s(headers)}
    if response.status != 200:
        found = answers.failure(response.status, headers, time.time())
        if wait_s := found.get("retry_after_s"):
            with lock:
                throttle.retry_after(host, wait_s, time.monotonic())
        return found
    if answers.is_stream(headers):
        return {"outcome": "stream"}
    counts["bytes"] += len(response.body)
    digest = hashlib.sha256(response.body).hexdigest()[:32]
    kept = {**answers.validators(headers), "max_age_s": answers.max_age_s(headers)}
    if digest == inputs.get("digest"):
        return {"outcome": "unchanged", "digest": digest, **kept}
    taken = hand_over(inputs, response.body, headers.get("content-type", ""))
    return {"outcome": "changed", "digest": digest, **kept, **taken}


def hand_over(inputs: dict[str, Any], body: bytes, kind: str) -> dict[str, Any]:
    """The document to an indexer; how many items were new.  Raises ComponentError."""
    question = {
        "source": inputs["source"],
        "url": inputs["url"],
        "type": kind[:200],
        "fetched": time.time(),
    }
    document = component.attach(body, name="document", type="application/octet-stream")
    taken = component.call(
        INDEXERS, "index", question, attachments=[document], timeout=INDEX_TIMEOUT_S
    )
    return {"new": int(taken["added"]), "title": str(taken["title"])}


@component.operation("follow")
def follow(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Follow a stream until the lease is over; asking again renews it."""
    url, until_s = str(inputs["url"]), time.monotonic() + float(inputs["lease_s"])
    with lock:
        stream = streams.get(url)
        if stream is None:
            if len(streams) >= STREAMS_MAX:
                raise ComponentError("limit-exceeded", f"{STREAMS_MAX} streams are followed here")
            stream = streams[url] = {"error": "", "connected": False, "events": 0, "new": 0}
            stream["until_s"] = until_s
            threading.Thread(
                target=keep_following, args=(dict(inputs), stream), daemon=True
            ).start()
        stream["until_s"] = until_s
        new, stream["new"] = stream["new"], 0
        return {
            "outcome": "failed" if stream["error"] else "stream",
            "error": stream["error"],
            "connected": stream["connected"],
            "new": new,
            "title": stream.get("title", ""),
        }


def keep_following(inputs: dict[str, Any], stream: dict[str, Any]) -> None:
    """Connect, and again after a while, for as long as the lease lasts."""
    url, failures = str(inputs["url"]), 0
    while is_wanted(url, stream):
        before = stream["events"]
        try:
            follow_once(url, inputs, stream)
        except web.TROUBLE as exc:
            stream["error"] = f"{type(exc).__name__}: {exc}"[:300]
        except ComponentError as exc:
            stream["error"] = exc.message[:300]
        stream["connected"] = False
        failures = 0 if stream["events"] > before else failures + 1
        time.sleep(STREAM_PAUSES_S[min(failures, len(STREAM_PAUSES_S) - 1)])


def is_wanted(url: str, stream: dict[str, Any]) -> bool:
    with lock:
        if time.monotonic() < stream["until_s"]:
            return True
        streams.pop(url, None)
        return False


def follow_once(url: str, inputs: dict[str, Any], stream: dict[str, Any]) -> None:
    def connected() -> None:
        stream.update(connected=True, error="")

    def wanted() -> bool:
        return time.monotonic() < float(stream["until_s"])

    for document in web.stream(connect, addresses.parse(url), wanted, connected):
        taken = hand_over(inputs, document, "application/atom+xml")
        stream["events"] += 1
        stream["new"] += taken["new"]
        stream["title"] = taken["title"]


@component.operation("statistics", inline=True)
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {**counts, "running": len(fetching), "streams": len(streams)}


def main() -> None:
    global throttle
    given = component.configuration
    throttle = Throttle(float(given.get("host_gap_s", 0.05)), int(given.get("host_together", 8)))
    component.join(GROUP)
    component.run()


if __name__ == "__main__":
    main()
