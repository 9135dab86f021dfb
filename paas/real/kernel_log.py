"""The kernel's own word about whom it ended for want of memory (io).

The control group counts that somebody was ended; who it was stands in the kernel's log only, in one
line that names the group and the process.  Reading it is a courtesy: without the right (CAP_SYSLOG)
or the device there is no answer, and nobody fails for it.

Source: Documentation/ABI/testing/dev-kmsg; mm/oom_kill.c, `dump_oom_victim`.
"""

from __future__ import annotations

import errno
import os
import re

_DEVICE = "/dev/kmsg"
_RECORD_BYTES_MAX = 8_192
_RECORDS_MAX = 50_000
"""Of one look; the kernel's log has fewer."""

_VICTIMS_MAX = 256
_KILL = re.compile(r"oom-kill:.*task_memcg=/\S*?([0-9a-f]{40})/\w+,task=(.+),pid=(\d+),uid=\d+")


class KernelLog:
    """What was told since it was opened."""

    def __init__(self, device: str = _DEVICE) -> None:
        self._victims: dict[str, str] = {}
        try:
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
            return
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def victim(self, component: str) -> str:
        """The last process of this container that was ended for want of memory; empty: unknown."""
        for _ in range(_RECORDS_MAX):
            record = self._next()
            if record is None:
                break
            if found := read_kill(record):
                self._victims.pop(found[0], None)
                self._victims[found[0]] = found[1]
        while len(self._victims) > _VICTIMS_MAX:
            del self._victims[next(iter(self._victims))]
        return self._victims.pop(component, "")

    def _next(self) -> str | None:
        """The next record; None when there is none."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, _RECORD_BYTES_MAX).decode(errors="replace")
            except OSError as exc:
                if exc.errno == errno.EPIPE:
                    continue  # some were overwritten before we came; the next read finds the rest
                return None
        return None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_kill(record: str) -> tuple[str, str] | None:
    """(container, who was ended) out of one record; None when it tells of something else."""
    found = _KILL.search(record)
    return (found[1], f"{found[2]} (process {found[3]})") if found else None
