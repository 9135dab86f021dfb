"""Who may call which method of the hub.

Roles: `operator` (the local socket, by peer credentials), `component` (through its harness),
`harness` (the harness itself), `hub` (another node's hub, by certificate).
"""

from paas.rpc.dispatch import Rule

_BOTH = Rule(frozenset({"operator", "component"}))
_COMPONENT = Rule(frozenset({"component"}))
_OPERATOR = Rule(frozenset({"operator"}))
_HARNESS = Rule(frozenset({"harness"}))
_HUB = Rule(frozenset({"hub"}))
_ALL = Rule(frozenset({"operator", "component", "hub"}))

POLICY = {
    "rpc.discover": _BOTH,
    "hub.call": _BOTH,
    "hub.cast": _BOTH,
    "hub.join": _COMPONENT,
    "hub.leave": _COMPONENT,
    "hub.members": _BOTH,
    "hub.groups": _BOTH,
    "hub.await": _BOTH,
    "hub.watch": _BOTH,
    "hub.unwatch": _ALL,
    "hub.allow": _BOTH,
    "hub.set_attributes": _ALL,
    "hub.get_attributes": _BOTH,
    "hub.signal": _COMPONENT,
    "hub.interest": _HUB,
    "hub.publish": _HUB,
    "hub.values": _HUB,
    "hub.forward": _HUB,
    "hub.loads": _HUB,
    "hub.top": Rule(frozenset({"operator", "hub"})),
    "component.event": _HUB,
    "harness.hello": _HARNESS,
    "harness.phase": _HARNESS,
    "harness.records": _HARNESS,
    "harness.spans": _HARNESS,
    "trace.query": _OPERATOR,
    "trace.spans": _HUB,
    "log.write": _COMPONENT,
    "log.query": _ALL,
    "log.follow": _ALL,
    "resource.resolve": _COMPONENT,
    "bundle.begin": _OPERATOR,
    "bundle.append": _OPERATOR,
    "bundle.commit": _OPERATOR,
    "bundle.list": _BOTH,
    "bundle.trust": _OPERATOR,
    "bundle.remove": _OPERATOR,
}
