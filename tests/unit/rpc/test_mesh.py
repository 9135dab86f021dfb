"""The mesh over a network in memory: who connects, what a broken connection means, epochs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from paas.base.errors import LocalError, PlatformError
from paas.rpc.envelope import Request
from paas.rpc.link import Link
from paas.rpc.mesh_hello import Hello, encode
from paas.rpc.mesh_limits import (
    RAFT_FRAME_BYTES_MAX,
    SILENCE_S,
)
from paas.rpc.peer import Peer
from paas.testing.mesh_cluster import Heard, MeshCluster, MeshNode
from paas.testing.mesh_pair import MeshWorld
from paas.wire import codec
from paas.wire.frame import frame


@pytest.fixture
async def cluster() -> AsyncIterator[MeshCluster]:
    async with trio.open_nursery() as nursery:
        yield MeshCluster(MeshWorld(delay_s=0.005), nursery)
        nursery.cancel_scope.cancel()


async def call(peer: Peer, value: Any) -> Any:
    return codec.unpack(await peer.call_raw("echo", codec.pack(value), 30.0))


# -- who connects --------------------------------------------------------------------------------


async def test_all_nodes_connect_with_both_channels_and_call_each_other(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    nodes = await cluster.start("n1", "n2", "n3")
    await cluster.whole()
    assert cluster.world.dialled == 6  # two channels for each of three pairs, from one side only
    for node in nodes:
        for other in node.mesh.connected():
            assert await call(node.peer(other), {"from": node.name}) == {"from": node.name}
            assert node.peer(other).info["node"] == other
            assert node.peer(other).info["roles"] == frozenset({"hub"})
    assert nodes[0].mesh.connected() == ["n2", "n3"]
    assert sorted(nodes[2].requests) == [("n1", {"from": "n1"}), ("n2", {"from": "n2"})]


async def test_frames_of_the_log_arrive_in_order_with_the_epoch(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    frames = [bytes([i]) * size for i, size in enumerate((0, 1, 70_000, 1 << 20))]
    for data in frames:
        one.mesh.raft().send("n2", data)
    two.mesh.raft().send("n1", b"back")
    await cluster.until(lambda: len(two.log.messages()) == 4 and one.log.messages())
    assert two.log.heard == [("up", "n1", 1)] + [("message", "n1", 1, data) for data in frames]
    assert one.log.heard == [("up", "n2", 1), ("message", "n2", 1, b"back")]


async def test_a_receiver_that_comes_late_hears_of_those_who_are_there(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    (one, _) = await cluster.start("n1", "n2")
    await cluster.whole()
    one.mesh.raft().detach()
    late = Heard()
    one.mesh.raft().attach(late)
    assert late.heard == [("up", "n2", 1)]
    heard: list[str] = []
    one.mesh.subscribe(lambda node, _: heard.append(node), heard.append)
    assert heard == ["n2"]
    with pytest.raises(LocalError):
        one.mesh.raft().attach(Heard())


async def test_messages_for_nodes_that_are_not_there_are_dropped_and_counted(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    (one,) = await cluster.start("n1")
    one.mesh.raft().send("n2", b"lost")
    assert one.mesh.statistics()["dropped_messages"] == 1
    assert one.mesh.peer("n2") is None
    with pytest.raises(LocalError):
        one.mesh.raft().send("n2", bytes(RAFT_FRAME_BYTES_MAX + 1))


async def test_an_unknown_node_is_refused_until_it_is_known(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start_one("n1"), await cluster.start_one("n2")
    one.mesh.set_peers({"n2": "n2:1"})
    await trio.sleep(3)
    assert not one.mesh.connected()
    assert "n1 is not a node that n2 knows" in two.troubles[0][1]
    assert "n2 refuses: n1 is not a node that n2 knows" in one.troubles[0][1]
    two.mesh.set_peers({"n1": "n1:1"})
    await cluster.whole(within_s=1.1)


async def test_a_node_with_a_larger_name_may_not_dial(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, _ = await cluster.start("n1", "n2")
    await cluster.whole()
    link = await cluster.world.dial("n2", "n1", "hub")
    link.write(encode(Hello(versions=[1], node="n2", channel="hub")))
    assert b"has the smaller name" in await link.read()
    assert await link.read() == b""
    assert one.trouble("has the smaller name")
    assert await call(one.peer("n2"), 1) == 1


async def test_an_address_that_another_node_answers_is_not_believed(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, _, _ = await cluster.start("n1", "n2", "n3")
    await cluster.whole()
    one.mesh.set_peers({"n2": "n3:7400", "n3": "n3:7400"})
    await trio.sleep(2)
    assert one.mesh.connected() == ["n3"]
    assert one.trouble("n3:7400 is the hub of n3, not of n2")
    one.mesh.set_peers({"n2": "n2:7400", "n3": "n3:7400"})
    await cluster.whole(within_s=0.2)  # at once, whatever the back-off had grown to


async def test_a_node_that_is_not_named_any_more_is_disconnected(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    two.mesh.set_peers({})
    await cluster.until(lambda: not one.mesh.connected() and not two.mesh.connected())
    assert two.news == [("up", "n1"), ("down", "n1")]
    one.mesh.set_peers({})
    dialled = cluster.world.dialled
    await trio.sleep(10)
    assert cluster.world.dialled == dialled
    assert not one.mesh.statistics()["connections"]


async def test_a_mesh_can_be_run_again(cluster: MeshCluster, autojump_clock: MockClock) -> None:
    one = MeshNode(cluster.world, "n1")
    await cluster.start("n2")
    one.mesh.set_peers({"n2": "n2"})
    cluster.nodes["n2"].mesh.set_peers({"n1": "n1"})
    for epoch in (1, 2):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.mesh.run)
            await cluster.until(lambda epoch=epoch: len(one.log.epochs()) == epoch)
            nursery.cancel_scope.cancel()
        assert not one.mesh.statistics()["connections"]
    assert one.log.epochs() == [1, 2]


class Deaf:
    """A network that cannot listen."""

    async def serve(self, accepted: Any, *, task_status: Any) -> None:
        raise PlatformError("unavailable", "cannot listen")

    async def dial(self, node: str, address: str, channel: str, nursery: trio.Nursery) -> Link:
        raise PlatformError("unavailable", "no")


async def test_a_network_that_cannot_listen_ends_the_mesh_with_that_error(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    node = MeshNode(cluster.world, "n1", network=Deaf())
    node.mesh.set_peers({"n2": "n2"})
    with pytest.raises(PlatformError, match="cannot listen"):
        await node.mesh.run()


# -- what breaks ---------------------------------------------------------------------------------


async def test_a_call_whose_connection_broke_ends_with_unknown_outcome_before_the_news(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    order: list[str] = []
    one.mesh.subscribe(lambda *_: None, lambda _: order.append("down"))
    peer = one.peer("n2")
    peer.send_request(
        "silent", codec.pack(1), lambda value: order.append(str(value)), timeout_s=60.0
    )
    await cluster.until(lambda: two.requests)
    cluster.world.break_connections("n1", "n2")
    await cluster.until(lambda: len(order) == 2)
    assert "unknown-outcome" in order[0]
    assert order[1] == "down"
    await cluster.whole()
    assert len(two.requests) == 1  # nothing is sent again


async def test_dropping_a_node_answers_its_calls_before_anybody_hears_of_it(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, _ = await cluster.start("n1", "n2")
    await cluster.whole()
    order: list[str] = []
    one.mesh.subscribe(lambda *_: None, lambda _: order.append("down"))
    one.peer("n2").send_request(
        "silent", codec.pack(1), lambda value: order.append(str(value)), timeout_s=60.0
    )
    one.mesh.drop("n2")
    assert len(order) == 2  # at once, without waiting
    assert "unknown-outcome" in order[0]
    assert order[1] == "down"


async def test_a_healed_partition_is_connected_within_a_second(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    nodes = await cluster.start("n1", "n2", "n3")
    await cluster.whole()
    for length_s in (0.5, 2.5, 4.0, 31.3):
        cluster.world.cut(["n1"], ["n2", "n3"])
        await trio.sleep(length_s)
        if length_s > SILENCE_S:
            assert nodes[0].mesh.connected() == []
            assert nodes[1].mesh.connected() == ["n3"]
        cluster.world.heal()
        await cluster.whole(within_s=1.0)
        assert await call(nodes[0].peer("n3"), 1) == 1


async def test_a_short_cut_delays_and_loses_nothing(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    cluster.world.cut(["n1"], ["n2"])
    one.mesh.raft().send("n2", b"late")
    await trio.sleep(1)
    assert two.log.messages() == []
    cluster.world.heal()
    await cluster.until(lambda: two.log.messages() == [b"late"], within_s=0.1)
    assert two.log.epochs() == [1]


async def test_a_cut_in_one_direction_ends_connections_too(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    cluster.world.cut(["n2"], ["n1"], one_way=True)
    one.mesh.raft().send("n2", b"passes")
    two.mesh.raft().send("n1", b"does not")
    await trio.sleep(SILENCE_S + 0.5)
    assert two.log.messages() == [b"passes"]
    assert one.log.messages() == []
    assert not one.mesh.connected()
    assert not two.mesh.connected()
    cluster.world.heal()
    await cluster.whole(within_s=1.0)


async def test_a_node_that_was_dropped_is_dialled_again(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    two.mesh.drop("n1")
    assert two.mesh.connected() == []
    assert two.log.heard[-1] == ("down", "n1", 1)
    await cluster.until(lambda: one.log.epochs() == [1, 2] and two.log.epochs() == [1, 2])
    await cluster.whole()
    assert one.news == [("up", "n2"), ("down", "n2"), ("up", "n2")]


async def test_what_came_together_with_a_message_that_drops_the_node_is_not_delivered(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    handled: list[int] = []

    def on_request(peer: Peer, request: Request) -> None:
        handled.append(codec.unpack(request.params))
        cluster.nodes["n2"].mesh.drop("n1")

    await cluster.start_one("n2", on_request=on_request)
    (one,) = await cluster.start("n1")
    await cluster.whole()
    for i in range(3):  # they arrive in one read
        one.peer("n2").notify_raw("numbered", codec.pack(i))
    await cluster.until(lambda: handled)
    await trio.sleep(1)
    assert handled == [0]


async def test_a_receiver_that_drops_the_node_hears_nothing_of_it_any_more(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    heard: list[bytes] = []

    class Dropping(Heard):
        def on_message(self, peer: str, epoch: int, data: bytes) -> None:
            heard.append(data)
            two.mesh.drop(peer)

    two.mesh.raft().detach()
    two.mesh.raft().attach(Dropping())
    for data in (b"a", b"b", b"c"):
        one.mesh.raft().send("n2", data)
    await trio.sleep(1)
    assert heard == [b"a"]


async def test_numbered_messages_over_many_reconnects_arrive_in_order_at_most_once(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    random_breaks = random.Random(7)

    async def breaking() -> None:
        for turn in range(60):
            await trio.sleep(random_breaks.uniform(0.01, 0.4))
            kind = turn % 4
            if kind == 0:
                cluster.world.break_connections("n1", "n2")
            elif kind == 1:
                random_breaks.choice([one, two]).mesh.drop(random_breaks.choice(["n1", "n2"]))
            elif kind == 2:
                cluster.world.cut(["n1"], ["n2"])
                await trio.sleep(random_breaks.uniform(0.1, 5))
                cluster.world.heal()
            else:
                cluster.world.set_delay("n1", "n2", random_breaks.uniform(0, 0.1))

    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaking)
        while nursery.child_tasks:
            peer = one.mesh.peer("n2")
            for _ in range(3):
                if peer is not None:
                    peer.notify_raw("numbered", codec.pack(sent))
                one.mesh.raft().send("n2", str(sent).encode())
                sent += 1
            await trio.sleep(0.005)
    await trio.sleep(10)
    for got in ([v for _, v in two.requests], [int(data) for data in two.log.messages()]):
        assert len(got) > sent / 4
        assert len(got) < sent
        assert got == sorted(set(got))
    for node in (one, two):
        epochs = node.log.epochs()
        assert len(epochs) > 15
        assert epochs == sorted(set(epochs))
        ups_and_downs = [entry[0] for entry in node.log.heard if entry[0] != "message"]
        assert ups_and_downs == ["up", "down"] * (len(epochs) - 1) + ["up"]


async def test_what_an_older_connection_still_delivers_is_dropped(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    """Hole P31: two connections of one peer, the older of which has something left to say."""
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    old = await cluster.greeted("n1", "n2", "raft", epoch=0)
    old.write(frame(b"old 1"))
    await cluster.until(lambda: two.log.messages() == [b"old 1"])
    new = await cluster.world.dial("n1", "n2", "raft")
    # The last words of the old one are in flight when the new one is accepted.
    new.write(encode(Hello(versions=[1], node="n1", channel="raft", epoch=1)))
    old.write(frame(b"old 2"))
    await new.read()
    new.write(frame(b"new 1"))
    await cluster.until(lambda: b"new 1" in two.log.messages())
    await trio.sleep(1)
    heard = two.log.heard
    assert heard.index(("down", "n1", 1)) + 1 == heard.index(("up", "n1", 2))
    assert ("message", "n1", 2, b"old 2") not in heard
    after = heard[heard.index(("up", "n1", 2)) :]
    assert after == [("up", "n1", 2), ("message", "n1", 2, b"new 1")]
    assert await old.read() == b""
    assert two.mesh.statistics()["replaced"] == 1


async def test_epochs_exceed_what_either_end_has_seen(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    for claimed, expected in ((0, 1), (0, 2), (40, 41), (7, 42)):
        await cluster.greeted("n1", "n2", "raft", epoch=claimed)
        await cluster.until(lambda expected=expected: two.log.epochs()[-1:] == [expected])
    one = await cluster.start_one("n1")  # begins at zero, as after a restart
    one.mesh.set_peers({"n2": "n2"})
    await cluster.until(lambda: one.log.epochs() == [43])


# -- determinism ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_story(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[Any]:
        async with trio.open_nursery() as nursery:
            cluster = MeshCluster(MeshWorld(delay_s=0.003), nursery)
            nodes = await cluster.start("n1", "n2", "n3")
            for i in range(12):
                await trio.sleep(0.7)
                cluster.world.break_connections("n1", "n2")
                cluster.world.cut(["n3"], ["n1"], one_way=i % 2 == 0)
                nodes[1].mesh.raft().send("n3", b"%d" % i)
                await trio.sleep(0.5 * i)
                cluster.world.heal()
            nursery.cancel_scope.cancel()
            return [(trio.current_time(), n.log.heard, n.troubles, n.news) for n in nodes]

    told = []
    for _ in range(2):
        monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio_run._r.seed(5)
        told.append(trio.run(story, clock=MockClock(autojump_threshold=0)))
    assert told[0] == told[1]
    assert sum(len(log) for _, log, _, _ in told[0]) > 40
