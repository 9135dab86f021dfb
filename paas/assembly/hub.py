"""The hub's process: a hub (hub_core.py) with TLS, sockets, the container controller and disks.

harness.sock (harnesses)   api.sock (operators)   mesh (other hubs)
            └───────────────── one Dispatcher ────────┘
   HubCore · log store · bundle store ── ContainersClient ── containers.sock (mutual TLS)
"""

from __future__ import annotations

import gc
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio

from paas import __version__
from paas.assembly.address_book import AddressBook, NoMesh
from paas.assembly.base_port import BasePort
from paas.assembly.container_port import ContainerNotices, ContainerPort
from paas.assembly.directory import StateDirectory
from paas.assembly.disk_owner import claim
from paas.assembly.dns import DnsPart
from paas.assembly.entry_port import EntryDirectory, EntryPort
from paas.assembly.hub_core import (
    HEARTBEAT_S,
    POLICY,
    HubCore,
    HubPorts,
    Log,
    States,
    authoriser,
)
from paas.assembly.joining_face import POLICY as JOINING_POLICY
from paas.assembly.joining_face import JoiningFace
from paas.assembly.mesh_network import TcpMeshNetwork
from paas.assembly.peer_hints import PeerHints
from paas.assembly.process import Agent
from paas.assembly.remote_access import RemoteAccess
from paas.assembly.seeking import Seeker
from paas.assembly.snapshot_port import SnapshotPort
from paas.assembly.transport import secure_transport
from paas.assembly.volumes import VolumePort
from paas.base.errors import PlatformError
from paas.base.supervisor import Child, Supervisor
from paas.blob.agent import Attachments
from paas.blob.policy import POLICY as BLOB_POLICY
from paas.blob.store import AttachmentStore
from paas.bundle.digest import Digest
from paas.bundle.store import BlobStore
from paas.container.client import ContainersClient
from paas.container.limits import UID_BASE_MIN
from paas.controller.bundles import PEER_POLICY, Bundles
from paas.dns.policy import POLICY as DNS_POLICY
from paas.entry.agent import Entry
from paas.entry.policy import POLICY as ENTRY_POLICY
from paas.hub import limits
from paas.hub.access import POLICY as ACCESS_POLICY
from paas.hub.access import with_readers
from paas.hub.routes import NoLinks
from paas.layers import limits as layer_limits
from paas.layers.agent import Images
from paas.layers.policy import POLICY as IMAGE_POLICY
from paas.logs.agent import Logs
from paas.logs.far import FarLogs
from paas.logs.mailbox import LogMailbox
from paas.logs.store import LogStore
from paas.node.settings import NodeSettings
from paas.node.state import ReportNode
from paas.raft.log import ReplicatedLog
from paas.raft.recovery import open_or_return
from paas.raft.settings import RaftSettings
from paas.real.clock import BootClock
from paas.real.files import SystemFiles
from paas.real.kernel_namespaces import boot_id
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.envelope import Form
from paas.rpc.mesh import Mesh
from paas.rpc.peer import Peer
from paas.rpc.server import listen_unix, serve
from paas.rpc.streams import Streams
from paas.rpc.transport import SecureTransport

RULES = with_readers(
    {
        **POLICY,
        **JOINING_POLICY,
        **PEER_POLICY,
        **ACCESS_POLICY,
        **BLOB_POLICY,
        **ENTRY_POLICY,
        **DNS_POLICY,
        **IMAGE_POLICY,
    }
)


class HubProcess:
    """Everything in the process, wired."""

    def __init__(
        self,
        agent: Agent,
        replicated: ReplicatedLog,
        states: States,
        transport: SecureTransport,
        mesh: Mesh | None,
        hints: PeerHints,
        nursery: trio.Nursery,
    ) -> None:
        start = agent.start
        self.agent = agent
        self.states = states
        self.node = node_of(agent, hints)
        self.operators = frozenset(start.settings["operators"])
        self.client = ContainersClient(
            self.node.containers_socket,
            transport,
            agent.entropy,
            on_trouble=lambda text: agent.log.warning("containers.unreachable", error=text),
        )
        store = LogStore(SystemFiles(agent.directories["logs"]))
        self._keep_files(replicated, mesh)
        bases = self._keep_images(replicated, mesh)
        port = ContainerPort(self.client, states.bundles, states.controller, self.bundles, bases)
        self.core = HubCore(
            HubPorts(
                node=start.node,
                cluster=start.cluster,
                clock=agent.clock,
                entropy=agent.entropy,
                containers=port,
                log_tail=store,
                has_bundle=lambda digest: digest in states.bundles.bundles,
                trouble=agent.log,
                on_bug=agent.report_bug,
                fence=port,
                boottime=BootClock(),
                report=self._report,
                prepared=self.client.wait_connected,
                links=NoLinks() if mesh is None else mesh,
                network=self.client,
                volumes=VolumePort(self.client),
                snapshots=SnapshotPort(self.client),
                wall_ns=time.time_ns,
                trace_seed=agent.entropy.bytes(32),
                trace_rate=node_of(agent, hints).trace_rate,
                url=lambda: self.access.url,
            ),
            replicated,
            states,
        )
        hub, directory = self.core.hub, self.core.directory
        self.client.listener = ContainerNotices(
            self.core.controller, self.core.network, self.core.volumes.agent
        )
        self.far_logs = FarLogs(self.core.ports.links, hub.watches, nursery.start_soon)
        self.logs = Logs(store, directory, hub.watches, agent.clock, self.far_logs)
        self.mailbox = LogMailbox(self.logs)
        hub.records = self.mailbox
        replicated.subscribe(self.bundles.state_changed)
        self.entry = self._entry(nursery)
        self.joining = self._joining(replicated, transport, mesh)
        self.access = self._access()
        replicated.subscribe(self.access.state_changed)
        self.dns = self._names(replicated)
        hints.addresses = self.book.addresses
        replicated.subscribe(hints.state_changed)

    def _keep_files(self, replicated: ReplicatedLog, mesh: Mesh | None) -> None:
        """Bundles and attachments of this node."""
        agent, states, node = self.agent, self.states, self.node.node
        self._bundle_store = BlobStore(Path(agent.directories["blobs"]))
        self.bundles = Bundles(
            self._bundle_store,
            states.bundles,
            Log(replicated),
            StateDirectory(states.controller, states.groups),
            node=node,
            peers=mesh,
            settled=lambda: self.core.staleness() is None,
            on_trouble=lambda text: agent.log.warning("bundles.trouble", error=text),
        )
        self.attachments = Attachments(
            node,
            AttachmentStore(Path(agent.directories["blobs"]) / "attachments"),
            agent.entropy,
            peers=mesh,
            lives=lambda component: self.core.directory.state(component) != "destroyed",
            on_trouble=lambda text: agent.log.warning("attachments.trouble", error=text),
        )

    def _keep_images(self, replicated: ReplicatedLog, mesh: Mesh | None) -> BasePort:
        """Base layers of this node."""
        agent, states, bundles = self.agent, self.states, self._bundle_store
        bases = BasePort(self.client)

        async def bundle_piece(digest: str, offset: int, limit: int) -> tuple[bytes, int]:
            await self.bundles.ensure(digest)
            return await trio.to_thread.run_sync(bundles.piece, Digest(digest), offset, limit)

        self.images = bases.images = Images(
            BlobStore(
                Path(agent.directories["blobs"]) / "images",
                signed=False,
                uploads_max=layer_limits.UPLOADS_MAX,
            ),
            states.images,
            Log(replicated),
            StateDirectory(states.controller, states.groups),
            bases,
            bundle_piece=bundle_piece,
            node=self.node.node,
            peers=mesh,
            settled=lambda: self.core.staleness() is None,
            on_trouble=lambda text: agent.log.warning("images.trouble", error=text),
        )
        replicated.subscribe(self.images.state_changed)
        return bases

    def _entry(self, nursery: trio.Nursery) -> Entry:
        """People's ways into components."""
        log, self.streams = self.agent.log, Streams(nursery)
        return Entry(
            node=self.node.node,
            directory=EntryDirectory(self.states.controller, self.core.log),
            containers=EntryPort(self.client, self.streams),
            links=self.core.ports.links,
            streams=self.streams,
            nursery=nursery,
            entered=lambda component, what, who: log.info(
                "component.entered", component=component, what=what, who=who
            ),
        )

    def _joining(
        self, replicated: ReplicatedLog, transport: SecureTransport, mesh: Mesh | None
    ) -> JoiningFace:
        agent, node = self.agent, self.node
        self.book = AddressBook(node.node, mesh or NoMesh(), self.states.nodes, node.peers)
        self.book.update()
        replicated.subscribe(self.book.state_changed)
        self.seeker = Seeker(self.book, self.core.ports.links, self.core.staleness)
        if mesh is not None:
            mesh.subscribe(self._node_up, self._node_down)
        return JoiningFace(
            cluster=node.cluster,
            listen=node.join_listen,
            authority_socket=node.authority_socket,
            log=self.core.log,
            links=self.core.ports.links,
            register=self.states.nodes,
            tokens=self.states.tokens,
            book=self.book,
            own_address=(node.node, node.listen),
            clock=agent.clock,
            entropy=agent.entropy,
            logger=agent.log,
            identity=lambda: transport.identity,
        )

    def _names(self, replicated: ReplicatedLog) -> DnsPart:
        states = self.states
        return DnsPart(
            self.agent,
            self.node,
            controller=states.controller,
            groups=states.groups,
            nodes=states.nodes,
            state=states.dns,
            resources=self.core.resources,
            log=Log(replicated),
            files=SystemFiles(self.agent.directories["hub"]),
            url=lambda: self.access.url,
        )

    def _access(self) -> RemoteAccess:
        agent, node = self.agent, self.node
        return RemoteAccess(
            cluster=node.cluster,
            node=node.node,
            listen=node.api_address,
            authority_socket=node.authority_socket,
            tokens=self.states.access,
            log=self.core.log,
            files=SystemFiles(agent.directories["hub"]),
            clock=agent.clock,
            entropy=agent.entropy,
            logger=agent.log,
            sweeper=agent.sweeper,
            on_close=self.closed,
        )

    def _node_up(self, node: str, peer: Peer) -> None:
        self.far_logs.connected(node, peer)
        self._node_down(node)

    def _node_down(self, _node: str) -> None:
        self.bundles.nodes_changed()
        self.images.nodes_changed()

    def register(self, dispatcher: Dispatcher) -> None:
        parts = (self.core, self.logs, self.bundles, self.attachments, self.joining, self.access)
        for part in (*parts, self.entry, self.seeker, self.images, self.dns):
            part.register(dispatcher)
        self.bundles.register_peers(dispatcher)

    async def serve_outside(self, nursery: trio.Nursery, dispatcher: Dispatcher) -> None:
        """For who joins, for programs elsewhere, and for who asks for names."""
        await nursery.start(self.joining.run)
        await nursery.start(self.access.run, dispatcher)
        await nursery.start(self.dns.run)

    def _report(self) -> ReportNode:
        """What this machine has."""
        return ReportNode(
            node=self.node.node,
            memory_bytes=psutil.virtual_memory().total,
            cpu=float(psutil.cpu_count() or 1),
            version=__version__,
            address=self.node.listen,
            boot=boot_id(),
        )

    # -- connections -----------------------------------------------------------------------------

    def operator_opened(self, peer: Peer) -> None:
        """The operators' socket: peer credentials decide."""
        if peer.info["credentials"].uid not in self.operators:
            raise PlatformError(
                "denied", f"user {peer.info['credentials'].uid} is no operator of this cluster"
            )
        peer.info["roles"] = frozenset({"operator"})

    @staticmethod
    def harness_opened(peer: Peer) -> None:
        """A harness speaks for itself, and once it has said hello for its component.

        The socket is open to every user of the machine, since containers have users of their own;
        who is not one of those has no business here.
        """
        if peer.info["credentials"].uid < UID_BASE_MIN:
            raise PlatformError("denied", "only harnesses in containers connect here")
        peer.info["roles"] = frozenset({"harness"})

    async def teardown(self) -> None:
        """Before an orderly end: no program outside is cut off, and the log is handed over."""
        await self.access.drain()
        await self.core.replicated.close()

    def statistics(self) -> dict[str, Any]:
        return {
            **self.core.statistics(),
            "attachments": self.attachments.statistics(),
            "outside": self.access.statistics(),
            "streams": self.streams.statistics(),
            "names": self.dns.statistics(),
        }

    def closed(self, peer: Peer) -> None:
        self.core.hub.connection_closed(peer)
        self.bundles.connection_closed(peer)
        self.images.connection_closed(peer)
        self.far_logs.connection_closed(peer)


def node_of(agent: Agent, hints: PeerHints) -> NodeSettings:
    """The settings of the node that this agent is started for, with the addresses last known."""
    told = agent.start.settings
    return NodeSettings(
        state=told["state"],
        cluster=agent.start.cluster,
        node=agent.start.node,
        listen=told["listen"],
        join_listen=told["join_listen"],
        peers={**told["peers"], **hints.read()},
        joined=told["joined"],
        api_listen=told["api_listen"],
        trace_rate=told.get("trace_rate", 0.0),
        dns=told.get("dns", {}),
    )


async def body(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Recover the log, connect, open the sockets; ready when components can be created.

    One of several nodes is ready as soon as its sockets are open: it may be cut off from the
    others, and still has components to look after.
    """
    states = States()
    files = SystemFiles(agent.directories["hub"])
    files.lock()
    claim(files, cluster=agent.start.cluster, node=agent.start.node)
    transport = await secure_transport(agent)
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(
            nursery, agent.clock, authorise=authoriser(RULES), on_bug=agent.report_bug
        )
        hints = PeerHints(
            files, lambda exc: agent.log.warning("hub.peers_not_kept", error=str(exc))
        )
        node = node_of(agent, hints)
        mesh = _mesh(agent, node, transport, dispatcher) if node.listen else None
        replicated = open_or_return(
            others=mesh is not None and (node.joined or bool(node.peers)),
            on_damage=lambda exc: agent.log.error("hub.log_damaged", error=str(exc)),
            files=files,
            clock=agent.clock,
            entropy=agent.entropy,
            machine=states.machine(),
            node=node.node,
            join=node.joined,
            transport=None if mesh is None else mesh.raft(),
            settings=RaftSettings(heartbeat_s=HEARTBEAT_S),
        )
        agent.teardown = replicated.close
        process = HubProcess(agent, replicated, states, transport, mesh, hints, nursery)
        agent.statistics = process.statistics
        agent.teardown = process.teardown
        process.register(dispatcher)
        check_policy(dispatcher.methods(), RULES)
        if mesh is not None:
            await nursery.start(mesh.run)
        nursery.start_soon(process.client.run)
        await process.core.start(nursery)
        process.book.update()  # the log has been replayed, of which nobody was told
        hints.update()
        process.bundles.collect()
        process.images.collect()
        await nursery.start(process.images.run)
        if mesh is not None:
            nursery.start_soon(process.seeker.run)
            await nursery.start(process.bundles.run)
        actors = Supervisor(
            "hub",
            [Child(name="logs", run=process.mailbox.actor.run)],
            jitter=agent.entropy.fraction,
        )
        await nursery.start(actors.run)
        await nursery.start(process.attachments.run)
        await process.serve_outside(nursery, dispatcher)
        await nursery.start(_serve_harnesses(process, dispatcher))
        await nursery.start(_serve_operators(process, dispatcher))
        await process.client.wait_connected()
        if mesh is None:
            await process.core.presence.wait_ready()
        # The collector looks for rings, of which messages make none: seldom, and not in what stays.
        gc.freeze()
        gc.set_threshold(limits.COLLECT_AFTER, 10, 10)
        task_status.started()


def _mesh(
    agent: Agent, node: NodeSettings, transport: SecureTransport, dispatcher: Dispatcher
) -> Mesh:
    def on_trouble(where: str, text: str) -> None:
        agent.log.warning("mesh.trouble", where=where, error=text)

    network = TcpMeshNetwork(
        transport, listen=node.listen, clock=agent.clock, on_trouble=on_trouble
    )
    return Mesh(
        node=node.node,
        network=network,
        sweeper=agent.sweeper,
        entropy=agent.entropy,
        clock=agent.clock,
        on_request=dispatcher,
        on_trouble=on_trouble,
        cluster=node.cluster,
    )


def _serve_harnesses(process: HubProcess, dispatcher: Dispatcher) -> Any:
    return partial(
        serve,
        listen_unix(process.node.harness_socket, 0o666),
        dispatcher,
        process.agent.sweeper,
        form=Form.COMPACT,
        connections_max=limits.HARNESS_CONNECTIONS_MAX,
        on_open=process.harness_opened,
        on_close=process.closed,
    )


def _serve_operators(process: HubProcess, dispatcher: Dispatcher) -> Any:
    return partial(
        serve,
        listen_unix(process.node.api_socket, 0o666),
        dispatcher,
        process.agent.sweeper,
        connections_max=limits.OPERATOR_CONNECTIONS_MAX,
        on_open=process.operator_opened,
        on_close=process.closed,
    )
