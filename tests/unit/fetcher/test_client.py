"""The fetcher against a real server on loopback that behaves."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from paas.base.errors import PlatformError
from paas.fetcher.client import Fetcher, Request, reason
from paas.fetcher.credentials import Credential
from paas.fetcher.settings import Settings
from tests.unit.fetcher.conftest import INSIDE, Heard, Serving, always, said, scripted


async def test_an_answer_comes_with_status_headers_and_body(
    serving: Serving, settings: Settings
) -> None:
    script = always(said(200, "Set-Cookie: a", "Set-Cookie: b", body=b"hi"))
    async with serving(script) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url("/x?y=1#z")))
    assert (answer.status, answer.body, answer.attempts) == (200, b"hi", 1)
    assert [v for n, v in answer.headers if n == "set-cookie"] == ["a", "b"]
    assert answer.final_url == origin.url("/x?y=1")
    assert origin.heard[0].line == "GET /x?y=1 HTTP/1.1"
    assert origin.heard[0].headers["host"] == f"127.0.0.1:{origin.port}"
    assert origin.heard[0].headers["accept-encoding"] == "gzip, deflate"


async def test_connections_are_used_again(serving: Serving, settings: Settings) -> None:
    async with serving(always(said(200, body=b"x"))) as origin, Fetcher(settings) as fetcher:
        for _ in range(5):
            await fetcher.fetch(Request(url=origin.url()))
    assert (origin.connections, len(origin.heard)) == (1, 5)
    assert fetcher.statistics()["reused"] == 4


async def test_a_kept_connection_that_the_server_has_closed_costs_no_attempt(
    settings: Settings,
) -> None:
    """The end comes after the request was sent on it."""

    async def script(heard: Heard, stream: trio.SocketStream) -> bool:
        first = origin.connections == 1
        if first and len(origin.heard) == 2:
            return False
        await stream.send_all(said(200, body=b"x"))
        return True

    async with scripted(script) as origin, Fetcher(settings) as fetcher:
        for _ in range(2):
            answer = await fetcher.fetch(Request(url=origin.url(), retries=0))
            assert answer.status == 200
    assert origin.connections == 2


async def test_a_post_is_never_sent_on_a_kept_connection(
    serving: Serving, settings: Settings
) -> None:
    async with serving(always(said(200))) as origin, Fetcher(settings) as fetcher:
        await fetcher.fetch(Request(url=origin.url()))
        await fetcher.fetch(Request(url=origin.url(), method="POST", body=b"data"))
    assert origin.connections == 2
    assert origin.heard[1].body == b"data"


async def test_conditional_requests_and_304(serving: Serving, settings: Settings) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        if heard.headers.get("if-none-match") == '"v1"':
            await stream.send_all(b'HTTP/1.1 304 X\r\nETag: "v1"\r\n\r\n')
        else:
            when = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
            await stream.send_all(said(200, 'ETag: "v1"', when, body=b"new"))

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        first = await fetcher.fetch(Request(url=origin.url()))
        again = Request(url=origin.url(), etag=first.etag, last_modified=first.last_modified)
        second = await fetcher.fetch(again)
    assert (first.etag, first.not_modified) == ('"v1"', False)
    assert (second.status, second.not_modified, second.body) == (304, True, b"")
    assert origin.heard[1].headers["if-modified-since"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert origin.connections == 1


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(b"text" * 5000, mtime=0)),
        ("x-gzip", gzip.compress(b"text" * 2500, mtime=0) + gzip.compress(b"text" * 2500, mtime=0)),
        ("deflate", zlib.compress(b"text" * 5000)),
        ("deflate", zlib.compress(b"text" * 5000, wbits=-15)),
        ("identity", b"text" * 5000),
        ("gzip", gzip.compress(b"text" * 5000, mtime=0) + b"\0\0garbage"),
    ],
)
async def test_codings_are_undone(
    serving: Serving, settings: Settings, coding: str, coded: bytes
) -> None:
    answer_ = said(200, f"Content-Encoding: {coding}", body=coded)
    async with serving(always(answer_)) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url()))
    assert answer.body == b"text" * 5000


async def test_chunks_and_bodies_until_the_end(serving: Serving, settings: Settings) -> None:
    chunked = (
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\nT: r\r\n\r\n"
    )
    async with serving(always(chunked)) as origin, Fetcher(settings) as fetcher:
        assert (await fetcher.fetch(Request(url=origin.url()))).body == b"body"
    old = b"HTTP/1.0 200 X\r\n\r\nold body"
    async with serving(always(old, end=True)) as origin, Fetcher(settings) as fetcher:
        assert (await fetcher.fetch(Request(url=origin.url()))).body == b"old body"


async def test_permanent_redirects_are_remembered(serving: Serving, settings: Settings) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        places = {"/a": (301, "/b"), "/b": (308, "c"), "/c": (302, "/d")}
        if heard.path in places:
            status, to = places[heard.path]
            await stream.send_all(said(status, f"Location: {to}", body=b"moved"))
        else:
            await stream.send_all(said(200, body=heard.path.encode()))

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        first = await fetcher.fetch(Request(url=origin.url("/a")))
        second = await fetcher.fetch(Request(url=origin.url("/a")))
    assert first.final_url == second.final_url == origin.url("/d")
    assert first.moved_to == second.moved_to == origin.url("/c")
    assert [hop.status for hop in first.hops] == [301, 308, 302]
    assert [heard.path for heard in origin.heard] == ["/a", "/b", "/c", "/d", "/c", "/d"]


async def test_a_remembered_place_that_is_gone_is_forgotten(
    serving: Serving, settings: Settings
) -> None:
    gone = False

    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        if heard.path == "/a" and not gone:
            await stream.send_all(said(301, "Location: /b"))
        else:
            await stream.send_all(said(410 if gone and heard.path == "/b" else 200))

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        await fetcher.fetch(Request(url=origin.url("/a")))
        gone = True
        statuses = [(await fetcher.fetch(Request(url=origin.url("/a")))).status for _ in range(2)]
    assert statuses == [410, 200]


async def test_what_a_redirect_does_to_the_method(serving: Serving, settings: Settings) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        if heard.path.startswith("/to/"):
            await stream.send_all(said(int(heard.path[4:]), "Location: /here"))
        else:
            await stream.send_all(said(200))

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        for status in (301, 302, 303, 307, 308):
            url = origin.url(f"/to/{status}")
            await fetcher.fetch(
                Request(url=url, method="POST", body=b"x", headers=(("content-type", "a/b"),))
            )
    arrived = [heard for heard in origin.heard if heard.path == "/here"]
    assert [h.line.split(" ")[0] for h in arrived] == ["GET", "GET", "GET", "POST", "POST"]
    assert [h.body for h in arrived] == [b"", b"", b"", b"x", b"x"]
    assert ["content-type" in h.headers for h in arrived] == [False, False, False, True, True]


async def test_busy_servers_are_asked_again_after_the_time_they_say(
    serving: Serving, settings: Settings
) -> None:
    answers = (said(503, "Retry-After: 1"), said(429), said(200, body=b"at last"))
    async with serving(always(*answers)) as origin, Fetcher(settings) as fetcher:
        begun = trio.current_time()
        answer = await fetcher.fetch(Request(url=origin.url()))
        assert trio.current_time() - begun >= 1.0
    assert (answer.status, answer.attempts) == (200, 3)


async def test_a_wait_beyond_the_deadline_is_the_answer(
    serving: Serving, settings: Settings
) -> None:
    script = always(said(503, "Retry-After: 3600"))
    async with serving(script) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url()))
        assert (answer.status, answer.retry_after_s, answer.attempts) == (503, 3600.0, 1)
        with pytest.raises(PlatformError) as caught:
            await fetcher.fetch(Request(url=origin.url("/other")))
    assert reason(caught.value) == "throttled"
    assert caught.value.data["retry_after_s"] > 3000
    assert len(origin.heard) == 1


async def test_a_post_is_not_repeated_but_when_called_idempotent(
    serving: Serving, settings: Settings
) -> None:
    async with serving(always(said(503), said(200))) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url(), method="POST"))
        assert (answer.status, len(origin.heard)) == (503, 1)
    async with serving(always(said(503), said(200))) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url(), method="POST", idempotent=True))
        assert (answer.status, len(origin.heard)) == (200, 2)


async def test_a_body_that_breaks_off_is_fetched_again(settings: Settings) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> bool:
        if len(origin.heard) == 1:
            await stream.send_all(said(200, "Content-Length: 100") + b"half")
            return False
        await stream.send_all(said(200, body=b"whole"))
        return True

    async with scripted(script) as origin, Fetcher(settings) as fetcher:
        answer = await fetcher.fetch(Request(url=origin.url()))
    assert (answer.body, answer.attempts) == (b"whole", 2)


async def test_a_host_is_asked_no_faster_than_allowed(serving: Serving) -> None:
    settings = Settings(private=INSIDE, interval_s=0.05, per_host=2)
    at_once = most = 0

    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(0.12)
        at_once -= 1
        await stream.send_all(said(200))

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(fetcher.fetch, Request(url=origin.url()))
        assert trio.current_time() - begun >= 0.25
    assert most <= 2


async def test_a_stream_is_read_as_it_comes(serving: Serving, settings: Settings) -> None:
    go = trio.Event()

    async def script(heard: Heard, stream: trio.SocketStream) -> bool:
        await stream.send_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go.wait()
        await stream.send_all(b"3\r\ntwo\r\n")
        await trio.sleep_forever()
        return False

    async with serving(script) as origin, Fetcher(settings) as fetcher:
        pieces = []
        async with fetcher.open(Request(url=origin.url(), body_max=0)) as stream:
            assert stream.head.status == 200
            async for piece in stream:
                pieces.append(piece)
                go.set()
                if len(pieces) == 2:
                    break
    assert pieces == [b"one", b"two"]


def _credential(tmp_path: Path, *hosts: str) -> Credential:
    file = tmp_path / "secret"
    file.write_text("s3cret-value\n")
    return Credential("api", str(file), hosts, prefix="Bearer ", plain=True)


async def test_a_credential_goes_to_its_hosts_only(
    serving: Serving, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(always(said(200))) as other:
        to_other = said(302, f"Location: {other.url('/stolen', 'localhost')}")
        async with serving(always(said(200), to_other)) as origin:
            credential = _credential(tmp_path, f"127.0.0.1:{origin.port}")
            with_it = replace(settings, credentials={"api": credential}, private_redirects=True)
            async with Fetcher(with_it) as fetcher:
                ask = Request(url=origin.url(), credential="api", headers=(("cookie", "c=1"),))
                await fetcher.fetch(ask)
                answer = await fetcher.fetch(ask)
                with pytest.raises(PlatformError) as caught:
                    await fetcher.fetch(Request(url=other.url(), credential="api"))
    assert origin.heard[0].headers["authorization"] == "Bearer s3cret-value"
    assert answer.final_url.endswith("/stolen")
    (stolen,) = other.heard
    assert not {"authorization", "cookie"} & set(stolen.headers)
    assert reason(caught.value) == "credential"
    told = f"{caught.value} {caught.value.data} {credential!r} {answer!r} {caplog.text}"
    assert "s3cret" not in told


async def test_a_credential_s_file_is_read_anew(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    async with serving(always(said(200))) as origin:
        credential = _credential(tmp_path, f"127.0.0.1:{origin.port}")
        async with Fetcher(replace(settings, credentials={"api": credential})) as fetcher:
            ask = Request(url=origin.url(), credential="api")
            await fetcher.fetch(ask)
            (tmp_path / "secret").write_text("changed")
            await fetcher.fetch(ask)
            (tmp_path / "secret").write_text("two\nlines: injected")
            with pytest.raises(PlatformError) as caught:
                await fetcher.fetch(ask)
    assert [h.headers["authorization"] for h in origin.heard] == [
        "Bearer s3cret-value",
        "Bearer changed",
    ]
    assert "injected" not in str(caught.value)


async def test_tls_is_checked(settings: Settings, tmp_path: Path) -> None:
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subject = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:right.test"]
    await trio.run_process(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2", *subject),
        ],
        stderr=subprocess.DEVNULL,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def one(plain: trio.SocketStream) -> None:
        try:
            stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
            await stream.receive_some(65_536)
            await stream.send_all(said(200, body=b"secret"))
            await trio.sleep_forever()
        except (trio.BrokenResourceError, OSError):
            await plain.aclose()

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, one, [listener])
        outcomes = []
        for authorities, host in (
            (str(certificate), "right.test"),
            (str(certificate), "wrong.test"),
            ("", "right.test"),
        ):
            fetcher = Fetcher(replace(settings, authorities=authorities), resolver=resolver)
            try:
                answer = await fetcher.fetch(Request(url=f"https://{host}:{port}/", retries=0))
                outcomes.append(answer.body.decode())
            except PlatformError as exc:
                outcomes.append(reason(exc))
            fetcher.close()
        nursery.cancel_scope.cancel()
    assert outcomes == ["secret", "tls", "tls"]
