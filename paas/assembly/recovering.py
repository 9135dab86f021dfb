"""`python -m paas recover`: the log of a stopped node, looked at or made to go on alone.

Standard output gets JSON: {"node", "cluster", "last_index", "last_term", "commit_index", "voters",
"observers"}, and with --force the "index" and "term" of the entry that makes this node the only
voter.  An error is one line `error: CODE: TEXT` on standard error.

What may be lost, and who may not come back, is told by `paas.raft.recover`; whether to do it is
asked by `paas cluster recover`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from paas.assembly.node_settings import settings_of
from paas.base.errors import PlatformError, invalid
from paas.node.settings import HUB_UID, NodeSettings
from paas.raft.recover import Survivor, examine, force_configuration
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles


def run(state: str, *, force: bool) -> int:
    """Look, or force; the exit status."""
    if os.geteuid() != 0:
        sys.stderr.write("error: unsupported: the log of a node is root's to change\n")
        return 1
    try:
        found = _found(settings_of(state), force=force)
    except PlatformError as exc:
        sys.stderr.write(f"error: {exc.code}: {exc.message}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _found(settings: NodeSettings, *, force: bool) -> dict[str, Any]:
    directory = f"{settings.state}/hub"
    if not os.path.isdir(directory):
        raise invalid("state", f"expected the directory of a node, not {settings.state}")
    files, entropy = SystemFiles(directory), SystemEntropy()
    try:
        if not force:
            return _told(settings, examine(files, entropy=entropy))
        done = force_configuration(files, node=settings.node, entropy=entropy)
    finally:
        # Opening a journal may write files anew, and the log is the hub's.
        for name in os.listdir(directory):
            os.chown(f"{directory}/{name}", HUB_UID, HUB_UID)
    return {**_told(settings, done.before), "index": done.index, "term": done.term}


def _told(settings: NodeSettings, before: Survivor) -> dict[str, Any]:
    members = before.members
    return {
        "node": settings.node,
        "cluster": settings.cluster,
        "last_index": before.last_index,
        "last_term": before.last_term,
        "commit_index": before.commit_index,
        "voters": list(members.voters),
        "observers": list(members.observers),
    }
