"""Who may call which method about volumes: operators, and hubs of other nodes for the content."""

from paas.rpc.dispatch import Rule

_OPERATOR = Rule(frozenset({"operator"}))
_HUB = Rule(frozenset({"hub"}))

POLICY = {
    "volume.list": _OPERATOR,
    "volume.show": _OPERATOR,
    "volume.remove": _OPERATOR,
    "volume.move": _OPERATOR,
    "volume.usage": _HUB,
    "volume.piece": _HUB,
    "volume.digest": _HUB,
}
