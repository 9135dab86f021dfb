"""A plot with volumes, in the middle of a storm (see scenarios.py).

What must hold, evaluated whenever a container starts with volumes
  volume-one-writer    no other container has volumes of the same owner, on any machine
  volume-kept          what is found is what the last one left, unless it may be empty by now

Components with volumes come and go,
and operators move volumes about.  When the storm is over they give up what was on nodes that were
removed by force; then everything must come to rest as ever.
"""

from __future__ import annotations

from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.controller import messages as controller
from paas.sim.platform.clients import Operator
from paas.sim.platform.cluster import Cluster
from paas.volume import messages

KEEPERS = 4
ASK_S = 5.0
THINK_S = 3.0


def manifest(name: str, on_loss: str) -> dict[str, Any]:
    """A component type with a volume."""
    return {
        "component": {"name": name, "version": "1.0.0", "command": ["./run"]},
        "limits": {"memory": 8 << 20, "cpu": 0.1},
        "volumes": {"data": {"path": "/data", "size": 16 << 20, "on_loss": on_loss}},
    }


async def volumes(cluster: Cluster) -> None:
    """See the module's text."""
    chance, operator = cluster.world.random, Operator(cluster)
    for name, on_loss in (("keeper", "wait"), ("scratch", "empty")):
        plain = manifest(name, on_loss)
        cluster.types[f"{name}@1.0.0"] = plain
        bundle = f"{name}@1.0.0"
        params = controller.RegisterType(bundle=bundle, manifest=plain, timeout=ASK_S)
        await _insist(cluster, operator, controller.REGISTER_TYPE, params)
    while not cluster.calm:
        await trio.sleep(chance.expovariate(1 / THINK_S))
        act = chance.choice((_create, _create, _destroy, _move, _move, _move))
        try:
            await act(cluster, operator)
        except PlatformError as exc:
            cluster.world.count(f"volume-{exc.code}")
        else:
            cluster.world.count(f"volume{act.__name__}")
    while True:
        await _give_up(cluster, operator)
        await trio.sleep(2.0)


async def _insist(cluster: Cluster, operator: Operator, method: Any, params: Any) -> None:
    while True:
        try:
            await _ask(cluster, operator, method, params)
            return
        except PlatformError:
            await trio.sleep(0.5)


async def _ask(cluster: Cluster, operator: Operator, method: Any, params: Any) -> Any:
    hubs = cluster.hubs()
    if not hubs:
        raise PlatformError("unavailable", "no hub")
    machine = cluster.world.random.choice(hubs).machine
    return await operator.call(machine, method, params, timeout_s=ASK_S)


async def _create(cluster: Cluster, operator: Operator) -> None:
    chance = cluster.world.random
    name = f"kept-{chance.randrange(KEEPERS)}"
    kind = "scratch" if name.endswith("0") else "keeper"
    params = controller.Create(type=f"{kind}@1.0.0", name=name, wait="accepted", timeout=ASK_S)
    await _ask(cluster, operator, controller.CREATE, params)


async def _destroy(cluster: Cluster, operator: Operator) -> None:
    name = f"kept-{cluster.world.random.randrange(KEEPERS)}"
    params = controller.Destroy(component=name, grace=0.5, timeout=ASK_S)
    await _ask(cluster, operator, controller.DESTROY, params)


async def _move(cluster: Cluster, operator: Operator) -> None:
    chance = cluster.world.random
    params = messages.MoveVolume(
        owner=f"kept-{chance.randrange(KEEPERS)}",
        node=chance.choice(list(cluster.machines)),
        grace=0.5,
        timeout=ASK_S,
    )
    await _ask(cluster, operator, messages.MOVE, params)


async def _give_up(cluster: Cluster, operator: Operator) -> None:
    """What is on a node that will never come back is lost."""
    hubs = cluster.hubs()
    for holding in list(hubs[0].states.volumes) if hubs else []:
        machine = cluster.machines.get(holding.node)
        if machine is None or not machine.removed:
            continue
        try:
            await _ask(
                cluster,
                operator,
                messages.REMOVE,
                messages.RemoveVolume(owner=holding.owner, timeout=ASK_S),
            )
        except PlatformError:
            continue
        cluster.world.count("volume-given-up")
