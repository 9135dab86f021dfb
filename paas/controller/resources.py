"""`resource.resolve`: from a name in the manifest to addresses, and the network path to them.

A component declares what it needs (`[requires.store] group = "kv-store"`); here the name becomes
the endpoints of the group's available members, and the path from the asker to each of them is
opened in the packet filters: a component reaches what it was granted and nothing else (row I11).
The path is of this pair of components and ends with either; who comes back asks again.

Members of other applications count only if their type exposes the pseudo operation `endpoints` to
the asker's, and the requirement is of their application (`paas.bundle.manifest_terms`).

A route is a grant, too: the gateways that follow it reach the endpoint that it names, of members of
its group (`open_route`).  Between two hubs such a path is named `route:` and the route's name.

An endpoint whose scope is `node` is offered to components of its node only.  Members on the asker's
own node come first.  A path to another node is opened at both of its ends:
here, and by the hub of that node (`network.open`), which judges by its own copy of the manifests.
A member whose node does not answer is left out; that nobody is left is an error that says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.bundle.manifest import Requirement
from paas.bundle.manifest_terms import between
from paas.controller.component_types import ComponentType
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.state import ControllerState
from paas.gateway.messages import Route
from paas.network.messages import OPEN, FarPath, OpenEnd
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Message, Nothing, Params, method

ENDPOINTS = "endpoints"
"""The pseudo operation of who opens network paths to a component."""

ROUTE_PREFIX = "route:"
"""How the requirement of a path is called that a route opens; no manifest can name one so."""

PROVIDERS_MAX = 32
"""So many members on other nodes are offered to one who asks; each costs a request."""


class Resolve(Params, frozen=True, kw_only=True):
    """Resolve a name of the caller's manifest (`[requires.<name>]`) to endpoints it may reach."""

    name: str


class Endpoint(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One address of a resource, and the component behind it."""

    protocol: str
    host: str
    port: int
    component: str = ""
    host6: str | msgspec.UnsetType = msgspec.UNSET
    """The same by IPv6; missing: the component has none."""


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


class Routes(Protocol):
    """The section "gateway" of the cluster state."""

    def find(self, name: str) -> Route | None: ...

    @property
    def followers(self) -> Mapping[str, int]: ...

    def admits(self, route: Route, component: str, controller: Any) -> bool: ...


class Far(Protocol):
    """Paths to other nodes: `paas.network.agent.Network`."""

    async def open(self, path: FarPath, endpoint: str, requirement: str) -> None: ...

    async def admit(self, path: FarPath) -> str: ...


class Resources:
    """The handlers of `resource.resolve` and, for other hubs, of `network.open`."""

    def __init__(
        self,
        state: ControllerState,
        groups: Groups,
        paths: Paths,
        far: Far,
        routes: Routes | None = None,
    ) -> None:
        self._routes = routes
        self._state = state
        self._groups = groups
        self._paths = paths
        self._far = far

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(RESOLVE, self._resolve)
        dispatcher.task(OPEN, self._open)

    async def _resolve(self, params: Resolve, context: Context) -> Resource:
        component = context.peer.info.get("component")
        if component is None:
            raise PlatformError("denied", "only components have resources")
        return Resource(endpoints=await self.open(component, params.name))

    def requirement(self, component: str, group: str) -> str:
        """What this component's manifest calls the group that it requires; empty: it does not."""
        asker = self._state.instances.get(component)
        if asker is None:
            return ""
        requires = self._state.types.manifest(self._state.types.resolve(asker.type)).requires
        return next((name for name, wanted in requires.items() if wanted.group == group), "")

    async def open(self, component: str, name: str) -> list[Endpoint]:
        """Open the paths of this component to what it requires by this name; the endpoints."""
        asker = self._state.instances.resolve(component)
        kind = self._state.types.resolve(asker.type)
        requirement = self._state.types.manifest(kind).requires.get(name)
        if requirement is None:
            raise PlatformError(
                "no-such-target",
                f"the manifest of {asker.type} does not require {name!r}",
                hint=f'declare it: [requires.{name}] group = "…"',
            )
        providers = self._providers(kind, requirement)
        near = [provider for provider in providers if provider.node == asker.node]
        far = [provider for provider in providers if provider.node != asker.node]
        found: list[Endpoint] = []
        for provider in near:
            for _, endpoint in self._offered(provider, "node", "cluster", "internet"):
                await self._paths.grant(asker.id, provider.id, endpoint["port"])
                found.append(_endpoint(provider, endpoint))
        return found + await self._open_far(asker, far[:PROVIDERS_MAX], name, bool(found))

    async def open_route(self, gateway: str, member: str, route: Route) -> dict[str, Any]:
        """The way of a gateway of this node to a member's endpoint; the endpoint, when it is open.

        Raises `not-available` for one that has no such endpoint, or cannot be reached now.
        """
        asker, provider = self._state.instances.get(gateway), self._state.instances.get(member)
        if asker is None or provider is None or not provider.node:
            raise PlatformError("not-available", f"{member[:8]} is nowhere")
        near = asker.node == provider.node
        scopes = ("node", "cluster", "internet") if near else ("cluster", "internet")
        endpoint = dict(self._offered(provider, *scopes)).get(route.endpoint)
        if endpoint is None:
            raise PlatformError("not-available", f"{member[:8]} has no endpoint {route.endpoint!r}")
        if near:
            await self._paths.grant(asker.id, provider.id, endpoint["port"])
        else:
            path = _path(asker, provider, endpoint)
            await self._far.open(path, route.endpoint, f"{ROUTE_PREFIX}{route.name}")
        return endpoint

    async def _open_far(
        self, asker: Instance, providers: list[Instance], requirement: str, others: bool
    ) -> list[Endpoint]:
        """Endpoints on other nodes; raises why there are none, unless there are `others`."""
        # Records change while other nodes are asked: what is wanted is written down before.
        wanted = [
            (_path(asker, provider, endpoint), name, _endpoint(provider, endpoint))
            for provider in providers
            for name, endpoint in self._offered(provider, "cluster", "internet")
        ]
        found: list[Endpoint] = []
        failed: PlatformError | None = None
        for path, name, endpoint in wanted:
            try:
                await self._far.open(path, name, requirement)
            except PlatformError as exc:
                failed = exc
            else:
                found.append(endpoint)
        if failed is not None and not found and not others:
            nodes = sorted({path.peer_node for path, _, _ in wanted})
            raise PlatformError(
                "not-available",
                f"the members are on {', '.join(nodes)}, to which no path could be opened:"
                f" {failed.message}",
                hint=failed.hint or "look at: paas nodes",
                nodes=nodes,
            ) from failed
        return found

    def _offered(self, provider: Instance, *scopes: str) -> list[tuple[str, dict[str, Any]]]:
        """Its endpoints that have one of these scopes."""
        manifest = self._state.types.manifest(self._state.types.resolve(provider.type))
        return [
            (name, endpoint)
            for name, endpoint in provider.endpoints.items()
            if name in manifest.endpoints and manifest.endpoints[name].scope in scopes
        ]

    def _providers(self, kind: ComponentType, requirement: Requirement) -> list[Instance]:
        """The available members that the asker's type may reach; raises if it may reach none."""
        group = requirement.group
        members = [self._state.instances.get(member) for member in self._groups.members(group)]
        ready = [i for i in members if i is not None and i.state is ComponentState.AVAILABLE]
        allowed = [i for i in ready if self._allows(kind, i, requirement)]
        if ready and not allowed:
            raise PlatformError(
                "denied",
                f"the members of {group} are of other applications than {kind.full_name}, and do"
                f" not expose {ENDPOINTS!r} to it",
                hint=f'in their manifest: [exposes.…] operations = ["{ENDPOINTS}"], to = […]',
                group=group,
                types=sorted({i.type for i in ready}),
            )
        return allowed

    def _allows(self, kind: ComponentType, provider: Instance, requirement: Requirement) -> bool:
        types = self._state.types
        target = types.manifest(types.resolve(provider.type))
        terms = between(types.manifest(kind), target)
        if terms.same_application:
            return True
        wanted = requirement.application in ("", target.component.application)
        return wanted and terms.exposes(ENDPOINTS, "")

    # -- for the hub of another node -------------------------------------------------------------

    async def _open(self, params: OpenEnd, context: Context) -> Nothing:
        """The end of a path at its target.  What this node does not know (yet) is a `conflict`."""
        source = self._state.instances.get(params.source)
        target = self._state.instances.get(params.target)
        if source is None or target is None or source.node != context.peer.info.get("node"):
            raise PlatformError("conflict", "the ends of the path are not known here like this")
        endpoint = dict(self._offered(target, "cluster", "internet")).get(params.endpoint)
        if endpoint is None:
            raise PlatformError("conflict", f"{target.id[:8]} has no endpoint {params.endpoint!r}")
        self._judge(source, target, params.requirement)
        await self._far.admit(
            FarPath(
                component=target.id,
                incarnation=params.target_incarnation,
                end="target",
                peer=source.id,
                peer_incarnation=params.source_incarnation,
                peer_node=source.node,
                peer_address=params.address,
                port=endpoint["port"],
            )
        )
        return Nothing()

    def _judge(self, source: Instance, target: Instance, name: str) -> None:
        """By both manifests, or by a route, as the other node should have done."""
        if name.startswith(ROUTE_PREFIX):
            self._judge_route(source, target, name.removeprefix(ROUTE_PREFIX))
            return
        kind = self._state.types.resolve(source.type)
        requirement = self._state.types.manifest(kind).requires.get(name)
        if requirement is None or target.id not in self._groups.members(requirement.group):
            raise PlatformError("denied", f"{source.type} does not require {target.id[:8]}")
        if not self._allows(kind, target, requirement):
            raise PlatformError("denied", f"{target.type} does not expose {ENDPOINTS!r}")

    def _judge_route(self, source: Instance, target: Instance, name: str) -> None:
        """What this replica has not heard of yet is a `conflict`: the asker tries again."""
        route = None if self._routes is None else self._routes.find(name)
        if self._routes is None or route is None or route.kind != "endpoint":
            raise PlatformError("conflict", f"no route {name[:128]!r} to an endpoint is known here")
        follows = self._routes.followers.get(source.id) == source.incarnation
        if not follows or source.id not in self._groups.members(route.gateway):
            raise PlatformError("conflict", f"{source.id[:8]} does not follow {name} here")
        member = target.id in self._groups.members(route.group)
        if not member or not self._routes.admits(route, target.id, self._state):
            raise PlatformError("conflict", f"{target.id[:8]} is no member of {name} here")


def _path(asker: Instance, provider: Instance, endpoint: dict[str, Any]) -> FarPath:
    return FarPath(
        component=asker.id,
        incarnation=asker.incarnation,
        end="source",
        peer=provider.id,
        peer_incarnation=provider.incarnation,
        peer_node=provider.node,
        peer_address=endpoint["host"],
        port=endpoint["port"],
    )


def _endpoint(provider: Instance, endpoint: dict[str, Any]) -> Endpoint:
    return Endpoint(
        protocol=endpoint["protocol"],
        host=endpoint["host"],
        port=endpoint["port"],
        component=provider.id,
        host6=endpoint.get("host6") or msgspec.UNSET,
    )
