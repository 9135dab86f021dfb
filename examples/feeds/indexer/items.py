"""What feedparser found, as items that the timeline keeps.  Pure.

    {"title", "link", "format", "items": [{"key", "title", "link", "author", "date", "content",
                                          "summary"}]}

`key` identifies an item within its source: the id or guid if there is one, else the link, else a
digest of what it says; so an item whose text was corrected is not new.  `date` is Unix time, 0 when
the document has none that makes sense.  `content` is a tree (sanitise.py), `summary` its text.
"""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Mapping
from typing import Any

import sanitise

ITEMS_MAX = 150
"""The newest of a document: fewer than are kept of a source."""

TITLE_CHARS_MAX = 300
SUMMARY_CHARS_MAX = 600
AUTHOR_CHARS_MAX = 120
KEY_CHARS_MAX = 300
FUTURE_S_MAX = 86_400
"""An item dated further ahead than this was dated by mistake."""


def feed_of(parsed: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """All of a document; items in its order, newest first as a rule."""
    head = parsed.get("feed") or {}
    items: dict[str, dict[str, Any]] = {}
    entries = parsed.get("entries") or []
    if len(entries) > ITEMS_MAX:  # some documents begin with their oldest
        entries = sorted(entries, key=lambda entry: -date_of(entry, now_s))[:ITEMS_MAX]
    for entry in entries:
        item = item_of(entry, now_s)
        if item is not None:
            items.setdefault(item["key"], item)
    return {
        "title": plain(head.get("title"), TITLE_CHARS_MAX),
        "link": sanitise.address(str(head.get("link") or "")),
        "format": str(parsed.get("version") or ""),
        "items": list(items.values()),
    }


def item_of(entry: dict[str, Any], now_s: float) -> dict[str, Any] | None:
    """One item; None when there is nothing to show of it."""
    title = plain(entry.get("title"), TITLE_CHARS_MAX)
    content = sanitise.tree(_markup(entry))
    summary = shortened(sanitise.text_of(content), SUMMARY_CHARS_MAX)
    link = sanitise.address(str(entry.get("link") or ""))
    if not title and not summary:
        return None
    if summary == title:
        content, summary = [], ""
    return {
        "key": _key(entry, link, title, summary),
        "title": title or shortened(summary, 100),
        "link": link,
        "author": plain(entry.get("author"), AUTHOR_CHARS_MAX),
        "date": date_of(entry, now_s),
        "content": content,
        "summary": summary,
    }


def _markup(entry: Mapping[str, Any]) -> str:
    """The longest of what the document says about the item; text that is no HTML is escaped."""
    candidates = [*(entry.get("content") or []), entry.get("summary_detail") or {}]
    found = ""
    for candidate in candidates:
        value = str(candidate.get("value") or "")
        if candidate.get("type") == "text/plain":
            value = value.replace("&", "&amp;").replace("<", "&lt;")
        if len(value) > len(found):
            found = value
    return found


def plain(value: Any, most: int) -> str:
    """Text of a field that may hold mark-up, on one line."""
    return shortened(sanitise.text_of(sanitise.tree(str(value or ""))), most)


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def date_of(entry: dict[str, Any], now_s: float) -> float:
    for name in ("published_parsed", "updated_parsed", "created_parsed"):
        value = dict.get(entry, name)  # feedparser's own would give one for another
        if value:
            try:
                seconds = float(calendar.timegm(value))
            except (TypeError, ValueError, OverflowError):
                continue
            if 0 < seconds <= now_s + FUTURE_S_MAX:
                return seconds
    return 0.0


def _key(entry: Mapping[str, Any], link: str, title: str, summary: str) -> str:
    found = str(entry.get("id") or "") or link
    if not found or len(found) > KEY_CHARS_MAX:
        said = found or f"{title}\n{summary}"
        found = "sha256:" + hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:32]
    return found
