"""The rules of the packet filter for containers, as documents of nft's JSON form.  Pure.

Table `inet NAME`

    forward   from an uplink that only we forward for, not to the bridge     drop
              from or to the bridge                                          → between
    between   to or from addresses of the link, metadata among them          drop
              (source, target, protocol, port) in `grants`                   accept
              an answer to such a packet                                     accept
              ICMP that belongs to a connection                              accept
              else                                                           drop
              from `outgoing`, to the cluster's own machines and containers  drop
              (source, target, protocol, port) in `egress` or `resolved`     accept
              of a connection that `outgoing` has to the world               accept
              (target, protocol, port) in `entrances`, and answers           accept
              the same for version 6: `grants6`, `egress6`, …
    input     from the bridge: answers to the host, questions for names      accept, else drop
              tunnelled, from who is no neighbour                            drop

    nat       a port of the node in `published`, from elsewhere              → a container
              what `outgoing` sends to the world                             from the node's address

Both directions of a connection are looked up: what is taken back is closed at once for both, and
nothing of it meets the next owner of an address.  Packets that have nothing to do with the bridge,
the tunnel or such an uplink are not looked at.

Table `bridge NAME`: a port of the bridge may only use, and speak for, the address that it was given
(sets `sources` and `sources6`).  A container cannot make other packets, having no raw sockets; this
is the second line.  No message about neighbours or routers of version 6 (RFC 4861) passes, and
nothing to addresses of the link or to many: nobody needs any (kernel_netns6.py).

What is said of two containers holds for both versions: `with_twins` adds the other half.

Sets hold what changes.  `resolved` is what names of `egress` were found to mean, until that is old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from paas.base.dual_stack import twin

Element = Sequence[str | int]
Command = dict[str, Any]

TUNNEL_PORT = 14_789
"""Of the tunnels between nodes (UDP): not the usual one, which others on the machine may use."""

_ACCEPT: Command = {"accept": None}
_DROP: Command = {"drop": None}


@dataclass(frozen=True, slots=True)
class SetKind:
    """One set: in which table, of what."""

    family: str
    types: tuple[str, ...]
    flags: tuple[str, ...] = ()
    value: str = ""
    """Not empty: it is a map to this, which is the last part of an element."""


_PATH = ("ipv4_addr", "ipv4_addr", "inet_proto", "inet_service")
_PATH6 = ("ipv6_addr", "ipv6_addr", "inet_proto", "inet_service")
SETS: dict[str, SetKind] = {
    "grants": SetKind("inet", _PATH),
    "uplinks": SetKind("inet", ("ifname",)),
    "bridged": SetKind("inet", ("ifname", "ifname")),
    "neighbours": SetKind("inet", ("ipv4_addr",)),
    "resolvers": SetKind("inet", ("ipv4_addr",)),
    "outgoing": SetKind("inet", ("ipv4_addr",)),
    "egress": SetKind("inet", _PATH, ("interval",)),
    "resolved": SetKind("inet", _PATH, ("timeout",)),
    "entrances": SetKind("inet", ("ipv4_addr", "inet_proto", "inet_service")),
    "published": SetKind("inet", ("inet_proto", "inet_service"), (), "ipv4_addr"),
    "published_ports": SetKind("inet", ("inet_proto", "inet_service"), (), "inet_service"),
    "sources": SetKind("bridge", ("ifname", "ipv4_addr")),
    "grants6": SetKind("inet", _PATH6),
    "uplinks6": SetKind("inet", ("ifname",)),
    "outgoing6": SetKind("inet", ("ipv6_addr",)),
    "egress6": SetKind("inet", _PATH6, ("interval",)),
    "resolved6": SetKind("inet", _PATH6, ("timeout",)),
    "entrances6": SetKind("inet", ("ipv6_addr", "inet_proto", "inet_service")),
    "published6": SetKind("inet", ("inet_proto", "inet_service"), (), "ipv6_addr"),
    "sources6": SetKind("bridge", ("ifname", "ipv6_addr")),
}


def sets_of(names: Names) -> dict[str, SetKind]:
    """Those that there are: the ones of version 6 only where containers have it."""
    return {n: kind for n, kind in SETS.items() if names.prefix6 or not n.endswith("6")}


_TWINS = {"grants": 2, "sources": 2}
"""Sets whose elements are about containers only: so many parts of each may be addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the rules are about."""

    table: str
    bridge: str
    link_prefix: str
    reach: str
    """Where all containers of the cluster are."""
    tunnel_id: int = 0
    """Of the cluster's tunnels; 0: there are none."""
    prefix6: str = ""
    """Of the containers' addresses of version 6; empty: they have none."""


def with_twins(
    elements: Mapping[str, Iterable[Element]], prefix6: str
) -> dict[str, list[tuple[str | int, ...]]]:
    """The same elements, and those of version 6 that go with them."""
    found: dict[str, list[tuple[str | int, ...]]] = {
        name: [tuple(element) for element in listed] for name, listed in elements.items()
    }
    for name, count in _TWINS.items():
        if prefix6 and name in found:
            twins = [(*map(_twin(prefix6), e[:count]), *e[count:]) for e in found[name]]
            found[f"{name}6"] = found.get(f"{name}6", []) + twins
    return found


def _twin(prefix6: str) -> Callable[[str | int], str | int]:
    def change(part: str | int) -> str | int:
        return twin(prefix6, part) if _is_address(part) else part

    return change


def _is_address(part: str | int) -> TypeGuard[str]:
    return isinstance(part, str) and part.count(".") == 3


def match(left: Any, right: Any, operator: str = "==") -> Command:
    return {"match": {"op": operator, "left": left, "right": right}}


def meta(key: str) -> Command:
    return {"meta": {"key": key}}


def field(protocol: str, name: str) -> Command:
    return {"payload": {"protocol": protocol, "field": name}}


def concat(*parts: Command) -> Command:
    return {"concat": list(parts)}


def tracked(key: str, value: str | list[str]) -> Command:
    return match({"ct": {"key": key}}, value, "in" if isinstance(value, list) else "==")


def to_bridge(names: Names) -> Command:
    return match(meta("oifname"), names.bridge)


def from_bridge(names: Names) -> Command:
    return match(meta("iifname"), names.bridge)


_ANSWERS = [tracked("direction", "reply"), tracked("state", ["established", "related"])]


def _forward(family: str, name: str) -> list[list[Command]]:
    """What a set of (source, target, protocol, port) lets pass, there and back."""
    there = concat(field(family, "saddr"), field(family, "daddr"), meta("l4proto"), _port("dport"))
    back = concat(field(family, "daddr"), field(family, "saddr"), meta("l4proto"), _port("sport"))
    return [
        [tracked("direction", "original"), match(there, f"@{name}"), _ACCEPT],
        [
            tracked("direction", "reply"),
            tracked("state", ["established"]),
            match(back, f"@{name}"),
            _ACCEPT,
        ],
    ]


def _port(which: str) -> Command:
    return field("th", which)


def _rules(names: Names) -> Iterable[tuple[str, str, list[Command]]]:
    """(family, chain, expressions), in order."""
    uplink = match(meta("iifname"), "@uplinks")
    past = match(meta("oifname"), names.bridge, "!=")
    # Frames between ports of a bridge of the machine come by here where br_netfilter is loaded.
    yield "inet", "forward", [match(concat(meta("iifname"), meta("oifname")), "@bridged"), _ACCEPT]
    yield "inet", "forward", [uplink, past, _DROP]
    if names.prefix6:
        uplink6 = [match(meta("nfproto"), "ipv6"), match(meta("iifname"), "@uplinks6")]
        yield "inet", "forward", [*uplink6, past, _DROP]
    decide = {"goto": {"target": "between"}}
    yield "inet", "forward", [from_bridge(names), decide]
    yield "inet", "forward", [to_bridge(names), decide]
    for end in ("daddr", "saddr"):
        yield "inet", "between", [match(field("ip", end), _prefix(LINK_LOCAL)), _DROP]
        for network in FORBIDDEN6 if names.prefix6 else ():
            yield "inet", "between", [match(field("ip6", end), _prefix(network)), _DROP]
    for rule in _forward("ip", "grants"):
        yield "inet", "between", rule
    for rule in _forward("ip6", "grants6") if names.prefix6 else ():
        yield "inet", "between", rule
    control = match(meta("l4proto"), {"set": ["icmp", "ipv6-icmp"]})
    yield "inet", "between", [tracked("state", ["related"]), control, _ACCEPT]
    for expressions in (*_outside(names), *_outside6(names)):
        yield "inet", "between", expressions
    yield "inet", "between", [_DROP]
    yield "inet", "input", [from_bridge(names), *_ANSWERS, _ACCEPT]
    asks = [match(field("ip", "daddr"), "@resolvers"), match(_port("dport"), 53)]
    yield "inet", "input", [from_bridge(names), *asks, _ACCEPT]
    yield "inet", "input", [from_bridge(names), _DROP]
    if names.tunnel_id:
        number = {"payload": {"base": "th", "offset": 96, "len": 24}}  # RFC 7348 §5: the VNI
        stranger = match(field("ip", "saddr"), "@neighbours", "!=")
        tunnelled = [match(field("udp", "dport"), TUNNEL_PORT), match(number, names.tunnel_id)]
        yield "inet", "input", [*tunnelled, stranger, _DROP]
    yield from _ports(names)


def _ports(names: Names) -> Iterable[tuple[str, str, list[Command]]]:
    """What a port of the bridge may send."""
    plugged = match(meta("iifname"), f"{names.link_prefix}*")
    if names.prefix6:
        for network in (_LINK_LOCAL6, _MANY6):
            far = match(field("ip6", "daddr"), _prefix(network))
            yield "bridge", "prerouting", [plugged, far, _DROP]
        about = match(field("icmpv6", "type"), {"set": list(_NEIGHBOURHOOD)})
        yield "bridge", "prerouting", [plugged, about, _DROP]
    speaks = concat(meta("iifname"), field("arp", "saddr ip"))
    sends = concat(meta("iifname"), field("ip", "saddr"))
    yield "bridge", "prerouting", [match(speaks, "@sources"), _ACCEPT]
    yield "bridge", "prerouting", [match(sends, "@sources"), _ACCEPT]
    if names.prefix6:
        sends6 = concat(meta("iifname"), field("ip6", "saddr"))
        yield "bridge", "prerouting", [match(sends6, "@sources6"), _ACCEPT]
    yield "bridge", "prerouting", [plugged, _DROP]


def _outside(names: Names) -> Iterable[list[Command]]:
    """What passes between containers and the world."""
    return _outward(names, "ip", "", [_prefix(names.reach), "@neighbours"])


def _outside6(names: Names) -> Iterable[list[Command]]:
    """The same for version 6."""
    if not names.prefix6:
        return []
    return _outward(names, "ip6", "6", [_prefix(names.prefix6)])


def _outward(
    names: Names, family: str, which: str, cluster: Sequence[Any]
) -> Iterable[list[Command]]:
    """`which` is the end of the sets' names; `cluster`: what no entry of `egress` means."""
    own = match(field(family, "saddr"), f"@outgoing{which}")
    for target in cluster:
        yield [own, tracked("direction", "original"), match(field(family, "daddr"), target), _DROP]
    past = match(meta("oifname"), names.bridge, "!=")
    path = concat(field(family, "saddr"), field(family, "daddr"), meta("l4proto"), _port("dport"))
    there, back = tracked("direction", "original"), tracked("direction", "reply")
    known = tracked("state", ["established"])
    for name in ("egress", "resolved"):
        yield [there, past, match(path, f"@{name}{which}"), _ACCEPT]
    yield [there, past, known, own, _ACCEPT]
    inward = match(meta("iifname"), names.bridge, "!=")
    yield [back, inward, known, match(field(family, "daddr"), f"@outgoing{which}"), _ACCEPT]
    led = tracked("status", ["dnat"])
    entrance = concat(field(family, "daddr"), meta("l4proto"), _port("dport"))
    yield [there, inward, led, match(entrance, f"@entrances{which}"), _ACCEPT]
    leaving = concat(field(family, "saddr"), meta("l4proto"), _port("sport"))
    yield [back, past, led, known, match(leaving, f"@entrances{which}"), _ACCEPT]


def _translations(names: Names) -> Iterable[tuple[str, list[Command]]]:
    """(chain, expressions) that change addresses."""
    local = match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    key = concat(meta("l4proto"), _port("dport"))
    host, port = (
        {"map": {"key": key, "data": f"@{name}"}} for name in ("published", "published_ports")
    )
    lead: Command = {"dnat": {"family": "ip", "addr": host, "port": port}}
    elsewhere = match(meta("iifname"), names.bridge, "!=")
    version4, version6 = (match(meta("nfproto"), version) for version in ("ipv4", "ipv6"))
    yield "arriving", [elsewhere, *([version4] if names.prefix6 else []), local, lead]
    loopback = match(field("ip", "daddr"), _prefix("127.0.0.0/8"), "!=")
    yield "leaving", [loopback, local, lead]
    own = match(field("ip", "saddr"), "@outgoing")
    past = match(meta("oifname"), names.bridge, "!=")
    world = match(field("ip", "daddr"), _prefix(names.reach), "!=")
    began = tracked("direction", "original")
    yield "departing", [own, past, world, began, {"masquerade": None}]
    if names.prefix6:
        host6 = {"map": {"key": key, "data": "@published6"}}
        lead6: Command = {"dnat": {"family": "ip6", "addr": host6, "port": port}}
        yield "arriving", [elsewhere, version6, local, lead6]
        loopback = match(field("ip6", "daddr"), "::1", "!=")
        yield "leaving", [loopback, local, lead6]
        own = match(field("ip6", "saddr"), "@outgoing6")
        world = match(field("ip6", "daddr"), _prefix(names.prefix6), "!=")
        yield "departing", [own, past, world, began, {"masquerade": None}]


_LINK_LOCAL6, _MANY6 = "fe80::/10", "ff00::/8"

FORBIDDEN6 = (_LINK_LOCAL6, "fd00:ec2::/32", "64:ff9b::/96", "::ffff:0:0/96")
"""Of the link (RFC 4291); where a cloud serves metadata; and what leads to version 4 (RFC 6052)."""

_NEIGHBOURHOOD = (130, 131, 132, 133, 134, 135, 136, 137, 143)
"""ICMPv6: who listens to what, routers, neighbours, redirection (RFC 2710, 4861, 3810)."""

LINK_LOCAL = "169.254.0.0/16"
"""RFC 3927; clouds serve metadata, and with them credentials, at 169.254.169.254."""


def _prefix(network: str) -> Command:
    address, _, length = network.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


def table_document(names: Names) -> list[Command]:
    """Commands that make both tables anew, whatever was there; all sets are empty."""
    commands: list[Command] = []
    for family in ("inet", "bridge"):
        commands += removal(family, names.table)
        commands.append({"add": {"table": {"family": family, "name": names.table}}})
    for name, kind in sets_of(names).items():
        part: Command = {"family": kind.family, "table": names.table, "name": name}
        part["type"] = list(kind.types) if len(kind.types) > 1 else kind.types[0]
        part |= {"flags": list(kind.flags)} if kind.flags else {}
        part |= {"map": kind.value} if kind.value else {}
        commands.append({"add": {"map" if kind.value else "set": part}})
    for family, name, hook in (
        ("inet", "between", {}),
        ("inet", "forward", _hook("forward", 0)),
        ("inet", "input", _hook("input", 0)),
        ("inet", "arriving", _hook("prerouting", -100, "nat")),
        ("inet", "leaving", _hook("output", -100, "nat")),
        ("inet", "departing", _hook("postrouting", 100, "nat")),
        ("bridge", "prerouting", _hook("prerouting", -300)),
    ):
        part = {"family": family, "table": names.table, "name": name}
        commands.append({"add": {"chain": part | hook}})
    translations = [("inet", *rule) for rule in _translations(names)]
    for family, chain, expressions in [*_rules(names), *translations]:
        part = {"family": family, "table": names.table, "chain": chain}
        commands.append({"add": {"rule": part | {"expr": expressions}}})
    return commands


def removal(family: str, table: str) -> list[Command]:
    """Commands after which there is no such table, whether or not there was one."""
    name = {"family": family, "name": table}
    return [{"add": {"table": name}}, {"delete": {"table": name}}]


def _hook(hook: str, priority: int, kind: str = "filter") -> Command:
    return {"type": kind, "hook": hook, "prio": priority, "policy": "accept"}


def elements_command(
    verb: str, table: str, name: str, elements: Iterable[Element], *, timeout_s: int = 0
) -> list[Command]:
    """One command that adds elements to a set or deletes them; none for no elements."""
    kind = SETS[name]
    listed: list[Any] = [_element(kind, element) for element in elements]
    if not listed:
        return []
    if timeout_s:
        listed = [{"elem": {"val": element, "timeout": timeout_s}} for element in listed]
    part = {"family": kind.family, "table": table, "name": name, "elem": listed}
    return [{verb: {"element": part}}]


def _element(kind: SetKind, element: Element) -> Any:
    parts = [_prefix(p) if isinstance(p, str) and "/" in p else p for p in element]
    if kind.value:
        count = len(kind.types)
        return [{"concat": parts[:count]}, parts[count]]
    return {"concat": parts} if len(parts) > 1 else parts[0]
