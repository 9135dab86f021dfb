"""What can be asked of the container controller, and what it tells (platform document §4.6.4).

Plain data, checked when built by `spec.check`; the agent declares the methods that carry them.
Sizes are in bytes, times in seconds or milliseconds as the name says, identifiers 40 hex digits.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from paas.container.lifecycle import ContainerState

Protocol = Literal["json", "msgpack", "none"]


BACK_ENDS = ("namespaces", "lxc")
"""Who can make a container's namespaces."""

FILE_SYSTEMS = ("auto", "overlay", "btrfs", "binds")
IPV6 = ("off", "auto")
"""What a node's containers' files can be made with; the first: by what the node has."""

BackEnd = Literal["", "namespaces", "lxc"]
"""One of BACK_ENDS; empty: the node's."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one component; its harness has bounds of its own."""

    memory_bytes: int = 64 << 20
    cpu: float = 0.5
    """In cores: 0.5 is half of one core's time."""
    pids: int = 64
    disk_bytes: int = 128 << 20
    """All that the component may change or add in its file system, /tmp not counted."""
    io_bytes_per_s: int = 0
    """How fast its writable layer is read, and how fast it is written; 0: no limit."""
    cpu_weight: int = 100
    """Its share of processor time when there is not enough for all: 200 is twice another's 100."""


class VolumeMount(msgspec.Struct, frozen=True, kw_only=True):
    """A persistent volume that is to be at `path` in a container."""

    owner: str
    """The name of the component, or its identifier: with `name` and `epoch` it names the file."""
    name: str
    epoch: int
    path: str
    size_bytes: int
    fresh: bool = False
    """It may be made, empty; else it must be there."""


class VolumeCopy(msgspec.Struct, frozen=True, kw_only=True):
    """One copy on this node.  One that is not `complete` is on its way here."""

    owner: str
    epoch: int
    complete: bool
    attached: bool
    sizes: dict[str, int]
    used: dict[str, int]
    """By the file systems' own counts, which lag behind while they are mounted."""
    stored: int
    """What of an incoming copy has come."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One container to be started."""

    component: str
    command: tuple[str, ...]
    bundle_dir: str
    """Host path of the extracted bundle, the read-only layer below /app."""
    hub_dir: str
    """Host directory that holds the hub's socket for harnesses."""
    base: str = "host"
    protocol: Protocol = "json"
    environment: dict[str, str] = {}
    configuration: Any = None
    endpoints: dict[str, str] = {}
    """Name to protocol; the port is chosen here."""
    limits: Limits = Limits()
    ready_timeout_s: float = 30.0
    hostname: str = ""
    incarnation: int = 1
    """Which life of the component this is; handed to the harness, given back in the list."""
    directory: str = ""
    """Where the command begins; empty: where the bundle is."""
    capabilities: tuple[str, ...] = ()
    """What its manifest asks for, of `powers.GRANTABLE`."""
    volumes: tuple[VolumeMount, ...] = ()
    backend: str = ""
    """One of BACK_ENDS; empty: the node's."""
    egress: tuple[str, ...] = ()
    """What it may reach outside of the cluster (`paas.bundle.egress`)."""
    published: dict[str, int] = {}
    """Endpoint to the port of the node that leads there."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The harness runs, with every isolation in force."""

    component: str
    pid: int
    start_ticks: int
    uid_base: int
    address: str
    endpoints: dict[str, tuple[str, int]]
    timings_ms: dict[str, float]
    """Per hook, and per step of the launch as `process.<step>`."""
    address6: str = ""
    """Empty: it has no IPv6."""


class Exited(msgspec.Struct, frozen=True, kw_only=True):
    """Why a container is no more, from kernel facts and the harness's last words."""

    component: str
    reason: str
    """`normal`, `exit:<code>`, `signal:<name>`, `out-of-memory`, `killed`, `node-lost`,
    `harness:<what>`, or the harness's own word."""
    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    incarnation: int = 1
    time_ms: int = 0
    harness_log: str = ""
    """The end of what the harness wrote to its standard error; empty when all is well."""
    memory_limit_bytes: int = 0
    memory_peak_bytes: int = 0
    """The bound on the component's memory, and the most that it used; 0: not known."""
    starved: str = ""
    """Whom the kernel ended for want of memory, by its name; where the kernel's log cannot be read:
    `main process`, `another process of the component` or `harness`."""


class ContainerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list."""

    component: str
    state: ContainerState
    pid: int | None
    uid_base: int | None
    address: str | None
    endpoints: dict[str, tuple[str, int]]
    since_ms: int
    incarnation: int
    adopted: bool
    exited: Exited | None
    frozen: bool = False
    limits: Limits | None = None
    """The bounds in force; None when they are not known (made by an earlier version)."""
    backend: str = ""
    """Who has made it; empty: nobody yet."""
    address6: str = ""
    """Empty: it has no IPv6."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What one container uses now."""

    memory_bytes: int
    memory_peak_bytes: int
    cpu_ms: float
    throttled_ms: float
    pids: int
    out_of_memory_kills: int
    harness_memory_bytes: int
    harness_pss_bytes: int
    memory_limit_bytes: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    """Of its writable layer, where that is a block device."""
    network_received_bytes: int = 0
    network_sent_bytes: int = 0
    disk_bytes: int = 0
    disk_inodes: int = 0
    """Used of its writable layer."""
    pressure: dict[str, float] | None = None
    """Percent of the last ten seconds in which some of it waited: cpu, memory, io.  None: the
    kernel does not count it (control groups of version 1)."""
    frozen: bool = False


class Grant(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One path that is open: from a component to a port of another."""

    source: str
    target: str
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"
