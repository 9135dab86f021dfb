"""What the component controller needs of its surroundings; the hub's process wires it.

All failures are PlatformErrors.  For containers:
  not-available, unavailable   nothing was asked of the container controller: it is away
  unknown-outcome, timeout     it was asked, and may have done it
  all others                   it was asked, answered, and nothing of a failed start is left running
`kill` and `destroy` of a container that does not exist succeed: they are repeated after a doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from paas.container.messages import Limits, VolumeMount
from paas.harness.messages import Event
from paas.rpc.peer import Peer
from paas.wire.registry import Method, P, R


class StartOrder(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to start one incarnation of a component."""

    component: str
    incarnation: int
    bundle: str
    command: tuple[str, ...]
    base: str
    protocol: str
    environment: dict[str, str]
    configuration: dict[str, Any]
    endpoints: dict[str, str]
    """Name to protocol; the container controller chooses the ports."""
    limits: Limits
    ready_timeout_s: float
    stop_grace_s: float
    hostname: str
    capabilities: tuple[str, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    egress: tuple[str, ...] = ()
    published: dict[str, int] = {}
    """Endpoint to port of the node."""
    directory: str = ""
    """Where the command begins; empty: where the bundle is."""
    backend: str = ""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A container runs.  `endpoints`: name to `{protocol, host, port}`."""

    uid_base: int
    pid: int
    address: str
    endpoints: dict[str, dict[str, Any]]
    timings_ms: dict[str, float] = {}


class ExitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Why a container is no more: kernel facts, and the harness's last word as `reason`."""

    component: str
    incarnation: int
    reason: str
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    time_ms: int = 0
    memory_limit: int = 0
    memory_peak: int = 0
    starved: str = ""
    """With `oom`: the bound and the most that was used, in bytes, and whom the kernel ended."""


class ContainerFact(msgspec.Struct, frozen=True, kw_only=True):
    """One container that the container controller has: it runs, or has ended with these facts."""

    component: str
    incarnation: int
    running: bool
    uid_base: int = 0
    pid: int = 0
    address: str = ""
    endpoints: dict[str, dict[str, Any]] = {}
    exit: ExitFacts | None = None
    frozen: bool = False
    limits: Limits | None = None
    """The bounds in force; None: not known."""


class Containers(Protocol):
    """The container controller of this node."""

    async def start(self, order: StartOrder) -> Started: ...

    async def kill(self, component: str) -> None: ...

    async def destroy(self, component: str) -> None:
        """Returns when nothing is left of it."""
        ...

    async def resize(self, component: str, wanted: Limits) -> None:
        """Returns when the bounds are in force; `conflict` when more is in use."""
        ...

    async def freeze(self, component: str) -> None:
        """Returns when nothing of the component moves; `timeout` when it cannot be stopped."""
        ...

    async def thaw(self, component: str) -> None:
        """It goes on; one that is not frozen is no error."""
        ...

    async def stats(self, components: list[str]) -> dict[str, dict[str, Any]]:
        """Component to figures, `memory_bytes` among them; who is gone is left out."""
        ...

    async def list(self) -> list[ContainerFact]: ...


class Harnesses(Protocol):
    """Requests to the harness of a component; `not-available` when it is not attached."""

    async def request(
        self, component: str, method: Method[P, R], params: P, timeout_s: float
    ) -> R: ...

    def attached(self, component: str) -> bool: ...


class Watches(Protocol):
    """Watches of all peers, by topic; a peer that goes takes its watches with it."""

    def open(self, peer: Peer, kind: str, key: str, detail: Any = None) -> int: ...

    def close(self, peer: Peer, number: int) -> None: ...

    def watchers(self, kind: str, key: str) -> Iterator[tuple[Peer, int, Any]]: ...

    def of_kind(self, kind: str) -> Iterator[tuple[str, Peer, int, Any]]: ...

    def emit(self, peer: Peer, number: int, event: Event) -> None: ...


class Ring(Protocol):
    """Who decides about the components of a virtual node, and since which index of the log."""

    def primary(self, virtual_node: int, /) -> str | None:
        """A node; empty or None while nobody decides."""
        ...

    def epoch(self, virtual_node: int, /) -> int: ...


class Remote(Protocol):
    """Requests to the hub of another node.

    `not-available` when it cannot be reached, `unknown-outcome` when the connection broke after it
    was asked.
    """

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R: ...


class LogTail(Protocol):
    """The newest log lines of a component, for errors that explain themselves."""

    def tail(self, component: str, count: int) -> list[str]: ...


class Log(Protocol):
    """The replicated log.  `propose` returns the result when it is applied here."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        """Returns how to stop it."""
        ...

    def applied(self) -> int: ...

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        """Afterwards the state here is no older than the call.  Raises `unavailable`."""
        ...
