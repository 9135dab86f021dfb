"""Reaping processes that were left to us (wait(2), PR_SET_CHILD_SUBREAPER of prctl(2)).

A harness whose container controller was killed becomes the child of the nearest ancestor that
declared itself a subreaper.  Until somebody reaps it after its end it stays a zombie, which holds
its control groups; the machine's own init may take seconds, and we would not leave it to chance.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from paas.real.kernel_namespaces import adopt_orphans

__all__ = ["adopt_orphans", "reap", "reap_orphans", "reap_strangers", "strangers"]


def reap_orphans(own: Collection[int]) -> None:
    """Reap the ended children of this process that are not in `own`; never waits."""
    for pid in _children():
        if pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def reap_strangers(held: Collection[int]) -> None:
    """Reap the ended children of this process that are of another PID namespace, but `held`.

    Nobody told us of them, because their parents were killed before they could; while they are
    there, the first process of their namespace cannot end (pid_namespaces(7)).  What has ended is
    in no control group any more that would say whose it was.
    """
    reap(strangers(held))


def strangers(held: Collection[int]) -> set[int]:
    """The children of this process that are of another PID namespace, but `held`."""
    own = _pid_namespace("self")
    return {
        pid for pid in _children() if pid not in held and _pid_namespace(str(pid)) not in ("", own)
    }


def reap(pids: Collection[int]) -> None:
    """Those of them that have ended; never waits."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)


def _pid_namespace(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def _children() -> list[int]:
    """Children of all our threads (proc(5), `/proc/tid/children`)."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (thread / "children").read_text().split()]
    return found
