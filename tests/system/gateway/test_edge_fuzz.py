"""Random changes to requests, frames of HTTP/2 and of WebSockets, between real sockets.

What must hold whatever is sent: the gateway serves the next browser, a member reads requests of the
gateway's making only (each with an identifier of its own), and nothing is left behind.
"""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import pytest
import trio

from paas.gateway.messages import Route
from paas.testing.edge_world import TestMember, World, gateway, make_certificate, until

LIMITS = {"refused_linger_s": 0.05, "first_s": 0.5, "head_s": 0.3, "body_s": 0.3, "idle_s": 0.3}
SITE = Route(name="site", group="web", websocket=True)
SEEDS = [
    b"GET /a?b=c HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n",
    b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    b"GET /q HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
]
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"0", b"chunked", b"content-length: 3\r\n"]
PIECES += [b"transfer-encoding: chunked\r\n", b"host: y\r\n", b"\xff", b"/../", b"%2e", b"\t"]


def changed(draw: random.Random, seed: bytes) -> bytes:
    """The seed with a few changes."""
    data = bytearray(seed)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                data[at:at] = draw.choice(PIECES)
            case 1:
                del data[at : at + draw.randint(1, 8)]
            case 2:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case _:
                data[at:at] = data[draw.randrange(len(data) + 1) :][: draw.randint(1, 30)]
    return bytes(data) or b"\r\n"


async def throw(world: World, pieces: list[bytes]) -> None:
    """Send it, and read what comes until the gateway has had enough."""
    browser = await world.connect()
    try:
        for piece in pieces:
            await browser.send(piece)
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.02):
            while await browser.receive():
                pass
    except trio.BrokenResourceError:
        pass
    finally:
        await browser.close()


async def judge(world: World) -> None:
    """Nothing is left, and a clean request is answered by its own answer."""
    await until(lambda: not world.edge.figures()["open_connections"])
    assert (await world.get("/clean")).body == b"m GET /clean"
    member = world.members[0]
    known = [seen.header("x-request-id") for seen in member.seen]
    assert len(known) == len(set(known))
    assert all(name and len(name) == 24 for name in known)
    assert {f for f in member.faults if "incomplete" not in f and "closed" not in f} == set()
    assert world.backends.members(SITE)[0].in_flight == 0
    assert world.edge.figures()["bytes_held"] == 0


@pytest.mark.parametrize("number", range(3))
async def test_changed_requests(number: int) -> None:
    draw = random.Random(number)
    async with gateway(members=[TestMember(name="m")], routes=[SITE], limits=LIMITS) as world:
        async with trio.open_nursery() as nursery:
            for _ in range(150):
                data = changed(draw, draw.choice(SEEDS))
                cut = draw.randrange(len(data) + 1)
                pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
                nursery.start_soon(throw, world, pieces)
                await trio.sleep(0.002)
        await judge(world)


@pytest.mark.parametrize("number", range(2))
async def test_random_frames_of_http_2(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    make_certificate(tmp_path, "x", "x")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])

    async def one(world: World) -> None:
        plain = await trio.open_tcp_stream("127.0.0.1", world.edge.addresses[1][1])
        stream = trio.SSLStream(plain, context, https_compatible=True)
        frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        for _ in range(draw.randint(1, 12)):
            payload = draw.randbytes(draw.choice([0, 1, 4, 5, 8, 20]))
            if draw.random() < 0.5:
                payload = b"\x82\x87\x84\x41\x01x"  # GET, https, /, authority x
            head = len(payload).to_bytes(3, "big") + bytes([draw.randrange(11), draw.randrange(64)])
            frames += head + draw.choice([0, 1, 1, 3, 5, 2]).to_bytes(4, "big") + payload
        try:
            await stream.send_all(frames)
            with trio.move_on_after(0.03):
                while await stream.receive_some(65_536):
                    pass
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with gateway(
        members=[TestMember(name="m")],
        routes=[SITE],
        tls=["127.0.0.1:0"],
        certificates=str(tmp_path),
        limits=LIMITS,
    ) as world:
        async with trio.open_nursery() as nursery:
            for _ in range(80):
                nursery.start_soon(one, world)
                await trio.sleep(0.003)
        await judge(world)


async def test_random_frames_of_websockets() -> None:
    draw = random.Random(5)
    upgrade = (
        b"GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        request = await stream.receive_some(65_536)
        if b"/ws" not in request:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nm GET /clean")
            return
        answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade"
        await stream.send_all(answer + b"\r\n\r\n")
        with trio.move_on_after(0.05):
            await stream.send_all(draw.randbytes(draw.randint(0, 30)))
            while await stream.receive_some(65_536):
                pass

    async with gateway(members=[TestMember(talk=talk)], routes=[SITE], limits=LIMITS) as world:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                frames = [draw.randbytes(draw.randint(1, 30)) for _ in range(3)]
                nursery.start_soon(throw, world, [upgrade, *frames])
                await trio.sleep(0.003)
        await judge(world)
        assert world.edge.figures()["open_websockets"] == 0
