"""Members that are no more: what waits for them ends at once, whether or not a connection says so.

A container that is killed may take its link along before its connections could end.  Then nothing
ever comes from there: neither an end nor a reset.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from paas.gateway.backends import Member
from paas.gateway.messages import Route
from paas.gateway.websocket import handshake
from paas.real.kernel_namespaces import NEW_NETWORK, enter
from paas.testing.edge_world import Browser, TestMember, World, gateway, until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    f"sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
)
SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    f"sec-websocket-accept: {handshake.accept(KEY)}\r\n\r\n"
)
EVENTS = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROUTE = Route(name="site", group="web", websocket=True, timeout_s=60.0, body_max=1 << 30)
NUMBERS = itertools.count()


async def silent(member: TestMember, stream: trio.SocketStream) -> None:
    """Takes a WebSocket, begins a stream of events, or works; then says nothing for ever."""
    request = await head_of(stream)
    if b"upgrade" in request:
        await stream.send_all(SWITCHED.encode())
    elif request.startswith(b"GET /events"):
        await stream.send_all(EVENTS.encode() + b"7\r\ndata: 1\r\n")
    member.faults.append("works")
    await trio.sleep_forever()


async def head_of(stream: trio.SocketStream) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        data = await stream.receive_some(65_536)
        if not data:
            raise trio.ClosedResourceError
        request += data
    return request


def ends(world: World, name: str) -> None:
    """The platform says that this member has ended."""
    gone = member_of(world, name)
    gone.state, gone.ended = "gone", True


def member_of(world: World, name: str) -> Member:
    return next(m for m in world.backends.members(ROUTE) if m.component == name)


async def switched(world: World) -> Browser:
    """A WebSocket to the member."""
    browser = await world.connect()
    await browser.send(UPGRADE)
    assert (await browser.receive()).startswith(b"HTTP/1.1 101 ")
    return browser


async def closed(browser: Browser) -> int:
    """The code that the WebSocket is closed with."""
    data = await browser.everything()
    assert data[:1] == b"\x88", data
    return int.from_bytes(data[2:4], "big")


async def test_websockets_of_a_member_that_has_ended_are_closed() -> None:
    async with gateway(routes=[ROUTE], members=[TestMember(name="m", talk=silent)]) as world:
        browsers = [await switched(world) for _ in range(3)]
        ends(world, "m")
        assert [await closed(browser) for browser in browsers] == [1011] * 3
        await until(lambda: not member_of(world, "m").in_flight)


async def test_websockets_of_a_member_that_ends_while_it_leaves_are_closed_as_those_that_left() -> (
    None
):
    async with gateway(routes=[ROUTE], members=[TestMember(name="m", talk=silent)]) as world:
        browser = await switched(world)
        leaver = member_of(world, "m")
        leaver.state, leaver.drain_until = "leaving", trio.current_time() + 60
        ends(world, "m")
        assert await closed(browser) == 1001


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_to_a_member_that_has_ended_goes_to_another_one_where_that_is_safe(
    method: str,
) -> None:
    members = [TestMember(name="m", talk=silent), TestMember(name="other", weight=0)]
    async with gateway(routes=[ROUTE], members=members) as world:
        browser = await world.connect()
        await browser.send(f"{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        await until(lambda: members[0].faults)
        member_of(world, "other").weight = 100
        ends(world, "m")
        answer = await browser.answer(method)
        if method == "GET":
            assert (answer.status, answer.header("x-member")) == (200, "other")
        else:
            assert answer.status == 502
            assert b"the member ended while it worked" in answer.body
            assert b"not safe to repeat" in answer.body


async def test_a_body_under_way_to_a_member_that_has_ended_is_502() -> None:
    member = TestMember(name="m", talk=silent)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        browser = await world.connect()
        head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await browser.send(head + "5\r\nhello\r\n")
        await until(lambda: member.faults)
        ends(world, "m")
        answer = await browser.answer("POST")
        assert answer.status == 502
        assert b"the member ended while it worked" in answer.body


async def test_a_stream_of_a_member_that_has_ended_is_seen_to_break_off() -> None:
    async with gateway(routes=[ROUTE], members=[TestMember(name="m", talk=silent)]) as world:
        browser = await world.connect()
        await browser.send("GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"data: 1" in await browser.receive()
        ends(world, "m")
        assert await browser.everything() == b""


async def test_what_a_member_had_said_before_it_ended_is_passed_on() -> None:
    size = 400_000

    async def says_all(member: TestMember, stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        await stream.send_all(b"x" * size)
        member.faults.append("said")
        await trio.sleep_forever()

    member = TestMember(name="m", talk=says_all)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        browser = await world.connect()
        browser.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: member.faults)
        ends(world, "m")
        await trio.sleep(0.6)
        assert (await browser.answer()).body == b"x" * size


@pytest.mark.parametrize("said", [False, True], ids=["unsaid", "said"])
async def test_an_answer_without_a_length_ends_where_the_member_says_so(said: bool) -> None:
    async def says(member: TestMember, stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if said:
            await stream.send_eof()
        await trio.sleep_forever()

    async with gateway(routes=[ROUTE], members=[TestMember(name="m", talk=says)]) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await browser.receive()
        ends(world, "m")
        answer += await browser.everything()
        assert b"hello" in answer
        assert answer.endswith(b"0\r\n\r\n") is said


async def test_one_that_is_gone_but_lives_answers_what_it_was_sent() -> None:
    go_on = trio.Event()

    async def waits(member: TestMember, stream: trio.SocketStream) -> None:
        await head_of(stream)
        member.faults.append("works")
        await go_on.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    member = TestMember(name="m", talk=waits)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        browser = await world.connect()
        await browser.send("POST / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: member.faults)
        member_of(world, "m").state = "gone"
        await trio.sleep(0.6)
        go_on.set()
        assert (await browser.answer("POST")).body == b"ok"


async def test_a_member_that_breaks_off_while_it_is_spoken_to_is_told_of_with_a_code() -> None:
    async def resets(member: TestMember, stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(SWITCHED.encode())
        await stream.receive_some(1)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with gateway(routes=[ROUTE], members=[TestMember(talk=resets)]) as world:
        for _ in range(10):
            browser = await switched(world)
            with suppress(trio.BrokenResourceError):
                for _ in range(50):
                    await browser.send(b"\x82\xfe\x10\x00mask" + b"x" * 4096)
                    await trio.lowlevel.checkpoint()
            assert await closed(browser) == 1011


async def test_a_refused_socket_is_no_connection_to_wait_on() -> None:
    """Who does not look at the status would wait on it, and hear nothing, for `idle_s`."""
    async with gateway(routes=[ROUTE]) as world:
        browser = await world.connect()
        await browser.send(UPGRADE)
        answer = await browser.everything()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nconnection: close\r\n" in answer


# -- a link that is gone ---------------------------------------------------------------------------


class Far:
    """A place behind a link of its own, whose end nobody hears of."""

    def __init__(self, number: int) -> None:
        self.link = f"pg{os.getpid() % 100_000:x}{number}"
        self.here, self.there = f"198.51.{number}.1", f"198.51.{number}.2"
        sleeper = ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"]
        self.process = subprocess.Popen(sleeper, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        inside = f"nsenter -t {self.process.pid} -n"
        for command in (
            f"ip link add {self.link} type veth peer name far netns {self.process.pid}",
            f"ip address add {self.here}/30 dev {self.link}",
            f"ip link set {self.link} up",
            f"{inside} ip address add {self.there}/30 dev far",
            f"{inside} ip link set far up",
        ):
            subprocess.run(command.split(), check=True)

    def listen(self) -> socket.socket:
        """A listening socket there, which this process holds."""
        made: list[socket.socket] = []

        def make() -> None:
            descriptor = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
            try:
                enter(descriptor, NEW_NETWORK)  # this thread only, which ends
                made.append(socket.create_server((self.there, 0)))
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def vanish(self) -> None:
        subprocess.run(["ip", "link", "delete", self.link], check=True)

    def end(self) -> None:
        subprocess.run(["ip", "link", "delete", self.link], check=False, capture_output=True)
        self.process.kill()
        self.process.wait()


class FarMember(TestMember):
    """A member on the other side of the link."""

    __test__ = False
    far: Far

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        sock = self.far.listen()
        sock.setblocking(False)
        self.host, self.port = sock.getsockname()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far(next(NUMBERS) % 250)
    yield made
    made.end()


async def far_member(far: Far) -> FarMember:
    member = FarMember(name="m", talk=silent)
    member.far = far
    return member


@pytest.mark.system
@pytest.mark.parametrize("talks", [False, True], ids=["an idle one", "one that is spoken to"])
async def test_a_link_that_vanishes_ends_the_websockets_over_it(far: Far, talks: bool) -> None:
    member = await far_member(far)
    limits = {"unheard_s": 2.0}
    async with gateway(routes=[ROUTE], members=[member], limits=limits) as world:
        browser = await switched(world)
        await trio.to_thread.run_sync(far.vanish)
        if talks:
            await browser.send(b"\x81\x85maskhello")
        assert await closed(browser) == 1011


@pytest.mark.system
async def test_a_link_that_vanishes_ends_streams_and_requests_over_it(far: Far) -> None:
    member = await far_member(far)
    limits = {"unheard_s": 2.0}
    async with gateway(routes=[ROUTE], members=[member], limits=limits) as world:
        stream, request = await world.connect(), await world.connect()
        await stream.send("GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"data: 1" in await stream.receive()
        await request.send("POST / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: len(member.faults) == 2)
        await trio.to_thread.run_sync(far.vanish)
        assert await stream.everything() == b""
        answer = await request.answer("POST")
        assert answer.status == 502
        assert b"Connection timed out" in answer.body or b"No route" in answer.body


@pytest.mark.system
async def test_on_a_link_that_vanished_requests_end_when_the_platform_says_so(far: Far) -> None:
    member = await far_member(far)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        sock, request = await switched(world), await world.connect()
        await request.send("POST / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: len(member.faults) == 2)
        await trio.to_thread.run_sync(far.vanish)
        ends(world, "m")
        assert (await request.answer("POST")).status == 502
        assert await closed(sock) == 1011
