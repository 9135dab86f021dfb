"""The process in which strangers' documents are parsed (io).

    standard input   {"url", "type", "now_s"} and a document, each after four bytes of its length
    standard output  the feed, or {"error"}, as JSON after its length

It has bounded memory, and whoever started it ends it when it takes too long.  It reads no file and
opens no connection: feedparser is given bytes.  Without that bound, one document could take the
indexer along.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

sys.path[:0] = [str(p) for p in sorted((Path(__file__).resolve().parent / "vendor").glob("*.whl"))]

import documents  # noqa: E402
import feedparser  # noqa: E402  (found in vendor/)
import items  # noqa: E402

MEMORY_BYTES_MAX = 160 << 20
LENGTH = struct.Struct(">I")


def parse(question: dict[str, Any], document: bytes) -> dict[str, Any]:
    """The feed; or why there is none."""
    try:
        documents.check(document)
    except documents.DocumentError as exc:
        return {"error": str(exc)}
    headers = {"content-location": str(question["url"])}
    if question.get("type"):
        headers["content-type"] = str(question["type"])
    try:
        parsed = feedparser.parse(
            document, response_headers=headers, sanitize_html=False, resolve_relative_uris=True
        )
        if not parsed.get("version"):
            return {"error": "this is no feed"}
        return items.feed_of(parsed, float(question["now_s"]))
    except MemoryError:
        return {"error": "the document needs too much memory"}
    except Exception as exc:  # whatever a hostile document makes a parser do
        return {"error": f"it cannot be parsed ({type(exc).__name__})"}


def read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return stream.read(LENGTH.unpack(head)[0])


def write(stream: BinaryIO, data: bytes) -> None:
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    documents_in, answers_out = sys.stdin.buffer, sys.stdout.buffer
    parse({"url": "http://warm.up/", "now_s": time.time()}, b"<rss version='2.0'><channel/></rss>")
    write(answers_out, b"{}")
    while (head := read(documents_in)) is not None:
        document = read(documents_in)
        if document is None:
            return
        answer = parse(json.loads(head), document)
        write(answers_out, json.dumps(answer, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
