"""Keeps everything that the application must not forget (io).

    schedulers ── turn ──>  timeline  <── add ── indexers       casts, after the commit:
    frontends ── timeline, search, subscribe, … ──>  timeline   published -> group feeds.frontends
    alerters ── take_alerts, end_alerts ──>  timeline           alert     -> group feeds.alerters
                               │                                changed   -> group feeds.frontends
                          a volume: store.Store                 due       -> group feeds.schedulers

One component, since its store is one file; it can be asked by any number of the others.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paas_component import Call, Component, ComponentError
from sqlite_store import SqliteStore
from store import Store, StoreError

GROUP = "feeds.timelines"
FRONTENDS = "group:feeds.frontends"
ALERTERS = "group:feeds.alerters"
SCHEDULERS = "group:feeds.schedulers"
LEASE_MS_MAX = 120_000
ANNOUNCED_TOGETHER = 30
"""Items in one cast; one document may add some more."""


component = Component(workers=8)
store: Store
adding = threading.Lock()
announcements: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
Operation = Callable[[dict[str, Any], Call], dict[str, Any]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def operation(function: Operation) -> Operation:
    """An operation whose errors are told by code and field."""

    def run(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
        try:
            return function(inputs, call)
        except StoreError as exc:
            raise ComponentError(exc.code, str(exc), field=exc.field) from None
        except KeyError as exc:
            raise ComponentError("invalid", f"{exc.args[0]}: is required") from None
        except (TypeError, ValueError) as exc:
            raise ComponentError("invalid", f"inputs: {exc}") from None
        except sqlite3.OperationalError as exc:
            raise ComponentError("not-available", f"the store cannot be written: {exc}") from None

    component.operation(function.__name__)(run)
    return run


def tell(group: str, what: str, inputs: dict[str, Any], selector: str = "all") -> None:
    """A cast; that nobody is there to hear it is no trouble: they ask when they come."""
    try:
        component.cast(group, what, inputs, selector=selector)
    except ComponentError as exc:
        if exc.code not in ("no-such-target", "not-available"):
            component.log(f"could not tell {group}", level="warning", error=exc.message)


@operation
def turn(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    lease_ms = min(int(inputs["lease_ms"]), LEASE_MS_MAX)
    results, limit = inputs.get("results", []), int(inputs["limit"])
    return store.turn(str(inputs["owner"]), results, limit, lease_ms, now_ms())


@operation
def release(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {"released": store.release(str(inputs["owner"]), now_ms())}


@operation
def poke(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    done = store.poke(int(inputs["source"]), now_ms())
    if done:
        tell(SCHEDULERS, "due", {}, "any")
    return {"poked": done}


@operation
def add(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with adding:  # announced in the order in which they were numbered
        found = store.add(int(inputs["source"]), inputs, now_ms())
        if found["added"]:
            found["fetched"] = inputs.get("fetched", 0.0)
            announcements.put(found)
    return {"added": found["added"], "backlog": found["backlog"]}


def announce() -> None:
    """Tell of what was added, as much as there is in one cast.

    `before` and `seq` are the numbers of the last items before and after: who finds that `before`
    is not what it heard of last has missed something, and asks.
    """
    while True:
        found = [announcements.get()]
        size = len(found[0]["items"])
        while size < ANNOUNCED_TOGETHER and not announcements.empty():
            found.append(announcements.get())
            size += len(found[-1]["items"])
        items = [
            {**item, "fetched": one["fetched"], "backlog": one["backlog"]}
            for one in found
            for item in one["items"]
        ]
        told = {"items": items, "before": found[0]["before"], "seq": found[-1]["seq"]}
        tell(FRONTENDS, "published", told)
        if not all(one["backlog"] for one in found):
            tell(ALERTERS, "alert", {}, "any")


@operation
def timeline(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return store.timeline(str(inputs["user"]), inputs)


@operation
def after(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return store.after(str(inputs["user"]), int(inputs["seq"]), int(inputs.get("limit", 50)))


@operation
def search(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    limit = int(inputs.get("limit", 50))
    everywhere = bool(inputs.get("everywhere"))
    return {"items": store.search(str(inputs["user"]), str(inputs["text"]), everywhere, limit)}


@operation
def account(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return store.account(str(inputs["user"]), now_ms())


@operation
def set_account(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return store.set_account(str(inputs["user"]), str(inputs["email"]))


@operation
def subscribe(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    user, alert = str(inputs["user"]), str(inputs.get("alert", "none"))
    found = store.subscribe(user, str(inputs["url"]), alert, now_ms())
    tell(FRONTENDS, "changed", {"user": user})
    if not found["known"]:
        tell(SCHEDULERS, "due", {}, "any")
    return found


@operation
def unsubscribe(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    user = str(inputs["user"])
    done = store.unsubscribe(user, int(inputs["source"]))
    tell(FRONTENDS, "changed", {"user": user})
    return {"done": done}


@operation
def set_alert(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    user, alert = str(inputs["user"]), str(inputs["alert"])
    return {"done": store.set_alert(user, int(inputs["source"]), alert)}


@operation
def subscriptions(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {"sources": store.subscriptions(str(inputs["user"])), "now_ms": now_ms()}


@operation
def mark(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    user = str(inputs["user"])
    done = store.mark(user, inputs)
    told = {k: inputs[k] for k in ("items", "unread", "source", "up_to", "from") if k in inputs}
    tell(FRONTENDS, "marked", {"user": user, **told})
    return done


@operation
def take_alerts(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    lease_ms = min(int(inputs["lease_ms"]), LEASE_MS_MAX)
    return {"alerts": store.take_alerts(int(inputs["limit"]), lease_ms, now_ms())}


@operation
def end_alerts(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    store.end_alerts(inputs.get("done", []), inputs.get("failed", []), now_ms())
    return {}


@operation
def last(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """The number of the last item: who missed an announcement finds out by it."""
    return {"seq": store.last_seq()}


@operation
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return store.statistics()


def main() -> None:
    global store
    folder = Path(os.environ.get("FEEDS_DATA", "/data"))
    store = SqliteStore(folder / "timeline.db")
    component.join(GROUP)
    component.log("the store is open", **store.statistics())
    threading.Thread(target=announce, daemon=True).start()
    component.run()
    store.close()


if __name__ == "__main__":
    main()
