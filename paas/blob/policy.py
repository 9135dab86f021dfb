"""Who may call which method of the attachments: whoever has got an item knows its key."""

from paas.rpc.dispatch import Rule

_BOTH = Rule(frozenset({"operator", "component"}))

POLICY = {
    "blob.begin": _BOTH,
    "blob.append": _BOTH,
    "blob.commit": _BOTH,
    "blob.read": _BOTH,
    "blob.info": _BOTH,
    "blob.release": _BOTH,
    "blob.fetch": Rule(frozenset({"hub"})),
}
