"""The network in memory: who is connected hears of it; epochs grow; nothing passes a cut."""

from __future__ import annotations

import pytest

from paas.base.errors import LocalError
from paas.raft.transport import MemoryNetwork


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def on_connected(self, peer: str, epoch: int) -> None:
        self.heard.append(("up", peer, epoch))

    def on_disconnected(self, peer: str, epoch: int) -> None:
        self.heard.append(("down", peer, epoch))

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        self.heard.append((peer, epoch, data))


def test_a_life_of_a_link() -> None:
    network, ear = MemoryNetwork(), Ear()
    a, b = network.transport("a"), network.transport("b")
    a.attach(ear)
    a.send("b", b"lost: nobody there")
    b.attach(Ear())
    b.send("a", b"one")
    network.cut("a", "b")
    b.send("a", b"lost: cut")
    network.heal()
    b.send("a", b"two")
    b.detach()
    b.send("a", b"lost: gone")
    assert ear.heard == [
        ("up", "b", 1),
        ("b", 1, b"one"),
        ("down", "b", 1),
        ("up", "b", 2),
        ("b", 2, b"two"),
        ("down", "b", 2),
    ]


def test_a_name_is_on_the_network_once() -> None:
    network = MemoryNetwork()
    network.transport("a").attach(Ear())
    with pytest.raises(LocalError):
        network.transport("a").attach(Ear())
