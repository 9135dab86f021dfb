"""Links: gathering, closing, slow readers; on real sockets and on streams."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from paas.rpc import link as module
from paas.rpc.link import SocketLink, StreamLink, corked


@dataclass
class Ends:
    """A link, and the raw socket at its other end."""

    link: SocketLink | StreamLink
    far: socket.socket

    async def read_far(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            await trio.lowlevel.wait_readable(self.far)
            piece = self.far.recv(1 << 20)
            if not piece:
                break
            data += piece
        return data


MakeEnds = Callable[[str], Ends]


@pytest.fixture
async def make() -> AsyncIterator[MakeEnds]:
    """Ends with small kernel buffers, so that a slow reader is noticed soon."""
    fars: list[socket.socket] = []
    async with trio.open_nursery() as nursery:

        def made(kind: str) -> Ends:
            near, far = socket.socketpair()
            fars.append(far)
            far.setblocking(False)
            for sock in (near, far):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            if kind == "socket":
                return Ends(SocketLink(near, nursery), far)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
            return Ends(StreamLink(stream, nursery), far)

        yield made
        nursery.cancel_scope.cancel()
    for far in fars:
        far.close()


KINDS = pytest.mark.parametrize("kind", ["socket", "stream"])


@KINDS
async def test_bytes_go_both_ways(make: MakeEnds, kind: str) -> None:
    ends = make(kind)
    ends.link.write(b"out")
    assert await ends.read_far(3) == b"out"
    ends.far.send(b"in")
    assert await ends.link.read() == b"in"
    ends.far.shutdown(socket.SHUT_WR)
    assert await ends.link.read() == b""


@KINDS
async def test_a_large_write_leaves_in_pieces_and_in_order(make: MakeEnds, kind: str) -> None:
    ends = make(kind)
    parts = [bytes([n]) * (97_003 if n % 3 else 11) for n in range(60)]
    for part in parts:
        ends.link.write(part)
    assert ends.link.queued_bytes > 0
    assert await ends.read_far(sum(map(len, parts))) == b"".join(parts)
    await trio.testing.wait_all_tasks_blocked()
    assert ends.link.queued_bytes == 0
    ends.link.write(b"more")
    assert await ends.read_far(4) == b"more"


@KINDS
async def test_a_cork_gathers_until_its_end(make: MakeEnds, kind: str) -> None:
    ends = make(kind)
    with corked():
        with corked():
            ends.link.write(b"a")
        ends.link.write(b"b")
        with pytest.raises(BlockingIOError):
            ends.far.recv(10)
        assert ends.link.queued_bytes == 2
    assert await ends.read_far(2) == b"ab"


async def test_corked_bytes_leave_in_one_piece(make: MakeEnds) -> None:
    ends, sends = make("socket"), 0
    inner = ends.link._socket  # type: ignore[union-attr]

    class Counting:
        def send(self, data: bytes) -> int:
            nonlocal sends
            sends += 1
            return inner.send(data)

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    ends.link._socket = Counting()  # type: ignore[assignment, union-attr]
    with corked():
        for _ in range(100):
            ends.link.write(b"x" * 10)
    assert sends == 1
    ends.link._socket = inner  # type: ignore[union-attr]


async def test_a_cork_is_lifted_when_its_block_fails(make: MakeEnds) -> None:
    ends = make("socket")

    def fails() -> None:
        with corked():
            ends.link.write(b"kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert await ends.read_far(4) == b"kept"
    ends.link.write(b"now")
    assert ends.link.queued_bytes == 0


async def test_a_link_that_fails_at_the_end_of_a_cork_takes_no_other_with_it(
    make: MakeEnds,
) -> None:
    broken, good = make("socket"), make("socket")
    broken.far.close()
    with corked():
        broken.link.write(b"lost")
        good.link.write(b"kept")
    assert broken.link.closed
    assert await good.read_far(4) == b"kept"


async def test_a_link_whose_nursery_has_ended_closes_and_nothing_is_raised() -> None:
    near, far = socket.socketpair()
    async with trio.open_nursery() as nursery:
        link = SocketLink(near, nursery)
    with corked():
        link.write(b"x" * 1_000_000)
    assert link.closed
    far.close()


@KINDS
async def test_one_who_never_reads_is_cut_off(
    make: MakeEnds, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES_MAX", 100_000)
    ends = make(kind)
    for _ in range(40):
        ends.link.write(b"x" * 10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert ends.link.queued_bytes <= 100_000
    assert ends.link.closed
    assert ends.link.overflowed
    assert ends.link.queued_bytes == 0
    ends.link.write(b"swallowed")
    assert ends.link.queued_bytes == 0
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(5):
        while await ends.read_far(1):  # what the kernel had taken, then the end
            pass


async def test_one_who_reads_is_not_cut_off_for_what_was_gathered(
    make: MakeEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst larger than the outbox, in one cork, to one who takes everything at once."""
    monkeypatch.setattr(module, "OUTBOX_BYTES_MAX", 50_000)
    monkeypatch.setattr(module, "CORK_BYTES_MAX", 10_000)
    ends = make("socket")
    taken = 0

    class Greedy:
        def send(self, data: bytes) -> int:
            nonlocal taken
            taken += len(data)
            return len(data)

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    inner = ends.link._socket  # type: ignore[union-attr]
    ends.link._socket = Greedy()  # type: ignore[assignment, union-attr]
    with corked():
        for _ in range(100):
            ends.link.write(b"x" * 1_000)
            assert ends.link.queued_bytes <= 10_000
    ends.link._socket = inner  # type: ignore[union-attr]
    assert taken == 100_000
    assert not ends.link.overflowed


async def test_a_long_cork_hands_on_what_has_gathered_before_its_end(make: MakeEnds) -> None:
    """Who reads can begin while the rest is digested."""
    ends = make("socket")
    piece = b"x" * 100
    with corked():
        ends.link.write(piece)
        with pytest.raises(BlockingIOError):
            ends.far.recv(1)
        while ends.link.queued_bytes:
            ends.link.write(piece)
        assert ends.far.recv(1 << 20)


@KINDS
async def test_closing_wakes_the_reader_and_happens_once(make: MakeEnds, kind: str) -> None:
    ends, ended = make(kind), trio.Event()

    async def read() -> None:
        with contextlib.suppress(OSError, trio.ClosedResourceError):
            assert await ends.link.read() == b""
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        ends.link.close()
        ends.link.close()
        with trio.fail_after(5):
            await ended.wait()
    assert await ends.read_far(1) == b""


async def test_reading_from_a_closed_socket_link_is_the_end(make: MakeEnds) -> None:
    ends = make("socket")
    ends.link.close()
    assert await ends.link.read() == b""


async def test_one_who_always_has_more_to_say_lets_the_others_speak(make: MakeEnds) -> None:
    ends, turns = make("socket"), 0
    ends.far.setblocking(False)

    async def flood() -> None:
        for _ in range(50):
            try:
                while True:
                    ends.far.send(b"x" * 1_000)
            except BlockingIOError:
                await ends.link.read()

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await flood()
        nursery.cancel_scope.cancel()
    assert turns >= 45


async def test_the_kernel_vouches_for_the_peer(make: MakeEnds) -> None:
    ends = make("socket")
    assert isinstance(ends.link, SocketLink)
    mine = ends.link.credentials()
    assert (mine.pid, mine.uid, mine.gid) == (os.getpid(), os.getuid(), os.getgid())


async def test_a_stream_that_breaks_while_sending_closes_the_link(make: MakeEnds) -> None:
    ends = make("stream")
    ends.link.write(b"x" * 1_000_000)
    await trio.testing.wait_all_tasks_blocked()
    ends.far.close()
    await trio.testing.wait_all_tasks_blocked()
    assert ends.link.closed
    assert ends.link.queued_bytes == 0
