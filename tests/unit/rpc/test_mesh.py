"""The mesh over a network in memory: who connects, what a broken connection means, epochs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from paas.base.errors import LocalError, PlatformError
from paas.rpc.envelope import Request
from paas.rpc.link import Link
from paas.rpc.mesh import Mesh
from paas.rpc.mesh_hello import Hello, encode
from paas.rpc.mesh_limits import (
    GREETING_S,
    GREETINGS_MAX,
    MESH_OUTBOX_BYTES_MAX,
    RAFT_FRAME_BYTES_MAX,
    SILENCE_S,
)
from paas.rpc.peer import Peer
from paas.testing.mesh_pair import MeshWorld
from paas.wire import codec
from paas.wire.frame import frame


class TrioClock:
    """Virtual time as a port."""

    def now_ms(self) -> int:
        return round(trio.current_time() * 1_000)

    def monotonic_s(self) -> float:
        return trio.current_time()


class SeededEntropy:
    """Random numbers from a seed as a port."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


class Log:
    """A receiver of the channel "raft" that writes everything down."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def on_connected(self, peer: str, epoch: int) -> None:
        self.heard.append(("up", peer, epoch))

    def on_disconnected(self, peer: str, epoch: int) -> None:
        self.heard.append(("down", peer, epoch))

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        self.heard.append(("message", peer, epoch, data))

    def epochs(self) -> list[int]:
        return [entry[2] for entry in self.heard if entry[0] == "up"]

    def messages(self) -> list[bytes]:
        return [entry[3] for entry in self.heard if entry[0] == "message"]


class Node:
    """A mesh with everything it was told."""

    def __init__(self, world: MeshWorld, name: str, **options: Any) -> None:
        self.name = name
        self.requests: list[tuple[str, Any]] = []
        self.troubles: list[tuple[str, str]] = []
        self.news: list[tuple[str, str]] = []
        self.log = Log()
        self.mesh = Mesh(
            node=name,
            network=options.pop("network", None) or world.network(name),
            sweeper=None,
            entropy=SeededEntropy(sum(name.encode())),
            clock=TrioClock(),
            on_request=options.pop("on_request", None) or self._on_request,
            on_trouble=lambda party, text: self.troubles.append((party, text)),
            **options,
        )
        self.mesh.raft().attach(self.log)
        self.mesh.subscribe(
            lambda node, _: self.news.append(("up", node)),
            lambda node: self.news.append(("down", node)),
        )

    def _on_request(self, peer: Peer, request: Request) -> None:
        self.requests.append((peer.info["node"], codec.unpack(request.params)))
        if request.method == "echo":
            peer.reply(request, request.params)

    def trouble(self, word: str) -> list[str]:
        return [text for _, text in self.troubles if word in text]

    def peer(self, name: str) -> Peer:
        peer = self.mesh.peer(name)
        assert peer is not None
        return peer


class Cluster:
    """Nodes of one world, all of which know each other."""

    def __init__(self, world: MeshWorld, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.nodes: dict[str, Node] = {}

    async def start(self, *names: str, **options: Any) -> list[Node]:
        """Start these, and make them all known to each other."""
        for name in names:
            await self.start_one(name, **options)
        for node in self.nodes.values():
            node.mesh.set_peers({name: f"{name}:7400" for name in self.nodes})
        return [self.nodes[name] for name in names]

    async def start_one(self, name: str, **options: Any) -> Node:
        node = self.nodes[name] = Node(self.world, name, **options)
        await self.nursery.start(node.mesh.run)
        return node

    async def until(self, condition: Callable[[], Any], within_s: float = 60.0) -> None:
        with trio.fail_after(within_s):
            while not condition():  # noqa: ASYNC110 -- what changes has no event
                await trio.sleep(0.01)

    async def whole(self, within_s: float = 60.0) -> None:
        """Wait until everybody is connected to everybody, on both channels."""
        for name, node in self.nodes.items():
            others = sorted(set(self.nodes) - {name})
            links = {f"{other}/{channel}" for other in others for channel in ("raft", "hub")}

            def complete(node: Node = node, links: set[str] = links) -> bool:
                return set(node.mesh.statistics()["connections"]) == links

            await self.until(complete, within_s)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with trio.open_nursery() as nursery:
        yield Cluster(MeshWorld(delay_s=0.005), nursery)
        nursery.cancel_scope.cancel()


async def call(peer: Peer, value: Any, method: str = "echo") -> Any:
    return codec.unpack(await peer.call_raw(method, codec.pack(value), 30.0))


# -- who connects --------------------------------------------------------------------------------


async def test_all_nodes_connect_with_both_channels_and_call_each_other(
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    (one, _) = await cluster.start("n1", "n2")
    await cluster.whole()
    one.mesh.raft().detach()
    late = Log()
    one.mesh.raft().attach(late)
    assert late.heard == [("up", "n2", 1)]
    heard: list[str] = []
    one.mesh.subscribe(lambda node, _: heard.append(node), heard.append)
    assert heard == ["n2"]
    with pytest.raises(LocalError):
        one.mesh.raft().attach(Log())


async def test_messages_for_nodes_that_are_not_there_are_dropped_and_counted(
    cluster: Cluster,
    autojump_clock: MockClock,
) -> None:
    (one,) = await cluster.start("n1")
    one.mesh.raft().send("n2", b"lost")
    assert one.mesh.statistics()["dropped_messages"] == 1
    assert one.mesh.peer("n2") is None
    with pytest.raises(LocalError):
        one.mesh.raft().send("n2", bytes(RAFT_FRAME_BYTES_MAX + 1))


async def test_an_unknown_node_is_refused_until_it_is_known(
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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


async def test_a_mesh_can_be_run_again(cluster: Cluster, autojump_clock: MockClock) -> None:
    one = Node(cluster.world, "n1")
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
    cluster: Cluster,
    autojump_clock: MockClock,
) -> None:
    node = Node(cluster.world, "n1", network=Deaf())
    node.mesh.set_peers({"n2": "n2"})
    with pytest.raises(PlatformError, match="cannot listen"):
        await node.mesh.run()


# -- what breaks ---------------------------------------------------------------------------------


async def test_a_call_whose_connection_broke_ends_with_unknown_outcome_before_the_news(
    cluster: Cluster,
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


async def test_a_healed_partition_is_connected_within_a_second(
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster,
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
    cluster: Cluster,
    autojump_clock: MockClock,
) -> None:
    one, two = await cluster.start("n1", "n2")
    await cluster.whole()
    heard: list[bytes] = []

    class Dropping(Log):
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
    cluster: Cluster,
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
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    """Hole P31: two connections of one peer, the older of which has something left to say."""
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    old = await greeted(cluster, "raft", epoch=0)
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


async def greeted(cluster: Cluster, channel: str, *, epoch: int) -> Any:
    """A connection of n1 to n2 made by hand."""
    link = await cluster.world.dial("n1", "n2", channel)
    link.write(encode(Hello(versions=[1], node="n1", channel=channel, epoch=epoch)))
    await link.read()
    return link


async def test_epochs_exceed_what_either_end_has_seen(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    for claimed, expected in ((0, 1), (0, 2), (40, 41), (7, 42)):
        await greeted(cluster, "raft", epoch=claimed)
        await cluster.until(lambda expected=expected: two.log.epochs()[-1:] == [expected])
    one = await cluster.start_one("n1")  # begins at zero, as after a restart
    one.mesh.set_peers({"n2": "n2"})
    await cluster.until(lambda: one.log.epochs() == [43])


# -- bad peers -----------------------------------------------------------------------------------


async def test_a_peer_of_an_unknown_version_is_refused_and_both_sides_say_why(
    cluster: Cluster,
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
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    await cluster.start_one("n1", versions=(1, 2, 3))
    await cluster.start_one("n2", versions=(2, 3, 4))
    await cluster.start()
    await cluster.whole()


async def test_another_cluster_is_refused(cluster: Cluster, autojump_clock: MockClock) -> None:
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
    cluster: Cluster, autojump_clock: MockClock, said: bytes, reason: str
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
    cluster: Cluster, autojump_clock: MockClock
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
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    two, _ = await cluster.start("n2", "n3")
    two.mesh.set_peers({"n1": "n1", "n3": "n3"})
    for channel, limit in (("raft", RAFT_FRAME_BYTES_MAX), ("hub", 4 << 20)):
        link = await greeted(cluster, channel, epoch=0)
        link.write((limit + 1).to_bytes(4, "big"))
        assert await link.read() == b""
        assert two.trouble(f"{channel}: connection lost: a frame of {limit + 1} bytes")
    assert two.mesh.connected() == ["n3"]


async def test_garbage_on_the_channel_of_hubs_ends_the_connection(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    link = await greeted(cluster, "hub", epoch=0)
    link.write(frame(b"\xc1"))
    assert await link.read() == b""
    assert two.trouble("not a compact envelope")


async def test_a_node_that_does_not_read_is_cut_off(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    await greeted(cluster, "raft", epoch=0)
    for _ in range((MESH_OUTBOX_BYTES_MAX >> 20) - 1):
        two.mesh.raft().send("n1", bytes(1 << 20))
    await trio.sleep(1)
    assert two.mesh.statistics()["connections"]["n1/raft"]["queued_bytes"] > 7 << 20
    for _ in range(100):
        two.mesh.raft().send("n1", bytes(1 << 20))
    await cluster.until(lambda: two.log.heard[-1][0] == "down")
    assert two.trouble("it did not read")


async def test_connections_that_do_not_greet_are_bounded_and_newcomers_get_in(
    cluster: Cluster,
    autojump_clock: MockClock,
) -> None:
    await cluster.start("n2")
    two = cluster.nodes["n2"]
    two.mesh.set_peers({"n1": "n1"})
    links = [await cluster.world.dial("n1", "n2", "hub") for _ in range(GREETINGS_MAX + 30)]
    await trio.sleep(0.01)
    assert two.mesh.statistics()["greeting"] == GREETINGS_MAX
    await greeted(cluster, "hub", epoch=0)
    await cluster.until(lambda: two.mesh.connected() == ["n1"])
    await trio.sleep(GREETING_S + 2)
    assert two.mesh.statistics()["greeting"] == 0
    for link in links:
        assert await link.read() == b""


async def test_a_failing_listener_of_news_harms_nobody(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    one, two = await cluster.start("n1", "n2")

    def failing(*_: Any) -> None:
        raise ValueError("bug")

    class Failing(Log):
        on_connected = on_disconnected = on_message = failing

    one.mesh.subscribe(failing, failing)
    two.mesh.raft().detach()
    two.mesh.raft().attach(Failing())
    await cluster.whole()
    one.mesh.raft().send("n2", b"x")
    await cluster.until(lambda: two.mesh.statistics()["lost"])
    await cluster.whole()
    assert await call(one.peer("n2"), 1) == 1


# -- determinism ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_story(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[Any]:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(MeshWorld(delay_s=0.003), nursery)
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
