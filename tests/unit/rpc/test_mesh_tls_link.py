"""A link over TLS on a pair of sockets: everything arrives whole, or the link is over."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from paas.identity.tls import client_context, server_context
from paas.rpc.link import CHUNK_BYTES, corked
from paas.rpc.tls_link import TlsLink
from paas.testing.mesh_hubs import Authority

Links = tuple[TlsLink, TlsLink]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority("c1")
    return server_context(authority.identity("n1")), client_context(authority.identity("n2"))


@pytest.fixture
async def links(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Links]:
    async with trio.open_nursery() as nursery:
        one, other = socket.socketpair()
        pair = (
            TlsLink(one, contexts[0], nursery, server_side=True, outbox_bytes_max=4 << 20),
            TlsLink(other, contexts[1], nursery, server_side=False),
        )
        with trio.fail_after(20):
            async with trio.open_nursery() as both:
                for link in pair:
                    both.start_soon(link.handshake)
        yield pair
        for link in pair:
            link.close()


async def read_exactly(link: TlsLink, count: int) -> bytes:
    got = bytearray()
    with trio.fail_after(30):
        while len(got) < count:
            data = await link.read()
            assert data, "the link ended"
            got += data
    return bytes(got)


@pytest.mark.parametrize("size", [1, 16_384, 16_385, CHUNK_BYTES + 1, 3 << 20])
async def test_what_is_written_arrives(links: Links, size: int) -> None:
    data = os.urandom(size)
    for writer, reader in (links, links[::-1]):
        writer.write(data)
        assert await read_exactly(reader, size) == data
        assert writer.queued_bytes == 0


async def test_both_directions_at_once_with_more_than_the_sockets_hold(links: Links) -> None:
    data = os.urandom(3 << 20)
    for link in links:
        link.write(data)
        assert link.queued_bytes > 1 << 20
    got: list[bytes] = []

    async def reading(link: TlsLink) -> None:
        got.append(await read_exactly(link, len(data)))

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(reading, link)
    assert got == [data, data]


async def test_many_small_writes_under_a_cork_leave_in_one_record(links: Links) -> None:
    with corked():
        for number in range(100):
            links[0].write(b"%02d" % number)
    with trio.fail_after(20):
        assert await links[1].read() == b"".join(b"%02d" % n for n in range(100))


async def test_what_is_written_in_one_turn_leaves_in_order_in_two_records(links: Links) -> None:
    await trio.lowlevel.checkpoint()
    for number in range(100):
        links[0].write(b"%02d" % number)
    assert links[0].queued_bytes == 198  # the first has left already
    expected = b"".join(b"%02d" % number for number in range(100))
    assert await read_exactly(links[1], 200) == expected
    assert links[0].queued_bytes == 0
    links[0].write(b"next turn")
    assert links[0].queued_bytes == 0


async def test_what_was_gathered_leaves_before_the_link_is_closed(links: Links) -> None:
    for word in (b"famous ", b"last ", b"words"):
        links[0].write(word)
    links[0].close()
    assert await read_exactly(links[1], 17) == b"famous last words"


async def test_a_full_socket_at_the_end_of_a_turn_is_drained_without_further_events(
    links: Links,
) -> None:
    """The loop may have gone to sleep; nothing but the drain itself would wake it."""
    data = os.urandom(900_000)
    links[0].write(b"!")
    links[0].write(data)
    assert links[0].queued_bytes == len(data)
    with trio.fail_after(30):
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < links[0].queued_bytes < len(data)
        assert await read_exactly(links[1], len(data) + 1) == b"!" + data


async def test_a_link_that_breaks_at_the_end_of_a_turn_wakes_its_reader(links: Links) -> None:
    results: list[bytes] = []

    async def reading() -> None:
        with suppress(OSError):
            results.append(await links[0].read())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reading)
        await trio.testing.wait_all_tasks_blocked()
        links[0].write(b"x")
        links[0].write(b"y")
        links[0]._socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(20):
            while not links[0].closed:  # noqa: ASYNC110 -- no event
                await trio.sleep(0.01)
    assert links[0].reason == "Broken pipe"


async def test_what_came_with_the_handshake_is_read(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """The dialling side may speak as soon as its own half is done."""
    async with trio.open_nursery() as nursery:
        one, other = socket.socketpair()
        server = TlsLink(one, contexts[0], nursery, server_side=True)
        client = TlsLink(other, contexts[1], nursery, server_side=False)

        async def dial() -> None:
            await client.handshake()
            client.write(b"at once")

        nursery.start_soon(dial)
        with trio.fail_after(20):
            await server.handshake()
            await trio.sleep(0.05)
            assert await server.read() == b"at once"
        server.close()
        client.close()


async def test_an_outbox_above_its_limit_closes_the_link(links: Links) -> None:
    links[0].write(bytes(3 << 20))
    assert not links[0].closed
    links[0].write(bytes(3 << 20))
    assert links[0].closed
    assert links[0].overflowed
    assert links[0].queued_bytes == 0
    links[0].write(b"swallowed")


async def test_the_end_of_the_other_side_is_read_after_its_last_words(links: Links) -> None:
    links[0].write(b"last words")
    links[0].close()
    with trio.fail_after(20):
        assert await links[1].read() == b"last words"
        assert await links[1].read() == b""


async def test_closing_wakes_our_own_reader(links: Links) -> None:
    async with trio.open_nursery() as nursery:

        async def closing() -> None:
            await trio.testing.wait_all_tasks_blocked()
            links[0].close()

        nursery.start_soon(closing)
        with trio.fail_after(20):
            assert await links[0].read() == b""
    assert await links[0].read() == b""


async def test_a_forged_record_ends_the_link_with_a_reason(links: Links) -> None:
    links[1]._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with trio.fail_after(20), pytest.raises(ssl.SSLError):
        await links[0].read()
    assert links[0].closed
    assert "bad record mac" in links[0].reason


async def test_writing_to_one_who_is_gone_closes_the_link(links: Links) -> None:
    links[1].close()
    links[0].write(b"x")
    links[0].write(b"said later in the same turn")
    with trio.fail_after(20):
        while not links[0].closed:
            await trio.lowlevel.checkpoint()
            links[0].write(b"x")
    assert links[0].reason


async def test_a_handshake_with_a_stranger_fails_on_both_sides(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    stranger = client_context(Authority("c1").identity("n2"))
    failed: list[Exception] = []
    async with trio.open_nursery() as nursery:
        one, other = socket.socketpair()
        server = TlsLink(one, contexts[0], nursery, server_side=True)
        client = TlsLink(other, stranger, nursery, server_side=False)

        async def shake(link: TlsLink) -> None:
            try:
                await link.handshake()
                await link.read()
            except OSError as exc:
                failed.append(exc)
            link.close()

        with trio.fail_after(20):
            async with trio.open_nursery() as both:
                both.start_soon(shake, server)
                both.start_soon(shake, client)
    assert len(failed) == 2
