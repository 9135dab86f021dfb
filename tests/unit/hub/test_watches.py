"""Watches: numbers on a connection, topics, limits, and what stays of a peer that has gone."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from paas.base import limits
from paas.base.errors import PlatformError
from paas.harness.messages import EVENT, Event
from paas.hub.watches import Watches
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import decode


class Listener:
    """A peer that notes the events it is sent."""

    def __init__(self, maker: Pairs) -> None:
        self.events: list[Event] = []
        self.ours, self.theirs = maker.join(self._hear, self._hear)

    def _hear(self, _peer: Peer, request: Request) -> None:
        assert request.method == EVENT.name
        assert request.notification
        self.events.append(decode(request.params, Event))

    @property
    def heard(self) -> list[tuple[int, int]]:
        return [(e.watch, e.index) for e in self.events]


@pytest.fixture
async def maker() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


def event(index: int) -> Event:
    return Event(watch=0, index=index, event="joined")


async def test_events_reach_the_watchers_of_their_topic_in_order(maker: Pairs) -> None:
    watches, one, other = Watches(), Listener(maker), Listener(maker)
    assert watches.open(one.ours, "group", "g") == 1
    assert watches.open(one.ours, "group", "h") == 2
    assert watches.open(other.ours, "group", "g") == 1
    assert [watches.publish("group", "g", event(i)) for i in (1, 2)] == [2, 2]
    assert watches.publish("group", "h", event(3)) == 1
    assert watches.publish("signals", "g", event(4)) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert one.heard == [(1, 1), (1, 2), (2, 3)]
    assert other.heard == [(1, 1), (1, 2)]


async def test_two_watches_of_one_topic_are_two(maker: Pairs) -> None:
    watches, one = Watches(), Listener(maker)
    watches.open(one.ours, "group", "g", "first")
    watches.open(one.ours, "group", "g", "second")
    assert [(n, d) for _, n, d in watches.watchers("group", "g")] == [(1, "first"), (2, "second")]
    watches.close(one.ours, 1)
    watches.publish("group", "g", event(1))
    await trio.testing.wait_all_tasks_blocked()
    assert one.heard == [(2, 1)]


async def test_numbers_are_not_used_again(maker: Pairs) -> None:
    watches, one = Watches(), Listener(maker)
    assert watches.open(one.ours, "group", "g") == 1
    watches.close(one.ours, 1)
    assert watches.open(one.ours, "group", "g") == 2


async def test_closing_what_one_does_not_have_is_an_error(maker: Pairs) -> None:
    watches, one, other = Watches(), Listener(maker), Listener(maker)
    number = watches.open(one.ours, "group", "g")
    for peer, wrong in ((one.ours, 99), (other.ours, number)):
        with pytest.raises(PlatformError) as caught:
            watches.close(peer, wrong)
        assert caught.value.code == "no-such-target"
    assert len(watches) == 1


async def test_watches_of_a_connection_are_limited(maker: Pairs) -> None:
    watches, one, other = Watches(), Listener(maker), Listener(maker)
    for number in range(limits.WATCHES_MAX):
        watches.open(one.ours, "group", f"g{number}")
    with pytest.raises(PlatformError) as caught:
        watches.open(one.ours, "group", "one more")
    assert caught.value.code == "limit-exceeded"
    watches.open(other.ours, "group", "one more")
    watches.close(one.ours, 1)
    watches.open(one.ours, "group", "one more")


async def test_a_peer_takes_its_watches_with_it(maker: Pairs) -> None:
    watches, one, other = Watches(), Listener(maker), Listener(maker)
    watches.open(one.ours, "group", "g")
    watches.open(one.ours, "group", "h")
    watches.open(other.ours, "group", "g")
    watches.close_peer(one.ours)
    watches.close_peer(one.ours)
    assert len(watches) == 1
    assert watches.publish("group", "g", event(1)) == 1
    assert watches.publish("group", "h", event(2)) == 0


async def test_one_that_has_gone_cannot_begin_to_watch(maker: Pairs) -> None:
    watches, one = Watches(), Listener(maker)
    one.ours.close()
    with pytest.raises(PlatformError) as caught:
        watches.open(one.ours, "group", "g")
    assert caught.value.code == "not-available"
    assert len(watches) == 0


async def test_watchers_may_close_while_they_are_told(maker: Pairs) -> None:
    watches, one, other = Watches(), Listener(maker), Listener(maker)
    watches.open(one.ours, "group", "g")
    watches.open(other.ours, "group", "g")
    for peer, _, _ in watches.watchers("group", "g"):
        watches.close_peer(peer)
    assert len(watches) == 0


async def test_whoever_owns_a_watch_hears_of_its_end(maker: Pairs) -> None:
    ended: list[str] = []
    watches, one = Watches(ended.append), Listener(maker)
    for key in ("a", "b", "c"):
        watches.open(one.ours, "group", key, f"of {key}")
    watches.close(one.ours, 2)
    assert ended == ["of b"]
    assert dict(watches.of_peer(one.ours)) == {1: ("group", "a"), 3: ("group", "c")}
    watches.close_peer(one.ours)
    assert ended == ["of b", "of a", "of c"]


async def test_watches_of_a_kind_can_be_looked_through_while_they_end(maker: Pairs) -> None:
    watches, one = Watches(), Listener(maker)
    for key in ("a", "b", "b"):
        watches.open(one.ours, "down", key, 1)
    watches.open(one.ours, "group", "g")
    seen = []
    for key, peer, number, detail in watches.of_kind("down"):
        watches.close(peer, number)
        seen.append((key, number, detail))
    assert seen == [("a", 1, 1), ("b", 2, 1), ("b", 3, 1)]
    assert len(watches) == 1
