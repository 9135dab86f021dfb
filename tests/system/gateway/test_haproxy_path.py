"""The data path by a real HAProxy: members come and go, routes change, processes are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trio

from paas.gateway.haproxy import runtime
from paas.gateway.haproxy.client import Master
from paas.gateway.messages import Route
from tests.system.gateway.haproxy_world import (
    component,
    free_port,
    get,
    read_body,
    read_head,
    runs,
    world,
)

SITE = Route(name="site", group="web")
_KEY = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13"}


async def test_members_come_and_go_without_a_reload(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE]) as here:
        assert await here.answered_by() == {"m0", "m1"}
        await here.show({0: "serving", 1: "serving", 2: "serving"})
        assert await here.answered_by() == {"m0", "m1", "m2"}
        await here.show({2: "serving"})
        assert await here.answered_by() == {"m2"}
        await here.show({})
        none = await get(here.port)
        assert (none.status, none.headers["content-type"]) == (503, "application/problem+json")
        await here.show({1: "serving"})
        assert await here.answered_by() == {"m1"}
        assert (here.haproxy.starts, here.haproxy.reloads) == (1, 0)
        with trio.fail_after(20):
            await here.has_servers(1)
        figures = await here.haproxy.statistics()
        assert figures.routes["site"].requests >= 97
        assert list(figures.servers) == [("r.site", f"{component(1)}_1")]


async def test_a_leaving_member_answers_what_it_has_and_gets_nothing_new(tmp_path: Path) -> None:
    """Its departure can be acknowledged when the last answer is out, not before."""
    async with world(tmp_path, [SITE]) as here, trio.open_nursery() as nursery:
        replies: list[str] = []

        async def slow() -> None:
            reply = await get(here.port, "/slow")
            replies.append(f"{reply.status} {reply.body}")

        await here.show({0: "serving"})
        nursery.start_soon(slow)
        await here.origins[0].has_heard()
        await here.show({0: "leaving", 1: "serving"})
        left = trio.Event()

        async def wait_until_left() -> None:
            await here.haproxy.left(component(0), 1)
            left.set()

        nursery.start_soon(wait_until_left)
        assert await here.answered_by() == {"m1"}
        assert await here.haproxy.sessions(component(0), 1) == 1
        assert not left.is_set()
        here.origins[0].let_go.set()
        with trio.fail_after(10):
            await left.wait()
        assert replies == ["200 m0"]
        assert len(here.origins[0].heard) == 1
        await here.show({1: "serving"})
        with trio.fail_after(20):
            await here.has_servers(1)
        assert (here.haproxy.starts, here.haproxy.reloads) == (1, 0)


async def test_a_member_is_busy_while_an_old_worker_still_has_its_request(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE]) as here, trio.open_nursery() as nursery:
        await here.show({0: "serving"})
        nursery.start_soon(get, here.port, "/slow")
        await here.origins[0].has_heard()
        here.routes = [SITE, Route(name="more", group="web", path="/more")]
        await here.show({0: "leaving", 1: "serving"})
        assert here.haproxy.reloads == 1
        async with Master(here.haproxy._path("master.sock")) as master:
            assert len(runtime.processes(await master.ask("show proc")).old) == 1
        assert await here.haproxy.sessions(component(0), 1) == 1
        here.origins[0].let_go.set()
        with trio.fail_after(10):
            await here.haproxy.left(component(0), 1)


async def test_a_cookie_leads_to_its_member_until_that_leaves(tmp_path: Path) -> None:
    """Members that came by the runtime API have cookies too."""
    route = Route(name="site", group="web", sticky="cookie")
    async with world(tmp_path, [route], cookie_key="secret") as here:
        await here.show({0: "serving", 1: "serving", 2: "serving"})
        cookies = {}
        for _ in range(60):
            reply = await get(here.port)
            cookies[reply.body] = reply.headers["set-cookie"].partition(";")[0]
        assert cookies.keys() == {"m0", "m1", "m2"}
        for name, cookie in cookies.items():
            again = {(await get(here.port, "/", {"cookie": cookie})).body for _ in range(5)}
            assert again == {name}
        await here.show({0: "serving", 1: "serving", 2: "leaving"})
        reply = await get(here.port, "/", {"cookie": cookies["m2"]})
        assert reply.body in ("m0", "m1")


async def test_an_address_leads_to_the_same_member(tmp_path: Path) -> None:
    route = Route(name="site", group="web", sticky="address")
    async with world(tmp_path, [route]) as here:
        (before,) = await here.answered_by(10)
        here.routes = [route, Route(name="other", group="web", path="/other")]
        await here.show()
        assert await here.answered_by(10) == {before}
        assert here.haproxy.reloads == 1


async def test_other_routes_take_a_reload_that_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE]) as here:
        failures: list[str] = []
        count = 0
        done = False

        async def load() -> None:
            nonlocal count
            while not done:
                try:
                    reply = await get(here.port, "/", method="POST", body=b"x")
                    if reply.status != 200:
                        failures.append(str(reply.status))
                except (OSError, trio.BrokenResourceError) as exc:
                    failures.append(repr(exc))
                count += 1

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(load)
            for number in range(5):
                here.routes = [SITE, Route(name=f"r{number}", group="web", path=f"/r{number}")]
                await here.show()
                assert (await get(here.port, f"/r{number}")).status == 200
            done = True
        assert failures == []
        assert count > 50
        assert (here.haproxy.starts, here.haproxy.reloads) == (1, 5)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_reload_cuts_off_no_connection_that_is_kept(tmp_path: Path, method: str) -> None:
    """Whoever is about to ask on one is answered, and told that it ends."""
    asked = f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".encode()
    async with world(tmp_path, [SITE]) as here:
        statuses: Counter[str] = Counter()
        done = False

        async def ask() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", here.port) as stream:
                left, ends = bytearray(), False
                while not done and not ends:
                    await stream.send_all(asked)
                    head = await read_head(stream, left)
                    statuses[head[0].split(" ")[1] if head else "closed"] += 1
                    ends = head is None or head[1].get("connection") == "close"
                    if head is not None:
                        await read_body(stream, left, head[1])

        async def ask_on() -> None:
            while not done:
                await ask()

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask_on)
            for number in range(6):
                here.routes = [SITE, Route(name=f"r{number}", group="web", path=f"/r{number}")]
                await here.show()
                await trio.sleep(0.1)
            done = True
        assert statuses.keys() == {"200"}
        assert here.haproxy.reloads == 6


@pytest.mark.parametrize("victim", ["worker", "master"])
async def test_a_killed_haproxy_comes_back_with_the_present_state(
    tmp_path: Path, victim: str
) -> None:
    async with world(tmp_path, [SITE]) as here:
        await here.show({2: "serving"})
        async with Master(here.haproxy._path("master.sock")) as master:
            worker = runtime.processes(await master.ask("show proc")).worker
        killed = worker if victim == "worker" else here.haproxy.pid
        os.kill(killed, signal.SIGKILL)
        with trio.fail_after(10):
            await here.is_back()
        assert await here.answered_by() == {"m2"}
        assert not runs(worker)


async def test_a_member_that_dies_costs_only_what_may_not_be_repeated(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE]) as here:
        here.origins[0].dead = True
        replies = [await get(here.port, method="GET") for _ in range(20)]
        assert {(r.status, r.body) for r in replies} == {(200, "m1")}
        assert here.origins[0].heard
        await here.show({0: "serving"})
        reply = await get(here.port, method="POST", body=b"order")
        assert reply.status == 502
        assert '"detail":"The member that had the request did not answer it."' in reply.body
        assert len([h for h in here.origins[0].heard if h[2] == b"order"]) == 1


async def test_a_browser_is_told_also_on_a_connection_that_it_has_used(tmp_path: Path) -> None:
    """One that is closed without a word would have it ask again, which may not be."""
    async with world(tmp_path, [SITE]) as here:
        here.origins[0].dead = True
        async with await trio.open_tcp_stream("127.0.0.1", here.port) as stream:
            left, statuses = bytearray(), []
            for number, method in ((1, "GET"), (1, "POST"), (0, "POST")):
                await here.show({number: "serving"})
                head = f"{method} / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\n\r\nx"
                await stream.send_all(head.encode())
                said = await read_head(stream, left)
                assert said is not None, "it is closed"
                await read_body(stream, left, said[1])
                statuses.append(int(said[0].split(" ")[1]))
        assert statuses == [200, 200, 502]
        assert len(here.origins[0].heard) == 1


async def test_what_haproxy_cannot_do_goes_to_the_edge(tmp_path: Path) -> None:
    routes = [
        SITE,
        Route(name="call", group="g", kind="operation", path="/call"),
        Route(name="files", kind="static", directory="d", host="files.test"),
    ]
    async with world(tmp_path, routes) as here:
        upgrade = {"connection": "upgrade", "upgrade": "websocket", **_KEY}
        chunked = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )
        for reply in (
            await get(here.port, "/call/x?y"),
            await get(here.port, "/", {"host": "files.test:80"}),
            await get(here.port, "/", upgrade),
            await get(here.port, "/%63all"),
            await get(here.port, "/.well-known/acme-challenge/token"),
            await get(here.port, raw=chunked),
        ):
            assert (reply.status, reply.body) == (200, "edge")
        assert (await get(here.port, "/callx")).body.startswith("m")
        assert (await get(here.port, "/a%20b")).body.startswith("m")


async def test_which_route_a_request_takes(tmp_path: Path) -> None:
    """Exact host, then wildcard by length, then any; then the longest path that ends a segment."""
    routes = [
        Route(name="any", group="g"),
        Route(name="any-a", group="g", path="/a"),
        Route(name="exact-a-b", group="g", host="x.example.org", path="/a/b"),
        Route(name="wild", group="g", host="*.example.org", path="/a"),
        Route(name="deep", group="g", host="*.b.example.org"),
    ]
    tagged = [_tagged(route) for route in routes]
    async with world(tmp_path, tagged) as here:
        for host, path, expected in (
            ("y.test", "/", "any"),
            ("y.test", "/ab", "any"),
            ("y.test", "/a", "any-a"),
            ("y.test", "/a/", "any-a"),
            ("x.example.org", "/a/b/c", "exact-a-b"),
            ("X.Example.ORG.:8080", "/a/b", "exact-a-b"),
            ("x.example.org", "/a/bc", "wild"),
            ("x.example.org", "/", "any"),
            ("y.b.example.org", "/a", "deep"),
            ("b.example.org", "/a", "wild"),
            ("example.org", "/a", "any-a"),
            ("evil-example.org", "/a", "any-a"),
        ):
            reply = await get(here.port, path, {"host": host})
            assert reply.headers["x-route"] == expected, (host, path)


def _tagged(route: Route) -> Route:
    return msgspec.structs.replace(route, headers={"x-route": route.name})


async def test_what_a_route_says_is_done(tmp_path: Path) -> None:
    strange = "100% 'quoted' \"twice\" $HOME %[src] \\ # no comment"
    routes = [
        Route(name="strip", group="g", path="/s", strip_prefix=True, headers={"x-s": strange}),
        Route(name="few", group="g", path="/few", methods=("GET", "-F"), body_max=10),
        Route(name="rare", group="g", path="/rare", rate=0.2),
        Route(name="quick", group="g", path="/slow", timeout_s=0.2, retries=0),
    ]
    async with world(tmp_path, routes) as here:
        reply = await get(here.port, "/s/x/y?q=/s")
        assert reply.headers["x-s"] == strange
        heard = [origin.last[0] for origin in here.origins if origin.heard]
        assert heard == ["GET /x/y?q=/s HTTP/1.1"]
        await get(here.port, "/s")
        assert {o.last[0] for o in here.origins if o.heard} & {"GET / HTTP/1.1"}
        refused = await get(here.port, "/few", method="PUT", body=b"x")
        assert (refused.status, refused.headers["allow"]) == (405, "-F, GET")
        await get(here.port, "/s/e", {"expect": "100-continue"})
        long = await get(here.port, "/few", {"content-length": "11"})
        assert long.status == 413
        assert [(await get(here.port, "/rare")).status for _ in range(4)] == [200, 200, 429, 429]
        assert (await get(here.port, "/slow")).status == 504
        for size in (1, 8191, 100_000, 1_000_000):
            assert (await get(here.port, "/s/b", method="PUT", body=b"b" * size)).status == 200
        sizes = {len(h[2]) for origin in here.origins for h in origin.heard}
        assert {1, 8191, 100_000, 1_000_000} <= sizes
        assert (await get(here.port, "/none")).body == "edge"


async def test_members_are_told_who_asks_by_the_gateway_alone(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE]) as here:
        await here.show({0: "serving"})
        lies = {
            "x-forwarded-for": "6.6.6.6",
            "x-forwarded-proto": "https",
            "forwarded": "for=x",
            "x-real-ip": "6.6.6.6",
            "x_forwarded_for": "6.6.6.6",
            "x-forwarded-host": "evil",
            "x-request-id": "lie",
            "connection": "x-secret",
            "x-secret": "1",
        }
        await get(here.port, "/", {**lies, "host": "site.test:81"})
        _, headers, _ = here.origins[0].last
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-host"] == headers["host"] == "site.test:81"
        assert headers["forwarded"] == 'for=127.0.0.1;host="site.test:81";proto=http'
        assert not {"x-real-ip", "x_forwarded_for", "x_forwarded-for"} & headers.keys()
        assert headers["x-request-id"] not in ("lie", "")
        assert "6.6.6.6" not in str(headers)


async def test_a_trusted_proxy_is_believed_about_browsers(tmp_path: Path) -> None:
    """What it says is kept, and rates are counted by what it says."""
    rare = Route(name="rare", group="g", path="/rare", rate=0.1)
    async with world(tmp_path, [SITE, rare], trusted=("127.0.0.0/8",)) as here:
        await here.show({0: "serving"})
        told = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        await get(here.port, "/", told)
        _, headers, _ = here.origins[0].last
        assert headers["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-forwarded-host"] == "site.test"
        statuses = [
            (await get(here.port, "/rare", {"x-forwarded-for": address})).status
            for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2")
        ]
        assert statuses == [200, 429, 200]


async def test_one_address_has_so_many_connections(tmp_path: Path) -> None:
    async with world(tmp_path, [SITE], connections_per_source_max=5) as here:
        streams = [await trio.open_tcp_stream("127.0.0.1", here.port) for _ in range(5)]
        await trio.sleep(0.2)
        with pytest.raises((OSError, trio.BrokenResourceError)):
            await get(here.port)
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(10):
            await here.is_answering()
    assert here.haproxy.starts == 1


async def test_each_request_is_an_event_whatever_it_asks_for(tmp_path: Path) -> None:
    program, log = tmp_path / "haproxy", tmp_path / "log"
    program.write_text(f'#!/bin/sh\nexec haproxy "$@" >> {log}\n')
    program.chmod(0o755)
    paths = ["/plain?secret=1", '/"quoted"\\', "/%22}", "/a'b<script>", "/" + "x" * 2000]
    async with world(tmp_path, [SITE], program=str(program), access_log="all") as here:
        for path in paths:
            await get(here.port, path)
        raw = b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"
        await get(here.port, raw=raw)
        refused = await get(here.port, raw=b"GET /{ HTTP/1.1\r\n\r\n")
        assert refused.status == 400
    events = [json.loads(line) for line in log.read_text("latin-1").splitlines()]
    asked = [event for event in events if event["status"] == 200]
    assert [event["path"] for event in asked[:4]] == ["/plain", *paths[1:4]]
    assert {len(event["path"]) for event in asked} >= {256}
    first = asked[0]
    assert first["event"] == "http.request"
    assert (first["method"], first["host"], first["route"]) == ("GET", "site.test", "site")
    assert first["remote"] == "127.0.0.1"
    assert first["member"] in (f"{component(0)}_1", f"{component(1)}_1")
    assert first["message"] == "GET /plain 200"
    assert "secret" not in log.read_text("latin-1")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a"b\r\n\r\n',
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_reach_nobody(tmp_path: Path, head: bytes) -> None:
    async with world(tmp_path, [SITE]) as here:
        assert (await get(here.port, raw=head)).status in (400, 431)
        assert not any(origin.heard for origin in [*here.origins, here.edge])


async def test_a_refused_configuration_leaves_the_old_one_with_its_members(tmp_path: Path) -> None:
    program = tmp_path / "haproxy"
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = -c ] && [ -e {tmp_path}/refuse ] && echo "no such thing" >&2 && exit 1\n'
        'exec haproxy "$@"\n'
    )
    program.chmod(0o755)
    async with world(tmp_path, [SITE], program=str(program)) as here:
        (tmp_path / "refuse").touch()
        here.routes = [SITE, Route(name="bad", group="web", path="/bad")]
        await here.show({2: "serving"})
        assert "no such thing" in here.haproxy.trouble
        assert await here.answered_by() == {"m2"}
        assert here.haproxy.reloads == 0
        (tmp_path / "refuse").unlink()
        here.routes = [SITE, Route(name="good", group="web", path="/good")]
        await here.show()
        assert (here.haproxy.trouble, here.haproxy.reloads) == ("", 1)


def make_certificate(folder: Path, name: str, host: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={host}", "-addext"),
            *(f"subjectAltName=DNS:{host}", "-keyout", f"{folder}/{name}.key.new"),
            *("-out", f"{folder}/{name}.pem.new"),
        ],
        check=True,
        capture_output=True,
    )
    for kind in ("key", "pem"):
        (folder / f"{name}.{kind}.new").replace(folder / f"{name}.{kind}")


def shown(port: int, name: str) -> tuple[bytes, str]:
    """The certificate and the protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert(True) or b"", secure.selected_alpn_protocol() or ""


async def test_certificates_by_name_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    make_certificate(folder, "default", "default.test")
    make_certificate(folder, "site", "site.test")
    secure = free_port()
    options = {"tls": (f"127.0.0.1:{secure}",), "certificates": str(folder)}
    async with world(tmp_path, [SITE], **options) as here:

        async def look(name: str) -> bytes:
            certificate, protocol = await trio.to_thread.run_sync(shown, secure, name)
            assert protocol == "h2"
            return certificate

        site, default = await look("site.test"), await look("unknown.test")
        assert site == ssl.PEM_cert_to_DER_cert((folder / "site.pem").read_text())
        assert default == ssl.PEM_cert_to_DER_cert((folder / "default.pem").read_text())
        (folder / "broken.pem").write_text("no certificate")
        make_certificate(folder, "site", "site.test")
        with trio.fail_after(15):
            await here.until(lambda: here.haproxy.reloads > 0)
        assert await look("site.test") != site
        assert await look("unknown.test") == default
        mode = os.stat(tmp_path / "hx" / "certs" / "0.pem").st_mode
        assert mode & 0o777 == 0o600
        answer = await trio.run_process(
            ["curl", "-sk", "--http2", f"https://127.0.0.1:{secure}/", "-w", " %{http_version}"],
            capture_stdout=True,
        )
        assert answer.stdout.decode() in ("m0 2", "m1 2")


async def test_slow_senders_are_cut_off_and_reach_no_member(tmp_path: Path) -> None:
    """A head, and a body, that drip in: 408 after ten seconds, both at the same time."""
    statuses: list[int] = []

    async def drip(port: int, start: bytes, pieces: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(start)

            async def send() -> None:
                for byte in pieces * 1000:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.25)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                head = await read_head(stream, bytearray())
                assert head is not None
                statuses.append(int(head[0].split(" ")[1]))
                nursery.cancel_scope.cancel()

    async with world(tmp_path, [SITE]) as here:
        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                start = b"GET / HTTP/1.1\r\nHost: a\r\n"
                nursery.start_soon(drip, here.port, start, b"X: y\r\n")
                start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
                nursery.start_soon(drip, here.port, start, b"b")
        assert statuses == [408, 408]
        assert not any(origin.heard for origin in here.origins)
