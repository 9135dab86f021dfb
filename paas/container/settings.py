"""What the operator (or the node controller) may choose about containers on this node."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from paas.base.errors import invalid
from paas.container import limits

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
    lease: str = ""
    """File of the node's lease, best in memory; by default in the state directory."""
    pool_networks: int = limits.POOL_NETWORKS
    pool_disks: int = limits.POOL_DISKS

    @property
    def cgroup(self) -> str:
        return f"paas-{self.cluster}"

    @property
    def lease_file(self) -> str:
        return self.lease or f"{self.state_dir}/lease"

    @property
    def table(self) -> str:
        return f"paas-{self.cluster}"


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
    if network.num_addresses < 8:
        raise invalid("network", "a network of at least 8 addresses")
    if not settings.state_dir.startswith("/") or any(c in settings.state_dir for c in ",:\\ \n"):
        raise invalid("state_dir", "an absolute path without blanks, commas, colons, backslashes")
    if settings.lease and not settings.lease.startswith("/"):
        raise invalid("lease", "an absolute path")
    if settings.uid_base < limits.UID_BASE_MIN:
        raise invalid("uid_base", f"at least {limits.UID_BASE_MIN}")
    if settings.uid_base + limits.CONTAINERS_MAX * limits.UIDS_PER_CONTAINER >= 1 << 32:
        raise invalid("uid_base", "ranges must end below 2**32")
    if settings.disk not in {"auto", "image", "memory"}:
        raise invalid("disk", "auto, image or memory")
    if ":" not in settings.harness:
        raise invalid("harness", "module:function")
    return settings
