"""The component controller's port to the container controller, on the reconnecting client.

Translates between the two vocabularies: an order by digest becomes one with signature and trusted
keys; addresses of endpoints get back the protocol that the manifest gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from paas.assembly.base_port import BasePort
from paas.base.errors import PlatformError
from paas.bundle.state import BundleState
from paas.container import methods
from paas.container.client import ContainersClient
from paas.container.messages import Exited, Limits
from paas.controller import limits, ports
from paas.controller.agent import Controller
from paas.controller.state import ControllerState
from paas.network.agent import Network
from paas.volume.agent import VolumeAgent

CALL_TIMEOUT_S = 30.0
STATS_TIMEOUT_S = 5.0

Addresses = dict[str, tuple[str, int]]


class BundleSource(Protocol):
    """Where bundles come from that are not on this node: `controller.bundles.Bundles`."""

    async def ensure(self, digest: str, *, doubt: bool = False) -> None:
        """Return when it is in this node's store; with `doubt`, undamaged."""
        ...


class ContainerPort:
    """Implements `controller.ports.Containers`, `controller.resources.Paths` and
    `node.presence.Fence`.
    """

    def __init__(
        self,
        client: ContainersClient,
        bundles: BundleState,
        state: ControllerState,
        source: BundleSource | None = None,
        bases: BasePort | None = None,
    ) -> None:
        self._client = client
        self._bundles = bundles
        self._state = state
        self._source = source
        self._bases = bases

    async def start(self, order: ports.StartOrder) -> ports.Started:
        """With its bundle on this node; one that is damaged here is fetched anew, once."""
        if self._source is None:
            return await self._start(order)
        await self._source.ensure(order.bundle)
        try:
            return await self._start(order)
        except PlatformError as exc:
            if exc.code != "corrupt":
                raise
        await self._source.ensure(order.bundle, doubt=True)
        return await self._start(order)

    async def _start(self, order: ports.StartOrder) -> ports.Started:
        if self._bases is not None:
            order = await self._bases.prepared(order)
        started = await self._client.call(
            methods.START,
            methods.StartContainer(
                component=order.component,
                incarnation=order.incarnation,
                bundle=order.bundle,
                signature=self._bundles.bundle(order.bundle).signature,
                publishers=[p.public_key for p in self._bundles.publishers.values()],
                command=list(order.command),
                base=order.base,
                protocol=order.protocol,  # type: ignore[arg-type]  # checked by the manifest
                environment=order.environment,
                configuration=order.configuration,
                endpoints=order.endpoints,
                limits=order.limits,
                ready_timeout_s=order.ready_timeout_s,
                hostname=order.hostname,
                directory=order.directory,
                volumes=list(order.volumes),
                capabilities=list(order.capabilities),
                egress=list(order.egress),
                published=order.published,
                backend=order.backend,  # type: ignore[arg-type]  # checked by the manifest
            ),
            timeout_s=limits.START_TIMEOUT_S,
        )
        return ports.Started(
            uid_base=started.uid_base,
            pid=started.pid,
            address=started.address,
            endpoints=_endpoints(started.endpoints, order.endpoints, started.address6),
            timings_ms=started.timings_ms,
        )

    async def extend(self, deadline_s: float | None) -> None:
        """Components may run until then (CLOCK_BOOTTIME; None: for ever); in force on return."""
        await self._client.lease(deadline_s)

    async def clear(self) -> None:
        """Kill whatever runs on this node; returns when nothing does."""
        await self._client.clear()

    async def kill(self, component: str) -> None:
        await self._client.call(
            methods.KILL, methods.KillContainer(component=component), timeout_s=CALL_TIMEOUT_S
        )

    async def destroy(self, component: str) -> None:
        await self._client.call(
            methods.DESTROY, methods.DestroyContainer(component=component), timeout_s=CALL_TIMEOUT_S
        )

    async def resize(self, component: str, wanted: Limits) -> None:
        await self._client.call(
            methods.RESIZE,
            methods.ResizeContainer(component=component, limits=wanted),
            timeout_s=CALL_TIMEOUT_S,
        )

    async def freeze(self, component: str) -> None:
        await self._client.call(
            methods.FREEZE, methods.FreezeContainer(component=component), timeout_s=CALL_TIMEOUT_S
        )

    async def thaw(self, component: str) -> None:
        await self._client.call(
            methods.THAW, methods.ThawContainer(component=component), timeout_s=CALL_TIMEOUT_S
        )

    async def list(self) -> list[ports.ContainerFact]:
        answer = await self._client.call(
            methods.LIST, methods.ListContainers(), timeout_s=CALL_TIMEOUT_S
        )
        return [
            ports.ContainerFact(
                component=line.component,
                incarnation=line.incarnation,
                running=line.running,
                uid_base=line.uid_base,
                pid=line.pid,
                address=line.address,
                endpoints=_endpoints(
                    line.endpoints, self._protocols(line.component), line.address6
                ),
                exit=None if line.exited is None else exit_facts(line.exited),
                frozen=line.frozen,
                limits=line.limits,
            )
            for line in answer.containers
        ]

    def _protocols(self, component: str) -> dict[str, str]:
        instance = self._state.instances.get(component)
        if instance is None:
            return {}
        manifest = self._state.types.manifest(self._state.types.resolve(instance.type))
        return {name: endpoint.protocol for name, endpoint in manifest.endpoints.items()}

    async def stats(self, components: Sequence[str]) -> dict[str, dict[str, Any]]:
        answer = await self._client.call(
            methods.STATS, methods.GetStats(components=[*components]), timeout_s=STATS_TIMEOUT_S
        )
        return {
            component: {**figures, "memory_bytes": int(figures["memory"])}
            for component, figures in answer.stats.items()
        }

    async def grant(self, source: str, target: str, port: int) -> None:
        await self._client.call(
            methods.GRANT,
            methods.OpenPath(source=source, target=target, port=port),
            timeout_s=CALL_TIMEOUT_S,
        )


class ContainerNotices:
    """Implements `container.client.ContainerListener`: passes notices on."""

    def __init__(self, controller: Controller, network: Network, volumes: VolumeAgent) -> None:
        self._controller = controller
        self._network = network
        self._volumes = volumes

    def containers_connected(self) -> None:
        self._controller.containers_connected()
        self._network.containers_connected()
        self._volumes.containers_connected()

    def containers_lost(self) -> None:
        self._controller.containers_lost()
        self._network.containers_lost()

    def container_exited(self, notice: methods.ContainerExited) -> None:
        self._controller.container_exited(exit_facts(notice.exited))


def exit_facts(exited: Exited) -> ports.ExitFacts:
    return ports.ExitFacts(
        component=exited.component,
        incarnation=exited.incarnation,
        reason=exited.reason,
        code=exited.code,
        signal=exited.signal,
        oom=exited.out_of_memory,
        time_ms=exited.time_ms,
        memory_limit=exited.memory_limit_bytes,
        memory_peak=exited.memory_peak_bytes,
        starved=exited.starved,
    )


def _endpoints(
    addresses: Addresses, protocols: dict[str, str], address6: str
) -> dict[str, dict[str, Any]]:
    also = {"host6": address6} if address6 else {}
    return {
        name: {"protocol": protocols.get(name, "tcp"), "host": host, "port": port, **also}
        for name, (host, port) in addresses.items()
    }
