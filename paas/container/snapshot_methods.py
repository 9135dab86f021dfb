"""Methods of the container controller for snapshots of components' files (`snapshots.py`)."""

from __future__ import annotations

from paas.container.filesystems.contract import SnapshotInfo
from paas.wire.registry import Message, Nothing, Params, method


class TakeSnapshot(Params, frozen=True, kw_only=True):
    """Keep the files of a running component under a name."""

    component: str
    name: str


class TakenSnapshot(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The snapshot is there."""

    snapshot: SnapshotInfo


class OrderRollback(Params, frozen=True, kw_only=True):
    """The component's next container starts with the files of this snapshot."""

    component: str
    name: str


class ListSnapshots(Params, frozen=True, kw_only=True):
    """Snapshots of one component; empty: of all of this node."""

    component: str = ""


class SnapshotLines(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Snapshots, the oldest first."""

    snapshots: list[SnapshotInfo]


class DropSnapshot(Params, frozen=True, kw_only=True):
    """Remove a snapshot; an empty name: all of the component's."""

    component: str
    name: str = ""


SNAPSHOT = method(562, "container.snapshot", TakeSnapshot, TakenSnapshot, public=False)
ROLLBACK = method(563, "container.rollback", OrderRollback, Nothing, public=False)
SNAPSHOTS = method(564, "container.snapshots", ListSnapshots, SnapshotLines, public=False)
DROP_SNAPSHOT = method(565, "container.drop_snapshot", DropSnapshot, Nothing, public=False)
