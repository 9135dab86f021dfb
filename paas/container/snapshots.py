"""Snapshots of components' files, and going back to one.

    create     of a component that runs; where the file system needs it, the component is frozen
               while its files are copied, and goes on afterwards
    rollback   an order: the next container of the component starts with these files; whoever
               ordered it has the component restarted
    drop       one, or all of a component that is destroyed or forgotten

What a snapshot holds: everything that the component and its root wrote in its file tree.  Not
volumes, /tmp, /run, /dev/shm and memory.  A container always begins with the files of its bundle,
except after an order to go back; a snapshot stays until it is dropped, whatever ends or restarts.

A controller that dies while a snapshot is made leaves half of one, and perhaps a component that
stands still: `open`, called once containers are adopted, removes the half and lets it go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.container import limits
from paas.container.filesystems.contract import SnapshotInfo, Source
from paas.container.filesystems.store import Order, check_name
from paas.container.filesystems.usage import disk_usage
from paas.container.hooks.contract import Context
from paas.container.journal import Record
from paas.container.lifecycle import ContainerState
from paas.container.parts import Parts


class Stopper(Protocol):
    """What is needed of `living.Living`."""

    async def freeze(self, component: str) -> None: ...

    async def thaw(self, component: str) -> None: ...


class Kept(Protocol):
    """A container, as far as its files are concerned."""

    context: Context
    state: ContainerState
    frozen: bool
    doomed: bool


class Containers(Protocol):
    """What is asked of the engine."""

    @property
    def containers(self) -> Mapping[str, Kept]: ...

    @property
    def living(self) -> Stopper: ...

    def ready(self) -> Parts: ...

    def find(self, component: str) -> Kept: ...


class Snapshots:
    """See the module's text."""

    def __init__(self, engine: Containers, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._under_way: set[str] = set()

    async def open(self) -> None:
        """Finish what an earlier controller left half done."""
        files = self._engine.ready().layers
        for component, places in files.store.undone().items():
            for place in places:
                if files.store.froze(place) and component in self._engine.containers:
                    await self._engine.living.thaw(component)
                await files.remove_snapshot(place)
                files.store.forget(place)

    def kept(self, component: str = "") -> list[SnapshotInfo]:
        """Those of one component, or all; the oldest first."""
        return self._engine.ready().layers.store.kept(component)

    async def create(self, component: str, name: str) -> SnapshotInfo:
        """Keep its files as they are now; returns when they are on the disk."""
        check_name(name)
        files, container = self._engine.ready().layers, self._engine.find(component)
        with self._alone(component):
            _require_running(container)
            self._require_room(container.context.record, name)
            place = files.store.begin(component, name)
            with trio.CancelScope(shield=True):
                try:
                    info = await self._copy(container, name, place)
                    files.store.finish(place, info)
                except BaseException:
                    await files.remove_snapshot(place)
                    files.store.forget(place)
                    raise
            return info

    async def _copy(self, container: Kept, name: str, place: str) -> SnapshotInfo:
        record, files = container.context.record, self._engine.ready().layers
        directory, pid = container.context.directory, record.pid or 0
        source = Source(directory=directory, device=record.device, pid=pid)
        made_ms = self._clock.now_ms()
        if files.filesystem.momentary:
            size_bytes = await files.filesystem.snapshot(source, place)
        else:
            await files.filesystem.before_snapshot(source)
            async with self._standing_still(container, place):
                size_bytes = await files.filesystem.snapshot(source, place)
            await trio.to_thread.run_sync(files.store.sync, place)
        _require_running(container)  # or it may be of a file system on its way out
        own_range = record.content_uid_base < 0
        return SnapshotInfo(
            name=name,
            component=record.component,
            incarnation=record.incarnation,
            made_ms=made_ms,
            filesystem=record.filesystem,
            files_key=record.files_key,
            uid_base=(record.uid_base or 0) if own_range else record.content_uid_base,
            disk_bytes=record.disk_bytes,
            size_bytes=size_bytes,
        )

    @asynccontextmanager
    async def _standing_still(self, container: Kept, place: str) -> AsyncIterator[None]:
        """The component is frozen in the block; one that was already stays so."""
        if container.frozen:
            yield
            return
        component, store = container.context.record.component, self._engine.ready().layers.store
        store.mark_frozen(place, True)  # before it is so: who finds it thaws, which does no harm
        await self._engine.living.freeze(component)
        try:
            yield
        finally:
            await self._engine.living.thaw(component)
            store.mark_frozen(place, False)

    def _require_room(self, record: Record, name: str) -> None:
        kept = self.kept(record.component)
        if any(info.name == name for info in kept):
            raise PlatformError("conflict", f"there is a snapshot {name} already", field="name")
        if len(kept) >= limits.SNAPSHOTS_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"a component has at most {limits.SNAPSHOTS_MAX} snapshots",
                hint="paas snapshots remove TARGET NAME",
            )
        used = sum(info.size_bytes for info in kept)
        if used + disk_usage(record.pid or 0, record).used_bytes > limits.SNAPSHOT_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"the snapshots of a component take at most {limits.SNAPSHOT_BYTES_MAX} bytes",
                hint="paas snapshots remove TARGET NAME",
            )

    def rollback(self, component: str, name: str) -> None:
        """Its next container starts with these files; raises `conflict` where they do not fit."""
        files = self._engine.ready().layers
        with self._alone(component):
            info = self._find(component, name)
            container = self._engine.containers.get(component)
            if container is not None and container.context.record.files_key:
                files.check_fits(info, container.context.record.files_key)
            token = f"{name}@{self._clock.now_ms()}"
            files.store.order(component, Order(name=name, token=token))

    async def drop(self, component: str, name: str = "") -> None:
        """Remove one snapshot, or all of a component; of all, there being none is no error."""
        files = self._engine.ready().layers
        with self._alone(component):
            names = [name] if name else [info.name for info in self.kept(component)]
            order = files.store.ordered(component)
            if order is not None and order.name in names:
                files.store.withdraw(component)
            with trio.CancelScope(shield=True):
                for each in names:
                    self._find(component, each)
                    place = files.store.set_aside(component, each)
                    await files.remove_snapshot(place)
                    files.store.forget(place)

    def _find(self, component: str, name: str) -> SnapshotInfo:
        info = self._engine.ready().layers.store.info(component, check_name(name))
        if info is None:
            raise PlatformError(
                "no-such-target",
                f"component {component[:8]} has no snapshot {name} on this node",
                hint="list them: paas snapshots TARGET",
            )
        return info

    @contextmanager
    def _alone(self, component: str) -> Iterator[None]:
        if component in self._under_way:
            raise PlatformError("conflict", "something is done with its snapshots already")
        self._under_way.add(component)
        try:
            yield
        finally:
            self._under_way.discard(component)


def _require_running(container: Kept) -> None:
    if container.state is not ContainerState.RUNNING or container.doomed:
        raise PlatformError(
            "not-available", "the component does not run; its files ended with its container"
        )
