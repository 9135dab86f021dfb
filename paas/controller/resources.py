"""`resource.resolve`: from a name in the manifest to addresses, and the network path to them.

A component declares what it needs (`[requires.store] group = "kv-store"`); here the name becomes
the endpoints of the group's available members, and the path from the asker to each of them is
opened in the packet filters: a component reaches what it was granted and nothing else (row I11).
The path is of this pair of components and ends with either; who comes back asks again.

Members of other applications count only if their type exposes the pseudo operation `endpoints` to
the asker's, and the requirement is of their application (`paas.bundle.manifest_terms`).

Members on the asker's own node are chosen.  The addresses of containers mean something on their own
node only: where all members are on others, the answer is a refusal that names these nodes.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.bundle.manifest import Requirement
from paas.bundle.manifest_terms import between
from paas.controller.component_types import ComponentType
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.state import ControllerState
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Message, Params, method

ENDPOINTS = "endpoints"
"""The pseudo operation of who opens network paths to a component."""


class Resolve(Params, frozen=True, kw_only=True):
    """Resolve a name of the caller's manifest (`[requires.<name>]`) to endpoints it may reach."""

    name: str


class Endpoint(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One address of a resource, and the component behind it."""

    protocol: str
    host: str
    port: int
    component: str = ""


class Resource(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The endpoints of a resource; none when nobody provides it at the moment."""

    endpoints: list[Endpoint]
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


RESOLVE = method(450, "resource.resolve", Resolve, Resource)


class Groups(Protocol):
    """Who is in a group."""

    def members(self, group: str) -> list[str]: ...


class Paths(Protocol):
    """The packet filters of the node."""

    async def grant(self, source: str, target: str, port: int) -> None: ...


class Resources:
    """The handler of `resource.resolve`."""

    def __init__(self, state: ControllerState, groups: Groups, paths: Paths) -> None:
        self._state = state
        self._groups = groups
        self._paths = paths

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(RESOLVE, self._resolve)

    async def _resolve(self, params: Resolve, context: Context) -> Resource:
        component = context.peer.info.get("component")
        if component is None:
            raise PlatformError("denied", "only components have resources")
        asker = self._state.instances.resolve(component)
        kind = self._state.types.resolve(asker.type)
        requirement = self._state.types.manifest(kind).requires.get(params.name)
        if requirement is None:
            raise PlatformError(
                "no-such-target",
                f"the manifest of {asker.type} does not require {params.name!r}",
                hint=f'declare it: [requires.{params.name}] group = "…"',
            )
        found: list[Endpoint] = []
        for provider in self._near(asker, kind, requirement):
            for endpoint in provider.endpoints.values():
                await self._paths.grant(asker.id, provider.id, endpoint["port"])
                found.append(
                    Endpoint(
                        protocol=endpoint["protocol"],
                        host=endpoint["host"],
                        port=endpoint["port"],
                        component=provider.id,
                    )
                )
        return Resource(endpoints=found)

    def _near(
        self, asker: Instance, kind: ComponentType, requirement: Requirement
    ) -> list[Instance]:
        """The available members on the asker's node; raises if there are others only."""
        group = requirement.group
        members = [self._state.instances.get(member) for member in self._groups.members(group)]
        ready = [i for i in members if i is not None and i.state is ComponentState.AVAILABLE]
        allowed = [i for i in ready if self._allows(kind, i, requirement)]
        if ready and not allowed:
            raise PlatformError(
                "denied",
                f"the members of {group} are of other applications than {asker.type}, and do not"
                f" expose {ENDPOINTS!r} to it",
                hint=f'in their manifest: [exposes.…] operations = ["{ENDPOINTS}"], to = […]',
                group=group,
                types=sorted({i.type for i in ready}),
            )
        ready = allowed
        near = [i for i in ready if i.node == asker.node]
        if ready and not near:
            nodes = sorted({i.node for i in ready})
            raise PlatformError(
                "not-available",
                f"the members of {group} are on {', '.join(nodes)}: there is no network path from"
                f" {asker.node} to components of other nodes",
                hint=f"create one on {asker.node}, or call the group through the hub",
                group=group,
                nodes=nodes,
            )
        return near

    def _allows(self, kind: ComponentType, provider: Instance, requirement: Requirement) -> bool:
        types = self._state.types
        target = types.manifest(types.resolve(provider.type))
        terms = between(types.manifest(kind), target)
        if terms.same_application:
            return True
        wanted = requirement.application in ("", target.component.application)
        return wanted and terms.exposes(ENDPOINTS, "")
