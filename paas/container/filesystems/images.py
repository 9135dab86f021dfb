"""Writable layers in sparse files, kept ready for the sizes asked for most lately.

What is ready is held by a descriptor only (`real/kernel_loop.py`): when the controller is killed,
the kernel removes it.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from paas.base.errors import PlatformError, invalid
from paas.bundle.files import reporting_full_disk
from paas.container import limits
from paas.container.filesystems.contract import SNAPSHOT_DATA, Source
from paas.real import kernel_loop
from paas.real import kernel_namespaces as namespaces
from paas.real.kernel_loop import Disk


class ImagePool:
    """File systems in sparse files; the sizes asked for most lately are kept ready."""

    def __init__(self, directory: str, size: int, skeleton: Sequence[str] = ()) -> None:
        self._directory = directory
        self._skeleton = skeleton
        self._size = size
        self._ready: dict[int, deque[Disk]] = {}
        self._wanted = trio.Event()
        self._formatting = trio.Lock()
        self._formatted: set[int] = set()
        os.makedirs(directory, mode=0o700, exist_ok=True)

    async def take(self, size_bytes: int) -> Disk:
        """An empty one, from the pool or made now."""
        ready = self._ready.pop(size_bytes, deque())
        self._ready[size_bytes] = ready  # now the one asked for most lately
        while len(self._ready) > limits.POOL_DISK_SIZES:
            for disk in self._ready.pop(next(iter(self._ready))):
                disk.release()
        self._wanted.set()
        return ready.popleft() if ready else await self._make(size_bytes)

    async def run(self) -> None:
        """Keep the pool filled."""
        while True:
            self._wanted = trio.Event()
            for size_bytes, ready in list(self._ready.items()):
                if len(ready) < self._size:
                    try:
                        disk = await self._make(size_bytes)
                    except (PlatformError, OSError):
                        await trio.sleep(limits.POOL_RETRY_S)
                        self._wanted.set()
                        continue
                    if self._ready.get(size_bytes) is ready:
                        ready.append(disk)
                        self._wanted.set()
                    else:
                        disk.release()
            await self._wanted.wait()
            await trio.sleep(limits.POOL_PAUSE_S)

    async def _make(self, size_bytes: int) -> Disk:
        blank = f"{self._directory}/blank-{size_bytes}.img"
        with trio.CancelScope(shield=True), reporting_full_disk():
            async with self._formatting:
                if size_bytes not in self._formatted:
                    await trio.to_thread.run_sync(kernel_loop.format_blank, blank, size_bytes)
                    self._formatted.add(size_bytes)
            return await trio.to_thread.run_sync(self._make_disk, blank)
        raise AssertionError("a shielded scope is left by return only")

    def _make_disk(self, blank: str) -> Disk:
        disk = kernel_loop.make_disk(blank, self._directory)
        if disk.mount_fd >= 0:
            for name in self._skeleton:
                os.mkdir(name, 0o755, dir_fd=disk.mount_fd)
        return disk

    async def restore(self, path: str, size_bytes: int) -> Disk:
        """One with the content of the snapshot at `path`."""
        make = partial(kernel_loop.make_disk, f"{path}/{SNAPSHOT_DATA}", self._directory)
        with trio.CancelScope(shield=True), reporting_full_disk():
            try:
                return await trio.to_thread.run_sync(make, size_bytes)
            except OSError as exc:
                if exc.errno == errno.ENOSPC and exc.strerror and "resize2fs" in exc.strerror:
                    raise invalid(
                        "limits.disk_bytes", "at least what the snapshot's files take"
                    ) from None
                raise
        raise AssertionError("a shielded scope is left by return only")

    def close(self) -> None:
        for ready in self._ready.values():
            for disk in ready:
                disk.release()
        self._ready.clear()


def sync_layer(pid: int) -> None:
    """Write to its device what a container has in memory of its files; none when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespaces.sync_file_system(root)
        finally:
            os.close(root)


def sync_and_copy(source: Source, path: str) -> int:
    """Write the layer of a container, in which nobody writes now, to `path`; its size."""
    ticks = namespaces.start_ticks(source.pid)
    sync_layer(source.pid)
    target = f"{path}/{SNAPSHOT_DATA}"

    def lives() -> bool:
        return ticks is not None and namespaces.start_ticks(source.pid) == ticks

    return kernel_loop.copy_out(source.device, target, lives, limits.SNAPSHOT_BYTES_MAX)


async def snapshot_image(source: Source, path: str) -> int:
    """`FileSystem.snapshot` for layers in images."""
    with reporting_full_disk():
        try:
            return await trio.to_thread.run_sync(sync_and_copy, source, path)
        except OSError as exc:
            if exc.errno == errno.EFBIG:
                raise PlatformError(
                    "limit-exceeded",
                    f"a snapshot takes at most {limits.SNAPSHOT_BYTES_MAX} bytes",
                ) from None
            if exc.errno in (errno.ENXIO, errno.ENOENT, errno.ESRCH):
                raise PlatformError("not-available", "the component has ended") from None
            raise
    raise AssertionError("the block is left by return or an error")
