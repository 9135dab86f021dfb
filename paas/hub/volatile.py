"""Volatile attributes of the components of this node: in memory, for one incarnation at most.

They cost no consensus and survive nothing: neither the component's end nor that of this hub.  A
time to live ends a value earlier.  Who is told of changes is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paas.hub import attribute_limits as limits
from paas.hub.attributes import cost, too_much


@dataclass(slots=True)
class _Value:
    packed: bytes
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """What is different now: name to packed value, None for no more."""

    component: str
    object: str
    attributes: dict[str, bytes | None]


class VolatileAttributes:
    """Times are those of a clock that only grows."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, _Value]]] = {}
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._mortal: dict[tuple[str, str, str], None] = {}

    @property
    def mortal(self) -> bool:
        """Does any value have a time to live?"""
        return bool(self._mortal)

    def components(self) -> list[str]:
        return list(self._objects)

    def of(self, component: str, object: str = "") -> dict[str, bytes]:  # noqa: A002
        found = self._objects.get(component, {}).get(object, {})
        return {name: value.packed for name, value in found.items()}

    def put(
        self,
        component: str,
        object: str,  # noqa: A002
        attributes: Mapping[str, bytes | None],
        until_s: float | None = None,
    ) -> Change:
        """Set and remove; raises `limit-exceeded` and has changed nothing then."""
        objects = self._objects.get(component, {})
        present = objects.get(object, {})
        grown, names = 0, len(present)
        for name, packed in attributes.items():
            names += (packed is not None) - (name in present)
            grown += cost(name, packed) if packed is not None else 0
            grown -= cost(name, present[name].packed) if name in present else 0
        if names > limits.NAMES_MAX:
            raise too_much("attributes of one object", limits.NAMES_MAX)
        if names and not present and len(objects) >= limits.OBJECTS_MAX:
            raise too_much("objects of one component with attributes", limits.OBJECTS_MAX)
        if grown > 0 and self._bytes.get(component, 0) + grown > limits.VOLATILE_BYTES_MAX:
            raise too_much("bytes of one component's attributes", limits.VOLATILE_BYTES_MAX)
        if grown > 0 and self._total + grown > limits.VOLATILE_NODE_BYTES_MAX:
            raise too_much("bytes of volatile attributes here", limits.VOLATILE_NODE_BYTES_MAX)
        changed: dict[str, bytes | None] = {}
        for name, packed in attributes.items():
            old = present[name].packed if name in present else None
            if old != packed:
                changed[name] = packed
            self._put_one(component, object, name, packed, until_s)
        return Change(component, object, changed)

    def _put_one(
        self,
        component: str,
        object_: str,
        name: str,
        packed: bytes | None,
        until_s: float | None,
    ) -> None:
        names = self._objects.setdefault(component, {}).setdefault(object_, {})
        old = names.pop(name, None)
        grown = -cost(name, old.packed) if old is not None else 0
        self._mortal.pop((component, object_, name), None)
        if packed is not None:
            names[name] = _Value(packed, until_s)
            grown += cost(name, packed)
            if until_s is not None:
                self._mortal[component, object_, name] = None
        self._total += grown
        self._bytes[component] = self._bytes.get(component, 0) + grown
        if not names:
            del self._objects[component][object_]
        if not self._objects[component]:
            del self._objects[component], self._bytes[component]

    def end(self, component: str) -> Sequence[Change]:
        """Its incarnation is over."""
        changes = [
            Change(component, object_, dict.fromkeys(names))
            for object_, names in self._objects.get(component, {}).items()
        ]
        for change in changes:
            for name in change.attributes:
                self._put_one(component, change.object, name, None, None)
        return changes

    def expire(self, now_s: float) -> Sequence[Change]:
        """End what has lived as long as it may."""
        over: dict[tuple[str, str], dict[str, bytes | None]] = {}
        for component, object_, name in self._mortal:
            until_s = self._objects[component][object_][name].until_s
            if until_s is not None and until_s <= now_s:
                over.setdefault((component, object_), {})[name] = None
        changes = [Change(c, o, names) for (c, o), names in over.items()]
        for change in changes:
            for name in change.attributes:
                self._put_one(change.component, change.object, name, None, None)
        return changes
