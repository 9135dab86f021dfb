"""A real browser through the gateway: HTTP/2, uploads, a compressed WebSocket, events."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from paas.gateway.messages import Route
from paas.testing.edge_world import Seen, TestMember, gateway, make_certificate, until

PAGES = Path(__file__).parent / "pages"
ROUTES = [
    Route(name="site", group="web"),
    Route(name="pages", kind="static", path="/pages", strip_prefix=True),
    Route(name="live", group="live", path="/live", websocket=True),
    Route(name="events", group="events", path="/events"),
]


async def live(member: TestMember, stream: trio.SocketStream) -> None:
    """A WebSocket that says everything back, compressed."""
    connection = WSConnection(ConnectionType.SERVER)
    text = ""
    while data := await stream.receive_some(65_536):
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Request):
                accept = AcceptConnection(extensions=[PerMessageDeflate()])
                await stream.send_all(connection.send(accept))
            elif isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    await stream.send_all(connection.send(TextMessage(data=text)))
            elif isinstance(event, CloseConnection):
                member.faults.append(f"closed {int(event.code)}")
                await stream.send_all(connection.send(event.response()))
                return


async def events(member: TestMember, stream: trio.SocketStream) -> None:
    """Server-sent events, now and then."""
    await stream.receive_some(65_536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    for number in range(1_000):
        await stream.send_all(b"data: %d\n\n" % number)
        await trio.sleep(0.05)


def results(member: TestMember) -> list[Seen]:
    return [seen for seen in member.seen if seen.target == "/result"]


@contextmanager
def chromium(url: str, profile: Path) -> Iterator[None]:
    """Shows a page, until it is not wanted any more."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]
    options += [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["chromium", *options, url], stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)
    shutil.rmtree(profile, ignore_errors=True)


async def test_what_a_browser_does(tmp_path: Path) -> None:
    make_certificate(tmp_path, "localhost", "localhost")
    members = [
        TestMember(name="m"),
        TestMember(group="live", talk=live),
        TestMember(group="events", talk=events),
    ]
    async with gateway(
        members=members,
        routes=ROUTES,
        static=str(PAGES),
        tls=["127.0.0.1:0"],
        certificates=str(tmp_path),
    ) as world:
        url = f"https://localhost:{world.edge.addresses[1][1]}/pages/edge.html"
        with chromium(url, tmp_path / "profile"):
            await until(lambda: results(members[0]), patience_s=60)
        assert json.loads(results(members[0])[0].body) == {
            "fetched": 40,
            "uploaded": "m POST /upload",
            "protocols": ["h2"],
            "compressed": True,
            "message": 100_000,
            "events": 3,
        }
        # Some on speculation, before the browser knows the protocol; not one for each request.
        assert world.edge.statistics["connections"] <= 6
