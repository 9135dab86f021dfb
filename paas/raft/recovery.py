"""A damaged log is put aside, and the replica comes back with an empty one (returning.py).

    open ── `corrupt` ──> is anybody else there? ──no──> refuse to start, say what to do
                               │ yes
                               v
           mark as returned ──> rename journal, snapshot to *.damaged-N ──> open again, mute

The mark is durable before a file is moved, and whoever is mute trusts nothing that it finds; so a
crash anywhere in between only has it done again.  The damaged files are kept as evidence: those of
the last few times, since a dying disk must not fill itself.

Only a replica that knows of others does this.  A single one would throw away the one log there is:
it refuses, and a person decides.

Runs before the log does, and blocks on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from paas.base.errors import PlatformError
from paas.base.ports import Entropy, Files
from paas.raft import returning
from paas.raft.limits import DAMAGED_KEPT
from paas.raft.log import ReplicatedLog

logger = logging.getLogger(__name__)

PARTS = ("journal", "snapshot")
_ASIDE = ".damaged-"


def open_or_return(
    *,
    files: Files,
    entropy: Entropy,
    others: bool,
    on_damage: Callable[[PlatformError], None],
    **rest: Any,
) -> ReplicatedLog:
    """`ReplicatedLog.open`, and when the log is damaged an empty one that asks to be let in again.

    `others`: other nodes have copies of this log, as far as is known outside of it.  `on_damage` is
    told what was found before anything is moved.  Raises `corrupt` when there is nobody else;
    otherwise as `ReplicatedLog.open` (`storage-full` also when there is no room for the mark: then
    nothing was moved, and the next start does the same again).
    """
    if others and not files.exists("journal"):
        rest["join"] = True  # this would be a second beginning of the same log
    try:
        return ReplicatedLog.open(files=files, entropy=entropy, **rest)
    except PlatformError as error:
        if error.code != "corrupt":
            raise
        if not others:
            raise PlatformError(
                "corrupt",
                f"{error.message}; no other node has this log, so this one does not start",
                hint="restore this node's state directory from a backup",
            ) from error
        on_damage(error)
    set_aside(files, entropy)
    return ReplicatedLog.open(files=files, entropy=entropy, **{**rest, "join": True})


def set_aside(files: Files, entropy: Entropy) -> int:
    """Move the log's files out of the way; under which number they are kept.

    Raises `storage-full`, before any of them was moved.
    """
    number = max(_numbers(files), default=0) + 1
    for old in _numbers(files):
        if old <= number - DAMAGED_KEPT:
            _remove(files, old)
    returning.begin(files, entropy)
    for part in PARTS:
        if files.exists(part):
            files.rename(part, f"{part}{_ASIDE}{number}")
    files.sync_dir()
    logger.warning("the damaged log is kept as *%s%d", _ASIDE, number)
    return number


def _numbers(files: Files) -> list[int]:
    """Under which numbers something is kept."""
    found: dict[int, None] = {}
    for name in files.list():
        part, _, number = name.partition(_ASIDE)
        if part in PARTS and number.isdecimal():
            found[int(number)] = None
    return sorted(found)


def _remove(files: Files, number: int) -> None:
    for part in PARTS:
        name = f"{part}{_ASIDE}{number}"
        if files.exists(name):
            files.remove(name)
