"""Delivery on virtual time: fake members that answer, are slow, fail, reject, die; hand-over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.mailbox import MailboxState, virtual_node_of
from paas.hub.mailbox_commands import (
    ConfigureGroup,
    NewMessage,
    PutMessages,
    RedeliverMessages,
    Settings,
)
from paas.hub.mailbox_keeper import Surroundings
from paas.hub.mailboxes import Mailboxes
from paas.hub.messages import Forward
from paas.hub.ring_state import RingState
from paas.hub.routes import Answer
from paas.node.state import LoseNode, NodeRegister, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Applied, Machine

GROUP = "orders"
COMMIT_S = 0.01
OK = b"\x80"

Behaviour = Callable[[Forward], Awaitable[bytes | PlatformError]]


class Replica:
    """One node's view of the log; while it lags, entries wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state, self.ring, self.nodes = MailboxState(), RingState(), NodeRegister()
        self.machine = Machine([self.nodes, self.ring, self.state])
        self.subscribers: list[Callable[[int, Sequence[Any]], None]] = []
        self.lags = False
        self._late: list[tuple[int, bytes]] = []

    def take(self, index: int, data: bytes) -> Applied | None:
        if self.lags:
            self._late.append((index, data))
            return None
        applied = self.machine.apply(index, data)
        for subscriber in list(self.subscribers):
            subscriber(index, applied.events)
        return applied

    def catch_up(self) -> None:
        self.lags = False
        late, self._late = self._late, []
        for index, data in late:
            self.take(index, data)


class Log:
    """What is proposed is applied on all replicas, a little later."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []
        self.judge = Machine([NodeRegister(), RingState(), MailboxState()])
        self.index = 0
        self.commands: list[msgspec.Struct] = []
        self.trouble: list[PlatformError] = []
        """Raised by the next proposals, which are not applied."""

    async def propose(self, cmd: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.sleep(COMMIT_S)
        if self.trouble:
            raise self.trouble.pop(0)
        return self.apply(cmd)

    def apply(self, cmd: msgspec.Struct) -> Any:
        self.index += 1
        self.commands.append(cmd)
        data = encode(cmd, Stamp(self.index, bytes(16), "t", self.index))
        applied = self.judge.apply(self.index, data)
        for replica in self.replicas:
            replica.take(self.index, data)
        if applied.error is not None:
            raise applied.error
        return applied.result

    def count(self, kind: str) -> int:
        return sum(type(cmd).__name__ == kind for cmd in self.commands)


class LogOf:
    """The log as one node sees it."""

    def __init__(self, log: Log, replica: Replica) -> None:
        self.propose = log.propose
        self._replica = replica

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.sleep(COMMIT_S)
        if self._replica.lags:
            await trio.sleep(timeout_s)
            raise PlatformError("unavailable")

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self._replica.subscribers.append(callback)
        return lambda: self._replica.subscribers.remove(callback)


async def obedient(_message: Forward) -> bytes | PlatformError:
    await trio.sleep(0.01)
    return OK


class Members:
    """Fake members, the same for all nodes; `seen` is what came to them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.seen: list[tuple[str, str, int]] = []  # member, id, attempt
        self.done: list[str] = []
        self.times_s: list[float] = []
        self.refusals: list[PlatformError] = []
        """Raised by the next deliveries."""
        self._nursery = nursery
        self._deaths: dict[str, trio.Event] = {}

    def add(self, name: str, behaviour: Behaviour = obedient) -> None:
        self.behaviours[name] = behaviour
        self._deaths[name] = trio.Event()

    def die(self, name: str) -> None:
        del self.behaviours[name]
        self._deaths.pop(name).set()

    def ready_members(self, _group: str) -> list[str]:
        return list(self.behaviours)

    def deliver(self, message: Forward, answer: Answer) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self._nursery.start_soon(self._work, message, answer)

    async def _work(self, message: Forward, answer: Answer) -> None:
        name = message.component
        behaviour = self.behaviours.get(name)
        if behaviour is None:
            answer(PlatformError("not-available"))
            return
        assert isinstance(message.message, msgspec.Struct)
        self.seen.append((name, message.message.id, message.message.attempt))
        self.times_s.append(trio.current_time())
        value: bytes | PlatformError = PlatformError("unknown-outcome")
        death = self._deaths[name]
        async with trio.open_nursery() as nursery:

            async def end_with_member() -> None:
                await death.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_with_member)
            with trio.move_on_after(message.timeout or 1.0) as slow:
                value = await behaviour(message)
                if isinstance(value, bytes):
                    self.done.append(message.message.id)
            if slow.cancelled_caught:
                value = PlatformError("timeout")
            nursery.cancel_scope.cancel()
        answer(value)


class World:
    def __init__(self, nursery: trio.Nursery, *nodes: str) -> None:
        self.log = Log()
        self.nursery = nursery
        self.members = Members(nursery)
        self.bugs: list[Exception] = []
        self.troubles: list[str] = []
        self.leases = dict.fromkeys(nodes, True)
        self.hubs: dict[str, tuple[Replica, Mailboxes, trio.CancelScope]] = {}
        self.replicas = {node: Replica(node) for node in nodes}
        self.log.replicas = list(self.replicas.values())
        for node in nodes:
            self.log.apply(
                ReportNode(node=node, memory_bytes=1, cpu=1.0, leased=True, cleared=True)
            )

    async def start(self, node: str) -> Mailboxes:
        replica = self.replicas[node]
        around = Surroundings(
            node=node,
            state=replica.state,
            log=LogOf(self.log, replica),
            deliveries=self.members,
            may_run=lambda: self.leases[node],
            on_trouble=lambda group, error: self.troubles.append(error.code),
        )
        mailboxes = Mailboxes(around, replica.ring, lambda _where, bug: self.bugs.append(bug))
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await mailboxes.run(task_status=task_status)

        await self.nursery.start(run)
        self.hubs[node] = (replica, mailboxes, scope)
        return mailboxes

    def kill(self, node: str) -> None:
        """The hub's process ends; what it had not committed is forgotten."""
        self.hubs.pop(node)[2].cancel()

    def configure(self, **given: Any) -> None:
        self.log.apply(ConfigureGroup(group=GROUP, settings=Settings(**given)))

    def put(self, *ids: str, sender: str = "a") -> None:
        messages = [
            NewMessage(group=GROUP, operation="do", inputs=OK, from_=sender, id=one) for one in ids
        ]
        self.log.apply(PutMessages(messages=messages))

    @property
    def box(self) -> Any:
        state: Any = self.log.judge.sections["mailboxes"]
        return state.require(GROUP)

    @property
    def primary(self) -> str:
        ring: Any = self.log.judge.sections["ring"]
        return str(ring.primary(virtual_node_of(GROUP)))

    async def empty(self) -> None:
        """Until nothing waits."""
        with trio.fail_after(10_000):
            while self.box.waiting:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.25)
        await trio.sleep(1.0)

    def lose(self, node: str) -> None:
        nodes: Any = self.log.judge.sections["nodes"]
        self.log.apply(LoseNode(node=node, epoch=nodes.get(node).epoch, term=1))


@asynccontextmanager
async def world_of(*nodes: str, **settings: Any) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, *nodes)
        world.configure(**settings)
        for node in nodes:
            await world.start(node)
        yield world
        assert world.bugs == []
        nursery.cancel_scope.cancel()


def answers(*values: bytes | PlatformError) -> Behaviour:
    """These, then OK."""
    left = list(values)

    async def behave(_message: Forward) -> bytes | PlatformError:
        await trio.sleep(0.01)
        return left.pop(0) if left else OK

    return behave


# -- one node ----


async def test_messages_wait_until_there_is_a_member(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.put("x", "y")
        await trio.sleep(100)
        assert world.members.seen == []
        world.members.add("m")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert world.box.counts.acknowledged == 2


async def test_what_is_acknowledged_never_comes_again(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.put("x")
        await world.empty()
        world.kill("n1")
        await world.start("n1")
        await trio.sleep(100)
        assert world.members.seen == [("m", "x", 1)]


async def test_messages_of_one_sender_come_in_order_and_senders_side_by_side(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        running: dict[str, int] = {"most": 0, "now": 0}

        async def count(_message: Forward) -> bytes:
            running["now"] += 1
            running["most"] = max(running["most"], running["now"])
            await trio.sleep(1.0)
            running["now"] -= 1
            return OK

        world.members.add("m", count)
        world.put("a1", "a2", "a3", sender="a")
        world.put("b1", "b2", sender="b")
        await world.empty()
        assert [one for one in world.members.done if one[0] == "a"] == ["a1", "a2", "a3"]
        assert [one for one in world.members.done if one[0] == "b"] == ["b1", "b2"]
        assert running["most"] == 2


async def test_a_receiver_that_dies_before_it_answers_is_followed_by_another(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:

        async def hang(_message: Forward) -> bytes:
            await trio.sleep(10)
            return OK

        world.members.add("m1", hang)
        world.put("x")
        await trio.sleep(1)
        world.members.add("m2")
        world.members.die("m1")
        begin_s = trio.current_time()
        await world.empty()
        assert world.members.seen == [("m1", "x", 1), ("m2", "x", 2)]
        assert world.members.times_s[1] - begin_s < 0.5  # at once: the message is not to blame


async def test_a_message_that_kills_every_receiver_dies_at_last(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=3) as world:

        async def poisoned(_message: Forward) -> PlatformError:
            return PlatformError("unknown-outcome")

        world.members.add("m1", poisoned)
        world.members.add("m2", poisoned)
        world.put("poison", "next")
        world.members.add("m3", poisoned)
        await trio.sleep(2.9)
        for name in ("m1", "m2", "m3"):
            world.members.behaviours[name] = obedient
        await trio.sleep(100)
        assert [letter.id for letter in world.box.dead.values()] == ["poison"]
        assert world.members.done == ["next"]


async def test_a_slow_member_costs_an_attempt_and_the_message_goes_elsewhere(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", timeout_s=2.0) as world:

        async def sleepy(_message: Forward) -> bytes:
            await trio.sleep(5)
            return OK

        world.members.add("slow", sleepy)
        world.put("x")
        await trio.sleep(0.5)
        world.members.add("fast")
        await world.empty()
        assert world.members.seen == [("slow", "x", 1), ("fast", "x", 2)]


async def test_failures_back_off_and_end_as_a_dead_letter(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=4, backoff_s=1.0) as world:
        failed = PlatformError("failed", "no idea")
        world.members.add("m", answers(failed, failed, failed, failed))
        world.put("x", "y")
        await world.empty()
        times = world.members.times_s[:4]
        gaps = [round(b - a) for a, b in pairwise(times)]
        assert gaps == [1, 2, 4]
        (letter,) = world.box.dead.values()
        assert (letter.id, letter.attempts, letter.reason) == ("x", 4, "failed: no idea")
        assert world.members.seen[4:] == [("m", "y", 1)]


async def test_a_rejected_message_is_dead_at_once_and_the_next_one_comes(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m", answers(PlatformError("reject", "never")))
        world.put("x", "y")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert [letter.reason for letter in world.box.dead.values()] == ["reject: never"]


async def test_a_message_that_did_not_arrive_costs_no_attempt(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=1) as world:
        away = PlatformError("not-available")
        world.members.add("m", answers(away, away, away))
        world.put("x")
        await world.empty()
        assert [attempt for _, _, attempt in world.members.seen] == [1, 1, 1, 1]
        assert world.box.dead == {}


async def test_a_message_that_may_not_be_given_dies_and_one_that_cannot_be_sent_waits(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", attempts=2) as world:
        world.members.refusals += [PlatformError("limit-exceeded"), PlatformError("denied", "no")]
        world.members.refusals += [PlatformError("not-available"), PlatformError("denied", "no")]
        world.members.add("m")
        world.put("x", "y")
        await world.empty()
        assert [(m.id, m.attempts, m.reason) for m in world.box.dead.values()] == [
            ("x", 2, "denied: no")
        ]
        assert world.members.done == ["y"]


async def test_acknowledgements_share_commands(autojump_clock: MockClock) -> None:
    async with world_of("n1", ordered=False, in_flight=100) as world:
        world.members.add("m")
        world.put(*(f"x{number}" for number in range(100)))
        await world.empty()
        assert len(world.members.seen) == 100
        assert world.log.count("AckMessages") < 10


async def test_a_log_without_leader_delays_acknowledgements_and_loses_none(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable"), PlatformError("unknown-outcome")]
        world.put("x", "y")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert world.troubles == ["unavailable", "unknown-outcome"]


async def test_acknowledgements_that_cannot_be_committed_stop_delivery_at_a_bound(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", ordered=False, in_flight=256) as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable")] * 20
        for part in range(10):
            world.put(*(f"x{part}-{number}" for number in range(200)))
        await trio.sleep(20)
        bound = limits.DURABLE_ACKS_UNCOMMITTED_MAX + limits.DURABLE_IN_FLIGHT_MAX
        assert len(world.members.seen) <= bound
        await world.empty()
        assert len(world.members.seen) == 2_000


async def test_dead_letters_come_again_when_they_are_redelivered(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m", answers(PlatformError("reject")))
        world.put("x")
        await world.empty()
        world.log.apply(RedeliverMessages(group=GROUP, ids=None))
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "x", 1)]
        assert world.members.done == ["x"]


async def test_more_in_flight_counts_at_once(autojump_clock: MockClock) -> None:
    async with world_of("n1", ordered=False, in_flight=1) as world:

        async def long(_message: Forward) -> bytes:
            await trio.sleep(10)
            return OK

        world.members.add("m", long)
        world.put("x", "y", "z")
        await trio.sleep(1)
        assert len(world.members.seen) == 1
        world.configure(ordered=False, in_flight=3)
        await trio.sleep(1)
        assert len(world.members.seen) == 3


# -- the hub dies, the primary changes ----


async def test_a_hub_that_dies_before_the_acknowledgement_is_committed_delivers_again(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable")]
        world.put("x", "y")
        await trio.sleep(0.2)
        assert world.members.done == ["x", "y"]
        assert world.box.counts.acknowledged == 0
        world.kill("n1")
        await world.start("n1")
        await world.empty()
        assert world.members.done == ["x", "y", "x", "y"]  # at least once, and in order again


async def test_only_the_primary_delivers(autojump_clock: MockClock) -> None:
    async with world_of("n1", "n2", "n3") as world:
        world.members.add("m")
        world.put("x")
        await world.empty()
        assert len(world.members.seen) == 1
        keeping = [n for n, (_, boxes, _) in world.hubs.items() if boxes.keeper(GROUP)]
        assert keeping == [world.primary]


async def test_without_a_lease_nothing_is_delivered(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.leases["n1"] = False
        world.put("x")
        await trio.sleep(10)
        assert world.members.seen == []
        world.leases["n1"] = True
        await world.empty()
        assert world.members.seen == [("m", "x", 1)]


async def test_a_primary_of_the_past_stops_when_the_log_refuses_it(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3") as world:
        old = world.primary
        replica, boxes, _ = world.hubs[old]
        replica.lags = True  # it does not hear that it was lost
        world.lose(old)
        assert world.primary != old
        world.members.add("m")
        world.put("w")
        await world.empty()
        assert world.members.done == ["w"]
        replica.lags = False
        replica.catch_up()
        await trio.sleep(10)
        assert boxes.keeper(GROUP) is None
        assert world.members.done == ["w"]


async def test_a_stale_primary_that_delivers_is_refused_and_waits_until_it_knows_better(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3") as world:
        world.put("x", "y")
        old = world.primary
        replica, boxes, _ = world.hubs[old]
        replica.lags = True
        world.lose(old)
        world.members.add("m")
        await world.empty()
        await trio.sleep(100)
        # Both delivered: at least once.  Then the old one was refused, and did nothing more.
        assert sorted(set(world.members.done)) == ["x", "y"]
        assert len(world.members.done) <= 4
        replica.catch_up()
        await trio.sleep(20)
        assert boxes.keeper(GROUP) is None
        assert world.box.counts.acknowledged == 2


async def test_a_primary_that_was_refused_wrongly_begins_again(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("conflict")]
        world.put("x")
        await world.empty()
        assert world.members.done == ["x", "x"]
        assert world.box.counts.acknowledged == 1


async def test_handing_over_under_load_loses_nothing_and_keeps_first_deliveries_in_order(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3", backoff_s=0.1) as world:
        world.members.add("m1")
        world.members.add("m2")

        async def cast(sender: str) -> None:
            for number in range(60):
                world.put(f"{sender}-{number:03}", sender=sender)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for sender in ("a", "b", "c"):
                nursery.start_soon(cast, sender)
            await trio.sleep(0.2)
            first = world.primary
            world.hubs[first][0].lags = True
            world.lose(first)
            await trio.sleep(0.2)
            world.hubs[first][0].catch_up()
            world.kill(first)
            second = world.primary
            world.kill(second)
            world.lose(second)
        await world.empty()
        assert len({first, second, world.primary}) == 3
        for sender in ("a", "b", "c"):
            mine = [one for one in world.members.done if one.startswith(sender)]
            assert sorted(set(mine)) == [f"{sender}-{number:03}" for number in range(60)]
            firsts = list(dict.fromkeys(mine))
            assert firsts == sorted(firsts)
        assert world.box.counts.acknowledged == 180
        assert len(world.members.done) < 180 + 2 * limits.DURABLE_IN_FLIGHT_MAX
