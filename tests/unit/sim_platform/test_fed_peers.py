"""Peers that are fed: who breaks the protocol in a simulation ends the run."""

from __future__ import annotations

import pytest
import trio

from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer
from paas.sim.platform.invariants import Broken
from paas.sim.platform.links import LocalLink, SimSweeper, feed
from paas.sim.platform.process import Process
from paas.sim.platform.world import World


def test_garbage_of_a_simulated_party_is_noticed() -> None:
    world = World(1)

    async def main() -> None:
        process = Process(world, "hub")
        link = LocalLink(process, 0.001, lambda _data: None)
        peer = Peer(link, Connection(Form.COMPACT), SimSweeper(process), lambda _p, _r: None)
        world.after(1.0, feed, peer, b"\x00\x00\x00\x01\xc1")
        await trio.sleep(5.0)

    with pytest.raises(Broken, match=r"^no-bug: a simulated party broke the protocol"):
        world.run(main)
    assert world.now_s == 1.0
