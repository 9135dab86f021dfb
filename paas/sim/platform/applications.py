"""A plot with applications, in the middle of a storm (see scenarios.py).

Operators deploy, scale, stop, start and destroy two applications, in versions of their types, while
hubs and nodes come and go and clients destroy members.  When the storm is over they want one more
thing, and then

  application-settled   every application is as it was wanted last, with exactly its members
  application-strays    no component is left that was born for an application and belongs to none
"""

from __future__ import annotations

from typing import Any

import trio

from paas.application import messages
from paas.application.records import Application
from paas.application.state import CREATOR
from paas.base.errors import PlatformError
from paas.controller import messages as controller
from paas.sim.platform import limits
from paas.sim.platform.clients import Operator
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.invariants import Broken
from paas.sim.platform.machine import HubLife

NAMES = ("shop", "mail")
VERSIONS = 3
ASK_S = 5.0
THINK_S = 4.0
SETTLED_WITHIN_S = limits.HEAL_S - 12.0
"""Of the time in which all is well: then the platform's own judge looks."""


def manifest(version: int, *, volumes: bool) -> dict[str, Any]:
    """A type of a member."""
    plain: dict[str, Any] = {
        "component": {
            "name": "keeper" if volumes else "member",
            "version": f"1.0.{version - 1}",
            "command": ["./run"],
        },
        "limits": {"memory": 4 << 20, "cpu": 0.05},
    }
    if volumes:
        plain["volumes"] = {"data": {"path": "/data", "size": 16 << 20, "on_loss": "empty"}}
    return plain


def specification(name: str, version: int, web: int, store: int) -> dict[str, Any]:
    """Two roles; the store is first, and has files."""
    return {
        "application": {"name": name, "version": str(version)},
        "roles": {
            "web": {"type": f"member@1.0.{version - 1}", "count": web, "depends": ["store"]},
            "store": {"type": f"keeper@1.0.{version - 1}", "count": store, "grace": 0.5},
        },
        "routes": {"front": {"group": "outside", "path": f"/{name}"}},
    }


async def register(cluster: Cluster, operator: Operator) -> None:
    """All versions of the types."""
    for version in range(1, VERSIONS + 1):
        for volumes in (False, True):
            plain = manifest(version, volumes=volumes)
            full = f"{plain['component']['name']}@{plain['component']['version']}"
            cluster.types[full] = plain
            params = controller.RegisterType(bundle=full, manifest=plain, timeout=ASK_S)
            await insist(cluster, operator, controller.REGISTER_TYPE, params)


async def applications(cluster: Cluster) -> None:
    """See the module's text."""
    chance, operator = cluster.world.random, Operator(cluster)
    await register(cluster, operator)
    while not cluster.calm:
        await trio.sleep(chance.expovariate(1 / THINK_S))
        try:
            await _something(cluster, operator)
        except PlatformError as exc:
            cluster.world.count(f"application-{exc.code}")
        else:
            cluster.world.count("application-ok")
    await _last(cluster, operator)


async def _something(cluster: Cluster, operator: Operator) -> None:
    chance = cluster.world.random
    name = chance.choice(NAMES)
    act = chance.choice(("deploy", "deploy", "scale", "stop", "start", "destroy"))
    method: Any
    params: Any
    match act:
        case "deploy":
            version = chance.randrange(1, VERSIONS + 1)
            plain = specification(name, version, chance.randrange(4), chance.randrange(3))
            method, params = messages.DEPLOY, messages.Deploy(specification=plain, timeout=ASK_S)
        case "scale":
            counts = {"web": chance.randrange(4)}
            method, params = messages.SCALE, messages.Scale(application=name, counts=counts)
        case "stop":
            method, params = messages.STOP, messages.Stop(application=name, timeout=ASK_S)
        case "start":
            method, params = messages.START, messages.Start(application=name, timeout=ASK_S)
        case _:
            method, params = messages.DESTROY, messages.Destroy(application=name, timeout=ASK_S)
    await ask(cluster, operator, method, params)
    cluster.world.count(f"application_{act}")


async def _last(cluster: Cluster, operator: Operator) -> None:
    """One is to be there, the other one not."""
    kept, gone = NAMES
    end_s = cluster.world.now_s + SETTLED_WITHIN_S
    await register(cluster, operator)  # clients may have removed types that nobody used
    plain = specification(kept, VERSIONS, 2, 1)
    await insist(cluster, operator, messages.DEPLOY, messages.Deploy(specification=plain))
    try:
        await ask(cluster, operator, messages.DESTROY, messages.Destroy(application=gone))
    except PlatformError as exc:
        cluster.world.count(f"application-{exc.code}")
    why = "no hub listens"
    while cluster.world.now_s < end_s:
        for hub in cluster.hubs():
            why = unsettled(hub, kept, {"web": 2, "store": 1}, gone)
            if not why:
                cluster.invariants.seen("application-settled")
                return
        await trio.sleep(0.5)
    cluster.world.fail(Broken("application-settled", why))


def unsettled(hub: HubLife, kept: str, counts: dict[str, int], gone: str) -> str:
    """Why the applications are not as they were wanted last; empty when they are."""
    state = hub.states.applications
    application = state.applications.get(kept)
    if application is None or gone in state.applications:
        return f"known are {sorted(state.applications)}"
    if application.state != "available":
        steps = {
            m.role: (m.slot, m.state, m.ending, m.reason) for m in application.members.values()
        }
        return f"{kept} is {application.state}: {steps} {application.troubles}"
    there = {role: len(application.of_role(role)) for role in counts}
    if there != counts:
        return f"{kept} has {there}"
    strays = strays_of(hub, application)
    return f"of no application: {strays}, {state.strays}" if strays or state.strays else ""


def strays_of(hub: HubLife, *known: Application) -> list[str]:
    """Components that were born for an application and are members of none of these."""
    members = {component for application in known for component in application.members}
    return [
        f"{instance.name} {instance.state}"
        for instance in hub.states.controller.instances
        if instance.created_by.startswith(CREATOR)
        and not instance.ended
        and instance.id not in members
    ]


async def insist(cluster: Cluster, operator: Operator, method: Any, params: Any) -> Any:
    """Until it is done."""
    while True:
        try:
            return await ask(cluster, operator, method, params)
        except PlatformError as exc:
            cluster.world.count(f"application-{exc.code}")
            await trio.sleep(0.5)


async def ask(cluster: Cluster, operator: Operator, method: Any, params: Any) -> Any:
    """Some hub."""
    hubs = cluster.hubs()
    if not hubs:
        raise PlatformError("unavailable", "no hub")
    machine = cluster.world.random.choice(hubs).machine
    return await operator.call(machine, method, params, timeout_s=ASK_S)
