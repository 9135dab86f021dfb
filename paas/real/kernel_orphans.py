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

__all__ = ["adopt_orphans", "reap_orphans"]


def reap_orphans(own: Collection[int]) -> None:
    """Reap the ended children of this process that are not in `own`; never waits."""
    for pid in _children():
        if pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    """Children of all our threads (proc(5), `/proc/tid/children`)."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (thread / "children").read_text().split()]
    return found
