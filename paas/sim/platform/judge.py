"""The end of a run: all has been well for a while, so everything must be in order."""

from __future__ import annotations

from paas.node.lifecycle import NodeState
from paas.sim.models import Claim, Group
from paas.sim.platform import limits
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import HubLife

HISTORY_BUDGET_S = 20.0


def leader_soon(cluster: Cluster) -> None:
    leader = cluster.leader()
    text = f"no leader {limits.LEADER_WITHIN_S} s after the faults ended"
    cluster.invariants.require("leader-soon", leader is not None, text)


def judge(cluster: Cluster) -> None:
    """Raises Broken."""
    hubs = cluster.hubs()
    living = [m.name for m in cluster.machines.values() if m.belongs]
    up = [hub.machine.name for hub in hubs]
    cluster.invariants.require("converged", up == living, f"hubs up {up}, nodes {living}")
    _replicas(cluster, hubs)
    _nodes(cluster, hubs[0])
    _components(cluster, hubs[0])
    _monitors(cluster)
    _answers(cluster)
    verdict = cluster.witness.history.check(
        {"group": Group(), "claim": Claim()}, budget_s=HISTORY_BUDGET_S
    )
    text = f"{verdict.answer} for {verdict.key}: {list(verdict.longest)[:20]}"
    cluster.invariants.require("linearizable", verdict.ok, text)
    cluster.invariants.seen("no-bug")
    cluster.world.record(f"messages {cluster.network.messages} actions {cluster.world.actions}")


def _replicas(cluster: Cluster, hubs: list[HubLife]) -> None:
    require = cluster.invariants.require
    places = {h.machine.name: h.replicated.status()["applied"] for h in hubs}
    require("replicas-equal", len(set(places.values())) == 1, f"applied: {places}")
    states = {h.replicated._replica.machine.snapshot_bytes() for h in hubs}
    require("replicas-equal", len(states) == 1, f"{len(states)} different states at {places}")
    last, own = cluster.oracle.last_index, next(iter(places.values()))
    require("replicas-equal", own >= last, f"all are at {own}, but {last} was applied before")
    instances = hubs[0].states.controller.instances
    for component, life in cluster.oracle.lives.items():
        instance = instances.get(component)
        text = f"{component[:8]} is {instance and instance.state}, by the log {life.state}"
        agree = life.over if instance is None else str(instance.state) == life.state
        require("acknowledged", agree, text)


def _nodes(cluster: Cluster, hub: HubLife) -> None:
    require = cluster.invariants.require
    for machine in cluster.machines.values():
        if not machine.belongs:
            continue
        node = hub.states.nodes.get(machine.name)
        state = None if node is None else node.state
        text = f"node {machine.name} is {state}"
        require("converged", state is NodeState.AVAILABLE, text)


def _components(cluster: Cluster, hub: HubLife) -> None:
    """What is wanted runs where the state says, and nothing else runs."""
    require = cluster.invariants.require
    running = dict(cluster.witness.running)
    for instance in hub.states.controller.instances:
        if instance.ended:
            continue
        what = f"{instance.short}/{instance.incarnation} ({instance.type}) {instance.state}"
        what += f" on {instance.node!r} {instance.unplaced} {instance.reason}"
        require("converged", str(instance.state) == "available", f"{what}: not available")
        where, container = running.pop(instance.id, ("", None))
        real = f"{where}/{container.incarnation if container else 0}"
        told = f"{instance.node}/{instance.incarnation}"
        require("converged", real == told, f"{what}: runs as {real}")
    text = f"run, and nobody wants them: {[(c[:8], w[0]) for c, w in running.items()]}"
    require("converged", not running, text)
    for machine in cluster.machines.values():
        left = [c[:8] for c, held in machine.kernel.table.items() if not held.running]
        require("converged", not left, f"{machine.name} keeps ended containers {left}")


def _monitors(cluster: Cluster) -> None:
    world = cluster.world
    for monitor in cluster.witness.monitors:
        if not (monitor.opened and monitor.watcher.alive):
            continue
        life = cluster.oracle.lives.get(monitor.target)
        if life is None:
            continue
        ended_s = life.ended.get(monitor.incarnation, life.ended_s)
        if ended_s is None or world.now_s - ended_s < limits.MONITOR_PATIENCE_S:
            continue
        text = f"{monitor.watcher.key} on {monitor.watcher.node} was never told of the end of"
        text += f" {monitor.target[:10]}/{monitor.incarnation}, {world.now_s - ended_s:.0f} s ago"
        cluster.invariants.require("monitor-fired", monitor.fired == 1, text)


def _answers(cluster: Cluster) -> None:
    cluster.invariants.seen("answered")
    for component, what, due_s in cluster.witness.waiting.values():
        late = cluster.world.now_s > due_s + limits.ANSWER_PATIENCE_S
        text = f"{component.key} waits for the outcome of a {what} since long"
        cluster.invariants.require("answered", not (component.alive and late), text)
