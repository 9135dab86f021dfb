"""HTML of strangers to a small tree that is safe to show.  Pure.

    "<p onclick=x>a <b>c</b><script>…"  ->  [["p", {}, ["a ", ["b", {}, ["c"]]]]]

A page that builds elements from this tree, by the names in ALLOWED and nothing else, cannot be
given a script: there is no mark-up left to misread, only names from a closed list, text, and
addresses of http and https.  What is dropped: every other element (its text stays, except within
HIDDEN), every attribute except `href`, comments, and whatever exceeds the limits.  Pictures are
left out, so that reading does not tell anybody that one reads.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

_ALLOWED = """a b blockquote br code dd del dl dt em h3 h4 i li ol p pre q s small strong sub sup
u ul"""
_HIDDEN = """script style template noscript iframe object embed svg math form select textarea button
head title audio video canvas applet frameset noembed noframes xmp plaintext"""
_ENDLESS = "area base br col embed hr img input link meta param source track wbr"
_BLOCKS = "p li ul ol blockquote pre dl dt dd h3 h4 br"
ALLOWED, HIDDEN, ENDLESS, BLOCKS = (
    frozenset(words.split()) for words in (_ALLOWED, _HIDDEN, _ENDLESS, _BLOCKS)
)
VOID = frozenset({"br"})
RENAMED = {"h1": "h3", "h2": "h3", "h5": "h4", "h6": "h4", "div": "p", "strike": "s", "ins": "u"}
NODES_MAX = 400
DEPTH_MAX = 12
TEXT_CHARS_MAX = 8_000
MARKUP_CHARS_MAX = 200_000
ADDRESS_CHARS_MAX = 2_000

Node = Any
"""Text, or [name, attributes, children]."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root: list[Node] = []
        self._open: list[tuple[str, list[Node]]] = [("", self.root)]
        self._hidden: list[str] = []
        self._left_nodes = NODES_MAX
        self._left_chars = TEXT_CHARS_MAX

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden or tag in HIDDEN:
            if tag in HIDDEN and tag not in ENDLESS:
                self._hidden.append(tag)
            return
        name = RENAMED.get(tag, tag)
        if name not in ALLOWED or self._left_nodes <= 0:
            return
        if len(self._open) > DEPTH_MAX and name not in VOID:
            return
        self._left_nodes -= 1
        if name in ("p", "li", "dt", "dd"):  # one in another of its kind ends it
            self._close_open(name)
        children: list[Node] = []
        self._open[-1][1].append([name, _attributes(name, attrs), children])
        if name not in VOID:
            self._open.append((name, children))

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.pop()
            return
        name = RENAMED.get(tag, tag)
        for index in range(len(self._open) - 1, 0, -1):
            if self._open[index][0] == name:
                del self._open[index:]
                return

    def _close_open(self, name: str) -> None:
        for index in range(len(self._open) - 1, 0, -1):
            if self._open[index][0] in ("ul", "ol", "dl", "blockquote"):
                return
            if self._open[index][0] == name:
                del self._open[index:]
                return

    def handle_data(self, data: str) -> None:
        if self._hidden or self._left_chars <= 0:
            return
        text = _CONTROL.sub("", data)[: self._left_chars]
        if not text or (not text.strip() and "\n" in text and self._open[-1][0] != "pre"):
            return
        self._left_chars -= len(text)
        if self._left_nodes > 0:
            self._left_nodes -= 1
            self._open[-1][1].append(text)


def _attributes(name: str, attrs: list[tuple[str, str | None]]) -> dict[str, str]:
    if name != "a":
        return {}
    href = next((value for key, value in attrs if key == "href" and value), "")
    safe = address(href)
    return {"href": safe} if safe else {}


def address(text: str) -> str:
    """The address if it is one of http or https that can be shown; else nothing."""
    text = _CONTROL.sub("", text.strip())
    if not text or len(text) > ADDRESS_CHARS_MAX or any(c.isspace() for c in text):
        return ""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return ""
    return (
        text
        if parts.scheme.lower() in ("http", "https") and host and "@" not in parts.netloc
        else ""
    )


def tree(markup: str) -> list[Node]:
    """The tree of a piece of HTML."""
    if len(markup) > MARKUP_CHARS_MAX:
        markup = markup[:MARKUP_CHARS_MAX]
    if "<" not in markup and "&" not in markup:
        text = _CONTROL.sub("", markup).strip()[:TEXT_CHARS_MAX]
        return [text] if text else []
    builder = _Builder()
    try:
        builder.feed(markup)
        builder.close()
    except (AssertionError, ValueError, RecursionError):  # the parser's own: what is there will do
        pass
    return _trimmed(builder.root)


def _trimmed(nodes: list[Node]) -> list[Node]:
    """Without elements that hold nothing."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, str):
            kept.append(node)
            continue
        name, attributes, children = node
        inside = _trimmed(children)
        blank = all(isinstance(child, str) and not child.strip() for child in inside)
        if not blank or name in VOID:
            kept.append([name, attributes, inside])
    while kept and isinstance(kept[-1], list) and kept[-1][0] == "br":
        kept.pop()
    return kept


def text_of(nodes: list[Node]) -> str:
    """What a tree says, with single blanks."""
    parts: list[str] = []

    def walk(children: list[Node]) -> None:
        for child in children:
            if isinstance(child, str):
                parts.append(child)
            else:
                parts.append(" " if child[0] in BLOCKS else "")
                walk(child[2])
                parts.append(" " if child[0] in BLOCKS else "")

    walk(nodes)
    return " ".join("".join(parts).split())
