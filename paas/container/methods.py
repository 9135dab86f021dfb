"""The methods of a container controller, over mutual TLS (platform document §4.6.4).

Numbers 550-599.  Only the hub and the node controller of the same cluster may call them.
"""

from __future__ import annotations

from typing import Any

from paas.container.messages import BackEnd, Exited, Limits, Protocol, VolumeMount
from paas.wire.registry import Message, Nothing, Params, method


class StartContainer(Params, frozen=True, kw_only=True):
    """Prepare a container and start its harness.  The bundle is verified before it is unpacked.

    `signature` is the text of a minisign signature file; `publishers` the trusted public keys.
    """

    component: str
    incarnation: int
    bundle: str
    signature: str
    publishers: list[str]
    command: list[str]
    base: str = "host"
    protocol: Protocol = "json"
    environment: dict[str, str] = {}
    configuration: Any = None
    endpoints: dict[str, str] = {}
    limits: Limits = Limits()
    ready_timeout_s: float = 30.0
    hostname: str = ""
    capabilities: list[str] = []
    backend: BackEnd = ""
    volumes: list[VolumeMount] = []
    directory: str = ""
    egress: list[str] = []
    published: dict[str, int] = {}


class StartedContainer(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The harness runs.  `uid_base` is the host user that its pid 1 has."""

    pid: int
    uid_base: int
    address: str
    endpoints: dict[str, tuple[str, int]]
    timings_ms: dict[str, float]
    address6: str = ""


class KillContainer(Params, frozen=True, kw_only=True):
    """Kill everything in a container at once; it remains to be destroyed."""

    component: str


class DestroyContainer(Params, frozen=True, kw_only=True):
    """Remove a container; answered when nothing of it is left."""

    component: str


class ListContainers(Params, frozen=True, kw_only=True):
    """List the containers, also those that ended and were not destroyed yet."""


class ContainerLine(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One container as the kernel and the records know it."""

    component: str
    incarnation: int
    running: bool
    uid_base: int
    pid: int
    address: str
    endpoints: dict[str, tuple[str, int]]
    exited: Exited | None
    frozen: bool = False
    limits: Limits | None = None
    address6: str = ""


class ContainerLines(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All containers of the node."""

    containers: list[ContainerLine]


class GetStats(Params, frozen=True, kw_only=True):
    """What components use now."""

    components: list[str]


class StatsResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Component to its figures; one that is gone is left out."""

    stats: dict[str, dict[str, float]]


class OpenPath(Params, frozen=True, kw_only=True):
    """Let one component reach a port of another."""

    source: str
    target: str
    port: int


class ClosePath(Params, frozen=True, kw_only=True):
    """Close what `container.grant` opened."""

    source: str
    target: str
    port: int


class ContainerExited(Params, frozen=True, kw_only=True):
    """Announced once when a container has ended, with the kernel's facts."""

    exited: Exited


class SetLease(Params, frozen=True, kw_only=True):
    """Let components run until `deadline_s`, in seconds of CLOCK_BOOTTIME; None: without end.

    Answered when the deadline is in force.  When it has passed, everything in containers is killed.
    """

    deadline_s: float | None = None


class ClearNode(Params, frozen=True, kw_only=True):
    """Kill everything in containers; answered when nothing runs.  They remain to be destroyed."""


class ResizeContainer(Params, frozen=True, kw_only=True):
    """Give a running container other bounds; answered when they are in force.

    What it cannot be given (memory that is in use, another disk) is refused, and nothing changes.
    """

    component: str
    limits: Limits


class FreezeContainer(Params, frozen=True, kw_only=True):
    """Stop everything of a component where it is; answered when nothing of it moves."""

    component: str


class ThawContainer(Params, frozen=True, kw_only=True):
    """Let a frozen component go on."""

    component: str


START = method(550, "container.start", StartContainer, StartedContainer, public=False)
KILL = method(551, "container.kill", KillContainer, Nothing, public=False)
DESTROY = method(552, "container.destroy", DestroyContainer, Nothing, public=False)
LIST = method(553, "container.list", ListContainers, ContainerLines, public=False)
STATS = method(554, "container.stats", GetStats, StatsResult, public=False)
GRANT = method(555, "container.grant", OpenPath, Nothing, public=False)
REVOKE = method(556, "container.revoke", ClosePath, Nothing, public=False)
EXITED = method(557, "container.exited", ContainerExited, Nothing, public=False)
RESIZE = method(558, "container.resize", ResizeContainer, Nothing, public=False)
FREEZE = method(559, "container.freeze", FreezeContainer, Nothing, public=False)
THAW = method(560, "container.thaw", ThawContainer, Nothing, public=False)
LEASE = method(570, "container.lease", SetLease, Nothing, public=False)
CLEAR = method(571, "container.clear", ClearNode, Nothing, public=False)
