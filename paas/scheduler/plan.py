"""(cluster, request) → a node for each component, or a refusal with the reasons per node.

Filter (feasible.py), then score (score.py), best total wins, ties by name.  The components of one
request are placed one after the other, each seeing the ones before, so that they spread; all or
none. Pure: the same function runs live, in `why`, in dry runs and in benchmarks.  Architecture §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paas.base.errors import PlatformError
from paas.scheduler.feasible import Constraint, Load, parse_constraints, reasons
from paas.scheduler.messages import Choice, NodeView, Placed, Request, Verdict
from paas.scheduler.score import Spread, scores


def place(nodes: Sequence[NodeView], placed: Iterable[Placed], request: Request) -> list[Choice]:
    """One choice for each of `request.count`; raises `no-placement` or `invalid`."""
    loads = {node.name: Load() for node in nodes}
    for item in placed:
        if item.node in loads:
            loads[item.node].add(item.type, item.needs)
    return place_on(nodes, loads, request)


def place_on(nodes: Sequence[NodeView], loads: dict[str, Load], request: Request) -> list[Choice]:
    """The same with sums that exist already; what is chosen is added to them."""
    constraints = parse_constraints(request.constraints)
    for node in nodes:
        loads.setdefault(node.name, Load())
    choices = []
    for number in range(request.count):
        verdicts = judge(nodes, loads, request, constraints)
        if not verdicts or not verdicts[0].feasible:
            raise _no_placement(request, number, verdicts)
        chosen = verdicts[0].node
        loads[chosen].add(request.type, request.needs)
        choices.append(Choice(node=chosen, verdicts=tuple(verdicts)))
    return choices


def judge(
    nodes: Sequence[NodeView],
    loads: dict[str, Load],
    request: Request,
    constraints: Sequence[Constraint],
) -> list[Verdict]:
    """All nodes for one component: the feasible ones best first, then those with reasons."""
    against = {
        node.name: reasons(node, loads[node.name], request.needs, constraints) for node in nodes
    }
    candidates = [node for node in nodes if not against[node.name]]
    spread = Spread.of(nodes, loads, candidates, request.type)
    good = [
        Verdict(
            node=node.name,
            scores=scores(node, loads[node.name], request.needs, request.type, spread),
        )
        for node in candidates
    ]
    good.sort(key=lambda verdict: (-verdict.total, verdict.node))
    bad = [Verdict(node=name, reasons=why) for name, why in sorted(against.items()) if why]
    return good + bad


def _no_placement(request: Request, placed: int, verdicts: Sequence[Verdict]) -> PlatformError:
    """Names every node with what stands against it."""
    per_node = {verdict.node: list(verdict.reasons) for verdict in verdicts}
    text = "; ".join(f"{node}: {', '.join(why)}" for node, why in list(per_node.items())[:5])
    if len(per_node) > 5:
        text += f"; and {len(per_node) - 5} more"
    which = f"number {placed + 1} of {request.count} " if request.count > 1 else ""
    return PlatformError(
        "no-placement",
        f"no node can take {which}{request.type}: {text or 'the cluster has no node'}",
        nodes=per_node,
    )
