"""Who may go into components: operators; and other hubs, on behalf of whom they have checked."""

from paas.rpc.dispatch import Rule

_ENTERS = Rule(frozenset({"operator", "hub"}))

POLICY = {
    "controller.exec": _ENTERS,
    "controller.connect": _ENTERS,
    "controller.files": _ENTERS,
    "controller.terminal": _ENTERS,
    "stream.data": _ENTERS,
    "stream.credit": _ENTERS,
    "stream.end": _ENTERS,
    "stream.reset": _ENTERS,
}
