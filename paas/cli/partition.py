"""Partitions by hand: who must not hear whom, and the packet filter that sees to it.

`A|B,C` names groups of nodes.  No node hears one of another group; with `one_way` the second group
does not hear the first, but the first still hears the second.  Nodes that are not named hear
everybody.  A cut is made where packets arrive: on each machine, what comes from a node that it must
not hear (or from its containers) is dropped before anything else is done with it.  Nobody is told,
as when a cable is cut.

The table is an own one in the machine's network namespace; it is replaced in one transaction, so
asking twice for the same is the same as asking once.
"""

from __future__ import annotations

import json
from typing import Any

from paas.base.errors import PlatformError, invalid

TABLE = {"family": "inet", "name": "paas-partition"}
BEFORE_ALL = -400


def deaf(groups: str, one_way: bool, names: list[str]) -> dict[str, list[str]]:
    """For every node of the cluster, the nodes that it must not hear."""
    parts = [[word.strip() for word in part.split(",")] for part in groups.split("|")]
    named = [name for part in parts for name in part]
    if len(parts) < 2 or not all(named):
        raise invalid("groups", "expected groups of nodes like n1|n2,n3")
    for name in named:
        if name not in names:
            raise PlatformError(
                "invalid", f"no node is called {name!r}", hint=f"nodes: {', '.join(names)}"
            )
        if named.count(name) > 1:
            raise invalid("groups", f"{name} can be in one group only")
    if one_way and len(parts) != 2:
        raise invalid("groups", "with --one-way there are two groups: FROM|TO")
    unheard: dict[str, list[str]] = {name: [] for name in names}
    for number, part in enumerate(parts):
        if one_way and number == 0:
            continue
        others = [name for other in parts if other is not part for name in other]
        for name in part:
            unheard[name] = [other for other in names if other in others]
    return unheard


def filter_document(networks: list[str]) -> str:
    """What `nft -j -f -` is given: drop what comes from these networks, and nothing else."""
    commands: list[dict[str, Any]] = [{"add": {"table": TABLE}}, {"delete": {"table": TABLE}}]
    if networks:
        place = {"family": TABLE["family"], "table": TABLE["name"]}
        chain = {**place, "name": "arriving", "type": "filter", "hook": "prerouting"}
        commands += [
            {"add": {"table": TABLE}},
            {"add": {"chain": {**chain, "prio": BEFORE_ALL, "policy": "accept"}}},
        ]
        for network in networks:
            rule = {**place, "chain": "arriving", "expr": [_from(network), {"drop": None}]}
            commands.append({"add": {"rule": rule}})
    return json.dumps({"nftables": commands})


def _from(network: str) -> dict[str, Any]:
    address, _, length = network.partition("/")
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    right: Any = {"prefix": {"addr": address, "len": int(length)}} if length else address
    return {"match": {"op": "==", "left": source, "right": right}}
