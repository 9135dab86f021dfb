"""Stories with a plot: what seeds seldom come to is brought about, on a peaceful cluster.

A scenario is a task beside clients and components; invariants judge it as they judge everything
else, so it holds on the platform as it is, and breaks when the rule that it is about is switched
off (mutants.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from paas.base.errors import PlatformError
from paas.base.ids import Id, virtual_node
from paas.controller.commands import PlaceInstance
from paas.node import messages
from paas.sim.platform.clients import Operator
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import HubLife
from paas.wire.registry import Method, P, R

Scenario = Callable[[Cluster], Awaitable[None]]

AWAY_S = 10.0
LOOK_S = 0.05
ASK_S = 5.0


async def past_primary(cluster: Cluster) -> None:
    """Who was primary before the ring changed decides about a component that waits for a node.

    All other nodes are cordoned when the node of a component loses power: so the component waits,
    and a decision of a past epoch comes while it does.
    """
    component, home = await _running(cluster)
    others = [name for name in cluster.machines if name != home]
    for name in others:
        await _ask(cluster, messages.CORDON_NODE, messages.CordonNode(node=name, timeout=ASK_S))
    cluster.machines[home].power_off()
    hub = await _waiting(cluster, component, home)
    states = hub.states
    instance, ring = states.controller.instances.get(component), states.ring
    number = virtual_node(Id(component))
    late = PlaceInstance(
        component=component,
        incarnation=instance.incarnation if instance is not None else 0,
        node="",
        by=ring.primary(number) or "",
        ring_epoch=ring.epoch(number) - 1,
        reason="as it was",
    )
    try:
        await hub.core.log.propose(late, timeout_s=ASK_S)
    except PlatformError:
        cluster.world.count("seen-past-primary-refused")
    cluster.machines[home].power_on()
    for name in others:
        params = messages.UncordonNode(node=name, timeout=ASK_S)
        await _ask(cluster, messages.UNCORDON_NODE, params)


async def hub_away(cluster: Cluster) -> None:
    """The hub of a node is away for so long that what ran there is killed, and runs elsewhere.

    When it comes back it finds ended containers of components that are others' by now.
    """
    _, home = await _running(cluster)
    machine = cluster.machines[home]
    machine.restart_s = lambda: AWAY_S
    machine.crash_hub()


async def _running(cluster: Cluster) -> tuple[str, str]:
    """A component that will be started again elsewhere, and its node, which is not the leader's."""
    while True:
        await trio.sleep(LOOK_S)
        leader = cluster.leader()
        for component, (node, container) in cluster.witness.running.items():
            steady = container.order.bundle.startswith("steady@")
            if leader is not None and node != leader.name and steady:
                return component, node


async def _waiting(cluster: Cluster, component: str, home: str) -> HubLife:
    """A hub on another node that knows that the component has no node."""
    while True:
        await trio.sleep(LOOK_S)
        for hub in cluster.hubs():
            instance = hub.states.controller.instances.get(component)
            lost = instance is not None and not instance.node and not instance.ended
            if hub.machine.name != home and lost:
                return hub


async def _ask(cluster: Cluster, method: Method[P, R], params: P) -> None:
    """An operator's order; repeated until it is carried out."""
    operator = Operator(cluster)
    while True:
        for hub in cluster.hubs():
            try:
                await operator.call(hub.machine, method, params, timeout_s=ASK_S)
                return
            except PlatformError:
                continue
        await trio.sleep(LOOK_S)


SCENARIOS: dict[str, Scenario] = {"past-primary": past_primary, "hub-away": hub_away}
