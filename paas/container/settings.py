"""What the operator (or the node controller) may choose about containers on this node."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from paas.base.errors import invalid
from paas.container import limits
from paas.container.messages import BACK_ENDS, FILE_SYSTEMS, IPV6

INTERFACE_NAME_MAX = 15
"""IFNAMSIZ of Linux, without the closing zero."""


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one container controller; `check` before use."""

    cluster: str
    """Name of the cluster on this machine: distinguishes control groups and tables."""
    state_dir: str
    """Directory of ours alone; records, mount points and writable layers live here."""
    bridge: str
    """Name of the node's bridge for containers, at most 15 characters."""
    link_prefix: str
    """Names of the containers' links begin so; nothing else on the machine may."""
    network: str = "10.83.0.0/16"
    """Addresses of containers; the first is the bridge's."""
    uid_base: int = limits.UID_BASE_MIN + 400_000_000
    """First host user of the first container's range."""
    harness: str = "paas.harness.main:main"
    """What pid 1 of a container calls, imported once by the template."""
    bases: dict[str, str] = {}
    """Registered base directories by name; `host` is always there."""
    memory_bytes: int = 0
    """Most that one component may ask for; 0: what the machine has."""
    cpu: float = 0.0
    """Cores that one component may ask for at most; 0: what the machine has."""
    disk_bytes: int = 16 << 30
    """Largest writable layer of one component."""
    disk: str = "auto"
    """`image`: a file system in a sparse file of exact size; `memory`: tmpfs; `auto`: the former
    where the machine can."""
    filesystem: str = "auto"
    """`overlay`, `btrfs`, `binds` or `auto`, by what the node has (`filesystems/choose.py`)."""
    lease: str = ""
    """File of the node's lease, best in memory; by default in the state directory."""
    backend: str = "namespaces"
    """Who makes containers that do not say: `namespaces` or `lxc`."""
    pool_networks: int = limits.POOL_NETWORKS
    pool_disks: int = limits.POOL_DISKS
    reach: str = "10.64.0.0/10"
    """Where containers of other nodes are; `network` is in here, or beside it."""
    tunnel_id: int = 0
    """Of the tunnels between the cluster's nodes, below 2**24; 0: packets of none are looked at."""
    ipv6: str = "off"
    """`auto`: containers have it where the machine can; `off`: they have none."""
    prefix6: str = ""
    """Network of 64 bits of the cluster's containers (RFC 4193); empty: they have no IPv6."""
    between: str = "auto"
    """Ways to other nodes: `routes`, `tunnels`; `auto`: routes to those on the same link."""
    zone: str = "paas.internal"
    names_socket: str = ""
    """The cluster's own names, and who of this node answers about them (`paas.dns`); empty: nobody
    does."""
    volumes: str = ""
    """Directory of persistent volumes, which outlive an orderly end of the node; by default in the
    state directory, which does not."""

    @property
    def cgroup(self) -> str:
        return f"paas-{self.cluster}"

    @property
    def volumes_dir(self) -> str:
        return self.volumes or f"{self.state_dir}/volumes"

    @property
    def lease_file(self) -> str:
        return self.lease or f"{self.state_dir}/lease"

    @property
    def tunnel(self) -> str:
        """The link that tunnels to other nodes begin at."""
        return f"{self.bridge[: INTERFACE_NAME_MAX - 1]}x"

    @property
    def table(self) -> str:
        return f"paas-{self.cluster}"


def _is_local(text: str) -> bool:
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError:
        return False
    return network.prefixlen == 64 and network.network_address.packed[0] == 0xFD


def check(settings: ContainerSettings) -> ContainerSettings:
    """Return the settings, or say which is not valid."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,47}", settings.cluster):
        raise invalid("cluster", "up to 48 lower-case letters, digits, - and _")
    for field in ("bridge", "link_prefix"):
        name = getattr(settings, field)
        room = INTERFACE_NAME_MAX if field == "bridge" else INTERFACE_NAME_MAX - 5
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or len(name) > room:
            raise invalid(field, f"a lower-case name of at most {room} characters")
    if settings.bridge.startswith(settings.link_prefix):
        raise invalid("link_prefix", "must not be the beginning of the bridge's name")
    try:
        network = ipaddress.IPv4Network(settings.network)
    except ValueError:
        raise invalid("network", "an IPv4 network such as 10.83.0.0/16") from None
    try:
        ipaddress.IPv4Network(settings.reach)
    except ValueError:
        raise invalid("reach", "an IPv4 network such as 10.64.0.0/10") from None
    if network.num_addresses < 8:
        raise invalid("network", "a network of at least 8 addresses")
    if not settings.state_dir.startswith("/") or any(c in settings.state_dir for c in ",:\\ \n"):
        raise invalid("state_dir", "an absolute path without blanks, commas, colons, backslashes")
    if settings.lease and not settings.lease.startswith("/"):
        raise invalid("lease", "an absolute path")
    if settings.volumes and not settings.volumes.startswith("/"):
        raise invalid("volumes", "an absolute path")
    if settings.uid_base < limits.UID_BASE_MIN:
        raise invalid("uid_base", f"at least {limits.UID_BASE_MIN}")
    if settings.uid_base + limits.CONTAINERS_MAX * limits.UIDS_PER_CONTAINER >= 1 << 32:
        raise invalid("uid_base", "ranges must end below 2**32")
    if settings.disk not in {"auto", "image", "memory"}:
        raise invalid("disk", "auto, image or memory")
    if settings.backend not in BACK_ENDS:
        raise invalid("backend", f"one of {', '.join(BACK_ENDS)}")
    if not 0 <= settings.tunnel_id < 1 << 24:
        raise invalid("tunnel_id", "from 0 to 16777215")
    if settings.ipv6 not in IPV6:
        raise invalid("ipv6", "auto or off")
    if settings.prefix6 and not _is_local(settings.prefix6):
        raise invalid("prefix6", "a network such as fd12:3456:789a::/64, within fd00::/8")
    if settings.between not in {"auto", "routes", "tunnels"}:
        raise invalid("between", "auto, routes or tunnels")
    if settings.filesystem not in FILE_SYSTEMS:
        raise invalid("filesystem", "auto, overlay, btrfs or binds")
    if ":" not in settings.harness:
        raise invalid("harness", "module:function")
    return settings
