"""Serves the documents in feeds/ over HTTP, as a web site would: with validators for its readers.

A reader that sends back the ETag gets 304 and no body (RFC 9110 §13).  This component is the only
one of the example with an endpoint; the fetcher finds it as `[requires.source]`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from paas_component import Call, Component

FEEDS = Path(__file__).resolve().parent / "feeds"
TYPES = {
    ".atom": "application/atom+xml",
    ".rss": "application/rss+xml",
    ".rdf": "application/rdf+xml",
}

counts = {"documents": 0, "not_modified": 0, "missing": 0}
lock = threading.Lock()


def names() -> list[str]:
    return sorted(f.name for f in FEEDS.iterdir() if f.suffix in TYPES)


def count(what: str) -> None:
    with lock:
        counts[what] += 1


class Handler(BaseHTTPRequestHandler):
    """GET / lists the documents as JSON, GET /NAME is one of them."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        if not name:
            self.answer(200, "application/json", json.dumps({"feeds": names()}).encode(), {})
        elif name in names():
            self.document(FEEDS / name)
        else:
            count("missing")
            self.answer(404, "text/plain", b"no such feed\n", {})

    def document(self, file: Path) -> None:
        body = file.read_bytes()
        modified = formatdate(int(file.stat().st_mtime), usegmt=True)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        validators = {"ETag": etag, "Last-Modified": modified}
        if self.unchanged(etag, modified):
            count("not_modified")
            self.answer(304, "", b"", validators)
        else:
            count("documents")
            self.answer(200, TYPES[file.suffix], body, validators)

    def unchanged(self, etag: str, modified: str) -> bool:
        """If-None-Match decides when it is there, else If-Modified-Since (RFC 9110 §13.2.2)."""
        if (known := self.headers.get("If-None-Match")) is not None:
            return etag in known
        since = self.headers.get("If-Modified-Since")
        if not since:
            return False
        try:
            return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
        except (TypeError, ValueError):
            return False

    def answer(self, status: int, kind: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Standard error would do as well; structured records are easier to look through."""
        component.log(format % args, level="debug", peer=self.client_address[0])


component = Component()


@component.operation("list")
def list_feeds(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {"feeds": names()}


@component.operation("statistics")
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    with lock:
        return dict(counts)


def main() -> None:
    host, _, port = os.environ["PAAS_ENDPOINT_HTTP"].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    component.join("feeds-source")
    component.log("serving", feeds=len(names()), address=f"{host}:{port}")
    component.run()


if __name__ == "__main__":
    main()
