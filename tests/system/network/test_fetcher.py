"""The fetcher on a cluster: built, pushed, called; what it may reach says its manifest."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

BODY = b"from outside"


class Site(BaseHTTPRequestHandler):
    """`/old` leads to `/page`, which is not sent again to who knows it."""

    def do_GET(self) -> None:
        known = self.headers.get("if-none-match") == '"1"'
        self.send_response(301 if self.path == "/old" else 304 if known else 200)
        self.send_header("location", "/page")
        self.send_header("etag", '"1"')
        self.send_header("content-length", str(0 if known or self.path == "/old" else len(BODY)))
        self.end_headers()
        if self.path != "/old" and not known:
            self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        """Not to the test's output."""


@pytest.fixture
def site(world: Any) -> Iterator[str]:
    """A site of the world beside the cluster: `host:port`."""
    host = world.cluster.machine("n1").address.rsplit(".", 1)[0] + ".254"
    server = ThreadingHTTPServer((host, 0), Site)
    threading.Thread(target=server.serve_forever).start()
    yield f"{host}:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_it_fetches_for_others_what_its_manifest_allows(world: Any, site: str) -> None:
    cluster, folder = world.cluster, world.cluster.folder / "fetcher"
    build = [sys.executable, "-m", "paas.fetcher", "build", str(folder), "--allow", site]
    world.inside("n1", *build)
    configuration = {"private": [f"{site.partition(':')[0]}/32"]}
    kind = cluster.push(folder)
    for node in ("n1", "n2"):
        where = {"constraints": [f"node={node}"]}
        fetcher = cluster.create(kind, configuration=configuration, **where)
        found = cluster.call(fetcher, "fetch", url=f"http://{site}/old")
        assert (found["status"], found["size"], len(found["hops"])) == (200, len(BODY), 1)
        assert found["moved_to"] == f"http://{site}/page"
        again = {"url": f"http://{site}/page", "conditional": {"etag": found["etag"]}}
        assert cluster.call("group:fetchers", "fetch", **again)["status"] == 304
        hub = f"http://{cluster.machine('n3').address}:7420/"
        with pytest.raises(PlatformError):
            cluster.call(fetcher, "fetch", url=hub, timeout_s=5)
