"""Messages about applications.  Numbers 710-729.

A specification travels as the tables of `application.toml` (reading.py), each role with its `type`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.wire.registry import Message, Params, method


class Deploy(Params, frozen=True, kw_only=True):
    """Make the cluster have this application, as it is specified here, and run it.

    `if_revision`, unless -1, is the revision that it has to be at (0: there is none yet).  With
    `plan` nothing is done, and the steps that would be are told; types may be unknown then.
    """

    specification: dict[str, Any]
    if_revision: int = -1
    plan: bool = False
    request_id: str = ""


class StepInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One step of a plan.  `waits`: what it waits for; empty when it can be done at once."""

    action: str
    subject: str
    why: str
    waits: str = ""


class Ordered(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What was ordered: the revision, and whether it is another than before.

    `steps` are what is to be done, as far as it is known now; of a plan, all of them.
    """

    application: str
    revision: int
    changed: bool
    steps: list[StepInfo]


class Scale(Params, frozen=True, kw_only=True):
    """Change how many members roles have; `counts` by role.  `plan` as in a deploy."""

    application: str
    counts: dict[str, int]
    if_revision: int = -1
    plan: bool = False
    request_id: str = ""


class Stop(Params, frozen=True, kw_only=True):
    """End all members; the application stays known, and can be started again."""

    application: str
    plan: bool = False
    request_id: str = ""


class Start(Params, frozen=True, kw_only=True):
    """Run an application that was stopped."""

    application: str
    plan: bool = False
    request_id: str = ""


class Destroy(Params, frozen=True, kw_only=True):
    """End all members, remove the routes, forget the application; with `volumes` also its files."""

    application: str
    volumes: bool = False
    plan: bool = False
    request_id: str = ""


class GetStatus(Params, frozen=True, kw_only=True):
    """How an application is.

    With `wait` (seconds) the answer comes when its `index` is another than the one given here, or
    when the time is over.
    """

    application: str
    index: int = 0
    wait: float = 0.0


class MemberInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One component of an application.  `current`: it is as its role is wanted now."""

    component: str
    name: str
    role: str
    type: str
    node: str
    state: str
    ending: bool
    current: bool
    since: float
    reason: str


class RoleInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One role: how many members are wanted, and how they are.

    `done` came to their end by themselves and are not born again; `waits` is what the next step of
    the role waits for.
    """

    name: str
    type: str
    count: int
    available: int
    starting: int
    ending: int
    failed: int
    outdated: int
    done: int
    group: str
    depends: list[str]
    waits: str


class ApplicationRoute(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A route that the application wants.  `state`: `set`, `waiting`, or `changing`."""

    name: str
    host: str
    path: str
    group: str
    kind: str
    gateway: str
    state: str


class TroubleInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Why something is not as wanted.  `what`: a role, `route NAME`, or `application`."""

    what: str
    code: str
    text: str
    since: float


class ApplicationStatus(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One application.  Times in seconds since the Unix epoch.

    `settled`: everything is as it is wanted.  `decides`: the node that does the steps.
    """

    name: str
    version: str
    description: str
    state: str
    revision: int
    since: float
    deployed: float
    settled: bool
    decides: str
    roles: list[RoleInfo]
    routes: list[ApplicationRoute]
    members: list[MemberInfo]
    troubles: list[TroubleInfo]
    steps: list[StepInfo]
    index: int
    stale_s: float | None = None


class ListApplications(Params, frozen=True, kw_only=True):
    """List the applications."""


class ApplicationInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One application in a list."""

    name: str
    version: str
    state: str
    revision: int
    since: float
    roles: int
    wanted: int
    available: int
    routes: int
    trouble: str


class Applications(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The applications, by name."""

    applications: list[ApplicationInfo]
    stale_s: float | None = None


DEPLOY = method(710, "application.deploy", Deploy, Ordered)
STATUS = method(711, "application.status", GetStatus, ApplicationStatus)
LIST = method(712, "application.list", ListApplications, Applications)
SCALE = method(713, "application.scale", Scale, Ordered)
STOP = method(714, "application.stop", Stop, Ordered)
START = method(715, "application.start", Start, Ordered)
DESTROY = method(716, "application.destroy", Destroy, Ordered)


class ApplicationChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: an application is wanted to be something else, or is in another state.

    With the state `destroyed` it is known no more.
    """

    application: str
    state: str
    revision: int
    index: int
