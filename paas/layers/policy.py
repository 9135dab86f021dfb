"""Who may call which method about base layers: operators; between hubs what makes the copies."""

from paas.rpc.dispatch import Rule

_OPERATOR = Rule(frozenset({"operator"}))
_HUB = Rule(frozenset({"hub"}))

POLICY = {
    "image.list": _OPERATOR,
    "image.show": _OPERATOR,
    "image.begin": _OPERATOR,
    "image.append": _OPERATOR,
    "image.commit": _OPERATOR,
    "image.register": _OPERATOR,
    "image.remove": _OPERATOR,
    "image.read": _OPERATOR,
    "image.verify": _OPERATOR,
    "image.fetch": _HUB,
    "image.keep": _HUB,
    "image.check": _HUB,
}
