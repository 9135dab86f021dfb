"""The hub's process: a hub (hub_core.py) with TLS, sockets, the container controller and disks.

harness.sock (harnesses)   api.sock (operators)   mesh (other hubs)
            └───────────────── one Dispatcher ────────┘
   HubCore · log store · bundle store ── ContainersClient ── containers.sock (mutual TLS)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio

from paas import __version__
from paas.assembly.container_port import ContainerNotices, ContainerPort
from paas.assembly.hub_core import POLICY, HubCore, HubPorts, States, authorise
from paas.assembly.process import Agent
from paas.assembly.transport import secure_transport
from paas.base.errors import PlatformError
from paas.base.supervisor import Child, Supervisor
from paas.bundle.store import BlobStore
from paas.container.client import ContainersClient
from paas.container.limits import UID_BASE_MIN
from paas.controller.bundles import Bundles
from paas.hub import limits
from paas.logs.agent import Logs
from paas.logs.far import FarLogs
from paas.logs.mailbox import LogMailbox
from paas.logs.store import LogStore
from paas.node.lifecycle import NodeEvent
from paas.node.settings import NodeSettings
from paas.node.state import ChangeNode, ReportNode
from paas.raft.log import ReplicatedLog
from paas.real.files import SystemFiles
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer
from paas.rpc.server import listen_unix, serve
from paas.rpc.transport import SecureTransport


class HubProcess:
    """Everything in the process, wired."""

    def __init__(
        self,
        agent: Agent,
        replicated: ReplicatedLog,
        states: States,
        transport: SecureTransport,
        nursery: trio.Nursery,
    ) -> None:
        start = agent.start
        self.agent = agent
        self.states = states
        self.node = NodeSettings(
            state=start.settings["state"], cluster=start.cluster, node=start.node
        )
        self.operators = frozenset(start.settings["operators"])
        self.client = ContainersClient(
            self.node.containers_socket,
            transport,
            agent.entropy,
            on_trouble=lambda text: agent.log.warning("containers.unreachable", error=text),
        )
        store = LogStore(SystemFiles(agent.directories["logs"]))
        self.core = HubCore(
            HubPorts(
                node=start.node,
                cluster=start.cluster,
                clock=agent.clock,
                entropy=agent.entropy,
                containers=ContainerPort(self.client, states.bundles, states.controller),
                log_tail=store,
                has_bundle=lambda digest: digest in states.bundles.bundles,
                trouble=agent.log,
                on_bug=agent.report_bug,
            ),
            replicated,
            states,
        )
        hub, directory = self.core.hub, self.core.directory
        self.client.listener = ContainerNotices(self.core.controller)
        self.far_logs = FarLogs(self.core.ports.links, hub.watches, nursery.start_soon)
        self.logs = Logs(store, directory, hub.watches, agent.clock, self.far_logs)
        self.mailbox = LogMailbox(self.logs)
        hub.records = self.mailbox
        blobs = BlobStore(Path(agent.directories["blobs"]))
        self.bundles = Bundles(blobs, states.bundles, self.core.log, directory)
        replicated.subscribe(self.bundles.state_changed)

    def register(self, dispatcher: Dispatcher) -> None:
        for part in (self.core, self.logs, self.bundles):
            part.register(dispatcher)

    async def report(self, command: ReportNode | ChangeNode) -> None:
        """Tell the cluster about this node; a full disk does not keep it from working."""
        try:
            await self.core.log.propose(command)
        except PlatformError as exc:
            self.agent.log.warning("node.not_reported", error=str(exc))

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

    def closed(self, peer: Peer) -> None:
        self.core.hub.connection_closed(peer)
        self.bundles.connection_closed(peer)
        self.far_logs.connection_closed(peer)


def _report(node: str) -> ReportNode:
    """What this machine has."""
    return ReportNode(
        node=node,
        memory_bytes=psutil.virtual_memory().total,
        cpu=float(psutil.cpu_count() or 1),
        version=__version__,
    )


async def body(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Recover the log, connect, open the sockets; ready when components can be created."""
    states = States()
    files = SystemFiles(agent.directories["hub"])
    files.lock()
    replicated = ReplicatedLog.open(
        files=files,
        clock=agent.clock,
        entropy=agent.entropy,
        machine=states.machine(),
        node=agent.start.node,
    )
    agent.teardown = replicated.close
    transport = await secure_transport(agent)
    async with trio.open_nursery() as nursery:
        process = HubProcess(agent, replicated, states, transport, nursery)
        agent.statistics = process.core.statistics
        dispatcher = Dispatcher(nursery, agent.clock, authorise=authorise, on_bug=agent.report_bug)
        process.register(dispatcher)
        check_policy(dispatcher.methods(), POLICY)
        await process.core.start(nursery)
        await process.report(_report(agent.start.node))
        process.bundles.collect()
        actors = Supervisor(
            "hub",
            [Child(name="logs", run=process.mailbox.actor.run)],
            jitter=agent.entropy.fraction,
        )
        await nursery.start(actors.run)
        nursery.start_soon(process.client.run)
        await nursery.start(_serve_harnesses(process, dispatcher))
        await nursery.start(_serve_operators(process, dispatcher))
        await process.client.wait_connected()
        await process.report(ChangeNode(node=agent.start.node, event=NodeEvent.READY))
        task_status.started()


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
