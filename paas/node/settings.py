"""Where a node keeps things, and as whom its agents run.

    <state>/cluster.json        what this state directory is, and where its sockets are
    <state>/node.json           who this node is among others; a node without a network has none
    <state>/hub/                journal and snapshots of the replicated log      (the hub's)
    <state>/blobs/              bundles by digest                                (the hub's)
    <state>/logs/               log records of components                        (the hub's)
    <state>/certificates/       the cluster authority and its key                (the authority's)
    <state>/containers/         records, mount points, writable layers, bundles  (root's)
    <state>/agents/             what the agents wrote to their standard error    (root's)
    <runtime>/                  sockets; below /run, gone when the node is down

The runtime directory's name is derived from the state directory's, so that two clusters on one
machine never meet, and short, since a UNIX socket's path has at most 107 bytes (unix(7)).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

RUNTIME_ROOT = "/run/paas"
HUB_UID = 64_010
CERTIFICATES_UID = 64_011
NODE_NAME = "n1"


def short_name(state: str) -> str:
    """Eight digits that distinguish this cluster from others on the machine."""
    return hashlib.sha256(state.encode()).hexdigest()[:8]


def runtime_of(state: str) -> str:
    """The runtime directory that belongs to a state directory (an absolute path)."""
    return f"{RUNTIME_ROOT}/{short_name(state)}"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What one node controller works with.

    `listen` is where the hub listens for those of other nodes, `join_listen` for those who want to
    join; both are empty in a cluster of one node without a network.  `peers` are the addresses of
    the nodes that were there when this one joined: enough to find the others.  `joined` says that
    the cluster was begun elsewhere.  `api_listen` is where programs outside are answered.
    `container_network` is given where several nodes share one machine, and otherwise chosen by
    each.
    """

    state: str
    cluster: str
    node: str = NODE_NAME
    operators: tuple[int, ...] = (0,)
    listen: str = ""
    join_listen: str = ""
    peers: dict[str, str] = field(default_factory=dict)
    joined: bool = False
    container_network: str = ""
    api_listen: str = ""
    backend: str = "namespaces"
    """Who makes containers whose manifests do not say: `namespaces` or `lxc`."""
    filesystem: str = "auto"
    """What containers' files are made with: `overlay`, `btrfs`, `binds`, or what the node has."""
    ipv6: str = "off"
    """Have containers IPv6? `auto`: where the machine can; `off`: no."""
    dns: dict[str, Any] = field(default_factory=dict)
    """About names, as node.json says it (`paas.dns.settings`)."""
    trace_rate: float = 0.0
    """Which part of the calls that belong to no trace begin one that is recorded: 0 to 1."""

    owners: dict[str, tuple[int, str]] = field(
        default_factory=lambda: {
            "hub": (HUB_UID, "hub"),
            "blobs": (HUB_UID, "hub"),
            "logs": (HUB_UID, "hub"),
            "certificates": (CERTIFICATES_UID, "certificates"),
            "containers": (0, "containers"),
            "agents": (0, "node"),
        }
    )

    def agent_settings(self) -> dict[str, Any]:
        """What agents are told when they start, beside names and directories."""
        return {
            "state": self.state,
            "operators": list(self.operators),
            "listen": self.listen,
            "join_listen": self.join_listen,
            "peers": dict(self.peers),
            "joined": self.joined,
            "api_listen": self.api_address,
            "trace_rate": self.trace_rate,
            "backend": self.backend,
            "filesystem": self.filesystem,
            "ipv6": self.ipv6,
            "dns": self.dns,
        }

    @property
    def api_address(self) -> str:
        """Where the hub listens for callers from outside: host:port, port 0 for any; or "off".

        Unless it is said, on the address at which the other nodes find this one.
        """
        if self.api_listen:
            return self.api_listen
        return f"{self.listen.rpartition(':')[0] or '127.0.0.1'}:0"

    @property
    def runtime(self) -> str:
        return runtime_of(self.state)

    @property
    def api_socket(self) -> str:
        return f"{self.runtime}/api.sock"

    @property
    def harness_directory(self) -> str:
        return f"{self.runtime}/harness"

    @property
    def harness_socket(self) -> str:
        return f"{self.harness_directory}/harness.sock"

    @property
    def containers_socket(self) -> str:
        return f"{self.runtime}/containers.sock"

    @property
    def names_socket(self) -> str:
        """Where the hub answers the container controller about the cluster's names."""
        return f"{self.runtime}/names.sock"

    @property
    def authority_directory(self) -> str:
        return f"{self.runtime}/authority"

    @property
    def authority_socket(self) -> str:
        return f"{self.authority_directory}/certificates.sock"
