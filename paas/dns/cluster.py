"""The cluster's zone: what each name means, looked up in the cluster state when it is asked.  Pure.

    web.component                  one component, by name or identifier
    _http._tcp.web.component       an endpoint of it
    web.group                      the available members of a group
    _http._tcp.web.group           an endpoint of theirs (SRV, RFC 2782)
    n1.node                        a node
    hub.agent  _hub._tcp.agent     agents by sub-system
    shop.app                       the available components of an application
    …                              what was published (state.py)

Nothing is copied: the state of the moment is the zone, so a change is there with the command that
made it, and the serial is the log's index of that command, on every replica the same (state.py).
Who is not available is not told of: a name that has nobody has an empty answer, one that nobody
bears does not exist.

An answer tells of the asker's own node first.  An endpoint that its manifest offers to its own node
only is told to askers there only.  Hence there is one such zone for askers on this node, and one
for those elsewhere (`local`).

Components and groups whose names no host could bear are reached by identifier, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from paas.dns import limits, names, records
from paas.dns.names import Labels
from paas.dns.zone import Set, Sets, apex

COMPONENT, GROUP, NODE, AGENT, APP = b"component", b"group", b"node", b"agent", b"app"
SUBTREES = (COMPONENT, GROUP, NODE, AGENT, APP)
PROTOCOLS = {b"_tcp": "tcp", b"_udp": "udp"}


class Endpoint(NamedTuple):
    """Where a component listens."""

    name: str
    protocol: str
    host: str
    host6: str
    port: int
    own_node: bool = False
    """It is offered to components of its own node only."""


class Member(NamedTuple):
    """A component, as far as names go."""

    id: str
    name: str
    node: str
    type: str
    available: bool
    endpoints: tuple[Endpoint, ...]


class Machine(NamedTuple):
    """A node; where its agents listen, by sub-system, if it is in touch."""

    name: str
    present: bool
    address: str
    agents: Mapping[str, tuple[str, int]]
    state: str = ""


class Cluster(Protocol):
    """The cluster state."""

    @property
    def node(self) -> str: ...

    @property
    def serial(self) -> int: ...

    def component(self, word: str, /) -> Member | None:
        """By name or whole identifier, unless it has ended for good."""
        ...

    def members(self, group: str, /) -> list[Member] | None:
        """Of a group as many as are told, the available ones first, of them those on this node;
        None: there is no such group."""
        ...

    def application(self, name: str, /) -> list[Member] | None:
        """The same, of an application."""
        ...

    def components(self) -> Iterable[Member]: ...

    def component_names(self) -> Iterable[str]: ...

    def groups(self) -> Iterable[str]: ...

    def applications(self) -> Iterable[str]: ...

    def machines(self) -> list[Machine]: ...

    def published(self, labels: Labels, /) -> Sets | None: ...

    def published_names(self) -> Iterable[Labels]: ...

    def keys(self) -> tuple[bytes, ...]:
        """Data of the DNSKEY records; none while nothing is signed."""
        ...


class ClusterZone:
    """See the module's text."""

    def __init__(self, origin: Labels, cluster: Cluster, *, local: bool) -> None:
        self.origin = origin
        self._cluster = cluster
        self._local = local
        self._at = -1
        self._kept_apex: Sets = {}
        self._kept_above: dict[bytes, set[bytes]] = {}

    @property
    def serial(self) -> int:
        return self._cluster.serial & 0xFFFF_FFFF

    def find(self, labels: Labels, /) -> Sets | None:
        derived = self._derived(labels)
        published = self._cluster.published(labels)
        if not published:
            return derived if derived is not None else published
        if records.CNAME in published:
            return published
        return {**(derived or {}), **published}

    def _derived(self, labels: Labels) -> Sets | None:
        self._refresh()
        if not labels:
            return self._kept_apex
        subtree, rest = labels[-1], labels[:-1]
        if subtree not in SUBTREES:
            return None
        if not rest:
            return {}
        if subtree == NODE:
            return self._node(rest)
        if subtree == AGENT:
            return self._agents(rest)
        protocol, endpoint, rest = _service(rest)
        if not rest:
            return None
        members = self._members(subtree, b".".join(rest).decode("latin-1"))
        if members is None:
            return self._above(subtree, rest) if not protocol else None
        if not protocol:
            return self._addresses(members, one=subtree == COMPONENT)
        return self._service(members, protocol, endpoint)

    def _refresh(self) -> None:
        """What is asked for with each answer, or takes a look at everything: once for a serial."""
        if self._at != self._cluster.serial:
            self._at = self._cluster.serial
            self._kept_apex = self._apex()
            self._kept_above.clear()

    def _members(self, subtree: bytes, word: str) -> list[Member] | None:
        if subtree == GROUP:
            return self._cluster.members(word)
        if subtree == APP:
            return self._cluster.application(word)
        found = self._cluster.component(word)
        return None if found is None else [found]

    def _above(self, subtree: bytes, rest: Labels) -> Sets | None:
        """Of names with dots in them, what is above them exists too."""
        above = self._kept_above.get(subtree)
        if above is None:
            listed = {GROUP: self._cluster.groups, APP: self._cluster.applications}.get(subtree)
            above = self._kept_above[subtree] = set()
            for word in (listed or self._cluster.component_names)():
                while "." in word:
                    word = word.partition(".")[2]
                    above.add(word.encode())
        return {} if b".".join(rest) in above else None

    # -- components, groups, applications --------------------------------------------------------

    def _sorted(self, members: Iterable[Member]) -> tuple[list[Member], list[Member]]:
        """Available ones: on the asker's node, or elsewhere; so many of them as are told."""
        near: list[Member] = []
        far: list[Member] = []
        for member in members:
            if member.available:
                (near if member.node == self._cluster.node else far).append(member)
        near = near[: limits.MEMBERS_MAX]
        return near, far[: limits.MEMBERS_MAX - len(near)]

    def _endpoints(self, member: Member) -> list[Endpoint]:
        here = self._local and member.node == self._cluster.node
        return [e for e in member.endpoints if here or not e.own_node]

    def _addresses(self, members: list[Member], *, one: bool) -> Sets:
        near, far = self._sorted(members)
        found: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for which, some in enumerate((near, far)):
            for member in some:
                for kind, data in self._told(member):
                    place = found.setdefault(kind, ([], []))[which]
                    if data not in place:
                        place.append(data)
        if one:
            told = members[0]
            facts = [f"id={told.id}", f"type={told.type}", f"node={told.node}"]
            place = found.setdefault(records.TXT, ([], []))[0]
            place.append(records.txt(*(fact.encode() for fact in facts)))
        ttl_s = limits.TTL_COMPONENT_S
        return {k: Set(ttl_s, tuple(n), tuple(f)) for k, (n, f) in sorted(found.items())}

    def _told(self, member: Member) -> Iterator[tuple[int, bytes]]:
        for endpoint in self._endpoints(member):
            yield records.address(endpoint.host)
            if endpoint.host6:
                yield records.address(endpoint.host6)
            yield records.TXT, records.txt(f"{endpoint.host}:{endpoint.port}".encode())

    def _service(self, members: list[Member], protocol: str, endpoint: str) -> Sets | None:
        """`_tcp` alone is above its services; a service that no member has does not exist."""
        fitting = [
            (member, offered)
            for member in members
            for offered in member.endpoints
            if (offered.protocol == "udp") == (protocol == "udp")
        ]
        if not endpoint:
            return {} if fitting else None
        named = [(member, offered) for member, offered in fitting if offered.name == endpoint]
        if not named:
            return None
        ports = {m.id: e for m, e in named if e in self._endpoints(m)}
        near, far = self._sorted(member for member, _ in named if member.id in ports)
        if not near and not far:
            return {}
        parts: list[list[list[bytes]]] = [[[], []], [[], []]]
        for which, some in enumerate((near, far)):
            for member in some:
                told, target = ports[member.id], (member.id.encode(), COMPONENT)
                priority = 10 * (which + 1)
                data = records.srv(priority, 10, told.port, target + self.origin)
                parts[0][which].append(data)
                parts[1][which].append(records.txt(f"{told.host}:{told.port}".encode()))
        related = tuple((member.id.encode(), COMPONENT) for member in (*near, *far))
        ttl_s = limits.TTL_COMPONENT_S
        (srv_near, srv_far), (txt_near, txt_far) = parts
        return {
            records.SRV: Set(ttl_s, tuple(srv_near), tuple(srv_far), related),
            records.TXT: Set(ttl_s, tuple(txt_near), tuple(txt_far)),
        }

    # -- nodes and agents ------------------------------------------------------------------------

    def _machines(self) -> list[Machine]:
        """The nearest first."""
        return sorted(self._cluster.machines(), key=lambda m: (m.name != self._cluster.node, m))

    def _apex(self) -> Sets:
        serving = [m for m in self._cluster.machines() if m.present and "dns" in m.agents]
        serving.sort(key=lambda machine: machine.name)
        servers = tuple((m.name.encode(), NODE) for m in serving if _host(m))
        sets = apex(self.origin, self.serial, servers)
        if keys := self._cluster.keys():
            sets[records.DNSKEY] = Set(limits.TTL_ZONE_S, keys)
        return sets

    def _node(self, rest: Labels) -> Sets | None:
        word = b".".join(rest).decode("latin-1")
        found = next((m for m in self._cluster.machines() if m.name.lower() == word), None)
        if found is None:
            return None
        sets = {
            records.TXT: Set(limits.TTL_NODE_S, (records.txt(f"state={found.state}".encode()),))
        }
        if host := _host(found):
            kind, data = records.address(host)
            sets[kind] = Set(limits.TTL_NODE_S, (data,))
        return sets

    def _agents(self, rest: Labels) -> Sets | None:
        """`hub` and `_hub._tcp` say the same."""
        word = rest[0].decode("latin-1")
        if rest == (b"_tcp",):
            return {} if any(m.agents for m in self._cluster.machines()) else None
        if len(rest) == 2 and rest[1] == b"_tcp" and word.startswith("_"):
            word = word[1:]
        elif len(rest) != 1:
            return None
        telling = [m for m in self._machines() if word in m.agents]
        if not telling:
            return None
        return self._agent_sets(word, [m for m in telling if m.present])

    def _agent_sets(self, word: str, telling: list[Machine]) -> Sets:
        found: dict[int, tuple[list[bytes], list[bytes]]] = {}
        related = []
        for machine in telling:
            near = machine.name == self._cluster.node
            host, port = machine.agents[word]
            target = (machine.name.encode(), NODE)
            related.append(target)
            kind, address = records.address(host)
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for what, data in (
                (kind, address),
                (records.SRV, records.srv(10 if near else 20, 10, port, target + self.origin)),
                (records.TXT, records.txt(shown.encode())),
            ):
                found.setdefault(what, ([], []))[0 if near else 1].append(data)
        return {
            kind: Set(
                limits.TTL_NODE_S,
                tuple(near),
                tuple(far),
                tuple(related) if kind == records.SRV else (),
            )
            for kind, (near, far) in sorted(found.items())
        }

    # -- all of it -------------------------------------------------------------------------------

    def names(self) -> Iterator[Labels]:
        """For transfers; what was published under a derived name comes once."""
        seen: set[Labels] = set()
        for labels in self._all_names():
            if labels not in seen:
                seen.add(labels)
                yield labels

    def _all_names(self) -> Iterator[Labels]:
        yield ()
        for machine in self._cluster.machines():
            yield from _under(machine.name, NODE)
        for agent in sorted({name for m in self._cluster.machines() for name in m.agents}):
            yield from _under(agent, AGENT)
            yield (f"_{agent}".encode(), b"_tcp", AGENT)
        for member in self._cluster.components():
            yield (member.id.encode(), COMPONENT)
            for word in (member.name, member.id):
                for labels in _under(word, COMPONENT):
                    yield labels
                    yield from _services([member], labels)
        for subtree, words in (
            (GROUP, self._cluster.groups()),
            (APP, self._cluster.applications()),
        ):
            for word in list(words):
                for labels in _under(word, subtree):
                    yield labels
                    yield from _services(self._members(subtree, word) or [], labels)
        yield from list(self._cluster.published_names())


def _under(word: str, subtree: bytes) -> Iterator[Labels]:
    labels = names.split(word) if word and word == word.lower() else None
    if labels is not None:
        yield (*labels, subtree)


def _services(members: Iterable[Member], labels: Labels) -> Iterator[Labels]:
    found = {
        (f"_{e.name}".lower().encode(), b"_udp" if e.protocol == "udp" else b"_tcp")
        for member in members
        for e in member.endpoints
    }
    for service in sorted(found):
        if names.is_label(service[0]):
            yield service + labels


def _service(rest: Labels) -> tuple[str, str, Labels]:
    """(protocol, endpoint, whose): of `_http._tcp.web`; both empty for a plain name."""
    if rest[0] in PROTOCOLS:
        return PROTOCOLS[rest[0]], "", rest[1:]
    if len(rest) > 1 and rest[1] in PROTOCOLS and rest[0].startswith(b"_"):
        return PROTOCOLS[rest[1]], rest[0][1:].decode("latin-1"), rest[2:]
    return "", "", rest


def _host(machine: Machine) -> str:
    """The address of a node: where the others find it, or where it answers for names."""
    return machine.address or machine.agents.get("dns", ("", 0))[0]
