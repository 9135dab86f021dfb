"""Web sites with feeds, on one port: replays published documents with new items over time (io).

Everything that is answered is decided in `sources`; here it is sent, at once or as slowly as the
answer says.  Operations: `catalogue` (what could be followed), `publish` (an item now),
`statistics` (what was asked for).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import corpus
from answers import Answer
from paas_component import Call, Component, ComponentError
from sources import Site, document_title, quakes_title

GROUP = "feeds.origins"
STREAM_TICK_S = 0.25
KEEP_ALIVE_S = 10.0
DRIP_PIECE_BYTES = 4
CATALOGUE_MAX = 2_000
STREAM = {"kind": "stream"}

component = Component()
counts: dict[str, int] = {}
counting = threading.Lock()
published = threading.Condition()


def count(what: str) -> None:
    with counting:
        counts[what] = counts.get(what, 0) + 1


class Handler(BaseHTTPRequestHandler):
    """GET only; one thread a connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    site: Site

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = self.site.answer(self.path, headers, time.time())
        count(str(found.status))
        if found.delay_s:
            time.sleep(found.delay_s)
        with contextlib.suppress(OSError):  # whoever asked has gone
            if found.stream:
                count("streams")
                self.stream(found)
            else:
                self.send(found)

    def send(self, found: Answer) -> None:
        if found.status == 0:
            self.close_connection = True
            self.wfile.write(found.body)
            return
        self.begin(found)
        if found.status != 304:
            self.send_header("content-length", str(len(found.body)))
        self.end_headers()
        if found.cut:
            self.close_connection = True
            self.wfile.write(found.body[: len(found.body) // 2])
        elif found.drip_s:
            for start in range(0, len(found.body), DRIP_PIECE_BYTES):
                self.wfile.write(found.body[start : start + DRIP_PIECE_BYTES])
                time.sleep(found.drip_s)
        elif found.status != 304:
            self.wfile.write(found.body)

    def begin(self, found: Answer) -> None:
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)

    def stream(self, found: Answer) -> None:
        """Server-sent events: one document with one entry each (WHATWG HTML, section 9.2)."""
        self.close_connection = True
        self.begin(found)
        self.end_headers()
        now_s = time.time()
        position = now_s if found.stream == "desk" else float(self.site.quakes.position(now_s))
        said_s = 0.0
        while True:
            position, documents = self.site.events(found.stream, position, time.time())
            for document in documents:
                lines = document.decode().splitlines()
                text = "".join(f"data: {line}\n" for line in lines) + "\n"
                self.wfile.write(text.encode())
            if not documents and time.monotonic() - said_s > KEEP_ALIVE_S:
                said_s = time.monotonic()
                self.wfile.write(b": still here\n\n")
            with published:
                published.wait(STREAM_TICK_S)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Requests are counted, not written down."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        count("broken")


def region_of(region: str) -> dict[str, str]:
    url = f"http://quakes.origin/quakes/{region}.atom"
    return {"url": url, "kind": "earthquakes", "title": quakes_title(region)}


@component.operation("catalogue")
def catalogue(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Addresses that can be followed; documents from `offset`, `copies` of each."""
    site = Handler.site
    offset, limit = int(inputs.get("offset", 0)), min(int(inputs.get("limit", 40)), CATALOGUE_MAX)
    found = [
        *(region_of(region) for region in site.quakes.regions),
        {**STREAM, "url": "http://live.origin/live/quakes", "title": "Earthquakes, live"},
        {**STREAM, "url": "http://live.origin/live/desk", "title": "The desk, live"},
    ]
    for copy in range(int(inputs.get("copies", 1))):
        for name in site.documents:
            form = name.partition("/")[0]
            query = f"?copy={copy}" if copy else ""
            url = f"http://{form}-{copy}.origin/feeds/{name}{query}"
            found.append({"url": url, "kind": form, "title": document_title(name)})
    if wanted := inputs.get("kind"):
        found = [entry for entry in found if entry["kind"] == wanted]
    return {"feeds": found[offset : offset + limit], "total": len(found)}


@component.operation("publish")
def publish(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """An item in a source, now: `path`, `title`."""
    path, title = str(inputs.get("path", "/desk.atom")), str(inputs["title"])
    now_s = time.time()
    identity = str(inputs.get("id") or f"desk-{now_s:.6f}")
    try:
        Handler.site.publish(path, title, identity, now_s)
    except KeyError:
        raise ComponentError("invalid", f"path: there is no source {path}", field="path") from None
    with published:
        published.notify_all()
    return {"id": identity, "time": now_s}


@component.operation("statistics")
def statistics(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    """Answers by status, and how often each of `paths` was asked for."""
    paths = {path: Handler.site.asked(path) for path in inputs.get("paths", [])}
    with counting:
        return {"answers": dict(counts), "paths": paths}


def main() -> None:
    given = component.configuration
    Handler.site = Site(
        corpus.load(),
        quakes_per_s=float(given.get("quakes_per_s", 0.3)),
        faster=float(given.get("faster", 1.0)),
    )
    host, _, port = os.environ["PAAS_ENDPOINT_HTTP"].rpartition(":")
    server = Server((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    component.join(GROUP)
    component.log("serving", documents=len(Handler.site.documents), address=f"{host}:{port}")
    component.run()


if __name__ == "__main__":
    main()
