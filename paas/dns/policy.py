"""Who may call which method of the name service.

Everybody may look.  Operators publish and withdraw; components do so below their application, which
the handlers check (api.py).
"""

from paas.rpc.dispatch import Rule

_BOTH = Rule(frozenset({"operator", "component"}))

POLICY = {
    "dns.publish": _BOTH,
    "dns.withdraw": _BOTH,
    "dns.list": _BOTH,
    "dns.status": _BOTH,
}
