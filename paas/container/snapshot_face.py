"""The face of `snapshots.py`: `container.snapshot`, `rollback`, `snapshots` and `drop_snapshot`."""

from __future__ import annotations

from typing import Protocol

from paas.container import snapshot_methods as methods
from paas.container.filesystems.contract import SnapshotInfo
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class KeptFiles(Protocol):
    """What is needed of `paas.container.snapshots.Snapshots`."""

    async def create(self, component: str, name: str) -> SnapshotInfo: ...

    def rollback(self, component: str, name: str) -> None: ...

    def kept(self, component: str = "") -> list[SnapshotInfo]: ...

    async def drop(self, component: str, name: str = "") -> None: ...


class SnapshotFace:
    """Handlers; see the module's text."""

    def __init__(self, snapshots: KeptFiles) -> None:
        self._snapshots = snapshots

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(methods.SNAPSHOT, self._create)
        dispatcher.plain(methods.ROLLBACK, self._rollback)
        dispatcher.plain(methods.SNAPSHOTS, self._list)
        dispatcher.task(methods.DROP_SNAPSHOT, self._drop)

    async def _create(
        self, params: methods.TakeSnapshot, _context: Context
    ) -> methods.TakenSnapshot:
        info = await self._snapshots.create(params.component, params.name)
        return methods.TakenSnapshot(snapshot=info)

    def _rollback(self, params: methods.OrderRollback, _context: Context) -> Nothing:
        self._snapshots.rollback(params.component, params.name)
        return Nothing()

    def _list(self, params: methods.ListSnapshots, _context: Context) -> methods.SnapshotLines:
        return methods.SnapshotLines(snapshots=self._snapshots.kept(params.component))

    async def _drop(self, params: methods.DropSnapshot, _context: Context) -> Nothing:
        await self._snapshots.drop(params.component, params.name)
        return Nothing()
