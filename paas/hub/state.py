"""Groups in the cluster state: who is a member, in which order, with which token (platform §4.7.2).

Joining is a command of the log, so that position, count and fencing token are the same for every
observer, whatever the timing ("am I the first?", feature D07).  Invariants:

- members are kept in joining order; a member joins a group once, joining again changes nothing;
- a token is the log index of the joining, hence larger than every token given before in the group;
- a component's groups end with its incarnation; those it was created with come back when its next
  incarnation becomes available;
- only an incarnation whose end is still to come is a member: a joining that was on its way when it
  ended is refused, also if the next incarnation lives by then;
- a group exists while it has members.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
)
from paas.hub import limits
from paas.raft.command import command
from paas.raft.machine import Context


@command(100)
class JoinGroups(msgspec.Struct, frozen=True, kw_only=True):
    """A component joins groups; with `unique`, only ones that nobody else is in.

    `incarnation` is the one that asked; a later one has not (0: from before this was told).
    """

    component: str
    groups: list[str]
    unique: bool = False
    incarnation: int = 0


@command(101)
class LeaveGroups(msgspec.Struct, frozen=True, kw_only=True):
    """A component leaves groups."""

    component: str
    groups: list[str]


_GONE = ("destroying", "destroyed", "failed")


class MemberJoined(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component is a member of a group now."""

    group: str
    component: str


class MemberLeft(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a component is no member of a group any more."""

    group: str
    component: str


class GroupState:
    """The section "groups" of the cluster state."""

    name = "groups"

    def __init__(self) -> None:
        self._members: dict[str, dict[str, int]] = {}  # group -> component -> token, joining order
        self._groups: dict[str, tuple[str, ...]] = {}  # component -> groups it is in
        self._configured: dict[str, list[str]] = {}  # component -> groups it was created with
        self._alive: dict[str, int] = {}  # component -> its incarnation, which has not ended
        self.commands = {JoinGroups: self._join, LeaveGroups: self._leave}

    # -- what others read ------------------------------------------------------------------------

    def members(self, group: str) -> list[str]:
        return list(self._members.get(group, ()))

    def is_in_one_of(self, groups: frozenset[str], component: str) -> bool:
        held = self._groups.get(component)
        return held is not None and not groups.isdisjoint(held)

    def groups_of(self, component: str) -> list[str]:
        return sorted(self._groups.get(component, ()))

    def groups(self, prefix: str = "") -> dict[str, int]:
        return {g: len(m) for g, m in sorted(self._members.items()) if g.startswith(prefix)}

    def has(self, group: str) -> bool:
        return group in self._members

    # -- commands --------------------------------------------------------------------------------

    def _join(self, cmd: JoinGroups, ctx: Context) -> dict[str, Any]:
        if cmd.component not in self._alive or (
            cmd.incarnation and self._alive[cmd.component] not in (0, cmd.incarnation)
        ):
            raise PlatformError("not-available", f"component {cmd.component[:8]} has ended")
        held = self._groups.get(cmd.component, ())
        if len({*held, *cmd.groups}) > limits.GROUPS_OF_COMPONENT_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"a component may be in {limits.GROUPS_OF_COMPONENT_MAX} groups at most",
            )
        new = sum(1 for group in dict.fromkeys(cmd.groups) if group not in self._members)
        if new and len(self._members) + new > limits.GROUPS_MAX:
            raise PlatformError("limit-exceeded", f"there are {len(self._members)} groups already")
        for group in cmd.groups:
            self._check_room(group, cmd)
        for group in cmd.groups:
            self._add(group, cmd.component, ctx)
        positions, counts, tokens = {}, {}, {}
        for group in cmd.groups:
            members = self._members[group]
            positions[group] = list(members).index(cmd.component) + 1
            counts[group] = len(members)
            tokens[group] = members[cmd.component]
        return {"positions": positions, "members": counts, "token": tokens}

    def _check_room(self, group: str, cmd: JoinGroups) -> None:
        members = self._members.get(group, {})
        others = [m for m in members if m != cmd.component]
        if cmd.unique and others:
            raise PlatformError(
                "conflict", f"group {group!r} has a member already", group=group, holder=others[0]
            )
        if cmd.component not in members and len(members) >= limits.GROUP_MEMBERS_MAX:
            raise PlatformError(
                "limit-exceeded", f"group {group!r} has {limits.GROUP_MEMBERS_MAX} members already"
            )

    def _leave(self, cmd: LeaveGroups, ctx: Context) -> dict[str, Any]:
        for group in cmd.groups:
            self._remove(group, cmd.component, ctx)
        return {}

    # -- reactions to what happens to components -------------------------------------------------

    def react(self, event: object, ctx: Context) -> None:
        if isinstance(event, ComponentCreated):
            self._alive.setdefault(event.component, 0)  # its first change follows at once
            if event.groups:
                self._configured[event.component] = list(event.groups)
        elif isinstance(event, ComponentChanged):
            self._changed(event, ctx)
        elif isinstance(event, ComponentEnded):
            self._end(event.component, ctx)
        elif isinstance(event, ComponentForgotten):
            self._end(event.component, ctx)
            self._configured.pop(event.component, None)

    def _changed(self, event: ComponentChanged, ctx: Context) -> None:
        if event.state in _GONE:
            self._end(event.component, ctx)
            if event.state == "destroyed":
                self._configured.pop(event.component, None)
            return
        self._alive[event.component] = event.incarnation
        if event.state == "available" and event.previous not in ("unavailable", "leaving"):
            for group in self._configured.get(event.component, ()):
                self._add(group, event.component, ctx)

    def _end(self, component: str, ctx: Context) -> None:
        self._alive.pop(component, None)
        for group in self.groups_of(component):
            self._remove(group, component, ctx)

    def _add(self, group: str, component: str, ctx: Context) -> None:
        members = self._members.setdefault(group, {})
        if component not in members:
            members[component] = ctx.index
            self._groups[component] = (*self._groups.get(component, ()), group)
            ctx.emit(MemberJoined(group=group, component=component))

    def _remove(self, group: str, component: str, ctx: Context) -> None:
        members = self._members.get(group, {})
        if members.pop(component, None) is None:
            return
        if not members:
            del self._members[group]
        held = tuple(other for other in self._groups[component] if other != group)
        if held:
            self._groups[component] = held
        else:
            del self._groups[component]
        ctx.emit(MemberLeft(group=group, component=component))

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        members = [[g, [[c, t] for c, t in m.items()]] for g, m in sorted(self._members.items())]
        return {
            "members": members,
            "configured": dict(sorted(self._configured.items())),
            "alive": dict(sorted(self._alive.items())),
        }

    def restore(self, plain: Any) -> None:
        self._members = {g: dict(m) for g, m in plain["members"]}
        self._configured = {c: list(g) for c, g in plain["configured"].items()}
        alive = plain["alive"]  # a list, as written before incarnations were told
        self._alive = dict(alive) if isinstance(alive, dict) else dict.fromkeys(alive, 0)
        self._groups = {}
        for group, members in self._members.items():
            for component in members:
                self._groups[component] = (*self._groups.get(component, ()), group)
