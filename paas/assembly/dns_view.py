"""The cluster state as the name service sees it: components, groups, nodes, what was published.

They live in one process, and `paas.dns` imports nothing of them; this is the bridge.
"""

from __future__ import annotations

from collections.abc import Iterable

from paas.bundle.manifest import Manifest
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.state import ControllerState
from paas.dns import limits
from paas.dns.cluster import Endpoint, Machine, Member
from paas.dns.names import Labels
from paas.dns.state import DnsState, Entry
from paas.dns.zone import Set, Sets
from paas.hub.state import GroupState
from paas.network.agent import host_of
from paas.node.state import NodeRegister

_KEEPS_NAME = frozenset(
    {
        *(ComponentState.PREPARING, ComponentState.INITIALIZING, ComponentState.AVAILABLE),
        *(ComponentState.UNAVAILABLE, ComponentState.LEAVING, ComponentState.STOPPING),
        *(ComponentState.DESTROYING, ComponentState.OFFLINE),
    }
)
"""Such a component is not gone: its name exists, though it may have no address."""


class StateCluster:
    """Implements `dns.cluster.Cluster` and `dns.api.Publishers` over the cluster state."""

    def __init__(
        self,
        *,
        node: str,
        controller: ControllerState,
        groups: GroupState,
        nodes: NodeRegister,
        dns: DnsState,
    ) -> None:
        self.node = node
        self._controller = controller
        self._groups = groups
        self._nodes = nodes
        self._dns = dns
        self._applications: dict[str, list[str]] = {}
        self._applications_at = -1

    @property
    def serial(self) -> int:
        return self._dns.serial

    # -- components ------------------------------------------------------------------------------

    def component(self, word: str, /) -> Member | None:
        instances = self._controller.instances
        found = instances.get(word) or instances.get(instances.holder(word) or "")
        if found is None or found.state not in _KEEPS_NAME:
            return None
        return self._member(found)

    def members(self, group: str, /) -> list[Member] | None:
        if not self._groups.has(group):
            return None
        return self._those(self._groups.members(group))

    def application(self, name: str, /) -> list[Member] | None:
        found = self._by_application().get(name)
        return None if found is None else self._those(found)

    def components(self) -> Iterable[Member]:
        """One after the other, as they are then: others may run in between."""
        for instance in list(self._controller.instances):
            if instance.state in _KEEPS_NAME:
                yield self._member(instance)

    def component_names(self) -> Iterable[str]:
        return [i.name for i in self._controller.instances if i.name and i.state in _KEEPS_NAME]

    def groups(self) -> Iterable[str]:
        return self._groups.groups()

    def applications(self) -> Iterable[str]:
        return list(self._by_application())

    def _those(self, ids: Iterable[str]) -> list[Member]:
        """As many as are told; the others, who may be thousands, are only looked at."""
        near: list[Instance] = []
        far: list[Instance] = []
        ill: list[Instance] = []
        for component in ids:
            instance = self._controller.instances.get(component)
            if instance is None:
                continue
            if instance.state is not ComponentState.AVAILABLE:
                ill.append(instance)
            else:
                (near if instance.node == self.node else far).append(instance)
        return [self._member(instance) for instance in (near + far + ill)[: limits.MEMBERS_MAX]]

    def _member(self, instance: Instance) -> Member:
        scopes = self._manifest(instance.type).endpoints
        endpoints = tuple(
            Endpoint(
                name,
                str(told["protocol"]),
                str(told["host"]),
                str(told.get("host6") or ""),
                int(told["port"]),
                name in scopes and scopes[name].scope == "node",
            )
            for name, told in instance.endpoints.items()
            if told.get("host")
        )
        return Member(
            instance.id,
            instance.name,
            instance.node,
            instance.type,
            instance.state is ComponentState.AVAILABLE,
            endpoints,
        )

    def _manifest(self, kind: str) -> Manifest:
        types = self._controller.types
        return types.manifest(types.resolve(kind))

    def _by_application(self) -> dict[str, list[str]]:
        if self._applications_at != self._dns.serial:
            found: dict[str, list[str]] = {}
            known: dict[str, list[str]] = {}  # type -> those of its application
            for instance in self._controller.instances:
                if instance.state in _KEEPS_NAME:
                    those = known.get(instance.type)
                    if those is None:
                        application = self._manifest(instance.type).component.application
                        those = known[instance.type] = found.setdefault(application, [])
                    those.append(instance.id)
            self._applications, self._applications_at = found, self._dns.serial
        return self._applications

    def application_of(self, component: str, /) -> str:
        instance = self._controller.instances.get(component)
        return "" if instance is None else self._manifest(instance.type).component.application

    def incarnation_of(self, component: str, /) -> int:
        instance = self._controller.instances.get(component)
        return 0 if instance is None else instance.incarnation

    # -- nodes -----------------------------------------------------------------------------------

    def machines(self) -> list[Machine]:
        return [
            Machine(
                node.name,
                node.present,
                host_of(node.address) if node.address else "",
                self._dns.agents.get(node.name, {}),
                str(node.state),
            )
            for node in self._nodes.nodes()
        ]

    def keys(self) -> tuple[bytes, ...]:
        return tuple(self._dns.keys[node] for node in sorted(self._dns.keys))

    # -- published -------------------------------------------------------------------------------

    def published(self, labels: Labels, /) -> Sets | None:
        name = b".".join(labels).decode("latin-1")
        entries = self._dns.entries(name)
        if not entries:
            return {} if self._dns.is_above(labels) else None
        found: dict[int, list[Entry]] = {}
        for entry in entries:
            if not entry.owner or self._is_available(entry.owner):
                found.setdefault(entry.kind, []).append(entry)
        sets: dict[int, Set] = {}
        for kind, listed in found.items():
            near, far = self._by_nearness(listed)
            sets[kind] = Set(min(e.ttl_s for e in listed), near, far)
        return sets

    def _is_available(self, component: str) -> bool:
        instance = self._controller.instances.get(component)
        return instance is not None and instance.state is ComponentState.AVAILABLE

    def _by_nearness(self, listed: list[Entry]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        near: list[bytes] = []
        far: list[bytes] = []
        for entry in listed:
            instance = self._controller.instances.get(entry.owner)
            elsewhere = instance is not None and instance.node != self.node
            (far if elsewhere else near).append(entry.data)
        return tuple(near), tuple(far)

    def published_names(self) -> Iterable[Labels]:
        return [tuple(n.encode().split(b".")) if n else () for n in self._dns.names()]
