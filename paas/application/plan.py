"""What is to be done next, so that an application becomes what it is wanted to be.  Pure.

    wanted (specification, state) ─┐
                                   ├──> steps: those that can be done now, and those that wait, why
    present (members, routes, …) ──┘

Planning keeps nothing: it is asked again after every change, whoever did the steps before.  A step
that is under way shows in what is present (a member that is being born, one that is ending), so the
same state gives the same steps, on every hub.

    birth      a role's members are born when the roles that it depends on are there
    shrinking  the youngest end first; with volumes those with the highest numbers
    replacing  an outdated member is replaced when its role is whole, one at a time in the whole
               application.  `start-first`: the successor is born, and the outdated one ends when
               enough others are available.  `stop-first` (always with volumes, which belong to a
               name): the outdated one ends, its successor gets its place
    routes     set when somebody is there to answer; those that are no longer wanted go after that
    the rest   members of roles that are no longer wanted end last
    stopping   in the order against birth, each role when those that depend on it have gone

A failed member is cleared away and born again (who executes it waits in between); while a member of
today's kind has failed, nothing more is replaced: a broken version stops at its first member.

Invariants (tests/unit/application/test_plan.py proves them by many examples)
  - done again and again, the steps come to an end, and the end is what is wanted;
  - in that end there are no steps;
  - replacing never takes more than one member of the application at a time, and with `start-first`
    never leaves fewer available than are wanted.  (What is wanted anew while a `stop-first` member
    is being replaced may add one: its outdated predecessor is gone, and nobody remembers why.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from paas.application import limits
from paas.application.lifecycle import ApplicationState
from paas.application.records import FAILED, NOT_READY, Application, Member
from paas.application.specification import Role, member_name
from paas.gateway.messages import Route

Action = Literal[
    "create",
    "end",
    "clear",
    "set-route",
    "remove-route",
    "remove-volumes",
    "settle",
    "lose",
    "forget",
    "recover",
]
"""The last four only say what was seen; they are no steps of a plan."""

NO_MORE = "it is no longer wanted"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to do.  `subject` is the member's or the route's name."""

    action: Action
    subject: str
    why: str
    role: str = ""
    slot: int = 0
    component: str = ""
    waits: str = ""
    """What it waits for; empty: it can be done now."""
    patient: bool = False
    """Who does it waits for a while before, the longer the more often it comes."""

    @property
    def ready(self) -> bool:
        return not self.waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is there beside the members."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    """The routes of this application, by name."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Available members of each group that the application requires."""
    volumes: frozenset[str] = frozenset()
    """Which of the application's member names have volumes."""


def plan(application: Application, present: Present) -> list[Step]:
    """All steps that are known of now, in their order; empty when there is nothing to do."""
    if application.runs:
        return _Running(application, present).steps()
    if application.state is ApplicationState.DESTROYING:
        return _destroying(application, present)
    if application.state in (ApplicationState.STOPPING, ApplicationState.STOPPED):
        return _ending(application)
    return []


def settled(application: Application, present: Present) -> bool:
    """Is everything as wanted?"""
    if plan(application, present):
        return False
    return not application.runs or all(
        _View(application, role).settled for role in application.specification.roles
    )


class _View:
    """The members of one role, sorted by what they are."""

    def __init__(self, application: Application, role: Role) -> None:
        self.role = role
        self.target = application.target(role)
        digest = role.digest
        self.all = application.of_role(role.name)
        self.ending = [m for m in self.all if m.ending]
        self.failed = [m for m in self.all if m.state == FAILED and not m.ending]
        self.living = [m for m in self.all if m.living]
        self.current = [m for m in self.living if m.digest == digest]
        self.outdated = [m for m in self.living if m.digest != digest]
        self.available = sum(m.available for m in self.living)
        self.failed_current = [m for m in self.failed if m.digest == digest]

    @property
    def up(self) -> bool:
        """Is it there, for those that depend on it?"""
        return self.available >= self.target

    @property
    def settled(self) -> bool:
        return len(self.all) == len(self.current) == self.target and self.available == self.target

    @property
    def replacing(self) -> bool:
        """Is one of its outdated members being replaced at the moment?"""
        if not any(m.digest != self.role.digest for m in self.all):
            return False
        if self.role.stops_first:
            return bool(self.ending) or len(self.living) < self.target
        return len(self.living) > self.target and bool(self.current)

    @property
    def behind(self) -> bool:
        """Is there something left to replace, or a place that was given up for it still empty?"""
        if self.outdated:
            return True
        coming = any(m.state in NOT_READY for m in self.current)
        return self.role.stops_first and (coming or len(self.living) < self.target)

    def free_slots(self, count: int) -> list[int]:
        """Places for the next ones: the lowest numbers that nobody has."""
        taken = {member.slot for member in self.all}
        highest = self.role.count if self.role.stops_first else self.role.count + len(self.all) + 1
        return [slot for slot in range(1, highest + 1) if slot not in taken][:count]


class _Running:
    """The steps of an application whose members are wanted."""

    def __init__(self, application: Application, present: Present) -> None:
        self._application = application
        self._present = present
        specification = application.specification
        self._views = {r.name: _View(application, r) for r in specification.birth_order()}
        self._missing = self._requirement()

    def steps(self) -> list[Step]:
        steps = [step for view in self._views.values() for step in self._role(view)]
        sets = self._set_routes()
        rest = [*self._remove_routes(), *self._leavers()]
        if rest and (steps or sets or not all(view.settled for view in self._views.values())):
            rest = [_waiting(step, "the rest to be there") for step in rest]
        return [*steps, *sets, *rest]

    def _requirement(self) -> str:
        """What the application requires of others and is not there."""
        for one in self._application.specification.requires:
            there = self._present.groups.get(one.group, 0)
            if there < one.count:
                return f"group {one.group}: {there} of {one.count} members are available"
        return ""

    # -- roles -----------------------------------------------------------------------------------

    def _role(self, view: _View) -> list[Step]:
        extra = len(view.living) - view.target
        # One that has failed keeps its place until it is cleared away: so it is not born at once.
        missing = view.target - len(view.living) - len(view.failed_current)
        steps = [self._clear(view, member) for member in view.failed]
        if extra > 0:
            steps += self._shrink(view, extra)
        if missing > 0:
            steps += self._grow(view, missing)
        elif extra <= 0 and view.outdated:
            steps += self._replace(view)
        return steps

    def _clear(self, view: _View, member: Member) -> Step:
        why = f"it has failed: {member.reason}" if member.reason else "it has failed"
        step = self._of_member("clear", member, why)
        return msgspec.structs.replace(step, patient=member in view.failed_current)

    def _shrink(self, view: _View, extra: int) -> list[Step]:
        """The outdated ones before the others, as far as they are not needed until then."""
        outdated = sorted(view.outdated, key=lambda m: (m.available, *_rank(view.role, m)))
        current = sorted(view.current, key=lambda m: _rank(view.role, m))
        leaving = [*outdated, *current][:extra]
        steps, available = list[Step](), view.available
        free = limits.ENDS_MAX - len(view.ending)
        for member in leaving:
            is_old = member in view.outdated
            why = "it is outdated" if is_old else f"{view.target} are wanted"
            step = self._of_member("end", member, why)
            if is_old and member.available and available - 1 < view.target:
                step = _waiting(step, f"{view.target} others to be available")
            elif free <= 0:
                step = _waiting(step, "others to have ended")
            else:
                free -= 1
                available -= member.available
            steps.append(step)
        return steps

    def _grow(self, view: _View, missing: int) -> list[Step]:
        waits = self._birth_waits(view)
        starting = sum(m.state in NOT_READY for v in self._views.values() for m in v.living)
        steps = []
        slots = view.free_slots(missing)
        for number, slot in enumerate(slots):
            text = waits
            if not text and starting + number >= limits.BIRTHS_MAX:
                text = "others to be available"
            why = f"{len(view.living)} of {view.target} are there"
            steps.append(self._create(view.role, slot, why, text))
        return steps

    def _birth_waits(self, view: _View) -> str:
        if self._missing:
            return self._missing
        for name in view.role.depends:
            other = self._views[name]
            if not other.up:
                return f"role {name}: {other.available} of {other.target} are available"
        return ""

    def _replace(self, view: _View) -> list[Step]:
        """One outdated member of a role that is whole."""
        victims = sorted(
            view.outdated, key=lambda m: (m.available, m.slot if view.role.stops_first else m.birth)
        )
        waits = self._replace_waits(view)
        if not view.role.stops_first:
            (slot,) = view.free_slots(1)
            return [self._create(view.role, slot, f"{self._old(victims[0])} is outdated", waits)]
        if not waits and victims[0].available and view.available < view.target:
            waits = "the others to be available"
        return [_waiting(self._of_member("end", victims[0], "it is outdated"), waits)]

    def _old(self, member: Member) -> str:
        return member_name(self._application.name, member.role, member.slot)

    def _replace_waits(self, view: _View) -> str:
        if self._missing:
            return self._missing
        if view.failed_current:
            return f"{self._old(view.failed_current[0])}, which has failed"
        if view.ending:
            return f"{self._old(view.ending[0])} to end"
        coming = [m for m in view.current if not m.available]
        if coming:
            return f"{self._old(coming[0])} to be available"
        for name in view.role.depends:
            if not self._views[name].settled:
                return f"role {name} to be replaced and available"
        for name, other in self._views.items():
            if other is not view and other.replacing:
                return f"role {name}, which is being replaced"
        before = self._before(view)
        return f"role {before}, which comes first" if before else ""

    def _before(self, view: _View) -> str:
        """An earlier role that is behind: one role after the other.

        Later ones do not count: they may be behind because this one is.
        """
        for name, other in self._views.items():
            if other is view:
                return ""
            if other.behind:
                return name
        return ""

    # -- routes ----------------------------------------------------------------------------------

    def _set_routes(self) -> list[Step]:
        steps = []
        for route in self._application.specification.routes:
            there = self._present.routes.get(route.name)
            if there == route:
                continue
            why = "it is new" if there is None else "it has changed"
            step = Step(action="set-route", subject=route.name, why=why)
            role = route.group.removeprefix(f"{self._application.name}.")
            view = self._views.get(role) if role != route.group else None
            if view is not None and view.target and not any(m.available for m in view.current):
                step = _waiting(step, f"role {role}: nobody is available yet")
            steps.append(step)
        return steps

    def _remove_routes(self) -> list[Step]:
        wanted = {route.name for route in self._application.specification.routes}
        return [
            Step(action="remove-route", subject=name, why=NO_MORE)
            for name in sorted(self._present.routes)
            if name not in wanted
        ]

    def _leavers(self) -> list[Step]:
        """Members of roles that are no longer wanted."""
        members = [m for m in self._application.members.values() if m.role not in self._views]
        return [
            self._of_member("clear" if m.state == FAILED else "end", m, NO_MORE)
            for m in reversed(members)
            if not m.ending
        ]

    # -- words -----------------------------------------------------------------------------------

    def _of_member(self, action: Action, member: Member, why: str) -> Step:
        return _of_member(self._application, action, member, why)

    def _create(self, role: Role, slot: int, why: str, waits: str) -> Step:
        name = member_name(self._application.name, role.name, slot)
        return Step(action="create", subject=name, role=role.name, slot=slot, why=why, waits=waits)


def _rank(role: Role, member: Member) -> tuple[int, int]:
    """Who ends first when there are too many: the youngest; with volumes the highest number."""
    if role.stops_first:
        return (-member.slot, -member.birth)
    return (-member.birth, -member.slot)


def _of_member(application: Application, action: Action, member: Member, why: str) -> Step:
    return Step(
        action=action,
        subject=member_name(application.name, member.role, member.slot),
        role=member.role,
        slot=member.slot,
        component=member.component,
        why=why,
    )


def _waiting(step: Step, waits: str) -> Step:
    return msgspec.structs.replace(step, waits=waits)


# -- ending ----------------------------------------------------------------------------------------


def _ending(application: Application) -> list[Step]:
    """All members, those first that nobody depends on."""
    order = application.specification.birth_order()
    known = {role.name for role in order}
    there = {member.role for member in application.members.values()}
    free = limits.ENDS_MAX - sum(m.ending for m in application.members.values())
    steps = []
    groups: list[tuple[str, str]] = [(name, "") for name in sorted(there - known)]
    for role in reversed(order):
        users = [other.name for other in order if role.name in other.depends]
        waits = next((f"role {name} to end" for name in users if name in there), "")
        groups.append((role.name, waits))
    for name, waits in groups:
        for member in sorted(application.of_role(name), key=lambda m: -m.birth):
            if member.ending:
                continue
            action: Action = "clear" if member.state == FAILED else "end"
            text = waits or ("" if free > 0 else "others to have ended")
            free -= not text
            step = _of_member(application, action, member, "the application is to end")
            steps.append(_waiting(step, text))
    return steps


def _destroying(application: Application, present: Present) -> list[Step]:
    routes = [
        Step(action="remove-route", subject=name, why="the application is to go")
        for name in sorted(present.routes)
    ]
    members = _ending(application)
    if routes:
        members = [_waiting(step, step.waits or "its routes to be removed") for step in members]
    volumes = list[Step]()
    if application.remove_volumes:
        waits = "its members to end" if application.members else ""
        volumes = [
            Step(action="remove-volumes", subject=owner, why="its volumes are to go", waits=waits)
            for owner in application.owners()
            if owner in present.volumes
        ]
    return [*routes, *members, *volumes]
