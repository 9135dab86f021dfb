"""Who may call the container controller: agents of this cluster, by their certified role."""

from paas.rpc.dispatch import Rule

_HUB = Rule(frozenset({"hub"}))
_BOTH = Rule(frozenset({"hub", "node"}))

POLICY = {
    "container.start": _HUB,
    "container.kill": _HUB,
    "container.destroy": _HUB,
    "container.list": _BOTH,
    "container.stats": _BOTH,
    "container.grant": _HUB,
    "container.revoke": _HUB,
    "container.lease": _HUB,
    "container.clear": _HUB,
}
"""`container.exited` is absent: it is a notice from here, not a request to here."""
