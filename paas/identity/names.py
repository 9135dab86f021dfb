"""What an agent is called, in each of the forms that a certificate carries.

    subject     DC = cluster, O = sub-system, OU = node, UID = identity
    URI         spiffe://<cluster>/node/<node>/agent/<sub-system>/<identity>
    DNS         <identity>.<node>.<cluster>

The four parts are the name; the forms are derived from them and can be turned back, so two names
are equal exactly if their URIs are.  Parts are lower-case host-name labels (the cluster and the
node may have several, with dots), which makes them safe in all three forms without escaping.

A node has a name as well, which its own authority bears: spiffe://<cluster>/node/<node>.

A sub-system is also the agent's role: what it may do follows from it (platform document §4.9.4,
"limit ourselves to just role based authorization").  Which sub-systems exist is not decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paas.base.errors import PlatformError, invalid
from paas.identity.limits import CLUSTER_CHARACTERS_MAX, NODE_CHARACTERS_MAX

NODE = "node"
HUB = "hub"
CONTAINERS = "containers"
CERTIFICATES = "certificates"
CREDENTIALS = "credentials"
API = "api"
"""The server for callers from outside; the hub's process holds its key."""

OPERATOR = "operator"
"""A person's program outside, which may do what an operator may."""

API_ID = "api"
OPERATOR_ID_PREFIX = "operator-"
"""Identities of operators are apart from those of agents, and so are their host names."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_label = re.compile(_LABEL)
_host_name = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_uri = re.compile(r"spiffe://([^/]+)/node/([^/]+)/agent/([^/]+)/([^/]+)")
_node_uri = re.compile(r"spiffe://([^/]+)/node/([^/]+)")

_LABEL_EXPECTED = "expected 1 to 63 lower-case letters, digits and inner hyphens"


@dataclass(frozen=True, slots=True, order=True)
class AgentName:
    """The name of one agent.  A part that is not well-formed raises `invalid`."""

    cluster: str
    node: str
    subsystem: str
    id: str

    def __post_init__(self) -> None:
        check_cluster(self.cluster)
        check_node(self.node)
        check_label("subsystem", self.subsystem)
        check_label("id", self.id)

    @property
    def uri(self) -> str:
        """The SPIFFE ID, which is what receivers compare."""
        return f"spiffe://{self.cluster}/node/{self.node}/agent/{self.subsystem}/{self.id}"

    @property
    def dns(self) -> str:
        """The host name under which the agent's endpoints will be published."""
        return f"{self.id}.{self.node}.{self.cluster}"

    def __str__(self) -> str:
        return f"{self.subsystem} {self.id} on {self.node} of {self.cluster}"


def check_label(field: str, value: str) -> None:
    if not _label.fullmatch(value):
        raise invalid(field, _LABEL_EXPECTED)


def check_cluster(value: str) -> None:
    _check_host_name("cluster", value, CLUSTER_CHARACTERS_MAX)


def check_node(value: str) -> None:
    _check_host_name("node", value, NODE_CHARACTERS_MAX)


def from_uri(uri: str) -> AgentName | None:
    """The name that a URI states, or None when it is not the URI of an agent."""
    match = _uri.fullmatch(uri)
    if match is None:
        return None
    try:
        return AgentName(*match.groups())
    except PlatformError:
        return None


def node_uri(cluster: str, node: str) -> str:
    """The name of a node's authority."""
    return f"spiffe://{cluster}/node/{node}"


def node_from_uri(uri: str) -> tuple[str, str] | None:
    """Cluster and node that a URI states, or None when it is not the URI of a node."""
    match = _node_uri.fullmatch(uri)
    if match is None:
        return None
    try:
        check_cluster(match[1])
        check_node(match[2])
    except PlatformError:
        return None
    return match[1], match[2]


def _check_host_name(field: str, value: str, characters_max: int) -> None:
    if len(value) > characters_max or not _host_name.fullmatch(value):
        raise invalid(
            field, f"expected a lower-case host name of at most {characters_max} characters"
        )
