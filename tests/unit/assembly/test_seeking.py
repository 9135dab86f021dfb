"""A hub that hears no leader asks those it reaches where the others are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import trio
import trio.testing

from paas.assembly.address_book import AddressBook
from paas.assembly.hub_core import POLICY, authoriser
from paas.assembly.seeking import SEEK_S, Seeker
from paas.base.errors import PlatformError
from paas.node.messages import ADDRESSES, AskAddresses
from paas.node.state import NodeRegister
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher
from paas.rpc.peer import Peer
from paas.testing.pair import pairs


class Mesh:
    """What is dialled, and who is there."""

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}
        self.peers: dict[str, Peer] = {}

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        self.wanted = dict(addresses)

    def drop(self, node: str) -> None:
        raise AssertionError("nobody is lost here")

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return [*self.peers, "n0"]  # one that goes at this very moment

    def subscribe(self, up: Callable[[str, Peer], None], down: Callable[[str], None]) -> None:
        raise AssertionError("not used")


class Hub:
    def __init__(self, nursery: trio.Nursery, name: str, told: dict[str, str]) -> None:
        self.mesh = Mesh()
        self.stale_s: float | None = 3.0
        book = AddressBook(name, self.mesh, NodeRegister(), told)
        book.update()
        self.seeker = Seeker(book, self.mesh, lambda: self.stale_s)
        self.dispatcher = Dispatcher(
            nursery, SystemClock(), authorise=authoriser(POLICY), on_bug=self._bug
        )
        self.seeker.register(self.dispatcher)

    def _bug(self, where: str, error: Exception) -> None:
        raise AssertionError(where) from error


@pytest.mark.parametrize("stale_s", [3.0, None])
async def test_a_newcomer_learns_of_the_leader_that_must_not_dial_it(
    autojump_clock: trio.testing.MockClock, stale_s: float | None
) -> None:
    async with pairs() as maker, trio.open_nursery() as nursery:
        joining = Hub(nursery, "n11", {"n1": "10.0.0.1:1", "n2": "10.0.0.2:1"})
        joining.stale_s = stale_s
        follower = Hub(nursery, "n1", {"n2": "10.0.0.2:1", "n12": "10.0.0.12:1"})
        there, back = maker.join(joining.dispatcher, follower.dispatcher)
        silent, far = maker.join(joining.dispatcher, lambda _peer, _request: None)
        for peer in (there, back, silent, far):
            peer.info["roles"] = frozenset({"hub"})
        joining.mesh.peers = {"n1": there, "n2": silent}
        nursery.start_soon(joining.seeker.run)
        await trio.sleep(3 * SEEK_S)
        assert ("n12" in joining.mesh.wanted) == (stale_s is not None)
        nursery.cancel_scope.cancel()


async def test_only_hubs_are_told() -> None:
    async with pairs() as maker, trio.open_nursery() as nursery:
        hub = Hub(nursery, "n1", {"n2": "10.0.0.2:1"})
        caller, back = maker.join(hub.dispatcher, hub.dispatcher)
        back.info["roles"] = frozenset({"operator"})
        with pytest.raises(PlatformError, match=r"\[denied\]"):
            await caller.call(ADDRESSES, AskAddresses(), timeout_s=5.0)
        nursery.cancel_scope.cancel()
