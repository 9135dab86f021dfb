"""What a source looks like at a moment.  Pure.

A document of the corpus gets a new item every `period_s`: a copy of its own first item, with an
identity, a title and a date that say when.  The last REPLAYS_SHOWN of them stand before the items
that were always there.  All is counted from the epoch, so an origin that starts anew goes on where
the one before was.  What has no item, or is in no encoding where an item can be seen, never changes
(the broken ones are as broken as they were published).

Earthquakes are a feed of their own: the week comes by again and again, `per_s` a second, in the
order in which it came; each region is a source.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from xml.sax.saxutils import escape

REPLAYS_SHOWN = 5
QUAKES_SHOWN = 30
PERIODS_S = (60, 90, 120, 180, 300, 600, 900, 1800, 3600)
SMALL_REGION = 8
"""Regions with fewer earthquakes in the week are together in `elsewhere`."""

_ITEM = re.compile(rb"<((?:\w+:)?(?:item|entry))(?=[\s>])[^>]*>.*?</\1\s*>", re.DOTALL)
_TITLE = re.compile(rb"(<title(?:\s[^>]*)?>)(.*?)(</title\s*>)", re.DOTALL)
_IDENTITY = re.compile(rb"(<(?:guid|id)(?:\s[^>]*)?>)(.*?)(</(?:guid|id)\s*>)", re.DOTALL)
_DATES = re.compile(
    rb"(<((?:dc:|dcterms:)?(?:pubDate|published|updated|date|modified|issued|created))"
    rb"(?:\s[^>]*)?>)[^<]*(</\2\s*>)"
)


@dataclass(frozen=True, slots=True)
class Extra:
    """An item that somebody published by hand."""

    identity: str
    title: str
    time_s: float


def period_s(name: str) -> int:
    """How often a document gets an item: by its name, from one minute to one hour."""
    return PERIODS_S[zlib.crc32(name.encode()) % len(PERIODS_S)]


def replays(name: str, now_s: float, faster: float = 1.0) -> list[Extra]:
    """The items that a document has got last, newest first."""
    period = period_s(name) / faster
    last = int(now_s / period)
    return [
        Extra(f"replay-{n}", f"again at {_clock(n * period)}", n * period)
        for n in range(last, last - REPLAYS_SHOWN, -1)
    ]


def with_items(document: bytes, extras: Sequence[Extra]) -> bytes:
    """The document with these items before its own; itself if none can be added."""
    found = _ITEM.search(document)
    if found is None or not extras:
        return document
    copies = [_copy(found[0], extra) for extra in extras]
    return document[: found.start()] + b"\n".join([*copies, document[found.start() :]])


def _copy(item: bytes, extra: Extra) -> bytes:
    atom = b"entry" in item[:20]
    identity = escape(extra.identity).encode()
    title = escape(extra.title).encode("ascii", "xmlcharrefreplace")
    moment = datetime.fromtimestamp(extra.time_s, UTC)
    date = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") if atom else format_datetime(moment)).encode()
    added = b""
    if _IDENTITY.search(item):
        item = _IDENTITY.sub(lambda m: m[1] + m[2] + b"#" + identity + m[3], item, count=1)
    else:
        added += b"<id>tag:origin,2026:%s</id>" if atom else b"<guid>tag:origin,2026:%s</guid>"
        added %= identity
    if (head := _TITLE.search(item)) and b"CDATA" not in head[2]:
        item = _TITLE.sub(lambda m: m[1] + m[2] + b" - " + title + m[3], item, count=1)
    elif not head:
        added += b"<title>%s</title>" % title
    if _DATES.search(item):
        item = _DATES.sub(lambda m: m[1] + date + m[3], item)
    else:
        added += b"<updated>%s</updated>" % date if atom else b"<pubDate>%s</pubDate>" % date
    close = item.rindex(b"</")
    return item[:close] + added + item[close:]


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M:%S")


class Earthquakes:
    """Which earthquakes have been by a moment."""

    def __init__(self, quakes: Sequence[Mapping[str, Any]], per_s: float) -> None:
        self._quakes = quakes
        self._per_s = per_s
        by_region: dict[str, list[int]] = {}
        for index, quake in enumerate(quakes):
            by_region.setdefault(region_of(str(quake["place"])), []).append(index)
        self._regions: dict[str, list[int]] = {"elsewhere": []}
        for region, indices in by_region.items():
            few = len(indices) < SMALL_REGION
            self._regions.setdefault("elsewhere" if few else region, []).extend(indices)
        for indices in self._regions.values():
            indices.sort()
        self._regions["strong"] = [i for i, q in enumerate(quakes) if float(q["mag"]) >= 4.5]

    @property
    def regions(self) -> list[str]:
        """Most frequent first."""
        return sorted(self._regions, key=lambda r: (-len(self._regions[r]), r))

    def position(self, now_s: float) -> int:
        """The number of the last one, counted from the epoch."""
        return int(now_s * self._per_s)

    def since(self, position: int, now_s: float) -> list[dict[str, Any]]:
        """All after this position, oldest first, at most QUAKES_SHOWN."""
        last = self.position(now_s)
        first = max(position + 1, last - QUAKES_SHOWN + 1)
        return [self._at(number) for number in range(first, last + 1)]

    def of_region(self, region: str, now_s: float) -> list[dict[str, Any]]:
        """The last ones of a region, newest first; KeyError when there is no such region."""
        indices, total = self._regions[region], len(self._quakes)
        last = self.position(now_s)
        turn, index = divmod(last, total)
        place = bisect_right(indices, index) - 1
        found = []
        for _ in range(min(QUAKES_SHOWN, 2 * len(indices))):
            if place < 0:
                turn, place = turn - 1, len(indices) - 1
            found.append(self._at(turn * total + indices[place]))
            place -= 1
        return found

    def _at(self, number: int) -> dict[str, Any]:
        turn, index = divmod(number, len(self._quakes))
        quake = self._quakes[index]
        identity = f"{quake['id']}-{turn}"
        return {**quake, "id": identity, "shown_s": number / self._per_s}


def region_of(place: str) -> str:
    """What stands after the last comma, as a name for an address."""
    region = {"CA": "California", "MX": "Mexico"}.get(place.rpartition(", ")[2])
    words = re.findall(r"[a-z]+", (region or place.rpartition(", ")[2]).lower())
    return "-".join(words) if place.count(", ") else "elsewhere"


def atom(title: str, address: str, entries: Sequence[Mapping[str, Any]]) -> bytes:
    """An Atom document (RFC 4287) of earthquakes or of items that were published by hand."""
    latest = max((float(e["shown_s"]) for e in entries), default=0.0)
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
        f"<title>{escape(title)}</title><id>{escape(address)}</id>"
        f'<link rel="self" href="{escape(address)}"/><updated>{_stamp(latest)}</updated>'
    )
    return (head + "".join(map(_entry, entries)) + "</feed>\n").encode()


def _entry(entry: Mapping[str, Any]) -> str:
    parts = [
        f"<entry><id>tag:origin,2026:{escape(str(entry['id']))}</id>",
        f"<title>{escape(str(entry['title']))}</title>",
        f"<updated>{_stamp(float(entry['shown_s']))}</updated>",
    ]
    if entry.get("url"):
        parts.append(f'<link href="{escape(str(entry["url"]))}"/>')
    if "mag" in entry:
        when = datetime.fromtimestamp(entry["time"] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        text = (
            f"<p>Magnitude <strong>{entry['mag']}</strong>, {escape(str(entry['place']))}. "
            f"It happened on {when} and is replayed now.</p>"
        )
        parts.append(f'<summary type="html">{escape(text)}</summary>')
    return "".join(parts) + "</entry>"


def _stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
