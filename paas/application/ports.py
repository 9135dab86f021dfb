"""What the application controller needs of others, and gets handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from paas.application.records import Application
from paas.application.specification import Role
from paas.application.state import ApplicationsState
from paas.base.errors import PlatformError
from paas.gateway.messages import Route


class Log(Protocol):
    """The replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        """Afterwards the state here is no older than the call."""
        ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...

    def applied(self) -> int: ...


class Ring(Protocol):
    """Who decides about what."""

    def primary(self, number: int, /) -> str | None: ...


class TypeFacts(msgspec.Struct, frozen=True):
    """What matters of a registered type."""

    full_name: str
    application: str
    has_volumes: bool


class Components(Protocol):
    """The component controller of this hub."""

    def type(self, name: str) -> TypeFacts:
        """By full name, or the newest of a bare name; raises `no-such-type`."""
        ...

    def check(self, role: Role) -> None:
        """Raises `invalid` with the field for what no component can be created with."""
        ...

    async def create(self, application: Application, role: Role, slot: int) -> str:
        """Order one member, once for each `birth_request`; its identifier."""
        ...

    async def end(self, component: str, grace_s: float) -> None:
        """Order its end, in order: those who send to it let go first."""
        ...

    def trouble(self, component: str) -> str:
        """Why it is on no node, or why it last ended; empty: nothing is wrong."""
        ...

    def available(self, group: str) -> int:
        """How many members of a group are available."""
        ...


class Routes(Protocol):
    """The routes of the cluster."""

    @property
    def revision(self) -> int:
        """Another number whenever some route is another."""
        ...

    def check(self, route: Route) -> Route:
        """In canonical form; raises `invalid` with the field `route.…`."""
        ...

    def of(self, application: str) -> Mapping[str, Route]:
        """Those of one application, by name."""
        ...

    async def set(self, route: Route) -> None: ...

    async def remove(self, name: str, application: str) -> None: ...


class Volumes(Protocol):
    """The volumes of the cluster."""

    def owned(self, names: Sequence[str]) -> frozenset[str]:
        """Which of these names have volumes."""
        ...

    async def remove(self, owner: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything of one hub that applications have to do with.  Without a ring it is alone."""

    node: str
    state: ApplicationsState
    log: Log
    components: Components
    routes: Routes
    volumes: Volumes
    ring: Ring | None
    jitter: Callable[[], float]
    """From [0, 1)."""
    on_trouble: Callable[[str, PlatformError], None]
    staleness: Callable[[], float | None] = lambda: None
