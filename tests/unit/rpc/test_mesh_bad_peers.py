"""Nodes that say what they should not, or nothing: they lose their connection, nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.rpc.link import Link
from paas.rpc.mesh_hello import Hello, encode
from paas.rpc.mesh_limits import (
    GREETING_S,
    GREETINGS_MAX,
    MESH_OUTBOX_BYTES_MAX,
    RAFT_FRAME_BYTES_MAX,
)
from paas.rpc.peer import Peer
from paas.testing.mesh_cluster import Heard, MeshCluster
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


async def test_a_peer_of_an_unknown_version_is_refused_and_both_sides_say_why(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    one, two = await cluster.start("n1", "n2")
    old = await cluster.start_one("n0", versions=(0,))
    for node in (one, two):
        node.mesh.set_peers({name: name for name in ("n0", "n1", "n2")})
    old.mesh.set_peers({"n1": "n1", "n2": "n2"})
    await trio.sleep(5)
    text = "n0 speaks the mesh protocol 0, this side 1"
    for node in (one, two):
        assert any(party == "n0" and text in said for party, said in node.troubles)
    assert old.trouble(f"n1 refuses: {text} [unsupported]")
    assert old.trouble(f"n2 refuses: {text} [unsupported]")
    assert old.mesh.connected() == []
    assert one.mesh.connected() == ["n2"]
    assert await call(one.peer("n2"), 5) == 5
    assert one.log.epochs() == [1]  # the other connection was not disturbed


async def test_the_best_common_version_is_taken(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    await cluster.start_one("n1", versions=(1, 2, 3))
    await cluster.start_one("n2", versions=(2, 3, 4))
    await cluster.start()
    await cluster.whole()


async def test_another_cluster_is_refused(cluster: MeshCluster, autojump_clock: MockClock) -> None:
    await cluster.start_one("n1", cluster="red")
    await cluster.start_one("n2", cluster="blue")
    await cluster.start()
    await trio.sleep(2)
    assert cluster.nodes["n1"].mesh.connected() == []
    assert cluster.nodes["n2"].trouble("the greeting names the cluster 'red', expected 'blue'")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a greeting of 1195725856 bytes"),
        (frame(b"\xc1garbage"), "not a greeting"),
        (frame(b"\x01"), "not a greeting"),
        (frame(codec.pack({"versions": [1], "node": 7, "channel": "hub"})), "not a greeting"),
        (frame(codec.pack({"versions": [1], "node": "n1"})), "not a greeting"),
        (
            frame(codec.pack({"versions": [1], "node": "n1", "channel": "hub", "epoch": -1})),
            "not a greeting",
        ),
        (encode(Hello(versions=[1], node="n9", channel="hub")), "names the node 'n9'"),
        (encode(Hello(versions=[1], node="n1", channel="raft")), "names the channel 'raft'"),
        (encode(Hello(versions=[], node="n1", channel="hub")), "in no version"),
        (
            encode(Hello(versions=[1], node="n1", channel="hub", epoch=(1 << 62) - 1)),
            "an epoch that nobody reaches",
        ),
        (b"\x00", "did not greet in time"),
        (b"", "did not greet in time"),
    ],
)
async def test_a_bad_greeting_ends_its_connection_with_a_reason(
    cluster: MeshCluster, autojump_clock: MockClock, said: bytes, reason: str
) -> None:
    two, three = await cluster.start("n2", "n3")
    two.mesh.set_peers({"n1": "n1", "n3": "n3"})
    link = await cluster.world.dial("n1", "n2", "hub")
    link.write(said)
    with trio.fail_after(GREETING_S + 2):
        while await link.read():
            pass
    assert two.trouble(reason)
    assert two.mesh.connected() == ["n3"]
    assert three.news == [("up", "n2")]


async def test_an_answer_to_the_greeting_is_not_believed_blindly(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one = await cluster.start_one("n1")
    answers = [
        b"\xff\xff\xff\xff",
        frame(b"\xc1"),
        frame(codec.pack({"node": "n3", "version": 1, "epoch": 1})),
        frame(codec.pack({"node": "n2", "version": 9, "epoch": 1})),
        frame(codec.pack({"node": "n2", "version": 1, "epoch": 0})),
        frame(codec.pack({"node": "n2", "error": "because"})),
    ]

    async def accepted(node: str, channel: str, link: Link) -> None:
        await link.read()
        if answers:
            link.write(answers.pop(0))
        await link.read()

    cluster.nursery.start_soon(cluster.world.network("n2").serve, accepted)
    await trio.sleep(0.1)
    one.mesh.set_peers({"n2": "n2"})
    await cluster.until(lambda: not answers)
    await trio.sleep(GREETING_S + 1)
    assert one.mesh.connected() == []
    for reason in (
        *("a greeting of", "not a greeting", "'n3' answers in place of 'n2'", "protocol 9"),
        *("not above 0", "malformed error", "did not answer the greeting"),
    ):
        assert one.trouble(reason), reason


async def test_frames_above_the_limit_end_the_connection_and_only_that(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    two, _ = await cluster.start("n2", "n3")
    two.mesh.set_peers({"n1": "n1", "n3": "n3"})
    for channel, limit in (("raft", RAFT_FRAME_BYTES_MAX), ("hub", 4 << 20)):
        link = await cluster.greeted("n1", "n2", channel, epoch=0)
        link.write((limit + 1).to_bytes(4, "big"))
        assert await link.read() == b""
        assert two.trouble(f"{channel}: connection lost: a frame of {limit + 1} bytes")
    assert two.mesh.connected() == ["n3"]


async def test_garbage_on_the_channel_of_hubs_ends_the_connection(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    link = await cluster.greeted("n1", "n2", "hub", epoch=0)
    link.write(frame(b"\xc1"))
    assert await link.read() == b""
    assert two.trouble("not a compact envelope")


async def test_a_node_that_does_not_read_is_cut_off(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    await cluster.greeted("n1", "n2", "raft", epoch=0)
    for _ in range((MESH_OUTBOX_BYTES_MAX >> 20) - 1):
        two.mesh.raft().send("n1", bytes(1 << 20))
    await trio.sleep(1)
    assert two.mesh.statistics()["connections"]["n1/raft"]["queued_bytes"] > 7 << 20
    for _ in range(100):
        two.mesh.raft().send("n1", bytes(1 << 20))
    await cluster.until(lambda: two.log.heard[-1][0] == "down")
    assert two.trouble("it did not read")


async def test_connections_that_do_not_greet_are_bounded_and_newcomers_get_in(
    cluster: MeshCluster,
    autojump_clock: MockClock,
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    links = [await cluster.world.dial("n1", "n2", "hub") for _ in range(GREETINGS_MAX + 30)]
    await trio.sleep(0.01)
    assert two.mesh.statistics()["greeting"] == GREETINGS_MAX
    await cluster.greeted("n1", "n2", "hub", epoch=0)
    await cluster.until(lambda: two.mesh.connected() == ["n1"])
    await trio.sleep(GREETING_S + 2)
    assert two.mesh.statistics()["greeting"] == 0
    for link in links:
        assert await link.read() == b""


async def test_a_failing_listener_of_news_harms_nobody(
    cluster: MeshCluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")

    def failing(*_: Any) -> None:
        raise ValueError("bug")

    class Failing(Heard):
        on_connected = on_disconnected = on_message = failing

    one.mesh.subscribe(failing, failing)
    two.mesh.raft().detach()
    two.mesh.raft().attach(Failing())
    await cluster.whole()
    one.mesh.raft().send("n2", b"x")
    await cluster.until(lambda: two.mesh.statistics()["lost"])
    await cluster.whole()
    assert await call(one.peer("n2"), 1) == 1
