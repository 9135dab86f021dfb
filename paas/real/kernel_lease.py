"""The place of a node's lease: its file, the mark that leases are in force, the fence's process.

    <runtime>/lease                  the page that the fence reads; gone with the machine's boot
    <state>/containers/leased        an empty file: leases are in force on this node

The mark outlives a boot and a lost runtime directory: a node that was under leases has none when
its page is gone, rather than needing none.  The fence is found again by number *and* start time.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys

import trio

from paas.base.errors import PlatformError
from paas.real import kernel_fence, kernel_namespaces
from paas.real.kernel_fence import LeaseFile

_START_S = 10.0


class LeasePlace:
    """Implements `container.fence.Place`."""

    def __init__(self, path: str, state_dir: str, groups: list[str]) -> None:
        """`groups`: the control groups below which all containers of the node are."""
        self._path = path
        self._mark = f"{state_dir}/leased"
        self._groups = groups
        self._file: LeaseFile | None = None
        self._pidfd = -1

    def load(self) -> float:
        """The deadline that is in force: inf without leases, -inf for one that cannot be read."""
        try:
            self._file = LeaseFile(self._path)
        except FileNotFoundError:
            return -math.inf if self._marked() else math.inf
        except (OSError, ValueError):
            return -math.inf
        if self._file.boot != kernel_namespaces.boot_id():
            self._forget()
            return -math.inf
        return self._file.deadline_s

    def fenced(self) -> bool:
        return self._file is not None and self._file.fenced_s > 0.0

    async def guard(self) -> None:
        """Return when a fence is in charge."""
        if self._file is None or self._runs():
            return
        self._find()
        if not self._runs():
            await trio.to_thread.run_sync(self._start)

    async def grant(self, deadline_s: float) -> None:
        """Put a lease in force, guarded; raises OSError, or `internal`."""
        if self._file is None or self._file.removed() or self._file.replaced():
            await trio.to_thread.run_sync(self._make, deadline_s)
        else:
            sooner = deadline_s < self._file.deadline_s
            self._file.deadline_s = deadline_s
            if self._file.fenced_s:
                self._file.fenced_s = 0.0
            if sooner:  # the fence sleeps until the later one: another takes over
                await trio.to_thread.run_sync(self._end)
        await self.guard()

    async def drop(self) -> None:
        """No lease is needed any more: the fence goes, and the page."""
        if self._file is None and not self._marked():
            return
        if self._file is not None:
            self._file.deadline_s = math.inf
        await trio.to_thread.run_sync(self._end)
        # In this order: a page that says "none needed" is understood without the mark.
        for path in (self._mark, self._path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._forget()

    def close(self) -> None:
        """Let go of it; the fence stays."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._forget()

    # -- in a thread -----------------------------------------------------------------------------

    def _make(self, deadline_s: float) -> None:
        if not self._marked():
            _create_durably(self._mark)
        os.makedirs(os.path.dirname(self._path), mode=0o711, exist_ok=True)
        self._end()  # the fence of a page that is not there any more
        self._forget()
        self._file = LeaseFile.create(
            self._path,
            deadline_s=deadline_s,
            boot=kernel_namespaces.boot_id(),
            groups=self._groups,
        )

    def _marked(self) -> bool:
        return os.path.exists(self._mark)

    def _start(self) -> None:
        self._reap()
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", kernel_fence.__file__, self._path],
                {"LANG": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs, 1),
                ],
            )
            self._pidfd = kernel_namespaces.open_process(pid)
            os.close(theirs)
            theirs = -1
            ready, _, _ = select.select([ours], [], [], _START_S)
            if not ready or os.read(ours, 1) != b"r":
                self._end()
                raise PlatformError("internal", "the fence does not start")
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)

    def _end(self) -> None:
        self._find()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            select.select([self._pidfd], [], [], _START_S)
            self._reap()

    def _find(self) -> None:
        """Take hold of the fence that the page names, if it is that process still."""
        if self._pidfd >= 0 or self._file is None:
            return
        pid, ticks = self._file.watchdog
        found = kernel_namespaces.open_same_process(pid, ticks) if pid else None
        self._pidfd = -1 if found is None else found

    def _runs(self) -> bool:
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def _reap(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ChildProcessError):  # another process's child
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            os.close(self._pidfd)
            self._pidfd = -1

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _create_durably(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
