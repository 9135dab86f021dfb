"""Who may call which method about nodes: operators; renewals and the like are for hubs only."""

from paas.rpc.dispatch import Rule

_OPERATOR = Rule(frozenset({"operator"}))
_HUB = Rule(frozenset({"hub"}))

POLICY = {
    "node.renew": _HUB,
    "node.addresses": _HUB,
    "nodes.list": _OPERATOR,
    "nodes.show": _OPERATOR,
    "nodes.cordon": _OPERATOR,
    "nodes.uncordon": _OPERATOR,
    "nodes.remove": _OPERATOR,
    "cluster.members": _OPERATOR,
    "cluster.want_voters": _OPERATOR,
}
