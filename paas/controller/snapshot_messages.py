"""The component API's part about snapshots of components' files."""

from __future__ import annotations

from paas.wire.registry import Message, Nothing, Params, method


class TakeSnapshot(Params, frozen=True, kw_only=True):
    """Keep the files of a component that runs; it may stand still for a moment.

    Without a name it gets one made of the time.  Its volumes, /tmp and memory are not in it.
    """

    component: str
    name: str = ""


class Snapshot(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One snapshot.  `size` is what it takes on its node's disk, in bytes; `time` in seconds."""

    component: str
    name: str
    incarnation: int
    time: float
    size: int
    filesystem: str
    node: str


class RollBack(Params, frozen=True, kw_only=True):
    """Start a component again, at once, with the files of a snapshot."""

    component: str
    name: str


class ListSnapshots(Params, frozen=True, kw_only=True):
    """List the snapshots of a component that its node has, the oldest first."""

    component: str


class Snapshots(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The snapshots of one component."""

    snapshots: list[Snapshot]


class DropSnapshot(Params, frozen=True, kw_only=True):
    """Remove a snapshot of a component."""

    component: str
    name: str


SNAPSHOT = method(417, "controller.snapshot", TakeSnapshot, Snapshot)
ROLLBACK = method(418, "controller.rollback", RollBack, Nothing)
SNAPSHOTS = method(420, "controller.snapshots", ListSnapshots, Snapshots)
DROP_SNAPSHOT = method(421, "controller.drop_snapshot", DropSnapshot, Nothing)
