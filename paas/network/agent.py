"""The networks of containers as one node's hub keeps them: its addresses, ways, far paths.

    cluster state ──> neighbours ──> ways of this node        (routes or tunnels: the kernel's part)
                 └──> components ──> far paths that must end
    resource.resolve ──> open: this end ──> the other node's hub: its end (controller/resources.py)

The container controller of the node does the work (`container.network_face`); here is what it
should have.  The loop of `run` compares the two and is woken by whatever may have changed: it never
depends on having seen an event.  A path has two ends, in the filters of two nodes, and carries
packets only while both are open; each node closes its end when the log says that the component at
the other end is not what it was: ended, begun anew, moved.  Until it has heard that, whoever gets
the address meets the other filter, which never knew of him.

It does not decide who may reach whom (`controller.resources`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentChanged, ComponentForgotten, ComponentPlaced
from paas.network import limits
from paas.network.messages import (
    ADMIT,
    FACTS,
    NEIGHBOURS,
    OPEN,
    PATHS,
    RENUMBER,
    SHUT,
    AdmitPath,
    FarPath,
    GetNetwork,
    ListPaths,
    Neighbour,
    NetworkChanged,
    OpenEnd,
    Renumber,
    SetNeighbours,
    ShutPaths,
)
from paas.network.state import ClaimNetwork, NetworkState
from paas.node.messages import NodeChanged
from paas.raft.machine import StateReplaced
from paas.wire.registry import Method, P, R


class Node(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...


class Nodes(Protocol):
    """The nodes of the cluster."""

    def nodes(self) -> Sequence[Node]: ...

    def get(self, name: str, /) -> Node | None: ...


class Instance(Protocol):
    node: str
    incarnation: int

    def is_over(self, incarnation: int, /) -> bool: ...


class Instances(Protocol):
    def get(self, component: str, /) -> Instance | None: ...


class Controller(Protocol):
    """The container controller of this node; `paas.container.client.ContainersClient`."""

    async def call(self, method: Method[P, R], params: P, *, timeout_s: float) -> R: ...


class NoController:
    """Where containers have no network."""

    async def call(self, method: Method[P, R], params: P, *, timeout_s: float) -> R:
        raise PlatformError("unsupported", "containers have no network here")


class Remote(Protocol):
    """Requests to the hubs of other nodes."""

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R: ...


class Log(Protocol):
    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...


class Network:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        state: NetworkState,
        nodes: Nodes,
        instances: Instances,
        controller: Controller,
        remote: Remote,
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self.node = node
        self._log = log
        self._state = state
        self._nodes = nodes
        self._instances = instances
        self._controller = controller
        self._remote = remote
        self._on_trouble = on_trouble
        self._connected = False
        self._loaded = False
        self._network = ""
        self._sent: SetNeighbours | None = None
        self._paths: dict[FarPath, None] = {}
        self._involved: dict[str, int] = {}  # component -> how many paths
        self._changed = trio.Event()
        self._working = trio.Lock()
        self._trouble = ""

    # -- what others tell ------------------------------------------------------------------------

    def containers_connected(self) -> None:
        """A (new) container controller answers: nothing is known of what it has."""
        self._connected, self._loaded, self._sent = True, False, None
        self._wake()

    def containers_lost(self) -> None:
        self._connected = False

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the log; called for every command, so it looks briefly."""
        for event in events:
            if isinstance(event, ComponentChanged | ComponentPlaced | ComponentForgotten):
                if event.component in self._involved:
                    self._wake()
            elif isinstance(event, NodeChanged | NetworkChanged | StateReplaced):
                self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- the loop --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the node's ways and paths as the cluster state wants them."""
        unsubscribe = self._log.subscribe(self.state_changed)
        try:
            task_status.started()
            while True:
                changed, wait_s = self._changed, math.inf
                if self._connected:
                    try:
                        await self._pass()
                        self._trouble = ""
                    except PlatformError as exc:
                        self._tell(exc)
                        wait_s = limits.RETRY_S
                with trio.move_on_after(wait_s):
                    await changed.wait()
        finally:
            unsubscribe()

    def _tell(self, exc: PlatformError) -> None:
        """A trouble is told when it begins, not each time."""
        if str(exc) != self._trouble:
            self._on_trouble("network.trouble", exc)
        self._trouble = str(exc)

    async def _pass(self) -> None:
        async with self._working:
            if not self._loaded:
                await self._load()
            await self._send_neighbours()
            stale = [path for path in self._paths if not self._holds(path)]
            if stale:
                await self._ask(SHUT, ShutPaths(paths=stale))
                for path in stale:
                    self._forget(path)

    async def _load(self) -> None:
        """What the container controller has; and claim its addresses."""
        facts = await self._ask(FACTS, GetNetwork())
        self._network = facts.network
        if self._state.network(self.node) != facts.network:
            granted = await self._claim(facts.network)
            if granted != facts.network:
                await self._ask(RENUMBER, Renumber(network=granted))
                self._network = granted
        for path in (await self._ask(PATHS, ListPaths())).paths:
            self._note(path)
        self._loaded = True

    async def _claim(self, network: str) -> str:
        command = ClaimNetwork(node=self.node, network=network)
        granted: str = (await self._log.propose(command, timeout_s=limits.CALL_TIMEOUT_S))[
            "network"
        ]
        return granted

    async def _send_neighbours(self) -> None:
        wanted = self._neighbours()
        if wanted != self._sent:
            await self._ask(NEIGHBOURS, wanted)
            self._sent = wanted

    def _neighbours(self) -> SetNeighbours:
        own = self._nodes.get(self.node)
        return SetNeighbours(
            address="" if own is None else host_of(own.address),
            neighbours=[
                Neighbour(node=node.name, network=network, address=host)
                for node in self._nodes.nodes()
                if node.name != self.node
                and (network := self._state.network(node.name))
                and (host := host_of(node.address))
            ],
        )

    async def _ask(self, method: Method[P, R], params: P) -> R:
        return await self._controller.call(method, params, timeout_s=limits.CALL_TIMEOUT_S)

    # -- paths -----------------------------------------------------------------------------------

    async def open(self, path: FarPath, endpoint: str, requirement: str) -> None:
        """Both ends of a path that begins here.  Raises what the other node says against it."""
        known = path in self._paths
        address = await self.admit(path)
        request = OpenEnd(
            source=path.component,
            source_incarnation=path.incarnation,
            address=address,
            target=path.peer,
            target_incarnation=path.peer_incarnation,
            endpoint=endpoint,
            requirement=requirement,
        )
        try:
            await self._open_other(path.peer_node, request)
        except PlatformError:
            if not known:
                await self._ask(SHUT, ShutPaths(paths=[path]))
                self._forget(path)
            raise

    async def _open_other(self, node: str, request: OpenEnd) -> None:
        """The other hub may be a moment behind in the log, which it answers as a `conflict`."""
        for attempt in range(limits.OPEN_ATTEMPTS):
            try:
                await self._remote.request(node, OPEN, request, limits.OPEN_TIMEOUT_S)
                return
            except PlatformError as exc:
                if exc.code != "conflict" or attempt + 1 == limits.OPEN_ATTEMPTS:
                    raise
            await trio.sleep(limits.OPEN_RETRY_S)

    async def admit(self, path: FarPath) -> str:
        """Open the end of this node; the address of the component here."""
        async with self._working:
            if path not in self._paths and len(self._paths) >= limits.FAR_PATHS_MAX:
                raise PlatformError(
                    "limit-exceeded", f"a node has {limits.FAR_PATHS_MAX} paths to other nodes"
                )
            if not self._loaded:
                await self._load()
            await self._send_neighbours()
            self._check(path)
            self._note(path)  # first, so that an unknown outcome is looked after
            admitted = await self._ask(ADMIT, AdmitPath(path=path))
        self._wake()  # it may have become stale meanwhile
        return admitted.address

    def _check(self, path: FarPath) -> None:
        """Raises `conflict` for ends that this node knows otherwise, or does not know yet."""
        if not self._holds(path):
            raise PlatformError(
                "conflict",
                f"{path.component[:8]} or {path.peer[:8]} is not where the path was to lead",
                hint="ask again: it may have moved",
            )

    def _holds(self, path: FarPath) -> bool:
        """Are both ends what they were when the path was opened, as far as this node knows?"""
        here = self._instances.get(path.component)
        there = self._instances.get(path.peer)
        if here is None or there is None:
            return False
        same = here.node == self.node and there.node == path.peer_node
        live = not here.is_over(path.incarnation) and not there.is_over(path.peer_incarnation)
        current = (here.incarnation, there.incarnation) == (path.incarnation, path.peer_incarnation)
        return same and live and current and self._belongs(path.peer_address, path.peer_node)

    def _belongs(self, address: str, node: str) -> bool:
        network = self._state.network(node)
        try:
            inside = ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network)
        except ValueError:
            return False
        return inside

    def _note(self, path: FarPath) -> None:
        if path not in self._paths:
            self._paths[path] = None
            for component in (path.component, path.peer):
                self._involved[component] = self._involved.get(component, 0) + 1

    def _forget(self, path: FarPath) -> None:
        if path in self._paths:
            del self._paths[path]
            for component in (path.component, path.peer):
                self._involved[component] -= 1
                if not self._involved[component]:
                    del self._involved[component]


def host_of(address: str) -> str:
    """The host of `host:port` if it is an IP address; others are no ways between nodes."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""
