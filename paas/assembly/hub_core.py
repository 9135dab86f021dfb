"""A hub as such: everything that decides and routes on one node, over ports.

    journal ── ReplicatedLog ── Machine ── sections: controller, groups, nodes, ring, …
                    │ events                        │
       ┌────────────┼──────────────┬────────────────┴──────┐
      Hub       Controller      Watches      Presence, Membership keeper
       │            │                                      │
      mesh      containers                               fence

The real process (hub.py) gives it TLS, sockets, the container controller and disks; the simulation
gives it virtual time, a network and disks in memory, and containers that are entries in a table.
What runs is the same.  The parts share this process because they share state and connections
(architecture §2); each is written as if alone, and knows the others by protocols.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import trio
from msgspec.structs import replace

from paas import __version__
from paas.application.policy import POLICY as APPLICATION_POLICY
from paas.application.state import ApplicationsState
from paas.assembly.applications import ApplicationPart
from paas.assembly.directory import StateDirectory
from paas.assembly.remotes import Remotes
from paas.assembly.volumes import VolumePart
from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.bundle.state import BundleState
from paas.certificates.join_state import JoinTokenState
from paas.controller.admission import node_view
from paas.controller.agent import Controller
from paas.controller.api import Api, Neighbours
from paas.controller.commands import AcknowledgeDeparture
from paas.controller.living_api import LivingApi
from paas.controller.policy import POLICY as CONTROLLER_POLICY
from paas.controller.ports import Containers, LogTail
from paas.controller.resources import Paths, Resources
from paas.controller.snapshot_api import POLICY as SNAPSHOT_POLICY
from paas.controller.snapshot_api import KeptFiles, NoKeptFiles, SnapshotApi
from paas.controller.state import ControllerState
from paas.dns.state import DnsState
from paas.gateway.agent import Gateways
from paas.gateway.grants import RouteGrants
from paas.gateway.policy import POLICY as GATEWAY_POLICY
from paas.gateway.state import GatewayState
from paas.gateway.table import Surroundings as RouteSurroundings
from paas.hub.access_state import AccessTokenState
from paas.hub.agent import Hub
from paas.hub.attributes import AttributeState
from paas.hub.history import History
from paas.hub.mailbox import MailboxState
from paas.hub.mailbox_api import POLICY as MAILBOX_POLICY
from paas.hub.mailbox_api import MailboxPart
from paas.hub.mailbox_keeper import Surroundings
from paas.hub.policy import POLICY as HUB_POLICY
from paas.hub.ring_state import RingState
from paas.hub.routes import Links, NoLinks
from paas.hub.state import GroupState
from paas.hub.traces import Traces
from paas.layers.state import ImageState
from paas.network.agent import Controller as NetworkController
from paas.network.agent import Network, NoController
from paas.network.policy import POLICY as NETWORK_POLICY
from paas.network.state import NetworkState
from paas.node.api import Facts, NodesApi
from paas.node.membership_keeper import MembershipKeeper
from paas.node.policy import POLICY as NODE_POLICY
from paas.node.presence import Fence, Presence
from paas.node.state import DrainNode, NodeRegister, ReportNode
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.rpc.dispatch import Authorise, Dispatcher, Rule
from paas.rpc.peer import Peer
from paas.scheduler.messages import NodeView
from paas.volume.client import Files, NoFiles
from paas.volume.policy import POLICY as VOLUME_POLICY
from paas.volume.state import VolumeState

POLICY = {
    **HUB_POLICY,
    **MAILBOX_POLICY,
    **CONTROLLER_POLICY,
    **NODE_POLICY,
    **NETWORK_POLICY,
    **VOLUME_POLICY,
    **SNAPSHOT_POLICY,
    **GATEWAY_POLICY,
    **APPLICATION_POLICY,
}

HEARTBEAT_S = 0.13
"""A leader's; as seldom as elections allow (raft.settings), since idle nodes do little else."""

STALE_AFTER_S = 2.0
"""What a replica says is marked as stale when it has not heard a leader for so long."""

NO_LEADER_PATIENCE_S = 3.0
"""A change waits so long for a leader that was missing already when it came."""

ANSWER_MARGIN_S = 0.5
"""The log's answer comes at least so long before the deadline of who asked."""


class Trouble(Protocol):
    """Where a hub says what went wrong around it."""

    def warning(self, event: str, /, **fields: Any) -> None: ...


class ContainerPorts(Containers, Paths, Protocol):
    """The node's container controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPorts:
    """The world of one hub."""

    node: str
    cluster: str
    clock: Clock
    entropy: Entropy
    containers: ContainerPorts
    log_tail: LogTail
    has_bundle: Callable[[str], bool]
    trouble: Trouble
    on_bug: Callable[[str, Exception], None]
    fence: Fence
    boottime: Clock
    """Its `monotonic_s` goes on while the machine sleeps, as the fence's."""

    report: Callable[[], ReportNode]
    prepared: Callable[[], Awaitable[None]]
    links: Links = field(default_factory=NoLinks)
    network: NetworkController = field(default_factory=NoController)
    """The node's container controller, as far as networks are concerned."""

    volumes: Files = field(default_factory=NoFiles)
    """The same, for the files of volumes."""

    snapshots: KeptFiles = field(default_factory=NoKeptFiles)
    """The same, for snapshots of components' files."""

    url: Callable[[], str] = lambda: ""
    """Where programs outside are answered; empty where they are not."""

    wall_ns: Callable[[], int] | None = None
    """Finer wall time than the clock's, for spans."""

    trace_seed: bytes = b""
    trace_rate: float = 0.0
    """See `hub.traces`."""


class States:
    """The sections of the cluster state."""

    def __init__(self) -> None:
        self.controller = ControllerState()
        self.groups = GroupState()
        self.bundles = BundleState()
        self.nodes = NodeRegister()
        self.ring = RingState()
        self.tokens = JoinTokenState()
        self.attributes = AttributeState()
        self.history = History(self.groups.groups_of)
        self.mailboxes = MailboxState()
        self.access = AccessTokenState()
        self.images = ImageState()
        self.volumes = VolumeState()
        self.controller.volumes = self.volumes
        self.network = NetworkState()
        self.dns = DnsState()
        self.gateway = GatewayState()
        self.applications = ApplicationsState()

    def machine(self) -> Machine:
        return Machine(
            [
                self.nodes,
                self.ring,
                self.controller,
                self.groups,
                self.attributes,
                self.history,
                self.bundles,
                self.tokens,
                self.mailboxes,
                self.access,
                self.images,
                self.volumes,
                self.network,
                self.dns,
                self.gateway,
                self.applications,
            ]
        )


def _traces(ports: HubPorts) -> Traces:
    clock = ports.clock
    return Traces(
        node=ports.node,
        now_ns=ports.wall_ns or (lambda: clock.now_ms() * 1_000_000),
        seed=ports.trace_seed or ports.node.encode(),
        links=ports.links,
        rate=ports.trace_rate,
    )


def stale(log: ReplicatedLog) -> float | None:
    """For how long, in seconds, this replica has heard no leader, if that is too long."""
    age_s = log.last_contact_s
    if age_s is None:
        return STALE_AFTER_S
    return age_s if age_s > STALE_AFTER_S else None


class Log:
    """The replicated log as the hub and the controller want it."""

    def __init__(self, log: ReplicatedLog) -> None:
        self._log = log
        self.subscribe = log.subscribe
        self.status = log.status

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        """What the log says comes before the time of whoever asked is over; and soon, when there
        has been no leader for a while (a minority refuses changes, it does not make wait)."""
        return await self._log.propose(command, timeout_s=self._patience_s(timeout_s))

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        """Afterwards the state here is no older than the call.  Raises `unavailable`."""
        await self._log.barrier(timeout_s=self._patience_s(timeout_s))

    def _patience_s(self, timeout_s: float) -> float:
        timeout_s -= min(ANSWER_MARGIN_S, timeout_s / 10)
        return timeout_s if stale(self._log) is None else min(timeout_s, NO_LEADER_PATIENCE_S)

    def applied(self) -> int:
        index: int = self._log.status()["applied"]
        return index


class HubCore:
    """See the module's text."""

    def __init__(self, ports: HubPorts, replicated: ReplicatedLog, states: States) -> None:
        self.ports = ports
        self.replicated = replicated
        self.states = states
        self.log = Log(replicated)
        self.directory = StateDirectory(states.controller, states.groups)
        self.presence = Presence(
            node=ports.node,
            log=replicated,
            register=states.nodes,
            links=ports.links,
            fence=ports.fence,
            clock=ports.boottime,
            report=ports.report,
            prepared=ports.prepared,
            on_trouble=self._on_presence_trouble,
        )
        self.members = MembershipKeeper(
            node=ports.node,
            log=replicated,
            register=states.nodes,
            on_change=lambda text: ports.trouble.warning("node.member_changed", text=text),
            on_trouble=self._on_presence_trouble,
        )
        self.hub = Hub(
            node=ports.node,
            log=self.log,
            groups=states.groups,
            attributes=states.attributes,
            history=states.history,
            directory=self.directory,
            clock=ports.clock,
            uid_of=self._uid_of,
            links=ports.links,
            may_run=lambda: self.presence.valid,
            staleness=self.staleness,
            traces=_traces(ports),
            types=self.directory,
        )
        self.controller = self._controller()
        self.hub.listener = self.controller
        self.mailboxes = self._mailboxes()
        self.hub.router.postman = self.mailboxes.postman
        self.hub.router.claims = self.mailboxes.claims
        board = self.hub.routing.board
        board.parts["mailboxes"] = self.mailboxes.statistics
        board.usage = ports.containers.stats
        board.nodes = lambda: [node.name for node in states.nodes.nodes()]
        self.api = Api(self.controller, self._neighbours())
        self.network = self._networks()
        self.snapshots = SnapshotApi(
            self.controller, Remotes(ports.links), ports.snapshots, ports.clock
        )
        self.living = LivingApi(self.controller, Remotes(ports.links), ports.log_tail)
        self.hub.router.frozen = states.controller.living.frozen
        self._give_ways()
        self.nodes_api = NodesApi(states.nodes, self.log, self._facts())
        self.volumes = VolumePart(
            node=ports.node,
            state=states.volumes,
            controller=states.controller,
            log=self.log,
            files=ports.volumes,
            links=ports.links,
            nodes=self._node_views,
            on_trouble=lambda owner, error: ports.trouble.warning(
                "volume.trouble", owner=owner, error=str(error)
            ),
        )

    def _controller(self) -> Controller:
        ports, states = self.ports, self.states
        return Controller(
            node=ports.node,
            state=states.controller,
            log=self.log,
            containers=ports.containers,
            harnesses=self.hub,
            watches=self.hub.watches,
            clock=ports.clock,
            entropy=ports.entropy,
            on_started=self.hub.wake,
            on_trouble=self._on_trouble,
            on_bug=ports.on_bug,
            nodes=self._node_views,
            ring=states.ring,
        )

    def _networks(self) -> Network:
        ports, states = self.ports, self.states
        return Network(
            node=ports.node,
            log=self.log,
            state=states.network,
            nodes=states.nodes,
            instances=states.controller.instances,
            controller=ports.network,
            remote=Remotes(ports.links),
            on_trouble=self._on_presence_trouble,
        )

    def _give_ways(self) -> None:
        """Ways between components: by manifests, and by routes of gateways."""
        states = self.states
        self.resources = Resources(
            states.controller, states.groups, self.ports.containers, self.network, states.gateway
        )
        self.gateways = self._gateways()
        self.applications = self._applications()

    def _applications(self) -> ApplicationPart:
        ports, states = self.ports, self.states
        return ApplicationPart(
            node=ports.node,
            state=states.applications,
            controller=states.controller,
            api=self.api,
            groups=states.groups,
            gateway=states.gateway,
            volumes=states.volumes,
            ring=states.ring,
            log=self.log,
            jitter=ports.entropy.fraction,
            on_trouble=lambda name, error: ports.trouble.warning(
                "application.trouble", application=name, error=str(error)
            ),
            staleness=self.staleness,
        )

    def _gateways(self) -> Gateways:
        ports, states, hub = self.ports, self.states, self.hub
        hub.router.leaving = states.controller.departures.leaving
        if hub.authorisation is not None:
            hub.authorisation.grants = RouteGrants(states.gateway, states.controller, states.groups)
        return Gateways(
            RouteSurroundings(states.gateway, states.controller, states.groups, states.attributes),
            states.groups,
            log=self.log,
            watches=hub.watches,
            paths=self.resources,
            clock=ports.clock,
            acknowledge=self._acknowledge,
            on_trouble=lambda component, error: ports.trouble.warning(
                "gateway.path", component=component, error=str(error)
            ),
        )

    async def _acknowledge(
        self, component: str, incarnation: int, gateway: str, timeout_s: float
    ) -> None:
        command = AcknowledgeDeparture(
            component=component, incarnation=incarnation, gateway=gateway
        )
        await self.log.propose(command, timeout_s=timeout_s)

    def _mailboxes(self) -> MailboxPart:
        ports, states = self.ports, self.states
        return MailboxPart(
            Surroundings(
                node=ports.node,
                state=states.mailboxes,
                log=self.log,
                deliveries=self.hub.router,
                may_run=lambda: self.presence.valid,
                on_trouble=lambda group, error: ports.trouble.warning(
                    "mailbox.trouble", group=group, error=str(error)
                ),
            ),
            states.groups,
            states.ring,
            on_bug=ports.on_bug,
            staleness=self.staleness,
        )

    def _uid_of(self, component: str) -> int | None:
        return self.controller.uid_of(component)

    def _on_trouble(self, component: str, error: PlatformError) -> None:
        self.ports.trouble.warning("controller.trouble", component=component, error=str(error))

    def _on_presence_trouble(self, key: str, error: PlatformError) -> None:
        self.ports.trouble.warning(key, error=str(error))

    def staleness(self) -> float | None:
        """For how long, in seconds, no leader was heard; None when that is usual."""
        return stale(self.replicated)

    def _node_views(self) -> list[NodeView]:
        views = [node_view(node) for node in self.states.nodes.nodes()]
        images = tuple(self.states.images.images)
        if not images:
            return views
        # Whatever node a component comes to fetches the layers that it lacks.
        return [replace(view, bases=(*view.bases, *images)) for view in views]

    async def _drain(self, node: str) -> None:
        await self.log.propose(DrainNode(node=node, draining=True))

    def _facts(self) -> Facts:
        shares = self.states.ring.shares
        return Facts(
            components=self.states.controller.placed_on,
            virtual_nodes=lambda node: shares().get(node, 0),
            lease_age_s=self.presence.lease_age_s,
            behind=self._behind,
            staleness=self.staleness,
            refusal=self.members.refusal,
            change=lambda: self.members.change,
        )

    def _behind(self, node: str) -> int | None:
        follower = self.replicated.followers().get(node)
        if follower is None:
            return None
        last: int = self.replicated.status()["last_index"]
        return max(0, last - follower.match_index)

    def _neighbours(self) -> Neighbours:
        return Neighbours(
            nodes=self._node_views,
            groups_of=self.states.groups.groups_of,
            has_bundle=self.ports.has_bundle,
            log_tail=self.ports.log_tail,
            cluster=lambda: self.ports.cluster,
            version=__version__,
            log_status=self.replicated.status,
            hub_status=self.hub.statistics,
            remote=Remotes(self.ports.links),
            staleness=self.staleness,
            drain=self._drain,
            url=self.ports.url,
        )

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handlers of all parts on a dispatcher."""
        for part in (self.hub, self.api, self.resources, self.presence, self.nodes_api):
            part.register(dispatcher)
        self.mailboxes.register(dispatcher)
        self.volumes.register(dispatcher)
        self.living.register(dispatcher)
        self.snapshots.register(dispatcher)
        self.gateways.register(dispatcher)
        self.applications.register(dispatcher)

    async def start(self, nursery: trio.Nursery) -> None:
        """Drive the log and keep the components of this node; the log has recovered then."""
        self.replicated.subscribe(self.hub.state_changed)
        self.replicated.subscribe(self.volumes.agent.state_changed)
        self.replicated.subscribe(self.snapshots.state_changed)
        self.replicated.subscribe(self.gateways.state_changed)
        self.states.history.begin(self.replicated.status()["applied"])
        self.ports.links.subscribe(self.hub.node_up, self.hub.node_down)
        nursery.start_soon(self.hub.run)
        await nursery.start(self.replicated.run)
        await nursery.start(self.hub.routing.board.run)
        await nursery.start(self.controller.run)
        await nursery.start(self.presence.run)
        await nursery.start(self.mailboxes.run)
        await nursery.start(self.members.run)
        await nursery.start(self.volumes.run)
        await nursery.start(self.network.run)
        await nursery.start(self.gateways.run)
        await nursery.start(self.applications.run)
        nursery.start_soon(self.snapshots.run)

    def statistics(self) -> dict[str, Any]:
        return {
            "hub": self.hub.statistics(),
            "mailboxes": self.mailboxes.statistics(),
            "applications": self.applications.statistics(),
            "log": self.replicated.status(),
        }


def authoriser(policy: Mapping[str, Rule]) -> Authorise:
    """May a peer call a method?  Raises `denied`.  `check_policy` holds that all have rules."""

    def authorise(peer: Peer, method: str) -> None:
        rule = policy.get(method)
        if rule is None:
            return  # not answered here, since what is has a rule: the dispatcher says so
        roles = peer.info["roles"]
        if "component" in peer.info:
            roles = roles | {"component"}
        if not rule.roles & roles:
            wanted = " or ".join(sorted(rule.roles))
            raise PlatformError("denied", f"{method} is for the role {wanted}", missing=wanted)

    return authorise
