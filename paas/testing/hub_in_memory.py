"""A hub without a platform around it: log and connections in memory, a controller in words.

`async with hub_world() as world` gives a real `Hub` with its dispatcher and policy.  Commands go
through a real `Machine`; what the controller's section would announce is said by `exists`,
`becomes` and `ends`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
import trio.testing

from paas.base.errors import LocalError, PlatformError
from paas.controller.messages import ComponentChanged, ComponentCreated, ComponentEnded
from paas.harness import messages as harness
from paas.harness.messages import EVENT, Event, Hello, PhaseChange, Records
from paas.hub.agent import Hub
from paas.hub.attributes import AttributeState
from paas.hub.history import History
from paas.hub.messages import Member
from paas.hub.policy import POLICY
from paas.hub.state import GroupState
from paas.raft.command import SEED_BYTES, Stamp, command, encode
from paas.raft.machine import Context as Applying
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.link import PeerCredentials
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import Method, Params, decode

TIME_MS = 1_700_000_000_000


@command(9_902)
class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """Command for tests: something happens to a component."""

    component: str
    what: str
    state: str = ""
    previous: str = ""
    groups: list[str] = msgspec.field(default_factory=list)


class Lives:
    """Stands for the controller's section."""

    name = "lives"

    def __init__(self) -> None:
        self.commands = {Announce: self._announce}
        self.states: dict[str, str] = {}

    def _announce(self, cmd: Announce, ctx: Applying) -> None:
        common: dict[str, Any] = {
            "component": cmd.component,
            "index": ctx.index,
            "time_ms": ctx.stamp.time_ms,
        }
        if cmd.what == "created":
            self.states[cmd.component] = "preparing"
            ctx.emit(
                ComponentCreated(
                    name=f"name-{cmd.component}",
                    type="t@1",
                    node="n1",
                    groups=cmd.groups,
                    created_by="",
                    **common,
                )
            )
        elif cmd.what == "ended":
            ctx.emit(
                ComponentEnded(
                    incarnation=1, reason="normal", will_restart=False, because="", **common
                )
            )
        else:
            self.states[cmd.component] = cmd.state
            ctx.emit(
                ComponentChanged(
                    incarnation=1,
                    state=cmd.state,
                    previous=cmd.previous,
                    reason="because",
                    **common,
                )
            )

    def react(self, event: object, ctx: Applying, /) -> None:
        pass

    def snapshot(self) -> Any:
        return dict(sorted(self.states.items()))

    def restore(self, plain: Any, /) -> None:
        self.states = dict(plain)


class MemoryLog:
    """A replicated log of one replica without a disk: what is proposed is applied."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._index = 0
        self.subscribers: list[Callable[[int, Sequence[object]], None]] = []
        self.slow: trio.Event | None = None

    def applied(self) -> int:
        return self._index

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        if self.slow is not None:
            with trio.fail_after(timeout_s):
                await self.slow.wait()
        return self.apply(command)

    def apply(self, command: msgspec.Struct) -> Any:
        self._index += 1
        stamp = Stamp(TIME_MS, bytes(SEED_BYTES), "n1", self._index)
        applied = self._machine.apply(self._index, encode(command, stamp))
        for subscriber in self.subscribers:
            subscriber(self._index, applied.events)
        if applied.error is not None:
            raise applied.error
        return applied.result


class Directory:
    """The bridge between sections, as the assembly makes it."""

    def __init__(self, lives: Lives, groups: GroupState) -> None:
        self._lives = lives
        self._groups = groups

    def resolve(self, target: str) -> str:
        component = target.removeprefix("name-")
        if component not in self._lives.states:
            raise PlatformError("no-such-target")
        return component

    def members(self, group: str) -> list[str]:
        return self._groups.members(group)

    def state(self, component: str) -> str:
        return self._lives.states[component]

    def node(self, component: str) -> str:
        return "n1"

    def member(self, component: str) -> Member:
        if component not in self._lives.states:
            raise PlatformError("no-such-target")
        return Member(
            component=component,
            name=f"name-{component}",
            node="n1",
            state=self._lives.states[component],
        )


class Notes:
    """The controller and the log store: they write down what they are told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def harness_attached(self, component: str, hello: Hello) -> None:
        self.heard.append(("attached", component, hello.phase))

    def harness_phase(self, component: str, change: PhaseChange) -> None:
        self.heard.append(("phase", component, change.phase, change.reason))

    def harness_detached(self, component: str) -> None:
        self.heard.append(("detached", component))

    async def deliver(self, component: str, batch: Records) -> None:
        self.heard.append(("records", component, [r.message for r in batch.records]))


class Far:
    """The other end of a connection to the hub."""

    def __init__(self) -> None:
        self.peer: Peer
        self.events: list[Event] = []
        self.asked: list[str] = []

    def on_request(self, peer: Peer, request: Request) -> None:
        if request.method == EVENT.name:
            self.events.append(decode(request.params, Event))
        else:
            self.asked.append(request.method)
            peer.reply(request)

    @property
    def told(self) -> list[tuple[int, str, str]]:
        return [(e.watch, e.event, e.component) for e in self.events]

    async def call(self, method: Method[Any, Any], params: Params) -> Any:
        return await self.peer.call(method, params)

    async def error(self, method: Method[Any, Any], params: Params) -> PlatformError:
        """The error that the call ends with."""
        try:
            await self.peer.call(method, params)
        except PlatformError as exc:
            return exc
        raise LocalError(f"{method.name} did not fail")


class World:
    """A hub with its log, and connections to it."""

    def __init__(self, maker: Pairs, nursery: trio.Nursery) -> None:
        self.lives, groups = Lives(), GroupState()
        attributes, history = AttributeState(), History(groups.groups_of)
        self.log = MemoryLog(Machine([self.lives, groups, attributes, history]))
        self.uids: dict[str, int] = {}
        self.notes = Notes()
        self.bugs: list[Exception] = []
        self.hub = Hub(
            node="n1",
            log=self.log,
            groups=groups,
            attributes=attributes,
            history=history,
            directory=Directory(self.lives, groups),
            clock=SystemClock(),
            uid_of=self.uids.get,
        )
        self.hub.listener = self.notes
        self.hub.records = self.notes
        self.log.subscribers.append(self.hub.state_changed)
        self.dispatcher = Dispatcher(
            nursery,
            SystemClock(),
            authorise=self.authorise,
            on_bug=lambda _method, exc: self.bugs.append(exc),
        )
        self.hub.register(self.dispatcher)
        nursery.start_soon(self.hub.run)
        self._maker = maker

    @staticmethod
    def authorise(peer: Peer, method: str) -> None:
        roles = peer.info["roles"] | ({"component"} if "component" in peer.info else set())
        rule = POLICY.get(method)
        if rule is not None and not rule.roles & roles:
            raise PlatformError("denied")

    def connect(self, uid: int, role: str) -> Far:
        far = Far()
        ours, far.peer = self._maker.join(self.dispatcher, far.on_request)
        ours.info.update(credentials=PeerCredentials(1, uid, uid), roles=frozenset({role}))
        ours.on_close = self.hub.connection_closed
        return far

    def operator(self) -> Far:
        return self.connect(0, "operator")

    def exists(self, component: str, uid: int = 500, groups: Sequence[str] = ()) -> None:
        self.log.apply(Announce(what="created", component=component, groups=list(groups)))
        self.uids[component] = uid

    def becomes(self, component: str, state: str, previous: str = "initializing") -> None:
        self.log.apply(
            Announce(what="changed", component=component, state=state, previous=previous)
        )

    def ends(self, component: str) -> None:
        self.log.apply(Announce(what="ended", component=component))

    async def component(self, component: str, phase: str = "available", **more: Any) -> Far:
        """An attached component."""
        if component not in self.lives.states:
            self.exists(component, **more)
        far = self.connect(self.uids[component], "harness")
        await far.call(harness.HELLO, hello(component, phase))
        return far


def hello(component: str, phase: Any = "available", version: int = 1) -> Hello:
    return Hello(component=component, incarnation=1, phase=phase, version=version)


@asynccontextmanager
async def hub_world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery, pairs() as maker:
        world = World(maker, nursery)
        yield world
        if world.bugs:
            raise world.bugs[0]
        nursery.cancel_scope.cancel()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()
