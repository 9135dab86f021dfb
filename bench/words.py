"""The state machine of the benchmarks of the log: a map of keys to values, as small as can be."""

from __future__ import annotations

from typing import Any

import msgspec

from paas.raft.command import command
from paas.raft.machine import Context


@command(9_911)
class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Keep a value under a key."""

    key: str
    value: str


class Words:
    """The section "words"."""

    name = "words"

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.count = 0
        self.commands = {Note: self._note}

    def _note(self, cmd: Note, _ctx: Context) -> int:
        self.words[cmd.key] = cmd.value
        self.count += 1
        return self.count

    def react(self, event: Any, ctx: Context, /) -> None:
        """There are no events."""

    def snapshot(self) -> Any:
        return {"words": self.words, "count": self.count}

    def restore(self, plain: Any, /) -> None:
        self.words, self.count = dict(plain["words"]), plain["count"]
