"""Every layer scaled up and down, and killed, while items come: none is lost, none comes twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

SOURCES = [
    "/desk.atom",
    "/quakes/california.atom",
    "/quakes/alaska.atom",
    "/feeds/rss/item_link.xml",
    "/feeds/atom10/entry_link_href.xml",
    "/feeds/reader/full.rss",
]
STREAM = "http://live.origin/live/desk"
PAUSE_S = 0.05


class Publisher(threading.Thread):
    """An item every moment, now here, now there."""

    def __init__(self, publish: Any) -> None:
        super().__init__(daemon=True)
        self.titles: list[str] = []
        self._publish = publish
        self._end = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._end.wait(PAUSE_S):
            path = SOURCES[number % len(SOURCES)]
            title = f"item {self.ident}-{number} marked"
            self._publish(title, path)
            self.titles.append(title)
            number += 1

    def finish(self) -> list[str]:
        self._end.set()
        self.join()
        return self.titles


@pytest.fixture
def readers(stage: Any, person: Any) -> list[Any]:
    """Two people at two frontends, who follow everything."""
    stage.start("frontend")
    found = [person(f"reader{n}", part.address) for n, part in enumerate(stage.of("frontend"))]
    for one in found:
        for path in SOURCES:
            one.follow(
                f"http://live.origin{path}" if path == "/desk.atom" else f"http://o.origin{path}"
            )
    for one in found:
        one.listen()
    return found


def in_timeline(one: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    before = ""
    while True:
        page = one.ask("GET", f"/api/timeline?limit=100{before}")
        found.update(i["title"] for i in page["items"])
        if not page["more"]:
            return found
        last = page["items"][-1]
        before = f"&before={last['at_ms']},{last['seq']}"


def marks(titles: Any) -> set[str]:
    """Our own titles out of others: a document's own title may stand before them."""
    words = (title.partition("item ")[2] for title in titles)
    return {f"item {w}" for w in words if w.endswith(" marked")}


def check(readers: list[Any], titles: list[str], eventually: Any) -> None:
    wanted = set(titles)
    assert len(wanted) > 20
    for one in readers:
        eventually(lambda one=one: wanted <= marks(in_timeline(one)), 45)
        counted = Counter(t for t in in_timeline(one).elements() if t.endswith(" marked"))
        assert {t: n for t, n in counted.items() if n > 1} == {}
        eventually(lambda one=one: wanted <= marks(one.heard_titles()))


@pytest.mark.timeout(200)
def test_layers_are_scaled_under_load(
    stage: Any, readers: list[Any], publish: Any, eventually: Any, quick: dict[str, Any]
) -> None:
    publisher = Publisher(publish)
    publisher.start()
    for role in ("fetcher", "indexer", "scheduler", "alerter"):
        added = [stage.start(role, **(quick if role == "scheduler" else {}))]
        time.sleep(0.7)
        for part in [stage.of(role)[0], *added]:
            if len(stage.of(role)) > 1:
                stage.stop(part)
                time.sleep(0.3)
        assert stage.of(role)
    check(readers, publisher.finish(), eventually)


@pytest.mark.timeout(200)
def test_any_of_them_may_be_killed(
    stage: Any, readers: list[Any], publish: Any, eventually: Any
) -> None:
    publisher = Publisher(publish)
    publisher.start()
    for role in ("fetcher", "indexer", "scheduler", "frontend", "timeline", "alerter"):
        time.sleep(0.5)
        for part in stage.of(role)[:1]:
            before = part.restarts
            part.kill()
            eventually(lambda p=part, n=before: p.restarts > n and p.ready.is_set())
    time.sleep(0.5)
    check(readers, publisher.finish(), eventually)


@pytest.mark.timeout(100)
def test_a_stream_goes_on_with_another_fetcher(
    stage: Any, person: Any, publish: Any, eventually: Any
) -> None:
    ada = person("streaming")
    source = ada.follow(STREAM)
    ada.listen()
    eventually(lambda: ada.source(source)["kind"] == "stream")
    other = stage.start("fetcher")
    for part in [p for p in stage.of("fetcher") if p is not other]:
        stage.stop(part)
    number = 0

    def comes() -> bool:
        nonlocal number
        number += 1
        publish(f"beat {number}")
        time.sleep(0.3)
        return f"beat {number}" in ada.heard_titles()

    eventually(comes)
