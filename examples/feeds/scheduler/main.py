"""Says when which source is looked at, and keeps what came of it (io).

    timeline <── turn: results, and what is due ── scheduler ── fetch, by hash of host ──> fetchers

Any number of schedulers: the timeline gives a source that is due to one of them, under a lease.
Who dies takes nothing along but the polls that it was waiting for, and these are due again when
their leases are over.  All requests for one host go to one fetcher, which is what makes the
throttle per host, and the merging of duplicates, true for the whole application.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import intervals
from paas_component import AsyncComponent, ComponentError, operation

GROUP = "feeds.schedulers"
TIMELINES = "group:feeds.timelines"
FETCHERS = "group:feeds.fetchers"
FETCHERS_GROUP = "feeds.fetchers"
TICK_S = 0.5
RUNNING_MAX = 200
FETCH_TIMEOUT_S = 50.0
LEASE_MS = 60_000
TURN_TIMEOUT_S = 10.0
RESULTS_A_TURN = 200


class Scheduler(AsyncComponent):
    """One of them."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds = intervals.Bounds()
        self.wake = asyncio.Event()
        self.results: list[dict[str, Any]] = []
        self.running: set[asyncio.Task[None]] = set()
        self.streams: dict[int, dict[str, Any]] = {}
        self.counts = {"polls": 0, "failed": 0, "turns": 0}

    @operation
    async def due(self, inputs: Any, call: Any) -> dict[str, Any]:
        """Something is due now: do not wait for the next tick."""
        self.wake.set()
        return {}

    @operation
    async def statistics(self, inputs: Any, call: Any) -> dict[str, Any]:
        return {**self.counts, "running": len(self.running), "streams": len(self.streams)}

    def configure(self, given: dict[str, Any]) -> None:
        names = ("min_s", "max_s", "first_s", "fail_max_s")
        found = {
            name: float(given[f"interval_{name}"]) for name in names if f"interval_{name}" in given
        }
        self.bounds = intervals.Bounds(**found)

    async def work(self) -> None:
        """Turn after turn; what could not be kept is kept by the next one."""
        while True:
            wait_s = TICK_S
            try:
                wait_s = min(wait_s, await self.turn() / 1000)
            except ComponentError as exc:
                self.log("the timeline does not answer", level="debug", error=exc.message)
            self.wake.clear()
            try:
                await asyncio.wait_for(self.wake.wait(), max(wait_s, 0.02))
            except TimeoutError:
                continue

    async def turn(self) -> float:
        """Hand over results, take what is due; milliseconds until more is due."""
        taken, self.results = self.results[:RESULTS_A_TURN], self.results[RESULTS_A_TURN:]
        limit = max(0, RUNNING_MAX - len(self.running))
        inputs = {"owner": self.id, "results": taken, "limit": limit, "lease_ms": LEASE_MS}
        try:
            answer = await self.call(TIMELINES, "turn", inputs, timeout=TURN_TIMEOUT_S)
        except ComponentError:
            self.results = taken + self.results
            raise
        self.counts["turns"] += 1
        for row in answer["due"]:
            task = asyncio.create_task(self.poll(row))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        return float(answer["next_ms"])

    async def poll(self, row: dict[str, Any]) -> None:
        """One poll, or one renewal of a stream's lease, and when the next one is."""
        try:
            result = await self.ask(row)
        except ComponentError as exc:
            result = {"outcome": "failed", "ours": True, "error": f"no fetcher: {exc.message}"}
        self.counts["polls"] += 1
        self.counts["failed"] += result["outcome"] == "failed"
        if result["outcome"] == "stream":
            self.streams[row["source"]] = row
        else:
            self.streams.pop(row["source"], None)
        after = intervals.next_poll(row, result, time.time(), self.bounds)
        self.results.append({**result, **after, "source": row["source"], "claim": row["claim"]})
        if result["outcome"] == "stream" and row["kind"] != "stream":
            self.results[-1]["due_s"] = 0.0  # followed from the next turn on
        self.wake.set()

    async def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        what = "follow" if row["kind"] == "stream" else "fetch"
        fields = ("source", "url", "etag", "modified", "digest")
        inputs = {name: row[name] for name in fields}
        if what == "follow":
            inputs["lease_s"] = self.bounds.stream_lease_s
        selector = f"hash:{(urlsplit(row['url']).hostname or '')[:100]}"
        found: dict[str, Any] = await self.call(
            FETCHERS, what, inputs, selector=selector, timeout=FETCH_TIMEOUT_S
        )
        return found

    async def release(self, owner: str) -> None:
        """What a scheduler had taken that has ended, this one's own life before included."""
        try:
            await self.call(TIMELINES, "release", {"owner": owner}, timeout=TURN_TIMEOUT_S)
        except ComponentError as exc:
            self.log("leases have to run out", level="debug", error=exc.message)
        self.wake.set()

    async def watch_others(self) -> None:
        """Schedulers that end leave work behind."""
        async with self.watching(group=GROUP) as events:
            async for event in events:
                if event["event"] == "left" and event.get("component") != self.id:
                    await self.release(str(event["component"]))

    async def keep_streams(self) -> None:
        """When fetchers come or go, streams belong to others: ask them at once."""
        async with self.watching(group=FETCHERS_GROUP) as events:
            async for _ in events:
                for row in list(self.streams.values()):
                    try:
                        await self.ask(row)
                    except ComponentError as exc:
                        self.log("a stream waits", level="debug", url=row["url"], error=exc.message)


async def main() -> None:
    scheduler = Scheduler()
    scheduler.configure(await scheduler.configured())
    scheduler.on_configure(scheduler.configure)
    await scheduler.join(GROUP)
    await scheduler.release(scheduler.id)
    work = (scheduler.work(), scheduler.watch_others(), scheduler.keep_streams())
    tasks = [asyncio.create_task(one) for one in work]
    await scheduler.run()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
