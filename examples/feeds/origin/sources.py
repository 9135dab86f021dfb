"""Which address leads to what.  Pure: a request and a moment in, an answer out.

    /quakes/REGION.atom            earthquakes of a region, as an Atom feed
    /live/quakes                   all of them as they come: a stream of server-sent events
    /live/desk, /desk.atom         what was published by hand (`publish`), as a stream and a feed
    /feeds/FORM/NAME[?copy=N]      a document of the corpus; each copy is a source of its own
    /faults/KIND/…                 what goes wrong in the world (faults.py)

Validators are those of RFC 9110 §8.8: a strong ETag of the bytes, and Last-Modified.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import parse_qs, unquote, urlsplit

import faults
import replay
from answers import Answer
from corpus import Corpus

FORMS = {"rdf": "application/rdf+xml", "atom10": "application/atom+xml", "atom": "text/xml"}
EXTRAS_MAX = 200
GZIP_ABOVE_BYTES = 300


class Site:
    """All sources of the origin."""

    def __init__(self, corpus: Corpus, *, quakes_per_s: float, faster: float) -> None:
        self._corpus = corpus
        self._faster = faster
        self.quakes = replay.Earthquakes(corpus.earthquakes, quakes_per_s)
        self._extras: dict[str, list[replay.Extra]] = {}
        self._asked: dict[str, int] = {}

    @property
    def documents(self) -> list[str]:
        return sorted(self._corpus.documents)

    def publish(self, path: str, title: str, identity: str, now_s: float) -> None:
        """Add an item to a source by hand; KeyError when there is no such source."""
        if self._document(path, now_s) is None and path != "/desk.atom":
            raise KeyError(path)
        extras = self._extras.setdefault(path, [])
        extras.insert(0, replay.Extra(identity, title, now_s))
        del extras[EXTRAS_MAX:]

    def asked(self, path: str) -> int:
        """How often this address was asked for."""
        return self._asked.get(path, 0)

    def answer(self, target: str, headers: Mapping[str, str], now_s: float) -> Answer:
        """The answer to GET; `headers` by lower-case names."""
        self._asked[target] = count = self._asked.get(target, 0) + 1
        path = urlsplit(target).path
        if path.startswith("/faults/"):
            fault, rest = faults.plan(path, count)
            if fault is not None:
                return fault
            target = rest
        if target in ("/live/quakes", "/live/desk"):
            kind = {"content-type": "text/event-stream", "cache-control": "no-store"}
            return Answer(200, kind, stream=target.rpartition("/")[2])
        found = self._document(target, now_s)
        if found is None:
            return Answer(404, {"content-type": "text/plain"}, b"there is no such feed\n")
        kind, body, changed_s = found
        return conditional(kind, body, changed_s, headers)

    def _document(self, target: str, now_s: float) -> tuple[str, bytes, float] | None:
        """Type, bytes, and when they changed last."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        extras = self._extras.get(target, [])
        if path.startswith("/quakes/") and path.endswith(".atom"):
            return self._region(path, extras, now_s)
        if path == "/desk.atom":
            entries = [entry_of(e) for e in extras]
            body = replay.atom("The desk", "http://origin/desk.atom", entries)
            return "application/atom+xml", body, extras[0].time_s if extras else 0.0
        document = self._corpus.documents.get(path.removeprefix("/feeds/"))
        if not path.startswith("/feeds/") or document is None:
            return None
        copy = parse_qs(parts.query).get("copy", ["0"])[0]
        own = replay.replays(f"{path}?{copy}", now_s, self._faster) if self._faster else []
        added = sorted([*extras, *own], key=lambda e: -e.time_s)
        kind = FORMS.get(path.split("/")[2], "application/xml")
        changed_s = added[0].time_s if added else 0.0
        return kind, replay.with_items(document, added), changed_s

    def _region(
        self, path: str, extras: list[replay.Extra], now_s: float
    ) -> tuple[str, bytes, float] | None:
        region = path.removeprefix("/quakes/").removesuffix(".atom")
        if region not in self.quakes.regions:
            return None
        entries = [*map(entry_of, extras), *self.quakes.of_region(region, now_s)]
        body = replay.atom(quakes_title(region), f"http://quakes.origin{path}", entries)
        return "application/atom+xml", body, max(float(e["shown_s"]) for e in entries)

    def events(self, stream: str, position: float, now_s: float) -> tuple[float, list[bytes]]:
        """Documents of one entry each that a stream has got after a position, and the new one."""
        if stream == "desk":
            new = [e for e in reversed(self._extras.get("/desk.atom", [])) if e.time_s > position]
            entries, position = [entry_of(e) for e in new], new[-1].time_s if new else position
            title = "The desk, live"
        else:
            entries = self.quakes.since(int(position), now_s)
            position, title = self.quakes.position(now_s), "Earthquakes: everywhere, live"
        return position, [replay.atom(title, f"http://live.origin/{stream}", [e]) for e in entries]


def quakes_title(region: str) -> str:
    if region == "strong":
        return "Earthquakes: magnitude 4.5 and above"
    return f"Earthquakes: {region.replace('-', ' ').title()}"


def document_title(name: str) -> str:
    """Something to call a document by before anybody has read it."""
    form, _, file = name.partition("/")
    words = file.rpartition(".")[0].replace("_", " ").replace("-", " ")
    return f"{words} ({form})"


def entry_of(extra: replay.Extra) -> dict[str, object]:
    return {"id": extra.identity, "title": extra.title, "shown_s": extra.time_s}


def conditional(kind: str, body: bytes, changed_s: float, asked: Mapping[str, str]) -> Answer:
    """200, or 304 when the reader has it (RFC 9110 §13.2.2: If-None-Match decides)."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = {"etag": etag, "vary": "accept-encoding"}
    if changed_s:
        headers["last-modified"] = formatdate(int(changed_s), usegmt=True)
    if _has(asked, etag, headers.get("last-modified", "")):
        return Answer(304, headers)
    headers["content-type"] = kind
    if len(body) > GZIP_ABOVE_BYTES and "gzip" in asked.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, 5, mtime=0)
    return Answer(200, headers, body)


def _has(asked: Mapping[str, str], etag: str, modified: str) -> bool:
    if (known := asked.get("if-none-match")) is not None:
        return etag in known
    since = asked.get("if-modified-since", "")
    if not since or not modified:
        return False
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
