"""The hub's port to the snapshots of its node: `controller.snapshot_api.KeptFiles`."""

from __future__ import annotations

from paas.container import snapshot_methods as methods
from paas.container.client import ContainersClient
from paas.container.filesystems.contract import SnapshotInfo
from paas.controller import snapshot_messages as messages

CALL_TIMEOUT_S = 30.0


class SnapshotPort:
    """See the module's text."""

    def __init__(self, client: ContainersClient) -> None:
        self._client = client

    async def create(self, component: str, name: str, timeout_s: float) -> messages.Snapshot:
        params = methods.TakeSnapshot(component=component, name=name)
        answer = await self._client.call(methods.SNAPSHOT, params, timeout_s=timeout_s)
        return _plain(answer.snapshot)

    async def rollback(self, component: str, name: str) -> None:
        params = methods.OrderRollback(component=component, name=name)
        await self._client.call(methods.ROLLBACK, params, timeout_s=CALL_TIMEOUT_S)

    async def kept(self, component: str) -> list[messages.Snapshot]:
        params = methods.ListSnapshots(component=component)
        answer = await self._client.call(methods.SNAPSHOTS, params, timeout_s=CALL_TIMEOUT_S)
        return [_plain(info) for info in answer.snapshots]

    async def drop(self, component: str, name: str) -> None:
        params = methods.DropSnapshot(component=component, name=name)
        await self._client.call(methods.DROP_SNAPSHOT, params, timeout_s=CALL_TIMEOUT_S)


def _plain(info: SnapshotInfo) -> messages.Snapshot:
    return messages.Snapshot(
        component=info.component,
        name=info.name,
        incarnation=info.incarnation,
        time=info.made_ms / 1000,
        size=info.size_bytes,
        filesystem=info.filesystem,
        node="",
    )
