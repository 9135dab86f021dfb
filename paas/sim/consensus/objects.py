"""The replicated objects that simulated clients use: registers, groups, names, counters.

They are the sequential objects of `paas.sim.models`, written a second time as a section of the real
state machine, so that what clients saw can be judged against the models.

The section also keeps what the invariants ask for: a digest of everything applied in its order
(equal index, equal digest), and the identities of all commands (none twice, none lost).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from paas.raft.command import command
from paas.raft.machine import Context


@command(9_920)
class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a client with one object."""

    kind: str
    key: str
    argument: Any = None
    filler: str = ""


class Objects:
    """The section; `kind` of a key is the part before its slash."""

    name = "objects"

    def __init__(self) -> None:
        self.digest = 0
        self.applied: dict[str, int] = {}  # identity -> how often
        self.repeated = 0
        self._registers: dict[str, Any] = {}
        self._groups: dict[str, dict[str, int]] = {}
        self._claims: dict[str, str] = {}
        self._counters: dict[str, int] = {}
        self.commands: dict[type[Any], Callable[..., Any]] = {Deed: self._do}

    def _do(self, cmd: Deed, ctx: Context) -> Any:
        identity = f"{ctx.stamp.proposer}:{ctx.stamp.sequence}"
        self.repeated += identity in self.applied
        self.applied[identity] = ctx.index
        seen = repr((ctx.index, identity, cmd.kind, cmd.key, cmd.argument))
        self.digest = zlib.crc32(seen.encode(), self.digest)
        doing: Callable[[Deed, Context], Any] = getattr(self, f"_{cmd.kind}")
        return doing(cmd, ctx)

    def read(self, key: str) -> Any:
        """What a confirmed read sees in the local state."""
        kind = key.split("/")[0]
        if kind == "register":
            return self._registers.get(key)
        return self._claims.get(key) if kind == "claim" else self._counters.get(key, 0)

    def _read(self, cmd: Deed, ctx: Context) -> Any:
        return self.read(cmd.key)

    def _holder(self, cmd: Deed, ctx: Context) -> Any:
        return self.read(cmd.key)

    def _write(self, cmd: Deed, ctx: Context) -> None:
        self._registers[cmd.key] = cmd.argument

    def _cas(self, cmd: Deed, ctx: Context) -> bool:
        old, new = cmd.argument
        if self._registers.get(cmd.key) != old:
            return False
        self._registers[cmd.key] = new
        return True

    def _join(self, cmd: Deed, ctx: Context) -> tuple[int, int, int]:
        members = self._groups.setdefault(cmd.key, {})
        token = members.setdefault(cmd.argument, ctx.index)
        return list(members).index(cmd.argument) + 1, len(members), token

    def _leave(self, cmd: Deed, ctx: Context) -> None:
        self._groups.get(cmd.key, {}).pop(cmd.argument, None)

    def _claim(self, cmd: Deed, ctx: Context) -> bool:
        return bool(self._claims.setdefault(cmd.key, cmd.argument) == cmd.argument)

    def _release(self, cmd: Deed, ctx: Context) -> None:
        if self._claims.get(cmd.key) == cmd.argument:
            del self._claims[cmd.key]

    def _add(self, cmd: Deed, ctx: Context) -> int:
        self._counters[cmd.key] = self._counters.get(cmd.key, 0) + int(cmd.argument[1])
        return self._counters[cmd.key]

    def react(self, event: object, ctx: Context) -> None:
        return None

    def snapshot(self) -> Any:
        groups = [[key, list(members.items())] for key, members in sorted(self._groups.items())]
        plain = (self._registers, groups, self._claims, self._counters)
        return [self.digest, list(self.applied.items()), *plain]

    def restore(self, plain: Any) -> None:
        self.digest, applied, registers, groups, claims, counters = plain
        self.applied = dict(applied)
        self._registers, self._claims, self._counters = (
            dict(registers),
            dict(claims),
            dict(counters),
        )
        self._groups = {key: dict(members) for key, members in groups}
        self.repeated = 0
