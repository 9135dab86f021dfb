"""The contract of a hook, what a hook is given, and the ports it may use.

Starting a container runs `prepare` of every hook in order; whatever fails, and whenever a container
is destroyed, `destroy` of every hook runs in reverse order.

    prepare   makes what the hook's name says and notes it in the context; before anything outside
              the process is made that could stay behind, the record of it is saved
    destroy   removes it, knowing only the record: after a restart of the controller there is
              nothing else; works without `prepare`, and a second time; returns when it is gone

An error in one `destroy` does not stop the others; all are told together, and the destruction can
be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paas.container.journal import Record
from paas.container.messages import ContainerSpec
from paas.container.plan import Base, Files, LaunchOrder, LaunchVolume


class WritableLayer(Protocol):
    """A writable layer that no container has mounted yet."""

    @property
    def files(self) -> Files:
        """What the launch is told of it."""
        ...

    @property
    def device(self) -> str:
        """The block device that it is on; empty: on none of its own."""
        ...

    def release(self) -> None:
        """Forget it: mounted, it stays for its mount; otherwise it is gone."""
        ...


class AttachedVolumes(Protocol):
    """Persistent volumes that no container has mounted yet."""

    @property
    def volumes(self) -> tuple[LaunchVolume, ...]: ...

    def release(self) -> None:
        """Forget them: mounted, they stay for their mounts; otherwise nobody has them."""
        ...


class Network(Protocol):
    """A network namespace with its link and address."""

    @property
    def fd(self) -> int: ...
    @property
    def link(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def gateway(self) -> str: ...
    @property
    def address6(self) -> str:
        """Empty: it has no IPv6."""
        ...

    def release(self) -> None:
        """Close the descriptor: a namespace that nobody has entered is gone then."""
        ...


class Process(Protocol):
    """Pid 1 of a container, waiting for the word to go."""

    @property
    def pid(self) -> int: ...
    @property
    def numbers(self) -> list[int]:
        """Of it and of what the back end needs besides, as long as they are held."""
        ...

    @property
    def start_ticks(self) -> int: ...
    @property
    def timings_ms(self) -> Mapping[str, float]: ...

    async def go(self) -> None: ...

    async def end(self) -> None:
        """Kill it, and with it everything in its container; return when it has ended."""
        ...


@dataclass(slots=True)
class Context:
    """One container on its way up or down."""

    record: Record
    save: Callable[[Record], None]
    """Put this record in the journal and in the context."""
    spec: ContainerSpec | None = None
    base: Base | None = None
    directory: str = ""
    layer: WritableLayer | None = None
    """Only one on a device of its own, until the container has mounted it."""
    files: Files = field(default_factory=Files)
    volumes: AttachedVolumes | None = None
    network: Network | None = None
    process: Process | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    def wanted(self) -> ContainerSpec:
        """The specification; only `prepare` may ask for it."""
        if self.spec is None:
            raise AssertionError("a container that is being removed has no specification")
        return self.spec


class Hook(Protocol):
    """One step of a container's preparation, and its reverse."""

    name: str

    async def prepare(self, context: Context) -> None: ...

    async def destroy(self, context: Context) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFiles:
    """What a container's files are made from."""

    component: str
    directory: str
    """The container's own directory on the host; it exists."""
    base: Base
    bundle_dir: str
    disk_bytes: int


class Layers(Protocol):
    async def take(self, wanted: WantedFiles) -> WritableLayer:
        """A writable layer, empty or (after a rollback) with the content of a snapshot."""
        ...

    def order_token(self, component: str) -> str:
        """Names the order to go back to a snapshot that `take` follows now; empty: none."""
        ...

    def fulfilled(self, component: str, token: str) -> None:
        """A container with the files of that order has run."""
        ...

    async def drop(self, directory: str) -> None:
        """Remove what of a container's files has a name; nothing there is no error."""
        ...


class Directories(Protocol):
    async def make(self, path: str) -> None: ...

    async def require(self, field: str, path: str) -> None:
        """Raise `invalid` naming the field unless this is a directory."""
        ...

    async def remove(self, path: str) -> None:
        """Remove it with all that is in it; nothing there is no error."""
        ...


class Groups(Protocol):
    async def create(self, spec: ContainerSpec) -> None: ...

    async def limit_io(self, component: str, device: str, bytes_per_s: int) -> None:
        """Bound the component's reading and its writing of this block device, each."""
        ...

    async def remove(self, component: str) -> None: ...

    def entrances(self, component: str, leaf: str) -> Sequence[str]: ...


class Networks(Protocol):
    async def take(self) -> Network: ...

    async def remove(self, link: str, address: str) -> None: ...


class PacketFilter(Protocol):
    async def forget(self, link: str, address: str) -> None: ...


class Ranges(Protocol):
    def take(self) -> int: ...

    def give_back(self, first: int) -> None: ...


class Launcher(Protocol):
    async def launch(self, order: LaunchOrder, network_fd: int) -> Process: ...

    async def end(self, component: str, process: Process | None) -> None:
        """Kill everything in the container and return when it is gone."""
        ...


class FailHook:
    """For tests: the hook `inner`, which fails once at one point of one phase."""

    def __init__(self, inner: Hook, phase: str) -> None:
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {PHASES}")
        self.name = inner.name
        self._inner = inner
        self._phase = phase
        self.failures = 0

    async def prepare(self, context: Context) -> None:
        self._fail("prepare, before")
        await self._inner.prepare(context)
        self._fail("prepare, after")

    async def destroy(self, context: Context) -> None:
        self._fail("destroy, before")
        await self._inner.destroy(context)
        self._fail("destroy, after")

    def _fail(self, point: str) -> None:
        if point == self._phase and not self.failures:
            self.failures += 1
            raise InjectedFailure(f"{self.name}: {point}")


PHASES = ("prepare, before", "prepare, after", "destroy, before", "destroy, after")


class InjectedFailure(Exception):
    """What a FailHook raises."""
