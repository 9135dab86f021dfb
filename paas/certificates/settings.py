"""What the operator, or the node controller for him, decides about the certificate manager."""

from __future__ import annotations

from dataclasses import dataclass

from paas.base.errors import invalid
from paas.certificates.limits import (
    LEAF_LIFE_S,
    LEAF_LIFE_S_MAX,
    LEAF_LIFE_S_MIN,
    TOKEN_LIFE_S,
    TOKEN_LIFE_S_MAX,
)
from paas.identity.names import check_cluster, check_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Frozen after start.  A value out of range raises `invalid`."""

    cluster: str
    """Name of the cluster: the trust domain of all its certificates."""

    node: str
    """Name of this node; tokens and certificates are for agents on it."""

    directory: str
    """Where the key and the records are; private to the manager's user, for nothing else."""

    socket_path: str
    """The UNIX socket on which the manager answers."""

    leaf_life_s: int = LEAF_LIFE_S
    token_life_s: int = TOKEN_LIFE_S

    spawner_uid: int = 0
    """The user that the node controller runs as."""

    spawner_pid: int = 0
    """The process of the node controller; 0: any process of `spawner_uid`."""

    may_begin: bool = True
    """May an empty directory become that of a new cluster?  Not on a node that joined one."""

    hub_uid: int = -1
    """The user that the hub runs as, which may have authorities of nodes certified; -1: nobody."""

    def __post_init__(self) -> None:
        check_cluster(self.cluster)
        check_node(self.node)
        if self.socket_path.startswith(self.directory.rstrip("/") + "/"):
            raise invalid("socket_path", "expected a place outside the private directory")
        if not LEAF_LIFE_S_MIN <= self.leaf_life_s <= LEAF_LIFE_S_MAX:
            raise invalid("leaf_life_s", f"expected {LEAF_LIFE_S_MIN} to {LEAF_LIFE_S_MAX}")
        if not 1 <= self.token_life_s <= TOKEN_LIFE_S_MAX:
            raise invalid("token_life_s", f"expected 1 to {TOKEN_LIFE_S_MAX}")
