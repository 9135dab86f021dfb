"""Applications in a hub: their controller and their face, wired to what they are made of.

`ComponentsPort`, `RoutesPort` and `VolumesPort` are its hands: components by the component
controller's own way of choosing nodes, routes and volumes by the commands of their sections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from msgspec.structs import replace

from paas.application import limits
from paas.application.agent import Reconciler
from paas.application.api import Api as ApplicationApi
from paas.application.ports import Log, Ring, Surroundings, TypeFacts
from paas.application.records import Application
from paas.application.specification import Role, member_name, role_group
from paas.application.state import ApplicationsState, Birth, creator
from paas.base.errors import PlatformError
from paas.controller import admission
from paas.controller.api import Api
from paas.controller.commands import EndInstance
from paas.controller.lifecycle import ComponentState
from paas.controller.messages import Create
from paas.controller.state import ControllerState
from paas.gateway import rules
from paas.gateway.messages import Route
from paas.gateway.state import GatewayState, RouteChanged, RouteRemoved, RouteSet
from paas.hub.state import GroupState
from paas.rpc.dispatch import Dispatcher
from paas.volume.commands import RemoveVolumes
from paas.volume.state import VolumeState


class ApplicationPart:
    """Everything about applications in one hub."""

    def __init__(
        self,
        *,
        node: str,
        state: ApplicationsState,
        controller: ControllerState,
        api: Api,
        groups: GroupState,
        gateway: GatewayState,
        volumes: VolumeState,
        ring: Ring | None,
        log: Log,
        jitter: Callable[[], float],
        on_trouble: Callable[[str, PlatformError], None],
        staleness: Callable[[], float | None],
    ) -> None:
        around = Surroundings(
            node=node,
            state=state,
            log=log,
            components=ComponentsPort(controller, api, groups, log),
            routes=RoutesPort(gateway, log),
            volumes=VolumesPort(volumes, log),
            ring=ring,
            jitter=jitter,
            on_trouble=on_trouble,
            staleness=staleness,
        )
        self._log = log
        self.reconciler = Reconciler(around)
        self._api = ApplicationApi(around, self.reconciler)

    def register(self, dispatcher: Dispatcher) -> None:
        self._api.register(dispatcher)

    def statistics(self) -> dict[str, int]:
        return self.reconciler.statistics()

    def _state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Somebody may have removed or changed a route of an application."""
        if any(isinstance(event, RouteChanged) for event in events):
            self.reconciler.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        unsubscribe = self._log.subscribe(self._state_changed)
        try:
            await self.reconciler.run(task_status=task_status)
        finally:
            unsubscribe()


class ComponentsPort:
    """Implements `application.ports.Components`."""

    def __init__(self, controller: ControllerState, api: Api, groups: GroupState, log: Log) -> None:
        self._controller = controller
        self._api = api
        self._groups = groups
        self._log = log

    def type(self, name: str) -> TypeFacts:
        kind = self._controller.types.resolve(name)
        manifest = self._controller.types.manifest(kind)
        return TypeFacts(kind.full_name, manifest.component.application, bool(manifest.volumes))

    def check(self, role: Role) -> None:
        admission.check_request(_request("a", role, 1))

    async def create(self, application: Application, role: Role, slot: int) -> str:
        name = application.birth_request(role.name, slot)
        request = replace(_request(application.name, role, slot), request_id=name)
        birth = Birth(application.name, role.name, slot, role.digest)
        deadline_s = trio.current_time() + limits.STEP_TIMEOUT_S
        result = await self._api.order_creation(request, creator(birth), deadline_s)
        return str(result["components"][0])

    async def end(self, component: str, grace_s: float) -> None:
        order = EndInstance(component=component, grace_s=grace_s)
        await self._log.propose(order, timeout_s=limits.STEP_TIMEOUT_S)

    def trouble(self, component: str) -> str:
        instance = self._controller.instances.get(component)
        if instance is None:
            return ""
        reason = instance.unplaced or instance.reason
        return f"{reason} ({instance.gave_up})" if instance.gave_up else reason

    def available(self, group: str) -> int:
        return sum(
            1
            for member in self._groups.members(group)
            if (instance := self._controller.instances.get(member)) is not None
            and instance.state is ComponentState.AVAILABLE
        )


def _request(application: str, role: Role, slot: int) -> Create:
    return Create(
        type=role.type,
        name=member_name(application, role.name, slot),
        configuration=role.configuration,
        groups=[role_group(application, role.name), *role.groups],
        restart=role.restart or None,  # type: ignore[arg-type]  # the reader has checked the word
        constraints=list(role.constraints),
        wait="accepted",
    )


class RoutesPort:
    """Implements `application.ports.Routes`."""

    def __init__(self, gateway: GatewayState, log: Log) -> None:
        self._gateway = gateway
        self._log = log
        self._known: dict[str, dict[str, Route]] = {}  # by application, as of a revision
        self._known_at = -1

    @property
    def revision(self) -> int:
        return self._gateway.revision

    def check(self, route: Route) -> Route:
        return rules.check(route)

    def of(self, application: str) -> Mapping[str, Route]:
        if self._known_at != self._gateway.revision:
            self._known_at, self._known = self._gateway.revision, {}
            for kept in self._gateway.routes():
                mine = self._known.setdefault(kept.route.application, {})
                mine[kept.route.name] = kept.route
        return self._known.get(application, {})

    async def set(self, route: Route) -> None:
        await self._log.propose(RouteSet(route=route), timeout_s=limits.STEP_TIMEOUT_S)

    async def remove(self, name: str, application: str) -> None:
        order = RouteRemoved(name=name, application=application)
        await self._log.propose(order, timeout_s=limits.STEP_TIMEOUT_S)


class VolumesPort:
    """Implements `application.ports.Volumes`."""

    def __init__(self, volumes: VolumeState, log: Log) -> None:
        self._volumes = volumes
        self._log = log

    def owned(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(name for name in names if self._volumes.get(name) is not None)

    async def remove(self, owner: str) -> None:
        holding = self._volumes.get(owner)
        if holding is not None:
            order = RemoveVolumes(owner=owner, epoch=holding.epoch)
            await self._log.propose(order, timeout_s=limits.STEP_TIMEOUT_S)
