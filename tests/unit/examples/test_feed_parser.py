"""The parser and the schedule of the feeds example, on the documents that it ships."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "feeds-mini"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / "fetcher" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


feed_parser = load("feed_parser")
schedule = load("schedule")


@pytest.mark.parametrize(
    ("file", "form", "title", "items"),
    [
        ("example.atom", "atom", "Example Feed", 2),
        ("nokia.atom", "atom", "Все для Nokia", 15),
        ("threading.atom", "atom", "Comments on salmon-test", 1),
        ("modules.rss", "rss", "RSS Tests - RSS2.0", 1),
        ("sample.rss", "rss", "RSS Title", 2),
        ("modules.rdf", "rdf", "RSS Tests - RSS 1.0", 1),
    ],
)
def test_each_document_is_read(file, form, title, items):
    found = feed_parser.parse((EXAMPLE / "source" / "feeds" / file).read_bytes())
    assert found["format"] == form
    assert found["title"].startswith(title)
    assert len(found["items"]) == items
    assert all(item["id"] and item["title"] for item in found["items"])
    assert found["items"][0]["date"].endswith("Z")


def test_every_document_is_noted_with_its_source():
    folder = EXAMPLE / "source" / "feeds"
    noted = (folder / "SOURCE.md").read_text()
    assert all(f"`{f.name}`" in noted for f in folder.iterdir() if f.suffix != ".md")


def test_dates_of_both_kinds_become_one():
    assert feed_parser._date("Sun, 06 Sep 2009 16:20:00 +0200") == "2009-09-06T14:20:00Z"
    assert feed_parser._date("2003-12-13T09:17:51-08:00") == "2003-12-13T17:17:51Z"
    assert feed_parser._date("yesterday") == ""


def test_markup_becomes_text():
    assert feed_parser.plain("<p>a <b>b</b>&amp;c<script>x()</script></p>") == "a b &c"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html/>",
        b"<rss><channel>",
        b"<rss/>",
        b'<!DOCTYPE r [<!ENTITY a "x">]><rss><channel/></rss>',
        b"<rss><channel>" + b"<a>" * 100 + b"</a>" * 100 + b"</channel></rss>",
        b"x" * ((4 << 20) + 1),
    ],
)
def test_what_is_no_feed_is_refused(document):
    with pytest.raises(feed_parser.FeedError):
        feed_parser.parse(document)


def test_an_item_without_an_id_gets_one_from_what_it_has():
    document = (
        b"<rss><channel><item><title>t</title></item><item><link>x</link></item></channel></rss>"
    )
    (item,) = feed_parser.parse(document)["items"]
    assert len(item["id"]) == 24


def test_the_interval_follows_the_changes_within_its_bounds():
    interval = schedule.FIRST_S
    for _ in range(20):
        interval = schedule.next_interval(interval, "unchanged")
    assert interval == schedule.MAX_S
    for _ in range(20):
        interval = schedule.next_interval(interval, "changed")
    assert interval == schedule.MIN_S
    assert schedule.next_interval(interval, "failed") == 2 * schedule.MIN_S
