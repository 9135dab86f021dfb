"""Where the other hubs were last, kept beside the log: for a node whose log is damaged.

The cluster state has the addresses, and a node that joined was told some.  The node that began the
cluster was told none; if its log is damaged it must still find the others, who let it in again
(paas/raft/returning.py), and must know that there are others, or it would begin a second cluster.

A hint and no more: written without waiting for the disk, and what cannot be read is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from paas.base.ports import Files
from paas.node.messages import NodeChanged
from paas.raft.machine import StateReplaced

FILE = "peers.json"
_TEMPORARY = FILE + ".new"


class PeerHints:
    """`state_changed` subscribes to the replicated log; `read` comes before there is one."""

    def __init__(self, files: Files, on_trouble: Callable[[OSError], None]) -> None:
        self._files = files
        self._on_trouble = on_trouble
        self._kept = self.read()
        self.addresses: Callable[[], Mapping[str, str]] = dict
        """What is to be kept."""

    def read(self) -> dict[str, str]:
        """Name to address."""
        if not self._files.exists(FILE):
            return {}
        file = self._files.open(FILE)
        try:
            return msgspec.json.decode(file.read(0, file.size()), type=dict[str, str])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}
        finally:
            file.close()

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        if any(isinstance(event, NodeChanged | StateReplaced) for event in events):
            self.update()

    def update(self) -> None:
        now = dict(self.addresses())
        if now == self._kept:
            return
        try:
            file = self._files.open(_TEMPORARY, create=True)
            try:
                file.truncate(0)
                file.write(0, msgspec.json.encode(now))
            finally:
                file.close()
            self._files.rename(_TEMPORARY, FILE)
            self._kept = now
        except OSError as exc:
            self._on_trouble(exc)
