"""The section "dns" of the cluster state: what was published, who announces what, and the serial.

What components, groups and nodes are called follows from the other sections (cluster.py) and is not
kept here.  Invariants:

  - The serial is the log index of the last command that changed what any name means.  Replicas that
    have the same serial answer the same; it never goes back.
  - A component's records end with its incarnation, in the command that says so.
  - Where a CNAME is, nothing else was published (RFC 1034 §3.6.2).
  - What a node announces is gone when the node is removed for good; while it is lost, it is kept
    and not told.

Commands 680-689.  Whether somebody may publish is decided before (api.py): what is checked here is
what depends on the state at the moment of applying.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentEnded
from paas.dns import limits, records
from paas.dns.messages import RecordsChanged
from paas.dns.names import Labels
from paas.node.messages import NodeChanged
from paas.raft.command import command
from paas.raft.machine import Context

TOUCHING = frozenset(
    {
        *("ComponentCreated", "ComponentChanged", "ComponentEnded", "ComponentPlaced"),
        *("ComponentForgotten", "ComponentAdjusted", "MemberJoined", "MemberLeft"),
        *("NodeChanged", "RecordsChanged"),
    }
)
"""Events, by name, after which a name may mean something else."""


@command(680)
class PublishRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record at a name of the zone, which is without the zone's own labels.

    `owner` is the component that keeps it up, in this `incarnation`; empty: an operator.
    """

    name: str
    kind: int
    data: bytes
    ttl_s: int
    owner: str = ""
    incarnation: int = 0


@command(681)
class WithdrawRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a name: of all kinds (0) or one, with any data (empty) or this.

    `owner`: only those of this component.
    """

    name: str
    kind: int = 0
    data: bytes = b""
    owner: str = ""


@command(682)
class AnnounceAgents(msgspec.Struct, frozen=True, kw_only=True):
    """Where the agents of a node listen, host and port by sub-system; what it signs with."""

    node: str
    agents: dict[str, tuple[str, int]]
    key: bytes = b""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One published record."""

    kind: int
    data: bytes
    ttl_s: int
    owner: str = ""


class DnsState:
    """See the module's text.  Everybody reads; only commands write."""

    name = "dns"

    def __init__(self) -> None:
        self.serial = 0
        self.agents: dict[str, dict[str, tuple[str, int]]] = {}  # node -> sub-system -> where
        self.keys: dict[str, bytes] = {}  # node -> data of its DNSKEY
        self._entries: dict[str, list[Entry]] = {}  # name -> records, in the order of publishing
        self._owned: dict[str, dict[str, None]] = {}  # component -> names
        self._above: dict[Labels, int] = {}  # names above published ones -> how many
        self._count = 0
        self.commands = {
            PublishRecord: self._publish,
            WithdrawRecords: self._withdraw,
            AnnounceAgents: self._announce,
        }

    # -- what others read ------------------------------------------------------------------------

    def entries(self, name: str) -> list[Entry]:
        return self._entries.get(name, [])

    def names(self) -> list[str]:
        """All names that something was published at."""
        return list(self._entries)

    def is_above(self, labels: Labels) -> bool:
        """Was something published below this name?"""
        return labels in self._above

    # -- commands --------------------------------------------------------------------------------

    def _publish(self, cmd: PublishRecord, ctx: Context) -> dict[str, Any]:
        known = self._entries.get(cmd.name, [])
        others = [e for e in known if (e.kind, e.data) != (cmd.kind, cmd.data)]
        self._check(cmd, known, others, ctx)
        if len(others) == len(known):
            self._count += 1
            if not known:
                self._count_above(cmd.name, 1)
        fresh = Entry(cmd.kind, cmd.data, cmd.ttl_s, cmd.owner)
        self._entries[cmd.name] = [*others, fresh]
        if cmd.owner:
            self._owned.setdefault(cmd.owner, {})[cmd.name] = None
        ctx.emit(RecordsChanged(names=[cmd.name]))
        return {"serial": ctx.index}

    def _check(
        self, cmd: PublishRecord, known: list[Entry], others: list[Entry], ctx: Context
    ) -> None:
        """Raises what speaks against it."""
        if cmd.owner:
            _check_alive(cmd, ctx)
        same = next((e for e in known if (e.kind, e.data) == (cmd.kind, cmd.data)), None)
        if same is not None and same.owner != cmd.owner:
            by = f"component {same.owner[:8]}" if same.owner else "an operator"
            raise PlatformError("conflict", f"{cmd.name} has this record already, from {by}")
        if others and (cmd.kind == records.CNAME or any(e.kind == records.CNAME for e in others)):
            raise PlatformError(
                "conflict",
                f"{cmd.name} has other records: a CNAME stands alone",
                hint="withdraw them first: paas dns withdraw NAME",
            )
        if len(others) >= limits.PUBLISHED_NAME_MAX:
            raise PlatformError(
                "limit-exceeded", f"a name has at most {limits.PUBLISHED_NAME_MAX} records"
            )
        if len(others) == len(known):
            if self._count >= limits.PUBLISHED_MAX:
                raise PlatformError(
                    "limit-exceeded", f"{limits.PUBLISHED_MAX} records were published already"
                )
            if cmd.owner and self._owned_count(cmd.owner) >= limits.PUBLISHED_COMPONENT_MAX:
                raise PlatformError(
                    "limit-exceeded",
                    f"a component publishes at most {limits.PUBLISHED_COMPONENT_MAX} records",
                )

    def _owned_count(self, owner: str) -> int:
        held = self._owned.get(owner, ())
        return sum(1 for name in held for entry in self._entries[name] if entry.owner == owner)

    def _withdraw(self, cmd: WithdrawRecords, ctx: Context) -> dict[str, Any]:
        count = self._remove(
            cmd.name,
            lambda e: (
                cmd.kind in (0, e.kind)
                and cmd.data in (b"", e.data)
                and (not cmd.owner or e.owner == cmd.owner)
            ),
        )
        if count:
            ctx.emit(RecordsChanged(names=[cmd.name]))
        return {"count": count, "serial": ctx.index if count else self.serial}

    def _announce(self, cmd: AnnounceAgents, ctx: Context) -> dict[str, Any]:
        nodes = ctx.sections.get("nodes")
        if nodes is not None and nodes.get(cmd.node) is None:
            raise PlatformError("no-such-target", f"no node is called {cmd.node!r}")
        if len(cmd.agents) > limits.AGENTS_MAX:
            raise PlatformError("limit-exceeded", f"a node has {limits.AGENTS_MAX} agents at most")
        same = self.agents.get(cmd.node) == cmd.agents and self.keys.get(cmd.node, b"") == cmd.key
        if not same:
            self.agents[cmd.node] = dict(cmd.agents)
            self.keys.pop(cmd.node, None)
            if cmd.key:
                self.keys[cmd.node] = cmd.key
            ctx.emit(RecordsChanged(names=[]))
        return {}

    # -- reactions -------------------------------------------------------------------------------

    def react(self, event: Any, ctx: Context) -> None:
        """Whatever may have changed a name's meaning counts the serial up."""
        if isinstance(event, ComponentEnded):
            for name in list(self._owned.get(event.component, ())):
                self._remove(name, lambda e: e.owner == event.component)
        elif isinstance(event, NodeChanged) and event.state == "destroyed":
            self.agents.pop(event.node, None)
            self.keys.pop(event.node, None)
        if type(event).__name__ in TOUCHING:
            self.serial = ctx.index

    def _remove(self, name: str, unwanted: Any) -> int:
        known = self._entries.get(name, [])
        left = [entry for entry in known if not unwanted(entry)]
        if len(left) == len(known):
            return 0
        for owner in {entry.owner for entry in known} - {entry.owner for entry in left} - {""}:
            held = self._owned[owner]
            del held[name]
            if not held:
                del self._owned[owner]
        self._count -= len(known) - len(left)
        if left:
            self._entries[name] = left
        else:
            del self._entries[name]
            self._count_above(name, -1)
        return len(known) - len(left)

    def _count_above(self, name: str, by: int) -> None:
        for labels in _suffixes(name):
            count = self._above.get(labels, 0) + by
            if count:
                self._above[labels] = count
            else:
                self._above.pop(labels, None)

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return {
            "serial": self.serial,
            "agents": {n: {k: list(v) for k, v in a.items()} for n, a in self.agents.items()},
            "keys": dict(self.keys),
            "entries": {
                n: [msgspec.to_builtins(e, builtin_types=(bytes,)) for e in entries]
                for n, entries in self._entries.items()
            },
        }

    def restore(self, plain: Any) -> None:
        self.serial = plain["serial"]
        self.agents = msgspec.convert(plain["agents"], dict[str, dict[str, tuple[str, int]]])
        self.keys = msgspec.convert(plain["keys"], dict[str, bytes])
        self._entries = msgspec.convert(plain["entries"], dict[str, list[Entry]])
        self._owned, self._above, self._count = {}, {}, 0
        for name, entries in self._entries.items():
            self._count += len(entries)
            self._count_above(name, 1)
            for entry in entries:
                if entry.owner:
                    self._owned.setdefault(entry.owner, {})[name] = None


def _check_alive(cmd: PublishRecord, ctx: Context) -> None:
    controller = ctx.sections.get("controller")
    instance = None if controller is None else controller.instances.get(cmd.owner)
    if instance is None or instance.is_over(cmd.incarnation):
        raise PlatformError("not-available", f"component {cmd.owner[:8]} has ended")


def _suffixes(name: str) -> Iterable[Labels]:
    """What is above a name, itself not."""
    labels = tuple(name.encode().split(b".")) if name else ()
    return [labels[i:] for i in range(1, len(labels))]
