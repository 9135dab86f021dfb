"""The platform's side of routes in every hub: the API, and what gateways of this node are told.

    cluster state ──> wanted entries ──> paths opened (resources) ──> told, one change at a time
    gateway.acknowledge ──> command in the log ──> the component that leaves is stopped

Who follows has a `Follower` here, while its connection lasts.  One task looks at all of them when
something has changed; a path is opened in a task of its own, and tried again while it is wanted.
Nothing depends on having seen an event: each look compares what is with what was told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.controller.messages import ComponentChanged, ComponentForgotten, DepartureChanged
from paas.gateway import limits, messages, rules
from paas.gateway.following import Follower, Path
from paas.gateway.messages import Route
from paas.gateway.state import (
    FollowersChanged,
    Kept,
    RouteChanged,
    RouteRemoved,
    RouteSet,
    RoutesFollowed,
    is_gateway,
    not_a_gateway,
)
from paas.gateway.table import Surroundings, entries
from paas.harness.messages import Event
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing

KIND = "gateway"
"""The kind of the watches."""

_CONCERNING = (
    RouteChanged,
    FollowersChanged,
    StateReplaced,
    ComponentChanged,
    ComponentForgotten,
    DepartureChanged,
)
_CONCERNING_NAMES = frozenset({"MemberJoined", "MemberLeft", "AttributesChanged"})


class Log(Protocol):
    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def applied(self) -> int: ...


Acknowledge = Callable[[str, int, str, float], Awaitable[None]]
"""(component, incarnation, gateway, timeout in seconds): the component controller is told."""


class Groups(Protocol):
    """Who is in which group."""

    def members(self, group: str) -> list[str]: ...

    def groups_of(self, component: str) -> list[str]: ...


class Paths(Protocol):
    """Ways of gateways to members' endpoints: `controller.resources.Resources`."""

    async def open_route(self, gateway: str, member: str, route: Route) -> dict[str, Any]: ...


class Watches(Protocol):
    """The watches of this hub's connections."""

    def open(self, peer: Peer, kind: str, key: str, detail: Any = None) -> int: ...

    def of_kind(self, kind: str) -> Any: ...

    def emit(self, peer: Peer, number: int, event: Event) -> None: ...


class Gateways:
    """Handlers of `gateway.*`; `run` it."""

    def __init__(
        self,
        around: Surroundings,
        groups: Groups,
        *,
        log: Log,
        watches: Watches,
        paths: Paths,
        clock: Clock,
        acknowledge: Acknowledge,
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self._let_go = acknowledge
        self._around = around
        self._groups = groups
        self._log = log
        self._watches = watches
        self._paths = paths
        self._clock = clock
        self._on_trouble = on_trouble
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.SET, self._set)
        dispatcher.task(messages.REMOVE, self._remove)
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.plain(messages.SHOW, self._show)
        dispatcher.plain(messages.STATUS, self._status)
        dispatcher.task(messages.FOLLOW, self._follow)
        dispatcher.task(messages.ACKNOWLEDGE, self._acknowledge)

    # -- what happens ----------------------------------------------------------------------------

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the replicated log; called for every command, so it looks briefly."""
        for event in events:
            if isinstance(event, _CONCERNING) or type(event).__name__ in _CONCERNING_NAMES:
                self._changed.set()
                return

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell followers what changes, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                for _component, peer, number, follower in list(self._watches.of_kind(KIND)):
                    if follower.told:
                        self._tell(peer, number, follower)

    def _tell(self, peer: Peer, number: int, follower: Follower) -> None:
        change, missing = follower.look(self._clock.now_ms())
        if change is not None:
            event = Event(
                watch=number,
                index=self._log.applied(),
                event="changed",
                data=msgspec.to_builtins(change),
            )
            self._watches.emit(peer, number, event)
        for path, route in missing.items():
            follower.opening.add(path)
            if self._nursery is not None:
                self._nursery.start_soon(self._open_later, follower, path, route)

    # -- following -------------------------------------------------------------------------------

    async def _follow(self, _params: messages.Follow, context: Context) -> messages.Following:
        component = context.peer.info["component"]
        instance = self._around.controller.instances.get(component)
        if instance is None:
            raise PlatformError("not-available", f"{component[:8]} is not known here yet")
        if not is_gateway(self._around.controller, instance):
            raise not_a_gateway(instance.type)
        incarnation = context.peer.info.get("incarnation") or instance.incarnation
        if self._around.routes.followers.get(component) != incarnation:
            command = RoutesFollowed(gateway=component, incarnation=incarnation)
            await self._log.propose(command, timeout_s=context.timeout_s)
        follower = Follower(component, self._around, self._groups)
        _, missing = follower.look(self._clock.now_ms())
        with trio.move_on_after(limits.PATHS_WAIT_S):
            async with trio.open_nursery() as nursery:
                for path, route in missing.items():
                    follower.opening.add(path)
                    nursery.start_soon(self._open, follower, path, route)
        follower.opening.clear()
        follower.look(self._clock.now_ms())
        number = self._watches.open(context.peer, KIND, component, follower)
        follower.told = True
        self._changed.set()  # what was missing is tried again, behind the answer
        return messages.Following(
            watch=number, snapshot=follower.table(), index=self._log.applied()
        )

    async def _open_later(self, follower: Follower, path: Path, route: Route) -> None:
        if not await self._open(follower, path, route):
            await trio.sleep(limits.PATH_RETRY_S)
            follower.opening.discard(path)
        self._changed.set()

    async def _open(self, follower: Follower, path: Path, route: Route) -> bool:
        try:
            endpoint = await self._paths.open_route(follower.component, path.component, route)
        except PlatformError as error:
            self._on_trouble(path.component, error)
            return False
        follower.opened(path, endpoint)
        return True

    async def _acknowledge(self, params: messages.Acknowledge, context: Context) -> Nothing:
        """Of a departure that this hub has not heard of, too: it may be behind in the log."""
        gateway = context.peer.info["component"]
        await self._let_go(params.component, params.incarnation, gateway, context.timeout_s)
        return Nothing()

    # -- routes ----------------------------------------------------------------------------------

    async def _set(self, params: messages.SetRoute, context: Context) -> Nothing:
        command = RouteSet(route=rules.check(params.route))
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    async def _remove(self, params: messages.RemoveRoute, context: Context) -> Nothing:
        command = RouteRemoved(name=params.name)
        found = await self._log.propose(command, timeout_s=context.timeout_s)
        if not found["changed"]:
            self._around.routes.route(params.name)  # says so, with what is close
        return Nothing()

    def _list(self, params: messages.ListRoutes, _context: Context) -> messages.Routes:
        chosen = [
            kept
            for kept in self._around.routes.routes()
            if params.application in ("", kept.route.application)
            and params.gateway in ("", kept.route.gateway)
        ]
        return messages.Routes(routes=[self._info(kept) for kept in chosen])

    def _info(self, kept: Kept) -> messages.RouteInfo:
        found = entries(self._around, [kept.route], self._clock.now_ms()).values()
        states = [entry.member.state for entry in found]
        return messages.RouteInfo(
            route=kept.route,
            since=kept.since_ms / 1000,
            serving=states.count("serving"),
            leaving=states.count("leaving"),
        )

    def _show(self, params: messages.ShowRoute, _context: Context) -> messages.RouteShown:
        kept = self._around.routes.route(params.name)
        found = entries(self._around, [kept.route], self._clock.now_ms())
        return messages.RouteShown(
            route=kept.route,
            since=kept.since_ms / 1000,
            members=[entry.member for entry in found.values()],
        )

    def _status(self, _params: messages.Status, _context: Context) -> messages.GatewayStatus:
        controller = self._around.controller
        departures = [
            messages.DepartureInfo(
                component=component,
                incarnation=departure.incarnation,
                until=departure.until_ms / 1000,
                waiting=list(departure.waiting),
            )
            for component, departure in sorted(controller.departures.leaving.items())
        ]
        gateways = [self._gateway(component) for component in sorted(self._around.routes.followers)]
        return messages.GatewayStatus(
            gateways=[gateway for gateway in gateways if gateway is not None],
            departures=departures,
        )

    def _data_path(self, component: str) -> str:
        packed = self._around.attributes.of(component).get(messages.DATA_PATH)
        said = msgspec.msgpack.decode(packed) if packed is not None else ""
        return said if isinstance(said, str) else ""

    def _gateway(self, component: str) -> messages.GatewayInfo | None:
        instance = self._around.controller.instances.get(component)
        if instance is None:
            return None
        groups = self._groups.groups_of(component)
        routes = self._around.routes.of_gateways(frozenset(groups))
        return messages.GatewayInfo(
            component=component,
            name=instance.name,
            node=instance.node,
            state=str(instance.state),
            groups=groups,
            routes=len(routes),
            urls=[
                f"{end['protocol']}://{end['host']}:{end['port']}"
                for end in instance.endpoints.values()
            ],
            data_path=self._data_path(component),
        )
