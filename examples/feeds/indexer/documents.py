"""What is refused before a parser sees it.  Pure.

Documents are hostile until proven otherwise.  Refused are: too many bytes, declarations of entities
(in every encoding that an XML parser would look for by itself, Appendix F of XML 1.0), nesting and
numbers of elements that no feed has, and what is no mark-up at all.  The parser runs in a process
of its own with bounded memory and time all the same (worker.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

DOCUMENT_BYTES_MAX = 4 << 20
DEPTH_MAX = 100
ELEMENTS_MAX = 60_000
ITEMS_MAX = 3_000
ATTRIBUTES_MAX = 300
"""Of one element."""

_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE)
_HEAD = re.compile(r"<(/?)[A-Za-z_][^\s/>]{0,200}")
_STOP = re.compile(r"[\"'>]")
_ITEM = re.compile(r"<(?:\w+:)?(?:item|entry)[\s>]")
_LONE_TAG = re.compile(r"<[/A-Za-z_]")
_CDATA = re.compile(r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL)
_BOMS = (
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\x00\x00\x00<", "utf-32-be"),
    (b"<\x00\x00\x00", "utf-32-le"),
    (b"\x00<\x00?", "utf-16-be"),
    (b"<\x00?\x00", "utf-16-le"),
    (b"\x00<\x00", "utf-16-be"),
    (b"<\x00", "utf-16-le"),
)


class DocumentError(ValueError):
    """This document is not read; the text says why."""


def check(document: bytes) -> None:
    """Raises DocumentError."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise DocumentError(f"a document has at most {DOCUMENT_BYTES_MAX} bytes")
    text = skimmed(document)
    if "<" not in text:
        raise DocumentError("this is no XML document" if document.strip() else "it is empty")
    # Also in what looks like UTF-7 or EBCDIC nothing can be declared: no parser here reads those.
    plain = _CDATA.sub("", text)
    if _ENTITY.search(plain):
        raise DocumentError("declarations of entities are not accepted")
    _check_shape(plain)


def skimmed(document: bytes) -> str:
    """The document as text, good enough to see mark-up in it."""
    for mark, encoding in _BOMS:
        if document.startswith(mark):
            return document.decode(encoding, "replace")
    return document.decode("latin-1")


def _check_shape(text: str) -> None:
    if len(_LONE_TAG.findall(text)) > 2 * ELEMENTS_MAX:
        raise DocumentError(f"a document has at most {ELEMENTS_MAX} elements")
    if len(_ITEM.findall(text)) > ITEMS_MAX:
        raise DocumentError(f"a document has at most {ITEMS_MAX} items")
    depth, deepest = 0, DEPTH_MAX + _allowance(text)
    for close, rest in _tags(text):
        if rest.count("=") > ATTRIBUTES_MAX and rest.count('"') > 2 * ATTRIBUTES_MAX:
            raise DocumentError(f"an element has at most {ATTRIBUTES_MAX} attributes")
        if close:
            depth = max(0, depth - 1)
        elif not rest.endswith("/"):
            depth += 1
            if depth > deepest:
                raise DocumentError(f"elements are nested more than {DEPTH_MAX} deep")


def _tags(text: str) -> Iterator[tuple[str, str]]:
    """`/` or nothing, and what stands after the name, of each tag; in one pass over the text.

    (One regular expression for all of it would look to the end of the text from every tag that is
    not closed.)
    """
    at, unpaired = 0, set[str]()
    while (at := text.find("<", at)) >= 0:
        head = _HEAD.match(text, at)
        if head is None:
            at += 1
            continue
        end = _end_of_tag(text, head.end(), unpaired)
        if end < 0:
            return
        yield head[1], text[head.end() : end]
        at = end + 1


def _end_of_tag(text: str, at: int, unpaired: set[str]) -> int:
    """Where its `>` is, outside of quotes; -1 when there is none.  `unpaired`: quotes of which the
    rest of the text has no second one, so that they are text."""
    while (stop := _STOP.search(text, at)) is not None:
        sign, at = stop[0], stop.end()
        if sign == ">":
            return stop.start()
        if sign in unpaired:
            continue
        second = text.find(sign, at)
        if second < 0:
            unpaired.add(sign)
        else:
            at = second + 1
    return -1


def _allowance(text: str) -> int:
    """HTML that is not escaped has elements without an end: some per item are forgiven."""
    return 20 * min(text.count("<item") + text.count("<entry"), 500)
