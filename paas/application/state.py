"""The section "applications" of the cluster state: what is wanted, and which components are whose.

    commands ──> specification, revision, state        (people, through any hub)
             ──> settled, lost, troubles               (whoever decides about the application)
    events   ──> members: born, moved, ready, failed, ended, gone

Whose a component is stands in the command that creates it (`created_by`), which no client can
write: so membership begins in the very entry of the log that makes the component, and the hub that
asked for it may die right after without a component being lost or born twice.

Invariants
  - a member is known from its creation until nothing of it is left;
  - the revision grows with every change of what is wanted, and with nothing else;
  - an application is forgotten only when it has no members.  One that is born later, for a plan of
    before, becomes a stray, and is ended by whoever would decide about the application.

Platform document §4.5.1, §4.6.7 ("application controller").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from paas.application import commands, limits
from paas.application.lifecycle import APPLICATION, ApplicationEvent, ApplicationState
from paas.application.messages import ApplicationChanged
from paas.application.records import (
    DESTROYED,
    FAILED,
    Application,
    Member,
    Trouble,
    place,
)
from paas.application.specification import Role, Specification
from paas.base.errors import PlatformError, invalid
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentForgotten,
    ComponentOrdered,
    ComponentPlaced,
)
from paas.raft.machine import Context

_OF_MEMBERS = (ComponentChanged, ComponentPlaced, ComponentOrdered, ComponentForgotten)

_E = ApplicationEvent
_S = ApplicationState

CREATOR = "application:"
ENDS = frozenset({"destroy", "terminate"})
"""Orders after which a component does not come again."""


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """Whose a component is, as its `created_by` says."""

    application: str
    role: str
    slot: int
    digest: str


def creator(birth: Birth) -> str:
    """The word for `created_by`."""
    return f"{CREATOR}{birth.application}/{birth.role}/{birth.slot}/{birth.digest}"


def read_creator(word: str) -> Birth | None:
    """The other way; None for what was not created for an application."""
    if not word.startswith(CREATOR):
        return None
    application, role, slot, digest = word.removeprefix(CREATOR).split("/")
    return Birth(application, role, int(slot), digest)


class _Snapshot(msgspec.Struct, frozen=True):
    applications: list[Application]
    members: list[list[Member]]
    strays: dict[str, str]


class ApplicationsState:
    """See the module's text.  Everybody reads `applications` and `strays`; only this writes."""

    name = "applications"

    def __init__(self) -> None:
        self.applications: dict[str, Application] = {}
        self.strays: dict[str, str] = {}
        """Components that are to end, and the application that they were born for."""
        self.index = 0
        """Log index of the last change of anything here; belongs to this replica only."""
        self._owner: dict[str, str] = {}  # component -> application
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.DeployApplication: self._deploy,
            commands.ScaleApplication: self._scale,
            commands.StopApplication: self._stop,
            commands.StartApplication: self._start,
            commands.DestroyApplication: self._destroy,
            commands.ApplicationSettled: self._settled,
            commands.ApplicationLost: self._lost,
            commands.NoteTrouble: self._note,
            commands.ForgetApplication: self._forget,
            commands.ForgetStray: self._forget_stray,
        }

    def get(self, name: str) -> Application:
        """A known application; raises `no-such-target`."""
        try:
            return self.applications[name]
        except KeyError:
            shown = name if len(name) <= 64 else name[:64] + "…"
            raise PlatformError(
                "no-such-target",
                f"no application is called {shown!r}",
                hint="list them: paas app list",
                application=shown,
            ) from None

    def application_of(self, component: str) -> str:
        """The application that a component is a member of; empty: of none."""
        return self._owner.get(component, "")

    # -- what people want ------------------------------------------------------------------------

    def _deploy(self, cmd: commands.DeployApplication, ctx: Context) -> dict[str, Any]:
        wanted = cmd.specification
        known = self.applications.get(wanted.name)
        check_revision(known, cmd.if_revision)
        if known is None:
            if len(self.applications) >= limits.APPLICATIONS_MAX:
                raise PlatformError(
                    "limit-exceeded",
                    f"a cluster has {limits.APPLICATIONS_MAX} applications at most",
                )
            application = Application(name=wanted.name, specification=wanted, since_index=ctx.index)
            self.applications[wanted.name] = application
        elif known.runs and known.specification == wanted:
            return {"revision": known.revision, "changed": False}
        else:
            application = known
        self._want(application, wanted, ctx)
        return {"revision": application.revision, "changed": True}

    def _want(self, application: Application, wanted: Specification, ctx: Context) -> None:
        if not APPLICATION.allows(application.state, _E.DEPLOY):
            raise not_possible(application, "deployed")
        same = {r.name: r.digest for r in application.specification.roles if application.revision}
        if application.runs:
            kept = {r.name for r in wanted.roles if same.get(r.name) == r.digest}
        else:
            kept = set()  # a new start: those that had come to their end begin anew
        application.done = {r: n for r, n in application.done.items() if r in kept}
        application.specification = wanted
        application.deployed_ms = ctx.stamp.time_ms
        application.troubles = {}
        _prune(application)
        self._new_revision(application, _E.DEPLOY, ctx)

    def _scale(self, cmd: commands.ScaleApplication, ctx: Context) -> dict[str, Any]:
        application = self.get(cmd.application)
        check_revision(application, cmd.if_revision)
        wanted = scaled(application.specification, cmd.counts)
        if application.specification == wanted:
            return {"revision": application.revision, "changed": False}
        if application.state in (_S.STOPPING, _S.STOPPED):
            application.specification = wanted
            application.revision += 1
            self._touch(application, ctx)
        else:
            self._want(application, wanted, ctx)
        return {"revision": application.revision, "changed": True}

    def _stop(self, cmd: commands.StopApplication, ctx: Context) -> dict[str, Any]:
        application = self.get(cmd.application)
        if application.state in (_S.STOPPING, _S.STOPPED):
            return {"revision": application.revision, "changed": False}
        if not APPLICATION.allows(application.state, _E.STOP):
            raise not_possible(application, "stopped")
        application.troubles = {}
        self._new_revision(application, _E.STOP, ctx)
        return {"revision": application.revision, "changed": True}

    def _start(self, cmd: commands.StartApplication, ctx: Context) -> dict[str, Any]:
        application = self.get(cmd.application)
        if application.runs:
            return {"revision": application.revision, "changed": False}
        self._want(application, application.specification, ctx)
        return {"revision": application.revision, "changed": True}

    def _destroy(self, cmd: commands.DestroyApplication, ctx: Context) -> dict[str, Any]:
        application = self.get(cmd.application)
        if application.state is _S.DESTROYING:
            if cmd.volumes and not application.remove_volumes:
                application.remove_volumes = True
                self._touch(application, ctx)
            return {"revision": application.revision, "changed": False}
        application.remove_volumes = cmd.volumes
        application.troubles = {}
        self._new_revision(application, _E.DESTROY, ctx)
        return {"revision": application.revision, "changed": True}

    def _new_revision(self, application: Application, event: _E, ctx: Context) -> None:
        application.revision += 1
        self._move(application, event, ctx)

    def _move(self, application: Application, event: _E, ctx: Context) -> None:
        application.state = APPLICATION.next(application.state, event)
        application.since_ms = ctx.stamp.time_ms
        self._touch(application, ctx)

    def _mark(self, application: Application, ctx: Context) -> None:
        application.index = self.index = ctx.index

    def _touch(self, application: Application, ctx: Context) -> None:
        self._mark(application, ctx)
        ctx.emit(
            ApplicationChanged(
                application=application.name,
                state=str(application.state),
                revision=application.revision,
                index=ctx.index,
            )
        )

    # -- what was seen ---------------------------------------------------------------------------

    def _settled(self, cmd: commands.ApplicationSettled, ctx: Context) -> None:
        application = self._at(cmd.application, cmd.revision)
        if APPLICATION.allows(application.state, _E.SETTLED):
            application.troubles = {}
            self._move(application, _E.SETTLED, ctx)

    def _lost(self, cmd: commands.ApplicationLost, ctx: Context) -> None:
        application = self._at(cmd.application, cmd.revision)
        if APPLICATION.allows(application.state, _E.LOST):
            self._move(application, _E.LOST, ctx)

    def _note(self, cmd: commands.NoteTrouble, ctx: Context) -> None:
        application = self.get(cmd.application)
        known = application.troubles.get(cmd.what)
        if not cmd.text:
            if application.troubles.pop(cmd.what, None) is not None:
                self._touch(application, ctx)
            return
        text = cmd.text[: limits.TROUBLE_LENGTH_MAX]
        if known is not None and (known.code, known.text) == (cmd.code, text):
            return
        if known is None and len(application.troubles) >= limits.TROUBLES_MAX:
            raise PlatformError("limit-exceeded", f"{application.name} has too many troubles")
        since_ms = ctx.stamp.time_ms if known is None else known.since_ms
        application.troubles[cmd.what] = Trouble(
            what=cmd.what, code=cmd.code, text=text, since_ms=since_ms
        )
        self._touch(application, ctx)

    def _forget(self, cmd: commands.ForgetApplication, ctx: Context) -> None:
        application = self._at(cmd.application, cmd.revision)
        if application.members or not APPLICATION.allows(application.state, _E.CLEARED):
            raise PlatformError("conflict", f"{application.name} is {application.state}")
        self._move(application, _E.CLEARED, ctx)
        del self.applications[application.name]

    def _forget_stray(self, cmd: commands.ForgetStray, _ctx: Context) -> None:
        self.strays.pop(cmd.component, None)

    def _at(self, name: str, revision: int) -> Application:
        application = self.get(name)
        if application.revision != revision:
            raise PlatformError("conflict", f"{name} is at revision {application.revision} by now")
        return application

    # -- what happens to components ----------------------------------------------------------------

    def react(self, event: Any, ctx: Context) -> None:
        if isinstance(event, ComponentCreated):
            self._born(event, ctx)
            return
        if not isinstance(event, _OF_MEMBERS):
            return
        if event.component in self.strays:
            if isinstance(event, ComponentForgotten) or _is_gone(event):
                del self.strays[event.component]
            return
        owner = self._owner.get(event.component)
        if owner is None:
            return
        application = self.applications[owner]
        member = application.members[event.component]
        match event:
            case ComponentOrdered():
                member.ending = member.ending or event.mode in ENDS
            case ComponentPlaced():
                member.node = event.node
            case ComponentForgotten():
                self._gone(application, member, ctx)
            case ComponentChanged():
                self._changed(application, member, event, ctx)
        self._mark(application, ctx)

    def _born(self, event: ComponentCreated, ctx: Context) -> None:
        birth = read_creator(event.created_by)
        if birth is None:
            return
        application = self.applications.get(birth.application)
        if application is None:
            self.strays[event.component] = birth.application
            self.index = ctx.index
            return
        application.members[event.component] = Member(
            component=event.component,
            role=birth.role,
            slot=birth.slot,
            digest=birth.digest,
            birth=ctx.index,
            type=event.type,
            node=event.node,
            since_ms=event.time_ms,
        )
        key = place(birth.role, birth.slot)
        application.births[key] = application.births.get(key, 0) + 1
        self._mark(application, ctx)
        self._owner[event.component] = application.name

    def _changed(
        self, application: Application, member: Member, event: ComponentChanged, ctx: Context
    ) -> None:
        if event.state == DESTROYED:
            if not member.ending and event.previous != FAILED:
                self._came_to_its_end(application, member)
            self._gone(application, member, ctx)
            return
        member.state, member.reason = event.state, event.reason
        member.since_ms = event.time_ms

    def _came_to_its_end(self, application: Application, member: Member) -> None:
        """By itself, and its restart policy lets it: it is done, not missing."""
        role = application.specification.role(member.role)
        if role is not None and role.digest == member.digest and application.runs:
            application.done[role.name] = application.done.get(role.name, 0) + 1

    def _gone(self, application: Application, member: Member, ctx: Context) -> None:
        del application.members[member.component]
        del self._owner[member.component]
        self._mark(application, ctx)

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """Members as lists, since their order counts and keys of a snapshot are sorted."""
        names = sorted(self.applications)
        plain = []
        for name in names:
            one = msgspec.to_builtins(self.applications[name])
            one["members"] = {}
            plain.append(one)
        return {
            "applications": plain,
            "members": [
                [msgspec.to_builtins(m) for m in self.applications[name].members.values()]
                for name in names
            ],
            "strays": dict(self.strays),
        }

    def restore(self, plain: Any) -> None:
        read = msgspec.convert(plain, _Snapshot)
        self.applications = {one.name: one for one in read.applications}
        self.index = max((one.index for one in read.applications), default=0)
        self.strays, self._owner = read.strays, {}
        for application, members in zip(read.applications, read.members, strict=True):
            application.members = {member.component: member for member in members}
            self._owner.update(dict.fromkeys(application.members, application.name))


def _prune(application: Application) -> None:
    """Forget the places of roles that are gone for long, when there are very many."""
    if len(application.births) <= limits.BIRTHS_KEPT_MAX:
        return
    kept = {role.name for role in application.specification.roles}
    kept |= {member.role for member in application.members.values()}
    births = application.births.items()
    application.births = {k: n for k, n in births if k.rpartition("/")[0] in kept}


def _is_gone(event: Any) -> bool:
    return isinstance(event, ComponentChanged) and event.state == DESTROYED


def check_revision(application: Application | None, expected: int) -> None:
    """Raise `conflict` if it is not the revision that somebody saw (-1: any)."""
    found = 0 if application is None else application.revision
    if expected not in (-1, found):
        raise PlatformError(
            "conflict",
            f"the application is at revision {found}, not {expected}",
            hint="look at what has changed, then deploy again",
            revision=found,
        )


def not_possible(application: Application, what: str) -> PlatformError:
    return PlatformError(
        "conflict",
        f"{application.name} is {application.state} and cannot be {what}",
        hint=f"wait until it is over: paas app status {application.name} --watch",
        state=str(application.state),
    )


def scaled(specification: Specification, counts: Mapping[str, int]) -> Specification:
    """The same with other numbers of members; raises `invalid` naming the role."""
    for name, count in counts.items():
        if specification.role(name) is None:
            known = ", ".join(role.name for role in specification.roles)
            raise invalid(f"counts.{name}", f"no such role; there are {known}", param="counts")
        if not 0 <= count <= limits.COUNT_MAX:
            raise invalid(
                f"counts.{name}", f"expected a number from 0 to {limits.COUNT_MAX}", param="counts"
            )

    def change(role: Role) -> Role:
        return msgspec.structs.replace(role, count=counts.get(role.name, role.count))

    wanted = msgspec.structs.replace(
        specification, roles=tuple(change(role) for role in specification.roles)
    )
    if sum(role.count for role in wanted.roles) > limits.MEMBERS_MAX:
        raise invalid(
            "counts", f"expected at most {limits.MEMBERS_MAX} members in all roles", param="counts"
        )
    return wanted
