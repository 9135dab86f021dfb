"""What persistent volumes mean for placing and starting components; asked of their own section.

Volumes are on one node, and their component is there or nowhere (paas.volume.state).  So they are a
constraint for the scheduler, a reason to wait, a check when a placement is applied, and something
that a container is started with.  A machine without that section has no volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paas.bundle.manifest import Manifest
from paas.container.messages import VolumeMount
from paas.controller.instances import Instance


class Place(Protocol):
    """Where a component may be: only on `node` if there is one, nowhere while `waits` says why."""

    @property
    def node(self) -> str: ...
    @property
    def waits(self) -> str: ...


class Volumes(Protocol):
    """The section "volumes" of the cluster state."""

    def place_of(self, component: str, name: str, manifest: Manifest) -> Place: ...

    def mounts(
        self, component: str, name: str, manifest: Manifest, node: str
    ) -> tuple[VolumeMount, ...]:
        """Raises `not-available` if they are not on this node."""
        ...


@dataclass(frozen=True, slots=True)
class _Anywhere:
    node: str = ""
    waits: str = ""


_ANYWHERE = _Anywhere()


def place_of(volumes: Volumes | None, component: str, name: str, manifest: Manifest) -> Place:
    """Where the component may be, as far as its volumes are concerned."""
    if volumes is None or not manifest.volumes:
        return _ANYWHERE
    return volumes.place_of(component, name, manifest)


def constraints(place: Place) -> tuple[str, ...]:
    """The same in the scheduler's words."""
    return (f"node={place.node}",) if place.node else ()


def mounts_of(
    volumes: Volumes | None, instance: Instance, manifest: Manifest
) -> tuple[VolumeMount, ...]:
    """What its container is started with on its node; raises `not-available`."""
    if volumes is None:
        return ()
    return volumes.mounts(instance.id, instance.name, manifest, instance.node)


def check_creation(
    sections: Mapping[str, Any], manifest: Manifest, names: Sequence[str], nodes: Sequence[str]
) -> None:
    """May components of these names have their volumes, on these nodes?  Raises `conflict`."""
    if "volumes" in sections:
        for name in names:
            sections["volumes"].check_name(name, manifest)
        check_places(
            sections, manifest, (("", n, node) for n, node in zip(names, nodes, strict=True))
        )


def check_places(
    sections: Mapping[str, Any], manifest: Manifest, placed: Iterable[tuple[str, str, str]]
) -> None:
    """May each (component, its name) be on that node?  Raises `conflict`: the plan is overtaken."""
    if "volumes" in sections:
        for component, name, node in placed:
            if node:
                sections["volumes"].check_place(component, name, manifest, node)
