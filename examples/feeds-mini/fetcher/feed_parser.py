"""Feed documents to items: RSS 2.0 (and 0.9x), RSS 1.0 (RDF), Atom 1.0; standard library only.

Documents are hostile until proven otherwise: bounded in size, depth and number of items, entity
declarations are refused.  What a feed leaves out is filled in (an id from the link or the title) or
empty; a single strange item never costs the others.  Sources: RSS 2.0 specification, RDF Site
Summary 1.0, RFC 4287.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

DOCUMENT_BYTES_MAX = 4 << 20
DEPTH_MAX = 64
ITEMS_MAX = 500
TITLE_MAX = 300
SUMMARY_MAX = 500


class FeedError(ValueError):
    """This is no feed, or none that may be read."""


def parse(document: bytes) -> dict[str, Any]:
    """`{"title", "link", "format", "items": [{"id", "title", "link", "summary", "date"}]}`."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise FeedError(f"a document has at most {DOCUMENT_BYTES_MAX} bytes")
    root = _tree(document)
    kind = _name(root)
    if kind == "feed":
        return _feed(root, "atom", root, _children(root, "entry"))
    channel = _child(root, "channel")
    if kind not in ("rss", "RDF") or channel is None:
        raise FeedError(f"expected <rss>, <rdf:RDF> or <feed>, not <{kind}>")
    inside = channel if kind == "rss" else root
    return _feed(channel, "rss" if kind == "rss" else "rdf", inside, _children(inside, "item"))


def _tree(document: bytes) -> ElementTree.Element:
    if b"<!ENTITY" in document:
        raise FeedError("entity declarations are not accepted")
    parser = ElementTree.XMLPullParser(("start", "end"))
    depth, root = 0, None
    try:
        for start in range(0, len(document), 65_536):
            parser.feed(document[start : start + 65_536])
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                root = element if root is None else root
                if depth > DEPTH_MAX:
                    raise FeedError(f"nested more than {DEPTH_MAX} deep")
        parser.close()
    except ElementTree.ParseError as exc:
        raise FeedError(f"not well-formed: {exc}") from None
    if root is None:
        raise FeedError("the document is empty")
    return root


def _feed(
    head: ElementTree.Element,
    form: str,
    body: ElementTree.Element,
    entries: list[ElementTree.Element],
) -> dict[str, Any]:
    items = []
    for entry in entries[:ITEMS_MAX]:
        item = _item(entry)
        if item is not None:
            items.append(item)
    return {
        "title": _text(head, "title")[:TITLE_MAX],
        "link": _link(head),
        "format": form,
        "items": items,
    }


def _item(entry: ElementTree.Element) -> dict[str, Any] | None:
    """One item; None when there is nothing to show of it."""
    title, link = _text(entry, "title")[:TITLE_MAX], _link(entry)
    summary = _text(entry, "summary", "description", "content", "encoded")[:SUMMARY_MAX]
    identity = _text(entry, "id", "guid") or link
    if not title and not summary:
        return None
    if not identity:
        identity = hashlib.sha256(f"{title}\n{summary}".encode()).hexdigest()[:24]
    date = _date(_text(entry, "published", "pubDate", "updated", "date", "modified", "created"))
    return {
        "id": identity,
        "title": title or summary[:80],
        "link": link,
        "summary": summary,
        "date": date,
    }


def _name(element: ElementTree.Element) -> str:
    """The name without its namespace: feeds in the wild disagree about theirs."""
    return str(element.tag).rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element if _name(child) == name]


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next(iter(_children(element, name)), None)


def _text(element: ElementTree.Element, *names: str) -> str:
    """The first of these children that has text, as plain text."""
    for name in names:
        for child in _children(element, name):
            text = plain("".join(child.itertext()))
            if text:
                return text
    return ""


def _link(element: ElementTree.Element) -> str:
    """RSS writes the address as text, Atom as href of rel="alternate"."""
    for child in _children(element, "link"):
        if child.get("href") and child.get("rel", "alternate") == "alternate":
            return child.get("href", "")
        if child.text and child.text.strip():
            return child.text.strip()
    return ""


def _date(text: str) -> str:
    """RFC 3339 in UTC, or nothing: RFC 822 dates (RSS) and ISO 8601 ones (Atom, Dublin Core)."""
    moment = None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError):
            return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return ""


class _Plain(HTMLParser):
    """Markup to text; what is inside of scripts and styles is not text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in ("script", "style")))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def plain(markup: str) -> str:
    """Text without markup, with single blanks."""
    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    parser = _Plain()
    parser.feed(markup)
    parser.close()
    return " ".join("".join(parser.parts).split())
