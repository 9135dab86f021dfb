"""The bounds of one component: its type's manifest, and what an operator has changed since.

    [limits] of the manifest ── with ──> Instance.resized ──> what it may use now

The change belongs to the component, not to an incarnation: it holds over restarts, and the sums of
what is placed on a node (loads.py) count it.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from paas.base.errors import invalid
from paas.bundle import manifest_fields
from paas.bundle.manifest import Limits as Declared
from paas.bundle.manifest import Manifest
from paas.container.messages import Limits

RESIZABLE = ("memory", "cpu", "pids", "io", "cpu_weight")
"""Fields of `[limits]` that can be changed while a component lives; the disk keeps its size."""


def check_changes(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The changes in canonical form; raises `invalid` naming the field."""
    if not wanted:
        raise invalid("limits", f"at least one of {', '.join(RESIZABLE)}")
    found = {}
    for name, value in wanted.items():
        if name not in RESIZABLE:
            raise invalid(f"limits.{name[:32]}", f"one of {', '.join(RESIZABLE)}")
        try:
            found[name] = manifest_fields.SECTIONS["limits"][name](value)
        except ValueError as exc:
            raise invalid(f"limits.{name}", str(exc)) from None
    return found


def declared(manifest: Manifest, resized: Mapping[str, Any]) -> Declared:
    """The section `[limits]` as it holds now."""
    return msgspec.structs.replace(manifest.limits, **resized) if resized else manifest.limits


def container_limits(manifest: Manifest, resized: Mapping[str, Any]) -> Limits:
    """The same, as the container controller wants it."""
    bounds = declared(manifest, resized)
    return Limits(
        memory_bytes=bounds.memory,
        cpu=bounds.cpu,
        pids=bounds.pids,
        disk_bytes=bounds.disk,
        io_bytes_per_s=bounds.io,
        cpu_weight=bounds.cpu_weight,
    )
