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
    "container.resize": _HUB,
    "container.freeze": _HUB,
    "container.thaw": _HUB,
    "container.snapshot": _HUB,
    "container.rollback": _HUB,
    "container.snapshots": _HUB,
    "container.drop_snapshot": _HUB,
    "network.facts": _HUB,
    "network.neighbours": _HUB,
    "network.admit": _HUB,
    "network.shut": _HUB,
    "network.paths": _HUB,
    "network.renumber": _HUB,
    "container.volumes": _HUB,
    "container.read_volume": _HUB,
    "container.digest_volume": _HUB,
    "container.begin_copy": _HUB,
    "container.write_copy": _HUB,
    "container.keep_copy": _HUB,
    "container.drop_copy": _HUB,
    "container.prepare_base": _HUB,
    "container.drop_base": _HUB,
    "container.check_base": _HUB,
    "container.exec": _HUB,
    "container.connect": _HUB,
    "container.files": _HUB,
    "container.resize_terminal": _HUB,
    "stream.data": _HUB,
    "stream.credit": _HUB,
    "stream.end": _HUB,
    "stream.reset": _HUB,
}
"""`container.exited` is absent: it is a notice from here, not a request to here."""
