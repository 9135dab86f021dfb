"""Messages about nodes.  Numbers 500-549.

500-509  between the node controller and the agents that it starts, in compact form over a socket
         pair that the agent inherits; its end is the end of the agent: an agent whose node
         controller is gone leaves at once, and is started anew by the next one
520      between hubs: renewing a lease (docs/internals/cluster.md, "Leases")
521-529  of operators: the nodes of the cluster

`NodeChanged` is no message but the event that other sections of the cluster state react to.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.wire.registry import Message, Nothing, Params, method


class Start(Params, frozen=True, kw_only=True):
    """Begin to work.  Answered when the agent is ready.

    `token` is traded for a certificate at `authority_socket`; `uid` and `gid` are taken on before
    anything else is done; `directories` are opened before that.
    """

    cluster: str
    node: str
    agent: str
    uid: int
    gid: int
    directories: dict[str, str]
    runtime: str
    token: str = ""
    authority_socket: str = ""
    settings: dict[str, Any] = {}


class Started(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The agent is ready."""

    pid: int
    facts: dict[str, Any]


class Ping(Params, frozen=True, kw_only=True):
    """Are you alive?"""


class Health(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The agent's own figures."""

    statistics: dict[str, Any]


class Stop(Params, frozen=True, kw_only=True):
    """End.  With `teardown`, also what outlives the agent: containers, links, mounts."""

    teardown: bool = False


START = method(500, "agent.start", Start, Started, public=False)
PING = method(501, "agent.ping", Ping, Health, public=False)
STOP = method(502, "agent.stop", Stop, Nothing, public=False)


# -- the event of the cluster state ------------------------------------------------------------


class NodeChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a node is in another state, its agents joined again (another `epoch`), or its storage
    is full, or no longer so.

    What ran on it has certainly ended when the state is `offline` or `destroyed`, or when it
    `rebooted`, not before.
    """

    node: str
    state: str
    previous: str
    reason: str
    index: int
    time_ms: int
    epoch: int = 0
    """Log index that names the life of its agents which this is about."""

    storage_full: bool = False
    rebooted: bool = False
    """Its kernel began anew, before anybody noticed that it was away."""


# -- between hubs ------------------------------------------------------------------------------


class Renew(Params, frozen=True, kw_only=True):
    """A node asks the leader's hub to prolong its lease; `number` comes back with the answer.

    `storage` is `full` when its hub has no room for entries of the log, else `ok`.
    """

    node: str
    epoch: int
    number: int
    storage: str = "ok"


class Renewed(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Whether the lease is prolonged, counted from when the renewal was sent.

    `reason` if not: `not-leader` (then `leader` says who is, if known), `lost` (the node was
    declared lost, has joined again since, or is removed), `closing` (that it is lost is being
    decided).  `again`: in how many seconds the next renewal would come together with others.
    """

    number: int
    granted: bool
    reason: str = ""
    leader: str = ""
    again: float | None = None


# -- for operators -----------------------------------------------------------------------------


class ListNodes(Params, frozen=True, kw_only=True):
    """List the nodes of the cluster."""


class DescribeNode(Params, frozen=True, kw_only=True):
    """Describe one node."""

    node: str


class NodeInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One node.  `since` in seconds since the Unix epoch, sizes in bytes.

    `role` in the replicated log: `leader`, `voter`, `observer`, or empty (not a member yet).
    `lease_age`: seconds since its lease was last granted, as the leader knows; absent when no
    lease is needed, or when the answering hub does not lead.
    `storage` of its hub: `ok`, or `full` (nothing new is placed on it until there is room again).
    """

    name: str
    state: str
    since: float
    address: str = ""
    role: str = ""
    components: int = 0
    lease_age: float | None = None
    cordoned: bool = False
    draining: bool = False
    memory: int = 0
    cpu: float = 0.0
    disk: int = 0
    version: str = ""
    reason: str = ""
    bases: list[str] = []
    labels: dict[str, str] = {}
    virtual_nodes: int = 0
    storage: str = "ok"


class Nodes(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The nodes, by name; `stale_s` seconds old when a majority is out of reach, else absent."""

    nodes: list[NodeInfo]
    stale_s: float | msgspec.UnsetType = msgspec.UNSET


class CordonNode(Params, frozen=True, kw_only=True):
    """Place nothing new on a node; what runs there stays."""

    node: str
    reason: str = ""


class UncordonNode(Params, frozen=True, kw_only=True):
    """Place components on a node again; ends a drain, too."""

    node: str


class RemoveNodeRequest(Params, frozen=True, kw_only=True):
    """Remove a node from the cluster for good; its name never comes back.

    Refused while components are on it (drain it first), and when the voters that are left would
    have no majority.  `force` removes it all the same: what runs on it ends.
    """

    node: str
    force: bool = False


class ListMembers(Params, frozen=True, kw_only=True):
    """List the members of the replicated log."""


class MemberInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One member of the log: `role` is `leader`, `voter` or `observer`.

    `behind`: entries that it lacks, as the leader knows; absent when the answering hub does not
    lead.
    """

    node: str
    role: str
    address: str = ""
    state: str = ""
    behind: int | None = None


class Members(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Members by name.  `change` says what the leader is about to change, or why it does not.

    `wanted`: so many are to vote, if there are as many nodes.
    """

    members: list[MemberInfo]
    leader: str = ""
    term: int = 0
    change: str = ""
    wanted: int = 0


class WantVotersRequest(Params, frozen=True, kw_only=True):
    """Have so many nodes vote in the replicated log, if there are as many: an odd number.

    The members are changed one after the other, by whoever leads, without interruption.
    """

    voters: int


class AskAddresses(Params, frozen=True, kw_only=True):
    """A hub that hears no leader asks another one where all are."""


class Addresses(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Node to address, as far as the answering hub knows."""

    addresses: dict[str, str]


RENEW = method(520, "node.renew", Renew, Renewed, public=False)
LIST_NODES = method(521, "nodes.list", ListNodes, Nodes)
DESCRIBE_NODE = method(522, "nodes.show", DescribeNode, NodeInfo)
CORDON_NODE = method(523, "nodes.cordon", CordonNode, NodeInfo)
UNCORDON_NODE = method(524, "nodes.uncordon", UncordonNode, NodeInfo)
REMOVE_NODE = method(525, "nodes.remove", RemoveNodeRequest, Nothing)
LIST_MEMBERS = method(526, "cluster.members", ListMembers, Members)
WANT_VOTERS = method(527, "cluster.want_voters", WantVotersRequest, Members)
ADDRESSES = method(528, "node.addresses", AskAddresses, Addresses, public=False)
