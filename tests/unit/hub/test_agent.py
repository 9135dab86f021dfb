"""The hub as a whole on a small log in memory: who may say hello, groups, waiting, watches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentChanged, ComponentCreated, ComponentEnded
from paas.harness import messages as harness
from paas.harness.messages import EVENT, STOP, Event, Hello, PhaseChange, Records
from paas.hub import messages
from paas.hub.agent import PROTOCOL_VERSION, Hub
from paas.hub.messages import Member
from paas.hub.policy import POLICY
from paas.hub.state import GroupState
from paas.raft.command import SEED_BYTES, Stamp, command, encode
from paas.raft.machine import Context as Applying
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.envelope import Request
from paas.rpc.link import PeerCredentials
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import Method, Nothing, Params, decode


@command(9_902)
class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """Test command: something happens to a component."""

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
        stamp = Stamp(1_700_000_000_000, bytes(SEED_BYTES), "n1", self._index)
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

    def receive(self, component: str, batch: Records) -> None:
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
        with pytest.raises(PlatformError) as caught:
            await self.peer.call(method, params)
        return caught.value


class World:
    """A hub with its log, and connections to it."""

    def __init__(self, maker: Pairs, nursery: trio.Nursery) -> None:
        self.lives, groups = Lives(), GroupState()
        self.log = MemoryLog(Machine([self.lives, groups]))
        self.uids: dict[str, int] = {}
        self.notes = Notes()
        self.bugs: list[Exception] = []
        self.hub = Hub(
            node="n1",
            log=self.log,
            groups=groups,
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
        assert world.bugs == []
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with hub_world() as made:
        yield made


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_every_method_of_the_hub_has_a_policy_row(world: World) -> None:
    others = {m for m in POLICY if not m.startswith(("hub.", "rpc.", "harness."))}
    check_policy(world.dispatcher.methods() | others, POLICY)


# -- hello ----


async def test_the_right_user_is_attached(world: World) -> None:
    world.exists("a", uid=77)
    far = world.connect(77, "harness")
    result = await far.call(harness.HELLO, hello("a", "initializing", version=9))
    assert (result.version, result.node) == (PROTOCOL_VERSION, "n1")
    assert world.hub.attached("a")
    assert not world.hub.router.is_ready("a")
    assert world.notes.heard == [("attached", "a", "initializing")]


async def test_the_wrong_user_is_told_and_cut_off(world: World) -> None:
    world.exists("a", uid=77)
    far = world.connect(78, "harness")
    assert (await far.error(harness.HELLO, hello("a"))).code in ("denied", "unknown-outcome")
    await settled()
    assert far.peer.closed
    assert not world.hub.attached("a")
    assert world.notes.heard == []


async def test_a_harness_that_is_faster_than_the_word_about_it_waits(world: World) -> None:
    far = world.connect(77, "harness")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.call, harness.HELLO, hello("a"))
        await settled()
        assert not world.hub.attached("a")
        world.exists("a", uid=77)
        world.hub.wake()
    assert world.hub.attached("a")


async def test_a_harness_nobody_ever_speaks_of_is_denied(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    far = world.connect(77, "harness")
    assert (await far.error(harness.HELLO, hello("a"))).code in ("denied", "unknown-outcome")
    assert not world.hub.attached("a")


async def test_one_that_hangs_up_while_it_waits_is_not_attached(world: World) -> None:
    far = world.connect(77, "harness")
    far.peer.send_request(
        harness.HELLO.name, codec.pack(hello("a")), lambda _answer: None, timeout_s=9.0
    )
    await settled()
    far.peer.close()
    await settled()
    world.exists("a", uid=77)
    world.hub.wake()
    await settled()
    assert not world.hub.attached("a")


async def test_a_connection_belongs_to_one_component(world: World) -> None:
    far = await world.component("a", uid=77)
    world.exists("b", uid=77)
    assert (await far.error(harness.HELLO, hello("b"))).code == "denied"
    assert not world.hub.attached("b")
    await far.call(harness.HELLO, hello("a"))


async def test_without_hello_nothing_is_possible(world: World) -> None:
    far = world.connect(77, "harness")
    for method, params in (
        (harness.PHASE, PhaseChange(phase="available")),
        (harness.RECORDS, Records(records=[])),
        (messages.JOIN, messages.Join(groups=["g"])),
    ):
        assert (await far.error(method, params)).code == "denied"


async def test_an_operator_is_no_harness(world: World) -> None:
    world.exists("a", uid=0)
    assert (await world.operator().error(harness.HELLO, hello("a"))).code == "denied"


# -- phases, records, requests to harnesses ----


async def test_phases_decide_about_readiness_and_are_passed_on(world: World) -> None:
    far = await world.component("a", "initializing")
    far.peer.notify(harness.PHASE, PhaseChange(phase="available"))
    await settled()
    assert world.hub.router.is_ready("a")
    await far.call(harness.PHASE, PhaseChange(phase="unavailable", reason="busy"))
    assert not world.hub.router.is_ready("a")
    assert world.notes.heard[1:] == [
        ("phase", "a", "available", ""),
        ("phase", "a", "unavailable", "busy"),
    ]


async def test_records_go_to_the_sink(world: World) -> None:
    far = await world.component("a")
    record = harness.LogRecord(
        sequence=1, time_ms=1, stream="stdout", level="info", message="hello"
    )
    await far.call(harness.RECORDS, Records(records=[record]))
    assert world.notes.heard[-1] == ("records", "a", ["hello"])


async def test_requests_reach_the_harness_that_is_attached(world: World) -> None:
    far = await world.component("a")
    assert await world.hub.request("a", STOP, harness.Stop(), 5.0) == Nothing()
    assert far.asked == [STOP.name]
    with pytest.raises(PlatformError) as caught:
        await world.hub.request("b", STOP, harness.Stop(), 5.0)
    assert caught.value.code == "not-available"


async def test_a_connection_that_ends_is_detached_and_told(world: World) -> None:
    far = await world.component("a")
    far.peer.close()
    await settled()
    assert not world.hub.attached("a")
    assert world.notes.heard[-1] == ("detached", "a")


async def test_a_reconnected_harness_stays_when_its_old_connection_ends(world: World) -> None:
    old = await world.component("a")
    await world.component("a")
    await settled()
    assert old.peer.closed
    assert world.hub.attached("a")
    assert ("detached", "a") not in world.notes.heard


# -- groups ----


async def test_components_join_and_leave(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    first = await a.call(messages.JOIN, messages.Join(groups=["g"]))
    second = await b.call(messages.JOIN, messages.Join(groups=["g", "h"]))
    assert (first.positions, first.members) == ({"g": 1}, {"g": 1})
    assert (second.positions, second.members) == ({"g": 2, "h": 1}, {"g": 2, "h": 1})
    assert second.token["g"] > first.token["g"]
    await a.call(messages.LEAVE, messages.Leave(groups=["g"]))
    result = await world.operator().call(messages.GROUPS, messages.Groups())
    assert result.groups == {"g": 1, "h": 1}
    result = await world.operator().call(messages.GROUPS, messages.Groups(prefix="h"))
    assert result.groups == {"h": 1}


async def test_an_operator_cannot_be_a_member(world: World) -> None:
    operator = world.operator()
    assert (await operator.error(messages.JOIN, messages.Join(groups=["g"]))).code == "denied"
    assert (await operator.error(messages.LEAVE, messages.Leave(groups=["g"]))).code == "denied"


async def test_what_the_log_refuses_is_the_caller_s_error(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    await a.call(messages.JOIN, messages.Join(groups=["lock"], unique=True))
    error = await b.error(messages.JOIN, messages.Join(groups=["lock"], unique=True))
    assert (error.code, error.data["holder"]) == ("conflict", "a")


@pytest.mark.parametrize("groups", [[], [""], ["a:b"], ["a\nb"], ["x" * 129], ["ok", ""]])
async def test_bad_group_names_never_reach_the_log(world: World, groups: list[str]) -> None:
    far = await world.component("a")
    index = world.log.applied()
    error = await far.error(messages.JOIN, messages.Join(groups=groups))
    assert (error.code, error.data["field"]) == ("invalid", "groups")
    assert world.log.applied() == index


async def test_members_in_joining_order_or_one_that_is_ready(world: World) -> None:
    for name, phase in (("b", "initializing"), ("a", "available"), ("c", "available")):
        far = await world.component(name, phase)
        await far.call(messages.JOIN, messages.Join(groups=["g"]))
    operator = world.operator()
    result = await operator.call(messages.MEMBERS, messages.Members(group="g"))
    assert [m.component for m in result.members] == ["b", "a", "c"]
    assert (result.members[0].name, result.members[0].node) == ("name-b", "n1")
    result = await operator.call(messages.MEMBERS, messages.Members(group="g", selector="any"))
    assert [m.component for m in result.members] == ["a"]
    result = await operator.call(messages.MEMBERS, messages.Members(group="nobody"))
    assert result.members == []
    error = await operator.error(messages.MEMBERS, messages.Members(group="g", selector="x"))
    assert error.code == "invalid"


async def test_turns_of_a_group_that_has_gone_are_forgotten(world: World) -> None:
    a = await world.component("a")
    for number in range(5):
        group = f"g{number}"
        await a.call(messages.JOIN, messages.Join(groups=[group]))
        await a.call(messages.CAST, messages.Cast(target=f"group:{group}", operation="op"))
        await a.call(messages.LEAVE, messages.Leave(groups=[group]))
    assert world.hub.router._turns._turns == {}


# -- await ----


async def test_await_what_is_there_already(world: World) -> None:
    a = await world.component("a")
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    for params in (messages.Await(group="g"), messages.Await(name="name-a")):
        result = await world.operator().call(messages.AWAIT, params)
        assert [m.component for m in result.members] == ["a"]


async def test_await_what_comes_later(world: World) -> None:
    """Each of: a name becomes known, a harness attaches, a phase, a second member."""
    done: list[str] = []

    async def wait(params: messages.Await) -> None:
        result = await world.operator().call(messages.AWAIT, params)
        done.append(" ".join(m.component for m in result.members))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, messages.Await(name="name-a"))
        nursery.start_soon(wait, messages.Await(group="g", count=2))
        await settled()
        a = await world.component("a", "initializing")
        await a.call(messages.JOIN, messages.Join(groups=["g"]))
        await settled()
        assert done == []
        a.peer.notify(harness.PHASE, PhaseChange(phase="available"))
        await settled()
        assert done == ["a"]
        b = await world.component("b")
        await settled()
        assert done == ["a"]
        await b.call(messages.JOIN, messages.Join(groups=["g"]))
    assert done == ["a", "a b"]


async def test_await_ends_at_its_deadline(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    error = await world.operator().error(messages.AWAIT, messages.Await(group="g", timeout=3.0))
    assert error.code == "timeout"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (messages.Await(), "group"),
        (messages.Await(group="g", name="n"), "group"),
        (messages.Await(group="g", count=0), "count"),
    ],
)
async def test_await_of_nothing_sensible(world: World, params: messages.Await, field: str) -> None:
    error = await world.operator().error(messages.AWAIT, params)
    assert (error.code, error.data["field"]) == ("invalid", field)


async def test_nobody_waits_for_one_that_has_hung_up(world: World) -> None:
    far = world.operator()
    for _ in range(3):
        far.peer.send_request(
            messages.AWAIT.name,
            codec.pack(messages.Await(group="g", timeout=3_600.0)),
            lambda _answer: None,
            timeout_s=9.0,
        )
    far.peer.notify(messages.AWAIT, messages.Await(group="g", timeout=3_600.0))
    await settled()
    nursery = world.dispatcher._nursery
    assert len(nursery.child_tasks) == 4
    far.peer.close()
    await settled()
    assert len(nursery.child_tasks) == 0


# -- watches ----


async def test_a_watch_of_a_group_is_a_snapshot_and_then_every_event_once(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    far = world.operator()
    result = await far.call(messages.WATCH, messages.Watch(group="g"))
    assert [m["component"] for m in result.snapshot] == ["a"]
    assert result.index == world.log.applied()
    await b.call(messages.JOIN, messages.Join(groups=["g", "other"]))
    world.becomes("b", "unavailable", "available")
    await a.call(messages.LEAVE, messages.Leave(groups=["g"]))
    world.log.apply(Announce(what="ended", component="b"))
    await settled()
    assert far.told == [
        (result.watch, "joined", "b"),
        (result.watch, "changed", "b"),
        (result.watch, "left", "a"),
        (result.watch, "left", "b"),
    ]
    changed = far.events[1]
    assert (changed.state, changed.previous, changed.reason) == (
        "unavailable",
        "available",
        "because",
    )
    assert (changed.name, changed.group, changed.time) == ("name-b", "g", 1_700_000_000.0)
    indices = [e.index for e in far.events]
    assert indices == sorted(set(indices))
    assert all(i > result.index for i in indices)


async def test_watching_while_others_join_misses_and_repeats_nothing(world: World) -> None:
    """At whatever moment a watch begins: snapshot and events are what there is in the end."""
    joiners = [await world.component(f"c{n}") for n in range(12)]
    seen: list[set[str]] = []

    async def join(far: Far) -> None:
        await far.call(messages.JOIN, messages.Join(groups=["g"]))

    async def watch() -> None:
        far = world.operator()
        result = await far.call(messages.WATCH, messages.Watch(group="g"))
        await settled()
        story = [m["component"] for m in result.snapshot] + [e.component for e in far.events]
        assert len(story) == len(set(story))
        seen.append(set(story))

    async with trio.open_nursery() as nursery:
        for far in joiners:
            nursery.start_soon(join, far)
            nursery.start_soon(watch)
    assert seen == [{f"c{n}" for n in range(12)}] * 12


async def test_events_of_the_snapshot_s_own_index_are_not_repeated(world: World) -> None:
    """The log publishes after it has applied: a watch that began between has them already."""
    far = world.operator()
    await world.component("a")
    events: list[tuple[int, Sequence[object]]] = []
    world.log.subscribers[:] = [lambda index, what: events.append((index, what))]
    world.becomes("a", "available")
    await far.call(messages.WATCH, messages.Watch(components=True))
    for index, what in events:
        world.hub.state_changed(index, what)
    await settled()
    assert far.events == []


async def test_all_components_can_be_watched(world: World) -> None:
    far = world.operator()
    result = await far.call(messages.WATCH, messages.Watch(components=True))
    assert result.snapshot == []
    world.exists("a", groups=["g"])
    world.becomes("a", "available")
    await settled()
    assert far.told == [(result.watch, "changed", "a")]


async def test_a_component_that_is_forgotten_already_does_not_stop_the_news(world: World) -> None:
    far = world.operator()
    await world.component("a")
    await far.call(messages.WATCH, messages.Watch(components=True))
    world.log.subscribers.insert(0, lambda *_: world.lives.states.clear())
    world.becomes("a", "destroyed", "destroying")
    await settled()
    assert [(e.state, e.name) for e in far.events] == [("destroyed", "")]


async def test_unwatch_ends_the_events(world: World) -> None:
    a, far = await world.component("a"), world.operator()
    result = await far.call(messages.WATCH, messages.Watch(group="g"))
    await far.call(messages.UNWATCH, messages.Unwatch(watch=result.watch))
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    await settled()
    assert far.events == []
    error = await far.error(messages.UNWATCH, messages.Unwatch(watch=result.watch))
    assert error.code == "no-such-target"


@pytest.mark.parametrize(
    "params",
    [
        messages.Watch(),
        messages.Watch(group="g", components=True),
        messages.Watch(components=False),
        messages.Watch(group=""),
    ],
)
async def test_a_watch_is_of_exactly_one_thing(world: World, params: messages.Watch) -> None:
    assert (await world.operator().error(messages.WATCH, params)).code == "invalid"
    assert world.hub.statistics()["watches"] == 0


async def test_watches_end_with_their_connection(world: World) -> None:
    far, a = world.operator(), await world.component("a")
    await far.call(messages.WATCH, messages.Watch(group="g"))
    await far.call(messages.WATCH, messages.Watch(components=True))
    await a.call(messages.WATCH, messages.Watch(group="g"))
    assert world.hub.statistics()["watches"] == 3
    far.peer.close()
    await settled()
    assert world.hub.statistics()["watches"] == 1
    a.peer.close()
    await settled()
    assert world.hub.statistics()["watches"] == 0


async def test_the_api_describes_itself(world: World) -> None:
    result = await world.operator().call(messages.DISCOVER, messages.Discover())
    assert "hub.call" in {m["name"] for m in result.methods}


async def test_a_slow_log_is_a_timeout_of_the_caller(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    a = await world.component("a")
    world.log.slow = trio.Event()
    error = await a.error(messages.JOIN, messages.Join(groups=["g"], timeout=2.0))
    assert error.code == "timeout"
