"""A small world for durable mailboxes: replicas of the log, members that do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.hub.mailbox import MailboxState, virtual_node_of
from paas.hub.mailbox_commands import (
    ConfigureGroup,
    NewMessage,
    PutMessages,
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
