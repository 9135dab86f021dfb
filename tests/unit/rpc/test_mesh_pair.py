"""The network in memory behaves as TCP does, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.rpc.link import Link
from paas.rpc.mesh_limits import CONNECT_S, SILENCE_S
from paas.testing.mesh_pair import MemoryLink, MeshWorld


class Wire:
    """Node b accepts whatever a dials; both ends."""

    def __init__(self, world: MeshWorld, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.accepted: list[Link] = []

    async def serve(self) -> None:
        async def accepted(node: str, channel: str, link: Link) -> None:
            self.accepted.append(link)
            await trio.sleep_forever()

        await self.nursery.start(self.world.network("b").serve, accepted)

    async def connect(self) -> tuple[MemoryLink, Link]:
        link = await self.world.network("a").dial("b", "b:7400", "raft", self.nursery)
        await trio.testing.wait_all_tasks_blocked()
        return link, self.accepted[-1]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with trio.open_nursery() as nursery:
        made = Wire(MeshWorld(delay_s=0.1), nursery)
        await made.serve()
        yield made
        nursery.cancel_scope.cancel()


async def test_bytes_arrive_in_order_after_their_delay(
    wire: Wire, autojump_clock: MockClock
) -> None:
    begun = trio.current_time()
    a, b = await wire.connect()
    assert trio.current_time() - begun == pytest.approx(0.2)
    a.write(b"one ")
    wire.world.set_delay("a", "b", 0.01)  # quicker, and still behind
    a.write(b"two")
    assert a.queued_bytes == 7
    begun = trio.current_time()
    assert await b.read() == b"one two"
    assert trio.current_time() - begun == pytest.approx(0.1)
    a.write(b"three")
    begun = trio.current_time()
    assert await b.read() == b"three"
    assert trio.current_time() - begun == pytest.approx(0.01)


async def test_the_end_comes_after_what_was_written(wire: Wire, autojump_clock: MockClock) -> None:
    a, b = await wire.connect()
    a.write(b"bye")
    a.close()
    a.write(b"swallowed")
    assert await b.read() == b"bye"
    assert await b.read() == b""
    assert await a.read() == b""


async def test_what_was_sent_during_a_short_cut_arrives_after_it(
    wire: Wire, autojump_clock: MockClock
) -> None:
    a, b = await wire.connect()
    wire.world.cut(["a"], ["b"])
    a.write(b"late")
    with trio.move_on_after(SILENCE_S / 2):
        await b.read()
        pytest.fail("it passed a cut")
    wire.world.heal()
    assert await b.read() == b"late"


async def test_a_long_cut_breaks_both_ends(wire: Wire, autojump_clock: MockClock) -> None:
    a, b = await wire.connect()
    wire.world.cut(["a"], ["b"], one_way=True)
    b.write(b"this direction is open")
    assert await a.read() == b"this direction is open"
    begun = trio.current_time()
    for link in (a, b):
        with pytest.raises(OSError, match="timed out"):
            await link.read()
    assert trio.current_time() - begun <= SILENCE_S


async def test_dialling_across_a_cut_ends_without_an_answer(
    wire: Wire, autojump_clock: MockClock
) -> None:
    wire.world.cut(["b"], ["a"], one_way=True)
    begun = trio.current_time()
    with pytest.raises(PlatformError, match="no answer"):
        await wire.connect()
    assert trio.current_time() - begun == pytest.approx(CONNECT_S)
    with pytest.raises(PlatformError, match="Connection refused"):
        await wire.world.network("a").dial("c", "c", "raft", wire.nursery)


async def test_breaking_loses_what_is_on_its_way(wire: Wire, autojump_clock: MockClock) -> None:
    a, b = await wire.connect()
    a.write(b"lost")
    wire.world.break_connections("b", "a")
    for link in (a, b):
        with pytest.raises(OSError, match="reset"):
            await link.read()
        link.close()
    assert wire.world.links == []
