"""What the components of one type may ask of those of another, by their two manifests.

    caller's manifest                     target's manifest
    [component] application = "shop"      [component] application = "storage"
    [requires.store]                      [exposes.reading]
    group = "kv-store"                    operations = ["get"]
    operations = ["get"]                  to = ["shop"]

Within one application everything is allowed.  Between two, nothing is, unless both sides want it:
the target's type exposes the operation (of that object) to the caller's application, and the
caller's type requires the operation of a group that the target is in.  Exposing protects the
target from others; requiring keeps the caller to what its developer said it needs, so that a
component that was taken over reaches no further.

Which component is in which group is not known here: `groups` says which groups would do.  Pure, and
the same on every node, as manifests are in the cluster state (platform document §4.9, feature M12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paas.bundle.manifest import Manifest

ANY = "*"


_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms between two types: compiled, so that asking costs a few look-ups."""

    same_application: bool
    exposed: Mapping[str, frozenset[str]]
    """Operation to objects; the entry `*` is for operations that are not named."""
    required: Mapping[str, frozenset[str]]
    """Operation to groups, in the same way."""

    def exposes(self, operation: str, object_name: str) -> bool:
        """Does the target offer this to the caller's application?"""
        objects = self.exposed.get(operation) or self.exposed.get(ANY)
        return objects is not None and (object_name in objects or ANY in objects)

    def groups(self, operation: str) -> frozenset[str]:
        """The groups of which the caller declares to need this operation."""
        return self.required.get(operation) or self.required.get(ANY, _NONE)


NOTHING = Terms(same_application=False, exposed={}, required={})
"""Between types of which one is unknown."""

EVERYTHING = Terms(same_application=True, exposed={}, required={})


def between(caller: Manifest, target: Manifest) -> Terms:
    """The terms for calls from components of one type to those of another."""
    asking, asked = caller.component.application, target.component.application
    if asking == asked:
        return EVERYTHING
    exposed: dict[str, set[str]] = {}
    for exposure in target.exposes.values():
        if ANY in exposure.to or asking in exposure.to:
            for operation in exposure.operations:
                exposed.setdefault(operation, set()).update(exposure.objects)
    required: dict[str, set[str]] = {}
    for requirement in caller.requires.values():
        if requirement.application in ("", asked):
            for operation in requirement.operations:
                required.setdefault(operation, set()).add(requirement.group)
    for operation in exposed:
        exposed[operation] |= exposed.get(ANY, set())
    for operation in required:
        required[operation] |= required.get(ANY, set())
    return Terms(
        same_application=False,
        exposed={operation: frozenset(objects) for operation, objects in exposed.items()},
        required={operation: frozenset(groups) for operation, groups in required.items()},
    )
