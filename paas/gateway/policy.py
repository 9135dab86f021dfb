"""Who may call which method about routes: operators; gateways follow and acknowledge."""

from paas.rpc.dispatch import Rule

_OPERATOR = Rule(frozenset({"operator"}))
_COMPONENT = Rule(frozenset({"component"}))

POLICY = {
    "gateway.set_route": _OPERATOR,
    "gateway.remove_route": _OPERATOR,
    "gateway.routes": _OPERATOR,
    "gateway.route": _OPERATOR,
    "gateway.status": _OPERATOR,
    "gateway.follow": _COMPONENT,
    "gateway.acknowledge": _COMPONENT,
}
