"""Presence on virtual time: nodes join, renew, are cut off and come back; a fence for each.

The log is a list that every node in touch has applied; whoever is cut off keeps what it had.  A
watcher looks all the time whether something may run on a node that the list calls lost.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.node import limits
from paas.node.lifecycle import NodeState
from paas.node.messages import RENEW, Renew
from paas.node.presence import Presence
from paas.node.state import AddNode, Node, NodeRegister, RemoveNode, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.rpc.dispatch import Context

DELAY_S = 0.003


@dataclass
class Term:
    term: int


@dataclass
class Voters:
    voters: Sequence[str]


class TrioClock:
    def now_ms(self) -> int:
        return int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()


@dataclass
class FakeFence:
    """Keeps a deadline; what the node `runs` is dead after it."""

    deadline_s: float | None = None
    cleared: int = 0
    trouble: PlatformError | None = None
    busy: bool = False
    history: list[float | None] = field(default_factory=list)

    async def extend(self, deadline_s: float | None) -> None:
        assert not self.busy, "calls do not overlap"
        self.busy = True
        await trio.sleep(DELAY_S)
        self.busy = False
        if self.trouble is not None:
            raise self.trouble
        if deadline_s is not None and deadline_s <= trio.current_time():
            raise PlatformError("not-available", "too late")
        self.deadline_s = deadline_s
        self.history.append(deadline_s)

    async def clear(self) -> None:
        await trio.sleep(DELAY_S)
        self.cleared += 1

    @property
    def open(self) -> bool:
        return self.deadline_s is None or trio.current_time() < self.deadline_s


class View:
    """The log as one node has it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.register = NodeRegister()
        self.machine = Machine([self.register])
        self.applied = 0
        self.barriers = 0
        self.storage = "ok"
        self.subscribers: list[Callable[[int, Sequence[Any]], None]] = []

    @property
    def leadership(self) -> Term | None:
        return Term(self.cluster.led[self.name]) if self.name in self.cluster.led else None

    @property
    def configuration(self) -> Voters:
        return Voters(self.cluster.voters)

    def status(self) -> dict[str, Any]:
        return {"leader": self.cluster.believed_by(self.name), "storage": self.storage}

    async def barrier(self, *, timeout_s: float) -> None:
        self.barriers += 1
        await trio.sleep(DELAY_S)
        if not self.cluster.in_touch(self.name):
            await trio.sleep(timeout_s)
            raise PlatformError("unavailable")
        self.catch_up()

    async def propose(
        self, command: msgspec.Struct, *, timeout_s: float = 10.0, only_term: int | None = None
    ) -> Any:
        await trio.sleep(DELAY_S)
        cluster = self.cluster
        if cluster.trouble is not None:
            raise cluster.trouble
        if only_term is not None and cluster.led.get(self.name) != only_term:
            raise PlatformError("conflict", "not the leader of that term")
        if not cluster.in_touch(self.name) or (only_term and only_term != cluster.term):
            await trio.sleep(timeout_s)
            raise PlatformError("unavailable")
        return cluster.append(command, self)

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def catch_up(self) -> Any:
        applied = None
        for data in self.cluster.entries[self.applied :]:
            self.applied += 1
            applied = self.machine.apply(self.applied, data)
            for callback in tuple(self.subscribers):
                callback(self.applied, applied.events)
        return applied


@dataclass
class Link:
    """A call to the hub of another node."""

    cluster: Cluster
    sender: str
    target: str

    async def call(self, method: Any, params: Any, *, timeout_s: float) -> Any:
        assert method is RENEW
        await trio.sleep(DELAY_S)
        self.cluster.renewals += 1
        if self.target in self.cluster.cut or self.sender in self.cluster.cut:
            await trio.sleep(timeout_s)
            raise PlatformError("timeout")
        with trio.fail_after(timeout_s + 1):
            return await self.cluster.presences[self.target].granting.answer(params)


class Machinery:
    """One node: what survives its hub."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.fence = FakeFence()
        self.view = View(cluster, name)
        self.troubles: list[tuple[str, str]] = []
        self.prepared = trio.Event()
        self.prepared.set()
        self.scope = trio.CancelScope()
        self.presence = self.begin()

    def begin(self) -> Presence:
        """A new life of the hub."""
        self.presence = self.cluster.presences[self.name] = Presence(
            node=self.name,
            log=self.view,
            register=self.view.register,
            links=self,
            fence=self.fence,
            clock=TrioClock(),
            report=lambda: ReportNode(node="?", memory_bytes=1 << 30, cpu=2.0, version="1"),
            prepared=self.prepared.wait,
            on_trouble=lambda name, exc: self.troubles.append((name, exc.code)),
        )
        return self.presence

    def peer(self, node: str) -> Link | None:
        return Link(self.cluster, self.name, node) if node in self.cluster.presences else None

    async def live(self) -> None:
        self.scope = trio.CancelScope()
        with self.scope:
            await self.presence.run()

    @property
    def node(self) -> Node | None:
        return self.view.register.get(self.name)

    @property
    def state(self) -> NodeState | None:
        return None if self.node is None else self.node.state


class Cluster:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.entries: list[bytes] = []
        self.judge = NodeRegister()
        self.machine = Machine([self.judge])
        self.presences: dict[str, Presence] = {}
        self.nodes: dict[str, Machinery] = {}
        self.voters: list[str] = ["n1"]
        self.cut: set[str] = set()
        self.term, self.led = 1, {"n1": 1}
        self.renewals = 0
        self.trouble: PlatformError | None = None

    def start(self, name: str) -> Machinery:
        machinery = self.nodes[name] = Machinery(self, name)
        self.nursery.start_soon(machinery.live)
        return machinery

    async def join(self, name: str) -> Machinery:
        """Add a node and wait until it can be used."""
        self.append(AddNode(node=name, address=f"{name}:7000"), self.nodes["n1"].view)
        machinery = self.start(name)
        machinery.view.catch_up()
        await machinery.presence.wait_ready()
        return machinery

    def believed_by(self, name: str) -> str | None:
        if name in self.led:
            return name
        return next((n for n, term in self.led.items() if term == self.term), None)

    def in_touch(self, name: str) -> bool:
        """With the leader that a majority follows."""
        leader = next((n for n, term in self.led.items() if term == self.term), None)
        return leader is not None and not ({leader, name} & self.cut and leader != name)

    def lead(self, name: str) -> None:
        """Another node leads; who led before still believes it does, if it is cut off."""
        self.term += 1
        self.led = {n: t for n, t in self.led.items() if n in self.cut} | {name: self.term}

    def heal(self, name: str) -> None:
        self.cut.discard(name)
        self.led = {n: t for n, t in self.led.items() if t == self.term}
        self.nodes[name].view.catch_up()

    def append(self, command: msgspec.Struct, view: View) -> Any:
        index = len(self.entries) + 1
        stamp = Stamp(time_ms=index, seed=bytes(16), proposer="t", sequence=index)
        self.entries.append(encode(command, stamp))
        self.machine.apply(index, self.entries[-1])
        self.check()
        applied = view.catch_up()
        for name, other in self.nodes.items():
            if name not in self.cut and self.in_touch(name):
                other.view.catch_up()
        assert applied is not None
        if applied.error is not None:
            raise applied.error
        return applied.result

    def check(self) -> None:
        """Nothing may run where the log says that nothing runs."""
        for name, machinery in self.nodes.items():
            known = self.judge.get(name)
            if known is not None and known.state in (NodeState.OFFLINE, NodeState.FAILED):
                # Between clearing and reporting the fence has its first deadline again.
                assert not machinery.fence.open or name not in self.cut, f"{name} may run"

    async def watch(self) -> None:
        while True:
            self.check()
            await trio.sleep(0.05)


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery)
        cluster.start("n1")
        await cluster.nodes["n1"].presence.wait_ready()
        yield cluster
        cluster.check()
        nursery.cancel_scope.cancel()


async def lost(cluster: Cluster, name: str) -> None:
    while (node := cluster.judge.get(name)) is not None and node.present:  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_a_node_alone_is_ready_has_no_lease_and_costs_nothing(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n1 = cluster.nodes["n1"]
        await trio.testing.wait_all_tasks_blocked()
        assert n1.state is NodeState.AVAILABLE
        assert n1.fence.history == [None]
        assert n1.presence.valid
        assert n1.presence.left_s == math.inf
        entries = len(cluster.entries)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        await trio.sleep(1_000)
        assert (len(cluster.entries), n1.view.barriers) == (entries, 0)


async def test_a_second_node_puts_both_under_lease_and_both_renew(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n1, n2 = cluster.nodes["n1"], await cluster.join("n2")
        assert n2.fence.cleared == 1
        await trio.sleep(60)
        for each in (n1, n2):
            assert each.state is NodeState.AVAILABLE
            assert each.node is not None
            assert each.node.leased
            assert each.presence.valid
            assert 0 < each.presence.left_s <= limits.LEASE_S
            assert each.fence.deadline_s is not None
        assert n1.fence.cleared == 0, "what runs there goes on"
        assert 0.8 <= cluster.renewals * limits.RENEW_S / 60 <= 1.2
        age_s = n1.presence.granting.lease_age_s("n2")
        assert age_s is not None
        assert age_s <= limits.RENEW_S + 0.1
        assert n2.presence.granting.lease_age_s("n1") is None


async def test_a_node_that_is_cut_off_ends_before_it_is_lost_and_comes_back_by_itself(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        cluster.nursery.start_soon(cluster.watch)
        await trio.sleep(5)
        cluster.cut.add("n2")
        began_s = trio.current_time()
        await lost(cluster, "n2")
        assert limits.LEASE_S < trio.current_time() - began_s < limits.LEASE_S + 1.5
        assert not n2.presence.valid
        assert n2.state is NodeState.AVAILABLE, "it does not know"
        await trio.sleep(20)
        cleared, first = n2.fence.cleared, n2.node
        cluster.heal("n2")
        await trio.sleep(1)
        assert n2.state is NodeState.AVAILABLE
        assert n2.presence.valid
        assert n2.fence.cleared == cleared + 1
        assert first is not None
        assert n2.node is not None
        assert n2.node.epoch > first.epoch
        assert cluster.nodes["n1"].presence.valid


async def test_another_leader_ends_no_lease(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        for name in ("n2", "n3"):
            await cluster.join(name)
        cluster.voters = ["n1", "n2", "n3"]
        await trio.sleep(5)
        for leader in ("n2", "n3", "n1", "n3"):
            cluster.led = {}
            await trio.sleep(limits.ELECTION_S)
            cluster.lead(leader)
            await trio.sleep(limits.RETRY_S + 0.1)
            for machinery in cluster.nodes.values():
                assert machinery.presence.valid
            await trio.sleep(7)
        assert all(node.present for node in cluster.judge.nodes())
        assert len({node.epoch for node in cluster.judge.nodes()}) == 3


async def test_a_leader_that_is_cut_off_is_lost_after_its_successor_waited(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        for name in ("n2", "n3"):
            await cluster.join(name)
        cluster.voters = ["n1", "n2", "n3"]
        cluster.nursery.start_soon(cluster.watch)
        await trio.sleep(5)
        cluster.cut.add("n1")
        await trio.sleep(1)
        cluster.lead("n2")
        began_s = trio.current_time()
        await lost(cluster, "n1")
        assert trio.current_time() - began_s > limits.LEASE_S + limits.MARGIN_S
        assert cluster.nodes["n2"].presence.valid
        assert cluster.nodes["n3"].presence.valid
        assert not cluster.nodes["n1"].presence.valid
        cluster.heal("n1")
        await trio.sleep(2)
        assert cluster.nodes["n1"].state is NodeState.AVAILABLE
        assert cluster.nodes["n1"].presence.valid


async def test_a_hub_that_starts_again_takes_nothing_from_its_node(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        await trio.sleep(5)
        cleared, epoch = n2.fence.cleared, n2.node and n2.node.epoch
        n2.scope.cancel()
        await trio.sleep(0.5)
        assert n2.fence.open
        n2.begin()
        cluster.nursery.start_soon(n2.live)
        await n2.presence.wait_ready()
        assert n2.fence.open
        assert n2.fence.cleared == cleared
        assert n2.node is not None
        assert n2.node.epoch != epoch
        assert n2.presence.valid


async def test_a_removed_node_empties_itself_says_so_and_leaves_the_other_alone(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n1, n2 = cluster.nodes["n1"], await cluster.join("n2")
        await trio.sleep(5)
        cluster.append(RemoveNode(node="n2"), n1.view)
        await n2.presence.wait_removed()
        assert n2.fence.cleared == 2
        assert not n2.presence.valid
        assert cluster.judge.removed("n2")
        del cluster.nodes["n2"]
        await trio.sleep(5)
        assert n1.node is not None
        assert not n1.node.leased
        assert n1.fence.deadline_s is None
        assert n1.presence.left_s == math.inf
        assert await cluster.join("n3") is cluster.nodes["n3"]
        await trio.sleep(1)
        assert n1.fence.deadline_s is not None


async def test_a_removed_node_that_is_cut_off_is_gone_when_its_lease_is_over(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        await trio.sleep(5)
        cluster.cut.add("n2")
        cluster.append(RemoveNode(node="n2", force=True), cluster.nodes["n1"].view)
        while not cluster.judge.removed("n2"):
            assert cluster.judge.get("n2") is not None
            await trio.sleep(0.01)
        assert not n2.fence.open


@pytest.mark.parametrize("cut", [set(), {"n2"}])
async def test_a_removed_node_is_not_gone_before_it_votes_no_more(
    cut: set[str], autojump_clock: MockClock
) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        cluster.voters = ["n1", "n2"]
        await trio.sleep(5)
        cluster.cut |= cut
        cluster.append(RemoveNode(node="n2", force=True), cluster.nodes["n1"].view)
        await trio.sleep(20)
        known = cluster.judge.get("n2")
        assert known is not None
        assert known.state is NodeState.DESTROYING
        assert not n2.fence.open
        cluster.voters = ["n1"]
        await trio.sleep(limits.LEASE_S + 2)
        assert cluster.judge.removed("n2")


async def test_a_node_that_stays_away_is_given_up(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        cluster.cut.add("n2")
        await trio.sleep(limits.GIVE_UP_S + 10)
        known = cluster.judge.get("n2")
        assert known is not None
        assert known.state is NodeState.FAILED
        cluster.heal("n2")
        await trio.sleep(1)
        assert n2.state is NodeState.AVAILABLE


async def test_a_full_disk_does_not_keep_a_node_alone_from_working(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n1 = cluster.nodes["n1"]
        n1.scope.cancel()
        cluster.trouble = PlatformError("storage-full")
        n1.begin()
        cluster.nursery.start_soon(n1.live)
        await n1.presence.wait_ready()
        assert n1.presence.valid
        await trio.sleep(30)
        assert n1.troubles == [("node.not_present", "storage-full")], "told once"
        cluster.trouble = None
        await trio.sleep(1)
        assert n1.state is NodeState.AVAILABLE


async def test_a_full_disk_of_one_of_several_is_known_to_all_until_it_has_had_room_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with running() as cluster:
        n1, n2 = cluster.nodes["n1"], await cluster.join("n2")

        def known() -> list[bool]:
            nodes = [each.view.register.get("n2") for each in (n1, n2)]
            return [node.storage_full for node in nodes if node is not None]

        await trio.sleep(5)
        assert known() == [False, False]
        n2.view.storage = "full"
        await trio.sleep(limits.RENEW_S + limits.LOSS_CHECK_S + 0.1)
        assert known() == [True, True]
        assert n2.presence.valid
        entries = len(cluster.entries)
        for _ in range(10):
            n2.view.storage = "ok"
            await trio.sleep(limits.ROOM_AGAIN_S / 4)
            n2.view.storage = "full"
            await trio.sleep(limits.ROOM_AGAIN_S / 2)
        assert len(cluster.entries) == entries, "room that comes and goes is no room"
        n2.view.storage = "ok"
        await trio.sleep(limits.ROOM_AGAIN_S + limits.RENEW_S + limits.LOSS_CHECK_S + 0.1)
        assert known() == [False, False]
        assert n2.presence.valid
        assert n2.state is NodeState.AVAILABLE


async def test_it_is_ready_only_when_its_agents_are(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        n1 = cluster.nodes["n1"]
        n1.scope.cancel()
        n1.prepared = trio.Event()
        n1.begin()
        cluster.nursery.start_soon(n1.live)
        await trio.sleep(10)
        assert n1.state is NodeState.INITIALIZING
        n1.prepared.set()
        await n1.presence.wait_ready()
        assert n1.state is NodeState.AVAILABLE


async def test_without_a_fence_no_lease_counts(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        n2 = await cluster.join("n2")
        n2.fence.trouble = PlatformError("unavailable")
        await trio.sleep(limits.LEASE_S + 0.1)
        assert not n2.presence.valid
        assert n2.troubles == [("node.not_renewed", "unavailable")]
        n2.fence.trouble = None
        await trio.sleep(1)
        assert n2.presence.valid


async def test_renewals_are_refused_with_the_reason(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        n1, n2 = cluster.nodes["n1"], await cluster.join("n2")
        assert n2.node is not None
        good = Renew(node="n2", epoch=n2.node.epoch, number=1)
        assert (await n1.presence.granting.answer(good)).granted
        elsewhere = await n2.presence.granting.answer(good)
        assert (elsewhere.reason, elsewhere.leader) == ("not-leader", "n1")
        for stranger in (
            Renew(node="n2", epoch=n2.node.epoch - 1, number=1),
            Renew(node="n9", epoch=1, number=1),
        ):
            assert (await n1.presence.granting.answer(stranger)).reason == "lost"
        cluster.cut.add("n1")
        cluster.lead("n2")
        assert (await n1.presence.granting.answer(good)).reason == "not-leader"


async def test_a_hub_renews_for_its_own_node_only(autojump_clock: MockClock) -> None:
    class Peer:
        info = {"node": "n3"}

    class Dispatcher:
        def task(self, method: Any, handler: Any) -> None:
            self.method, self.handler = method, handler

    async with running() as cluster:
        dispatcher: Any = Dispatcher()
        cluster.nodes["n1"].presence.granting.register(dispatcher)
        assert dispatcher.method is RENEW
        peer: Any = Peer()
        context = Context(peer=peer, request=Any, timeout_s=1.0)  # type: ignore[arg-type]
        with pytest.raises(PlatformError) as caught:
            await dispatcher.handler(Renew(node="n2", epoch=1, number=1), context)
        assert caught.value.code == "denied"
