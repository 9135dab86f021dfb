"""Durable attributes in the cluster state: what components let others know of themselves.

An attribute belongs to an object of a component (the empty name is the component itself).  Values
are kept packed and canonical, so that equal values are equal bytes: that is what `expect` compares.

Invariants
  - a change is all or nothing, also its check of what is expected;
  - attributes outlive the component's end and are gone when its record is forgotten;
  - names, objects and bytes are bounded a component, bytes also for the cluster;
  - an object without attributes does not exist.

Volatile attributes are not here (volatile.py).  Features A01-A05; component API, "hub".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError, invalid
from paas.controller.messages import ComponentChanged, ComponentCreated, ComponentForgotten
from paas.hub import attribute_limits as limits
from paas.raft.command import command
from paas.raft.machine import Context
from paas.wire import codec

_KNOWN = (ComponentCreated, ComponentChanged)

_canonical = msgspec.msgpack.Encoder(order="sorted")

RESERVED = "hub."
"""Names with this beginning are the hub's own, and read-only."""


@command(120)
class PutAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """Set (packed values) and remove (null) durable attributes of one object of a component."""

    component: str
    attributes: dict[str, bytes | None]
    object: str = ""
    expect: dict[str, bytes | None] = {}


class AttributesChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: these durable attributes have these values now (null: no more)."""

    component: str
    object: str
    attributes: dict[str, bytes | None]


def canonical(field: str, value: msgspec.Raw | bytes) -> bytes | None:
    """The packed form in which values are kept and compared; None for null.  Raises `invalid`."""
    try:
        plain = codec.unpack(bytes(value))
        return None if plain is None else _canonical.encode(plain)
    except RemoteError as exc:
        raise invalid(field, str(exc), param=field) from None
    except (TypeError, ValueError, OverflowError):
        raise invalid(field, "the keys of a map must be texts", param=field) from None


def check_name(field: str, name: str, *, empty: bool = False) -> None:
    """Raise `invalid` for what is no name of an attribute, object or signal."""
    if (not name and not empty) or len(name) > limits.NAME_LENGTH_MAX or not name.isprintable():
        text = f"a name has 1 to {limits.NAME_LENGTH_MAX} printable characters"
        raise invalid(field, text, param=field)


def too_much(what: str, limit: int) -> PlatformError:
    return PlatformError("limit-exceeded", f"{what}: {limit} at most", limit=limit)


def cost(name: str, value: bytes) -> int:
    """Bytes that an attribute counts for."""
    return len(name) + len(value) + limits.ENTRY_BYTES


Objects = dict[str, dict[str, bytes]]


class AttributeState:
    """The section "attributes" of the cluster state."""

    name = "attributes"

    def __init__(self) -> None:
        self._objects: dict[str, Objects] = {}  # component -> object -> name -> packed value
        self._bytes: dict[str, int] = {}
        self._known: dict[str, None] = {}  # components that exist or are remembered
        self.total_bytes = 0
        self.commands = {PutAttributes: self._put}

    # -- what others read ------------------------------------------------------------------------

    def of(self, component: str, object: str = "") -> Mapping[str, bytes]:  # noqa: A002
        """Name to packed value."""
        return self._objects.get(component, {}).get(object, {})

    def objects(self, component: str) -> list[str]:
        return sorted(self._objects.get(component, ()))

    # -- commands --------------------------------------------------------------------------------

    def _put(self, cmd: PutAttributes, ctx: Context) -> dict[str, Any]:
        if cmd.component not in self._known:
            raise PlatformError("no-such-target", f"component {cmd.component[:8]} is forgotten")
        objects = self._objects.get(cmd.component, {})
        present = objects.get(cmd.object, {})
        for name, expected in cmd.expect.items():
            if present.get(name) != expected:
                raise PlatformError("conflict", f"attribute {name!r} has another value", name=name)
        changed = {n: v for n, v in cmd.attributes.items() if present.get(n) != v}
        grown = self._check_room(cmd, objects, changed)
        if not changed:
            return {"index": ctx.index}
        kept = self._objects.setdefault(cmd.component, {}).setdefault(cmd.object, {})
        for name, value in changed.items():
            if value is None:
                del kept[name]
            else:
                kept[name] = value
        self._count(cmd.component, grown)
        self._tidy(cmd.component, cmd.object)
        ctx.emit(AttributesChanged(component=cmd.component, object=cmd.object, attributes=changed))
        return {"index": ctx.index}

    def _check_room(
        self, cmd: PutAttributes, objects: Objects, changed: Mapping[str, bytes | None]
    ) -> int:
        """How many bytes more there will be; raises `limit-exceeded`, naming the limit."""
        present = objects.get(cmd.object, {})
        names = len(present)
        grown = 0
        for name, value in changed.items():
            names += (value is not None) - (name in present)
            grown += cost(name, value) if value is not None else 0
            grown -= cost(name, present[name]) if name in present else 0
        if names > limits.NAMES_MAX:
            raise too_much("attributes of one object", limits.NAMES_MAX)
        if names and not present and len(objects) >= limits.OBJECTS_MAX:
            raise too_much("objects of one component with attributes", limits.OBJECTS_MAX)
        if grown > 0 and self._bytes.get(cmd.component, 0) + grown > limits.DURABLE_BYTES_MAX:
            raise too_much("bytes of one component's attributes", limits.DURABLE_BYTES_MAX)
        if grown > 0 and self.total_bytes + grown > limits.DURABLE_CLUSTER_BYTES_MAX:
            raise too_much("bytes of all attributes", limits.DURABLE_CLUSTER_BYTES_MAX)
        return grown

    def _count(self, component: str, grown: int) -> None:
        self._bytes[component] = self._bytes.get(component, 0) + grown
        self.total_bytes += grown

    def _tidy(self, component: str, object_: str) -> None:
        """What is empty does not exist."""
        objects = self._objects[component]
        if not objects[object_]:
            del objects[object_]
        if not objects:
            del self._objects[component]
            del self._bytes[component]

    # -- reactions to what happens to components -------------------------------------------------

    def react(self, event: object, ctx: Context) -> None:
        if isinstance(event, _KNOWN):
            self._known[event.component] = None
        elif isinstance(event, ComponentForgotten):
            self._known.pop(event.component, None)
            gone = self._objects.pop(event.component, {})
            self.total_bytes -= self._bytes.pop(event.component, 0)
            for object_, attributes in sorted(gone.items()):
                none: dict[str, bytes | None] = dict.fromkeys(attributes)
                ctx.emit(
                    AttributesChanged(component=event.component, object=object_, attributes=none)
                )

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return {"known": sorted(self._known), "objects": self._objects}

    def restore(self, plain: Any) -> None:
        self._known = dict.fromkeys(plain["known"])
        self._objects = {
            component: {o: dict(attributes) for o, attributes in objects.items()}
            for component, objects in plain["objects"].items()
        }
        self._bytes = {
            component: sum(cost(n, v) for names in objects.values() for n, v in names.items())
            for component, objects in self._objects.items()
        }
        self.total_bytes = sum(self._bytes.values())
