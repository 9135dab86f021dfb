"""Whose log is in this directory?  A node uses its own disk and no other's.

A replica's journal holds its vote and what it has acknowledged.  One that started from the journal
of another member would vote a second time in a term, in the name of somebody who had not voted; so
a hub writes whose directory it is when it begins, and refuses one that is another's.  An empty
directory is nobody's yet, and so is one from before this was written down.
"""

from __future__ import annotations

import contextlib

from paas.base.errors import PlatformError
from paas.base.ports import Files
from paas.raft.snapshot import SnapshotFile

FILE = "owner"


def claim(files: Files, *, cluster: str, node: str) -> None:
    """Check that the directory is this node's; mark it if it is nobody's.  Raises `conflict`."""
    file = SnapshotFile(files, FILE)
    file.clean()
    own = f"{cluster}/{node}\n".encode()
    found = file.read()
    if found is None:
        with contextlib.suppress(OSError):  # a full disk: the log will say so; marked next time
            file.write(own)
    elif found != own:
        whose = found.decode("utf-8", "replace").strip()
        raise PlatformError(
            "conflict",
            f"the log in the hub's directory is of {whose}, not of {cluster}/{node}",
            hint="give each node its own disk back; an empty hub directory is filled by the others",
            owner=whose,
        )
