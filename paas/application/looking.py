"""What there is of an application, for planning and for people.  Pure: it asks what it is given.

Who decides about an application follows from its name: a virtual node of the ring, whose primary
does the steps.  When that node is lost the ring has another primary in the same entry of the log.
"""

from __future__ import annotations

import hashlib

from paas.application import messages
from paas.application.plan import Present, Step, plan, settled
from paas.application.ports import Surroundings
from paas.application.records import FAILED, NOT_READY, Application, Member
from paas.application.specification import Role, member_name, role_group
from paas.base.ids import VIRTUAL_NODE_BITS

STEPS_SHOWN_MAX = 50


def virtual_node_of(application: str) -> int:
    """Where on the ring an application is decided about."""
    digest = hashlib.sha256(f"application/{application}".encode()).digest()
    return int.from_bytes(digest[:2], "big") >> (16 - VIRTUAL_NODE_BITS)


def decider(around: Surroundings, application: str) -> str:
    """The node that does an application's steps; empty while there is none."""
    if around.ring is None:
        return around.node
    return around.ring.primary(virtual_node_of(application)) or ""


def present(around: Surroundings, application: Application) -> Present:
    """What is there beside its members."""
    owners = application.owners() if application.remove_volumes else []
    return Present(
        routes=around.routes.of(application.name),
        groups={
            one.group: around.components.available(one.group)
            for one in application.specification.requires
        },
        volumes=around.volumes.owned(owners) if owners else frozenset(),
    )


def steps_of(steps: list[Step]) -> list[messages.StepInfo]:
    """As they are told to people."""
    return [
        messages.StepInfo(action=s.action, subject=s.subject, why=s.why, waits=s.waits)
        for s in steps
    ]


def status(around: Surroundings, application: Application) -> messages.ApplicationStatus:
    """Everything about one application."""
    there = present(around, application)
    steps = plan(application, there)
    specification = application.specification
    return messages.ApplicationStatus(
        name=application.name,
        version=specification.version,
        description=specification.description,
        state=str(application.state),
        revision=application.revision,
        since=application.since_ms / 1000,
        deployed=application.deployed_ms / 1000,
        settled=settled(application, there),
        decides=decider(around, application.name),
        roles=[_role(application, role, steps) for role in specification.roles],
        routes=_routes(application, there, steps),
        members=[
            _member(around, application, member)
            for member in sorted(
                application.members.values(), key=lambda m: (m.role, m.slot, m.birth)
            )
        ],
        troubles=_troubles(around, application),
        steps=steps_of(steps[:STEPS_SHOWN_MAX]),
        index=application.index,
        stale_s=around.staleness(),
    )


def _role(application: Application, role: Role, steps: list[Step]) -> messages.RoleInfo:
    members = application.of_role(role.name)
    return messages.RoleInfo(
        name=role.name,
        type=role.type,
        count=role.count,
        available=sum(m.available for m in members),
        starting=sum(m.living and m.state in NOT_READY for m in members),
        ending=sum(m.ending for m in members),
        failed=sum(m.state == FAILED for m in members),
        outdated=sum(m.living and m.digest != role.digest for m in members),
        done=application.done.get(role.name, 0),
        group=role_group(application.name, role.name),
        depends=list(role.depends),
        waits=next((s.waits for s in steps if s.role == role.name and s.waits), ""),
    )


def _routes(
    application: Application, there: Present, steps: list[Step]
) -> list[messages.ApplicationRoute]:
    pending = {step.subject: step for step in steps if step.action == "set-route"}
    found = []
    for route in application.specification.routes:
        step = pending.get(route.name)
        if step is None:
            state = "set" if route.name in there.routes else "removed"
        else:
            state = "waiting" if step.waits else "changing"
        found.append(
            messages.ApplicationRoute(
                name=route.name,
                host=route.host,
                path=route.path,
                group=route.group,
                kind=route.kind,
                gateway=route.gateway,
                state=state,
            )
        )
    return found


def _member(around: Surroundings, application: Application, member: Member) -> messages.MemberInfo:
    role = application.specification.role(member.role)
    return messages.MemberInfo(
        component=member.component,
        name=member_name(application.name, member.role, member.slot),
        role=member.role,
        type=member.type,
        node=member.node,
        state=member.state,
        ending=member.ending,
        current=role is not None and role.digest == member.digest,
        since=member.since_ms / 1000,
        reason="" if member.available else around.components.trouble(member.component),
    )


def _troubles(around: Surroundings, application: Application) -> list[messages.TroubleInfo]:
    """What was written down, and what can be seen of the members now."""
    found = [
        messages.TroubleInfo(what=t.what, code=t.code, text=t.text, since=t.since_ms / 1000)
        for t in application.troubles.values()
    ]
    told = set(application.troubles)
    digests = {role.name: role.digest for role in application.specification.roles}
    for member in application.members.values():
        if member.role in told or member.ending or digests.get(member.role) != member.digest:
            continue
        reason = around.components.trouble(member.component)
        placing = reason.startswith("no-placement")
        if member.state == FAILED or (placing and not member.node):
            name = member_name(application.name, member.role, member.slot)
            found.append(
                messages.TroubleInfo(
                    what=member.role,
                    code="no-placement" if placing else "failed",
                    text=f"{name}: {reason}",
                    since=member.since_ms / 1000,
                )
            )
            told.add(member.role)
    return found


def listed(around: Surroundings, application: Application) -> messages.ApplicationInfo:
    """One line about an application."""
    specification = application.specification
    troubles = _troubles(around, application)
    return messages.ApplicationInfo(
        name=application.name,
        version=specification.version,
        state=str(application.state),
        revision=application.revision,
        since=application.since_ms / 1000,
        roles=len(specification.roles),
        wanted=sum(application.target(r) for r in specification.roles) if application.runs else 0,
        available=sum(m.available for m in application.members.values()),
        routes=len(around.routes.of(application.name)),
        trouble=troubles[0].text if troubles else "",
    )
