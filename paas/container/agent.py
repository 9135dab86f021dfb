"""The container controller's face: methods of `container.*` on the engine, notices to the hub.

A bundle is verified and unpacked here, by the process that will mount it: the hub's word about what
is signed is not enough.  Exits are announced to every connected hub; one that was away finds them
in the list, until it has the container destroyed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.container import messages, methods
from paas.container.policy import POLICY
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing


class ContainerPaths(Protocol):
    """What the agent needs of `paas.container.grants.Grants`."""

    async def grant(self, source: str, target: str, port: int, protocol: str = "tcp") -> None: ...

    async def revoke(self, source: str, target: str, port: int, protocol: str = "tcp") -> None: ...


class ContainerEngine(Protocol):
    """What the agent needs of `paas.container.engine.Engine`."""

    async def start(self, spec: messages.ContainerSpec) -> messages.Started: ...

    async def kill(self, component: str) -> None: ...

    async def destroy(self, component: str) -> None: ...

    def list(self) -> list[messages.ContainerInfo]: ...

    async def stats(self, component: str) -> messages.Stats: ...

    @property
    def paths(self) -> ContainerPaths: ...

    async def lease(self, deadline_s: float | None) -> None: ...

    async def clear(self) -> None: ...


Unpack = Callable[[str, str, str, list[str]], Awaitable[str]]
"""(component, digest, signature, publishers) → directory of the verified, unpacked bundle."""

Release = Callable[[str], None]
"""The unpacked bundle of this component's container is not in use any more."""


class ContainerAgent:
    """Handlers of `container.*`."""

    def __init__(
        self, engine: ContainerEngine, *, hub_directory: str, unpack: Unpack, release: Release
    ) -> None:
        self._engine = engine
        self._hub_directory = hub_directory
        self._unpack = unpack
        self._release = release
        self._peers: set[Peer] = set()

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(methods.START, self._start)
        dispatcher.task(methods.KILL, self._kill)
        dispatcher.task(methods.DESTROY, self._destroy)
        dispatcher.plain(methods.LIST, self._list)
        dispatcher.task(methods.STATS, self._stats)
        dispatcher.task(methods.GRANT, self._grant)
        dispatcher.task(methods.REVOKE, self._revoke)
        dispatcher.task(methods.LEASE, self._lease)
        dispatcher.task(methods.CLEAR, self._clear)

    @staticmethod
    def authorise(peer: Peer, method: str) -> None:
        rule = POLICY.get(method)
        if rule is not None and peer.info["role"] not in rule.roles:
            wanted = " or ".join(sorted(rule.roles))
            raise PlatformError("denied", f"{method} needs the role {wanted}")

    def peer_opened(self, peer: Peer) -> None:
        self._peers.add(peer)

    def peer_closed(self, peer: Peer) -> None:
        self._peers.discard(peer)

    def container_exited(self, exited: messages.Exited) -> None:
        """The engine's callback: tell every hub that is there."""
        notice = methods.ContainerExited(exited=exited)
        for peer in self._peers:
            peer.notify(methods.EXITED, notice)

    # -- methods ---------------------------------------------------------------------------------

    async def _start(
        self, order: methods.StartContainer, _context: Context
    ) -> methods.StartedContainer:
        directory = await self._unpack(
            order.component, order.bundle, order.signature, order.publishers
        )
        spec = messages.ContainerSpec(
            component=order.component,
            incarnation=order.incarnation,
            command=tuple(order.command),
            bundle_dir=directory,
            hub_dir=self._hub_directory,
            base=order.base,
            protocol=order.protocol,
            environment=order.environment,
            configuration=order.configuration,
            endpoints=order.endpoints,
            limits=order.limits,
            ready_timeout_s=order.ready_timeout_s,
            hostname=order.hostname,
            directory=order.directory,
            volumes=tuple(order.volumes),
            capabilities=tuple(order.capabilities),
            egress=tuple(order.egress),
            published=order.published,
            backend=order.backend,
        )
        # Once begun it is finished or undone, whatever becomes of the asker.
        with trio.CancelScope(shield=True):
            try:
                started = await self._engine.start(spec)
            except PlatformError:
                self._release(order.component)
                raise
        return methods.StartedContainer(
            pid=started.pid,
            uid_base=started.uid_base,
            address=started.address,
            endpoints=started.endpoints,
            timings_ms=started.timings_ms,
            address6=started.address6,
        )

    async def _kill(self, params: methods.KillContainer, _context: Context) -> Nothing:
        await self._engine.kill(params.component)
        return Nothing()

    async def _destroy(self, params: methods.DestroyContainer, _context: Context) -> Nothing:
        with trio.CancelScope(shield=True):
            await self._engine.destroy(params.component)
        self._release(params.component)
        return Nothing()

    def _list(self, _params: methods.ListContainers, _context: Context) -> methods.ContainerLines:
        return methods.ContainerLines(containers=[_line(i) for i in self._engine.list()])

    async def _stats(self, params: methods.GetStats, _context: Context) -> methods.StatsResult:
        found: dict[str, dict[str, float]] = {}
        for component in params.components:
            try:
                stats = await self._engine.stats(component)
            except PlatformError:
                continue  # it has gone since it was listed
            found[component] = {
                "memory": stats.memory_bytes,
                "memory_peak": stats.memory_peak_bytes,
                "memory_limit": stats.memory_limit_bytes,
                "cpu_ms": stats.cpu_ms,
                "throttled_ms": stats.throttled_ms,
                "pids": stats.pids,
                "harness_pss": stats.harness_pss_bytes,
                "io_read": stats.io_read_bytes,
                "io_write": stats.io_write_bytes,
                "network_received": stats.network_received_bytes,
                "network_sent": stats.network_sent_bytes,
                "disk": stats.disk_bytes,
                "disk_inodes": stats.disk_inodes,
                "frozen": float(stats.frozen),
                # Absent where the kernel does not count it.
                **{f"pressure_{name}": value for name, value in (stats.pressure or {}).items()},
            }
        return methods.StatsResult(stats=found)

    async def _grant(self, params: methods.OpenPath, _context: Context) -> Nothing:
        await self._engine.paths.grant(params.source, params.target, params.port)
        return Nothing()

    async def _revoke(self, params: methods.ClosePath, _context: Context) -> Nothing:
        await self._engine.paths.revoke(params.source, params.target, params.port)
        return Nothing()

    async def _lease(self, params: methods.SetLease, _context: Context) -> Nothing:
        await self._engine.lease(params.deadline_s)
        return Nothing()

    async def _clear(self, _params: methods.ClearNode, _context: Context) -> Nothing:
        await self._engine.clear()
        return Nothing()


def _line(info: messages.ContainerInfo) -> methods.ContainerLine:
    return methods.ContainerLine(
        component=info.component,
        incarnation=info.incarnation,
        running=info.exited is None and info.pid is not None,
        uid_base=info.uid_base or 0,
        pid=info.pid or 0,
        address=info.address or "",
        endpoints=info.endpoints,
        exited=info.exited,
        frozen=info.frozen,
        limits=info.limits,
        address6=info.address6,
    )
