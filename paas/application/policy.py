"""Who may call which method about applications: operators."""

from paas.rpc.dispatch import Rule

_OPERATOR = Rule(frozenset({"operator"}))

POLICY = {
    "application.deploy": _OPERATOR,
    "application.status": _OPERATOR,
    "application.list": _OPERATOR,
    "application.scale": _OPERATOR,
    "application.stop": _OPERATOR,
    "application.start": _OPERATOR,
    "application.destroy": _OPERATOR,
}
