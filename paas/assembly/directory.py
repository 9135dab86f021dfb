"""The cluster state as the hub and the log store see it: who is called what, who is where.

They live in one process with the component controller but import nothing of it; this is the bridge.
"""

from __future__ import annotations

from paas.base.errors import PlatformError
from paas.bundle.manifest import Manifest
from paas.controller.state import ControllerState
from paas.hub.messages import Member
from paas.hub.state import GroupState


class StateDirectory:
    """Implements `hub.router.Directory`, `hub.agent.Members`, `hub.authorisation.Types` and
    `logs.agent.Names`."""

    def __init__(self, controller: ControllerState, groups: GroupState) -> None:
        self._instances = controller.instances
        self._controller = controller
        self._groups = groups

    def resolve(self, target: str) -> str:
        return self._instances.resolve(target).id

    def members(self, group: str) -> list[str]:
        return self._groups.members(group)

    def state(self, component: str) -> str:
        instance = self._instances.get(component)
        return str(instance.state) if instance is not None else "destroyed"

    def node(self, component: str) -> str:
        instance = self._instances.get(component)
        return instance.node if instance is not None else ""

    def member(self, component: str) -> Member:
        instance = self._instances.get(component)
        if instance is None:
            return Member(component=component, name="", node="", state="destroyed")
        return Member(
            component=component, name=instance.name, node=instance.node, state=str(instance.state)
        )

    def name_and_type(self, component: str) -> tuple[str, str]:
        instance = self._instances.get(component)
        return (instance.name, instance.type) if instance is not None else ("", "")

    def type_of(self, component: str) -> str:
        instance = self._instances.get(component)
        return instance.type if instance is not None else ""

    def manifest_of(self, kind: str) -> Manifest | None:
        if not kind:
            return None
        try:
            return self._controller.types.manifest(self._controller.types.resolve(kind))
        except PlatformError:
            return None

    def in_one_of(self, groups: frozenset[str], component: str) -> bool:
        return self._groups.is_in_one_of(groups, component)

    def groups_of(self, component: str) -> list[str]:
        return self._groups.groups_of(component)

    def types_on(self, base: str) -> list[str]:
        """The types whose base has this name."""
        types = self._controller.types
        return [k.full_name for k in types if types.manifest(k).component.base == base]

    def types_of(self, digest: str) -> list[str]:
        """Who refers to a bundle (`controller.bundles.TypeUsers`)."""
        return [kind.full_name for kind in self._controller.types if kind.bundle == digest]
