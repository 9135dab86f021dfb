"""The component hub as a running thing: connections of harnesses and operators, handlers, events.

    harness sockets ──┐                       ┌── Router (calls, casts)
                      ├── Dispatcher ─────────┼── groups: commands of the replicated log
    operators' socket ┘                       └── Watches <── events of the replicated log

A harness proves itself by kernel facts: the user id of its end of the socket must be the one that
its component's container was given (SO_PEERCRED against the container controller's word).  A
harness that is faster than that word waits a little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.controller.messages import ComponentEnded, ComponentForgotten
from paas.harness import messages as harness
from paas.hub import attribute_messages, limits, messages, openrpc, selection
from paas.hub.attribute_api import AttributeApi
from paas.hub.attribute_limits import SWEEP_PERIOD_S
from paas.hub.attributes import AttributeState
from paas.hub.authorisation import Authorisation, Types
from paas.hub.client import HarnessListener, RecordSink
from paas.hub.history import History
from paas.hub.router import Directory, Router
from paas.hub.routes import Links, NoLinks
from paas.hub.routing_api import RoutingApi
from paas.hub.signals import Signals
from paas.hub.state import GroupState, JoinGroups, LeaveGroups, MemberLeft
from paas.hub.traces import Traces
from paas.hub.watching import Desk, check_group
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.link import corked
from paas.rpc.peer import Peer
from paas.wire.registry import Method, Nothing, P, R, decode

_ENDED = (ComponentEnded, ComponentForgotten)

PROTOCOL_VERSION = 1


class Log(Protocol):
    """What the hub needs of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def applied(self) -> int: ...


class Members(Directory, Protocol):
    """What the hub asks about the cluster's state, beside where a target is."""

    def member(self, component: str) -> messages.Member:
        """How the component appears in a list of members."""
        ...


class Hub:
    """One node's hub.

    `uid_of` tells the user id of a component's container, once it is known; `may_run` whether this
    node holds its lease; `staleness` for how long, in seconds, no leader was heard, if too long.
    """

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        groups: GroupState,
        attributes: AttributeState,
        history: History,
        directory: Members,
        clock: Clock,
        uid_of: Callable[[str], int | None],
        links: Links | None = None,
        may_run: Callable[[], bool] = lambda: True,
        staleness: Callable[[], float | None] = lambda: None,
        types: Types | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._node = node
        self._staleness = staleness
        self._log = log
        self._groups = groups
        self._directory = directory
        self._uid_of = uid_of
        self._changed = trio.Event()
        self._busy = trio.Event()
        self.authorisation = None if types is None else Authorisation(types)
        self.router = Router(
            directory,
            clock,
            node=node,
            links=links,
            may_run=may_run,
            rights=self.authorisation,
            traces=traces,
        )
        self.router.chooser.attributes = attributes
        self.routing = RoutingApi(
            self.router, directory, self.authorisation, node=node, links=links, clock=clock
        )
        self.listener: HarnessListener | None = None
        self.records: RecordSink | None = None
        links = links or NoLinks()
        self.desk = Desk(
            node=node,
            clock=clock,
            applied=log.applied,
            groups=groups,
            cluster=directory,
            attributes=attributes,
            history=history,
            links=links,
            wake=lambda: self._busy.set(),
        )
        self.watches = self.desk.watches
        self.signals = Signals(
            desk=self.desk, groups=groups, links=links, may_run=may_run, wake=self.desk.wake
        )
        self.attributes = AttributeApi(
            node=node,
            log=log,
            clock=clock,
            groups=groups,
            cluster=directory,
            attributes=attributes,
            links=links,
            desk=self.desk,
            signals=self.signals,
            attached=self.attached,
            stale_s=self._stale_s,
        )

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.raw(messages.CALL, self.routing.counted(self.router.call))
        dispatcher.raw(messages.CAST, self.routing.counted(self.router.cast))
        dispatcher.raw(messages.FORWARD, self.routing.counted(self.router.forward))
        self.routing.register(dispatcher)
        self.routing.board.parts["watches"] = self.desk.statistics
        self.desk.permit = self.routing.permit
        self.desk.own_values = self.routing.own_values
        self.router.traces.register(dispatcher)
        dispatcher.task(messages.JOIN, self._join)
        dispatcher.task(messages.LEAVE, self._leave)
        dispatcher.plain(messages.MEMBERS, self._members)
        dispatcher.plain(messages.GROUPS, self._list_groups)
        dispatcher.task(messages.AWAIT, self._await, while_connected=True)
        dispatcher.raw(messages.WATCH, self.desk.watch)
        dispatcher.plain(messages.UNWATCH, self.desk.unwatch)
        dispatcher.task(attribute_messages.SET_ATTRIBUTES, self.attributes.set)
        dispatcher.raw(attribute_messages.GET_ATTRIBUTES, self.attributes.get)
        dispatcher.plain(attribute_messages.VALUES, self.attributes.values)
        dispatcher.plain(attribute_messages.SIGNAL, self.signals.signal)
        dispatcher.raw(attribute_messages.INTEREST, self.signals.interest)
        dispatcher.plain(attribute_messages.PUBLISH, self.signals.published)
        dispatcher.plain(messages.DISCOVER, lambda _params, _context: openrpc.document())
        dispatcher.task(harness.HELLO, self._hello, while_connected=True)
        dispatcher.raw(harness.PHASE, self._phase)
        dispatcher.task(harness.RECORDS, self._records)

    # -- harnesses -------------------------------------------------------------------------------

    async def _hello(self, hello: harness.Hello, context: Context) -> harness.HelloResult:
        peer = context.peer
        if peer.info.get("component", hello.component) != hello.component:
            raise PlatformError("denied", "this connection belongs to another component")
        await self._identify(hello.component, context)
        if peer.closed:
            raise PlatformError("not-available", "the harness has gone")
        peer.info["component"] = hello.component
        peer.info["incarnation"] = hello.incarnation
        self.router.attach(hello.component, peer, ready=hello.phase == "available")
        if self.listener is not None:
            self.listener.harness_attached(hello.component, hello)
        self.wake()
        return harness.HelloResult(version=min(hello.version, PROTOCOL_VERSION), node=self._node)

    async def _identify(self, component: str, context: Context) -> None:
        """The kernel says who speaks; wait until the container controller has said whom it made."""
        with trio.move_on_after(limits.HELLO_WAIT_S):
            while self._uid_of(component) is None:
                await self._changed.wait()
        uid = self._uid_of(component)
        if uid is None or uid != context.peer.info["credentials"].uid:
            error = PlatformError("denied", "this process is not the harness of that component")
            context.peer.fail(context.request, error)
            context.peer.close()
            raise error

    def _phase(self, peer: Peer, request: Request) -> None:
        change = decode(request.params, harness.PhaseChange)
        component = self._component(peer)
        self.router.set_ready(component, change.phase == "available")
        if self.listener is not None:
            self.listener.harness_phase(component, change)
        self.wake()
        peer.reply(request)

    async def _records(self, batch: harness.Records, context: Context) -> Nothing:
        """Answered when the batch is kept: the harness sends the next one then."""
        component = self._component(context.peer)
        if self.records is not None:
            await self.records.deliver(component, batch)
        return Nothing()

    def connection_closed(self, peer: Peer) -> None:
        """For the listeners: a peer of any kind is gone."""
        self.watches.close_peer(peer)
        component = peer.info.get("component")
        if component is not None and self.router.detach(component, peer):
            if self.listener is not None:
                self.listener.harness_detached(component)
            self.wake()

    async def request(self, component: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        """`hub.client.Harnesses`: a request to the harness of a component."""
        peer = self.router.peer(component)
        if peer is None:
            raise PlatformError("not-available", f"the harness of {component[:8]} is not connected")
        return await peer.call(method, params, timeout_s=timeout_s)

    def attached(self, component: str) -> bool:
        return self.router.peer(component) is not None

    # -- groups ----------------------------------------------------------------------------------

    @staticmethod
    def _component(peer: Peer) -> str:
        component = peer.info.get("component")
        if not isinstance(component, str):
            raise PlatformError("denied", "only a component, through its harness, may do this")
        return component

    async def _join(self, params: messages.Join, context: Context) -> messages.Positions:
        component = self._component(context.peer)
        _check_groups(params.groups)
        command = JoinGroups(
            component=component,
            groups=params.groups,
            unique=params.unique,
            incarnation=context.peer.info.get("incarnation", 0),
        )
        result = await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.Positions(**result)

    async def _leave(self, params: messages.Leave, context: Context) -> Nothing:
        component = self._component(context.peer)
        _check_groups(params.groups)
        command = LeaveGroups(component=component, groups=params.groups)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    def _members(self, params: messages.Members, _context: Context) -> messages.MembersResult:
        picked = self.router.pick(params.group, selection.parse(params.selector))
        members = [self._directory.member(component) for component in picked]
        return messages.MembersResult(members=members, stale_s=self._stale_s())

    def _stale_s(self) -> float | msgspec.UnsetType:
        stale_s = self._staleness()
        return msgspec.UNSET if stale_s is None else round(stale_s, 3)

    def _list_groups(self, params: messages.Groups, _context: Context) -> messages.GroupsResult:
        groups = self._groups.groups(params.prefix)
        return messages.GroupsResult(groups=groups, stale_s=self._stale_s())

    async def _await(self, params: messages.Await, _context: Context) -> messages.MembersResult:
        if bool(params.group) == bool(params.name):
            raise invalid("group", "give either group or name", param="group")
        if params.count < 1:
            raise invalid("count", "expected at least 1", param="count")
        while True:
            changed = self._changed
            ready = self._ready(params)
            if len(ready) >= params.count:
                return messages.MembersResult(members=[self._directory.member(c) for c in ready])
            await changed.wait()

    def _ready(self, params: messages.Await) -> list[str]:
        if params.group:
            candidates = self._groups.members(params.group)
        else:
            try:
                candidates = [self._directory.resolve(params.name)]
            except PlatformError:
                return []
        return [c for c in candidates if self.router.is_ready(c)]

    # -- what the log says, links, time ----------------------------------------------------------

    def state_changed(self, index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log: publish what happened, wake who waits."""
        for event in events:
            if isinstance(event, MemberLeft) and not self._groups.has(event.group):
                self.router.forget_group(event.group)
            elif isinstance(event, _ENDED):
                self.attributes.ended(event.component)
        self.routing.state_changed(events)
        self.desk.state_changed(index, events)
        self.wake()

    def node_up(self, node: str, peer: Peer) -> None:
        """There is a link to another node's hub."""
        self.desk.node_up(node, peer)

    def node_down(self, node: str) -> None:
        """There is none any more."""
        self.desk.node_down(node)
        self.signals.node_down(node)

    async def run(self) -> None:
        """Whatever is not done at once, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.router.ring_builder.run)
            await self._sweep()

    async def _sweep(self) -> None:
        """Look after slow watchers, slow links and times to live, while there are any."""
        parts = (self.desk, self.signals, self.attributes)
        while True:
            await self._busy.wait()
            await trio.sleep(SWEEP_PERIOD_S)
            with corked():
                for part in parts:
                    part.sweep()
            if not any(part.busy for part in parts):
                self._busy = trio.Event()

    def wake(self) -> None:
        """Something changed that somebody may wait for: a state, a phase, a known user id."""
        self._changed.set()
        self._changed = trio.Event()

    def statistics(self) -> dict[str, Any]:
        return {
            **self.router.statistics(),
            **self.desk.statistics(),
            **self.signals.statistics(),
        }


def _check_groups(groups: list[str]) -> None:
    if not groups:
        raise invalid("groups", "expected at least one group", param="groups")
    for group in groups:
        check_group(group)
