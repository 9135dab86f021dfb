"""Who may call which method of the component controller.

Everybody may look, and be told of an end.  An operator may do all.  A component may create others,
and end or tie those that it created itself and itself (checked by the handlers, api.py); it may
neither register nor forget types.  Another hub asks for what only this node knows, on behalf of
whom it has checked.
"""

from paas.rpc.dispatch import Rule

_BOTH = Rule(frozenset({"operator", "component"}))
_OPERATOR = Rule(frozenset({"operator"}))
_HUB = Rule(frozenset({"hub"}))
_OPERATOR_OR_HUB = Rule(frozenset({"operator", "hub"}))
"""An operator asks any hub, which passes it on to the hub of the component's node."""

POLICY = {
    "controller.register_type": _OPERATOR,
    "controller.unregister_type": _OPERATOR,
    "controller.types": _BOTH,
    "controller.type": _BOTH,
    "controller.create": _BOTH,
    "controller.terminate": _BOTH,
    "controller.destroy": _BOTH,
    "controller.components": _BOTH,
    "controller.component": _BOTH,
    "controller.monitor": _BOTH,
    "controller.link": _BOTH,
    "controller.unlink": _BOTH,
    "controller.resize": _OPERATOR_OR_HUB,
    "controller.freeze": _OPERATOR_OR_HUB,
    "controller.thaw": _OPERATOR_OR_HUB,
    "controller.why": _BOTH,
    "controller.figures": _HUB,
    "controller.terminate_here": _HUB,
    "cluster.status": _BOTH,
    "nodes.drain": _OPERATOR,
}
