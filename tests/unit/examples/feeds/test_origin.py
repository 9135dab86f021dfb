"""The origin: the corpus, replays, validators, faults."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

NOW_S = 1_790_000_000.0


@pytest.fixture
def site(part: Any) -> Any:
    origin = part("origin")
    return origin.sources.Site(origin.corpus.load(), quakes_per_s=0.5, faster=1.0)


def test_the_corpus_has_several_hundred_documents_in_every_form(documents: Any) -> None:
    forms = Counter(name.partition("/")[0] for name in documents)
    assert len(documents) > 600
    assert {"rss", "atom10", "atom03", "rdf", "cdf", "broken", "charset", "encoding"} <= set(forms)


def test_where_the_corpus_comes_from_is_noted(example: Path) -> None:
    notice = (example / "NOTICE").read_text()
    for words in ("feedparser 6.0.14", "reader 3.26", "vega-datasets 3.2.1", "h11", "wsproto"):
        assert words in notice


def test_new_items_are_seen_by_a_parser_and_break_nothing(part: Any, documents: Any) -> None:
    origin, worker = part("origin"), part("indexer").worker
    many = 0
    for name in sorted(documents)[::7]:
        before = worker.feedparser.parse(documents[name])
        extras = origin.replay.replays(name, NOW_S)
        after = worker.feedparser.parse(origin.replay.with_items(documents[name], extras))
        assert len(after.entries) in (len(before.entries), len(before.entries) + len(extras))
        assert bool(after.bozo) <= bool(before.bozo)
        assert len({e.get("id", e.get("link")) for e in after.entries[:5]}) >= len(extras) * (
            len(after.entries) > len(before.entries)
        )
        many += len(after.entries) > len(before.entries)
    assert many > 50


def test_a_document_changes_once_in_its_period(part: Any) -> None:
    replay = part("origin").replay
    period = replay.period_s("a")
    begin = NOW_S - NOW_S % period
    assert replay.replays("a", begin) == replay.replays("a", begin + period - 1)
    assert replay.replays("a", begin)[0] != replay.replays("a", begin + period)[0]
    assert replay.replays("a", begin)[0] == replay.replays("a", begin + period)[1]


def test_earthquakes_come_in_their_order_and_again(part: Any) -> None:
    origin = part("origin")
    quakes = origin.corpus.load().earthquakes
    found = origin.replay.Earthquakes(quakes, 1.0)
    new = found.since(found.position(NOW_S) - 3, NOW_S)
    assert len(new) == 3
    assert new[0]["time"] <= new[1]["time"] or new[1]["id"].endswith("-0")
    again = found.since(found.position(NOW_S) - 1, NOW_S + len(quakes))
    assert again[-1]["title"] == new[-1]["title"]
    assert again[-1]["id"] != new[-1]["id"]
    assert sum(len(found._regions[r]) for r in found.regions if r != "strong") == len(quakes)


def test_what_is_known_is_not_sent_again(site: Any) -> None:
    path = "/quakes/california.atom"
    first = site.answer(path, {}, NOW_S)
    assert first.status == 200
    etag = first.headers["etag"]
    assert site.answer(path, {"if-none-match": etag}, NOW_S).status == 304
    assert site.answer(path, {"if-none-match": '"other"'}, NOW_S).status == 200
    modified = {"if-modified-since": first.headers["last-modified"]}
    assert site.answer(path, modified, NOW_S).status == 304
    assert site.answer(path, {"if-none-match": etag}, NOW_S + 3600).status == 200
    assert site.asked(path) == 5


def test_long_answers_are_packed_for_who_takes_that(site: Any) -> None:
    plain = site.answer("/quakes/alaska.atom", {}, NOW_S)
    packed = site.answer("/quakes/alaska.atom", {"accept-encoding": "gzip"}, NOW_S)
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_copies_are_sources_of_their_own(site: Any) -> None:
    name = "/feeds/reader/full.rss"
    assert site.answer(f"{name}?copy=1", {}, NOW_S).status == 200
    site.publish(f"{name}?copy=1", "Only here", "one", NOW_S)
    assert b"Only here" in site.answer(f"{name}?copy=1", {}, NOW_S).body
    assert b"Only here" not in site.answer(name, {}, NOW_S).body


def test_what_is_published_by_hand_is_in_the_feed_and_in_the_stream(site: Any) -> None:
    site.publish("/desk.atom", "Rain & <sun>", "one", NOW_S)
    assert b"Rain &amp; &lt;sun&gt;" in site.answer("/desk.atom", {}, NOW_S + 1).body
    position, events = site.events("desk", NOW_S - 1, NOW_S + 1)
    assert len(events) == 1
    assert site.events("desk", position, NOW_S + 2) == (position, [])
    with pytest.raises(KeyError):
        site.publish("/nowhere", "x", "two", NOW_S)


@pytest.mark.parametrize(
    ("path", "status", "header"),
    [
        ("/faults/status/503/desk.atom", 503, ""),
        ("/faults/moved/desk.atom", 301, "/desk.atom"),
        ("/faults/found/desk.atom", 302, "/desk.atom"),
        ("/faults/loop", 301, "/faults/loop"),
        ("/faults/chain/3/desk.atom", 301, "/faults/chain/2/desk.atom"),
        ("/faults/chain/1/desk.atom", 301, "/desk.atom"),
        ("/faults/gone", 410, ""),
        ("/faults/later", 429, ""),
        ("/faults/nothing-of-the-kind", 404, ""),
        ("/nowhere", 404, ""),
    ],
)
def test_faults(site: Any, path: str, status: int, header: str) -> None:
    found = site.answer(path, {}, NOW_S)
    assert found.status == status
    assert found.headers.get("location", "") == header


def test_a_flaky_source_answers_twice_in_three_times(site: Any) -> None:
    answers = [site.answer("/faults/flaky/desk.atom", {}, NOW_S).status for _ in range(6)]
    assert answers == [200, 200, 503, 200, 200, 503]
