"""The hub's process: replicated log, hub, component controller, log store, bundle store.

    journal ── ReplicatedLog ── Machine ── sections: controller, groups, bundles, nodes
                    │ events
       ┌────────────┼──────────────┐
      Hub       Controller      Watches           harness.sock (harnesses)   api.sock (operators)
                    │                                     └── one Dispatcher ──┘
              ContainersClient ── containers.sock (mutual TLS)

They share this process because they share state and connections (architecture §2); each is written
as if alone, and knows the others by protocols.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio

from paas import __version__
from paas.assembly.container_port import ContainerNotices, ContainerPort
from paas.assembly.directory import StateDirectory
from paas.assembly.process import Agent
from paas.assembly.transport import secure_transport
from paas.base.errors import PlatformError
from paas.base.supervisor import Child, Supervisor
from paas.bundle.state import BundleState
from paas.bundle.store import BlobStore
from paas.container.client import ContainersClient
from paas.container.limits import UID_BASE_MIN
from paas.controller.agent import Controller
from paas.controller.api import Api, Neighbours
from paas.controller.bundles import Bundles
from paas.controller.policy import POLICY as CONTROLLER_POLICY
from paas.controller.resources import Resources
from paas.controller.state import ControllerState
from paas.hub import limits
from paas.hub.agent import Hub
from paas.hub.policy import POLICY as HUB_POLICY
from paas.hub.state import GroupState
from paas.logs.agent import Logs
from paas.logs.mailbox import LogMailbox
from paas.logs.store import LogStore
from paas.node.lifecycle import NodeEvent, NodeState
from paas.node.settings import NodeSettings
from paas.node.state import ChangeNode, Node, NodeRegister, ReportNode
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.real.files import SystemFiles
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.envelope import Form
from paas.rpc.peer import Peer
from paas.rpc.server import listen_unix, serve
from paas.scheduler.messages import NodeView

POLICY = {**HUB_POLICY, **CONTROLLER_POLICY}


class Log:
    """The replicated log as the hub and the controller want it."""

    def __init__(self, log: ReplicatedLog) -> None:
        self._log = log
        self.subscribe = log.subscribe

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        return await self._log.propose(command, timeout_s=timeout_s)

    def applied(self) -> int:
        index: int = self._log.status()["applied"]
        return index


class HubProcess:
    """Everything in the process, wired."""

    def __init__(self, agent: Agent, replicated: ReplicatedLog, states: States) -> None:
        start = agent.start
        self.agent = agent
        self.replicated = replicated
        self.states = states
        self.node = NodeSettings(
            state=start.settings["state"], cluster=start.cluster, node=start.node
        )
        self.operators = frozenset(start.settings["operators"])
        self.directory = StateDirectory(states.controller, states.groups)
        log = Log(replicated)
        self.hub = Hub(
            node=start.node,
            log=log,
            groups=states.groups,
            directory=self.directory,
            clock=agent.clock,
            uid_of=self._uid_of,
        )
        store = LogStore(SystemFiles(agent.directories["logs"]))
        self.logs = Logs(store, self.directory, self.hub.watches, agent.clock)
        self.mailbox = LogMailbox(self.logs)
        self.blobs = BlobStore(Path(agent.directories["blobs"]))
        self.bundles = Bundles(self.blobs, states.bundles, log, self.directory)
        self._log = log
        self.controller: Controller | None = None
        self.client: ContainersClient | None = None

    def _uid_of(self, component: str) -> int | None:
        return self.controller.uid_of(component) if self.controller is not None else None

    async def connect(self) -> tuple[Api, Resources]:
        """Get a certificate, and put the controller on the connection that it allows."""
        agent = self.agent
        transport = await secure_transport(agent)

        def on_trouble(component: str, error: PlatformError) -> None:
            agent.log.warning("controller.trouble", component=component, error=str(error))

        self.client = ContainersClient(
            self.node.containers_socket,
            transport,
            agent.entropy,
            on_trouble=lambda text: agent.log.warning("containers.unreachable", error=text),
        )
        port = ContainerPort(self.client, self.states.bundles, self.states.controller)
        self.controller = Controller(
            node=agent.start.node,
            state=self.states.controller,
            log=self._log,
            containers=port,
            harnesses=self.hub,
            watches=self.hub.watches,
            clock=agent.clock,
            entropy=agent.entropy,
            on_started=self.hub.wake,
            on_trouble=on_trouble,
            on_bug=agent.report_bug,
        )
        self.client.listener = ContainerNotices(self.controller)
        self.hub.listener = self.controller
        self.hub.records = self.mailbox
        self.replicated.subscribe(self.hub.state_changed)
        self.replicated.subscribe(self.bundles.state_changed)
        resources = Resources(self.states.controller, self.states.groups, port)
        return Api(self.controller, self._neighbours()), resources

    def _neighbours(self) -> Neighbours:
        return Neighbours(
            nodes=lambda: [_view(node) for node in self.states.nodes.nodes()],
            groups_of=self.states.groups.groups_of,
            has_bundle=lambda digest: digest in self.states.bundles.bundles,
            log_tail=self.logs.store,
            cluster=lambda: self.agent.start.cluster,
            version=__version__,
            log_status=self.replicated.status,
            hub_status=self.hub.statistics,
        )

    async def report(self, command: ReportNode | ChangeNode) -> None:
        """Tell the cluster about this node; a full disk does not keep it from working."""
        try:
            await self._log.propose(command)
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
        self.hub.connection_closed(peer)
        self.bundles.connection_closed(peer)

    @staticmethod
    def authorise(peer: Peer, method: str) -> None:
        rule = POLICY.get(method)
        if rule is None:
            return  # no such method: the dispatcher says so
        roles = peer.info["roles"]
        if "component" in peer.info:
            roles = roles | {"component"}
        if not rule.roles & roles:
            wanted = " or ".join(sorted(rule.roles))
            raise PlatformError("denied", f"{method} is for the role {wanted}", missing=wanted)

    def statistics(self) -> dict[str, Any]:
        return {"hub": self.hub.statistics(), "log": self.replicated.status()}


class States:
    """The sections of the cluster state."""

    def __init__(self) -> None:
        self.controller = ControllerState()
        self.groups = GroupState()
        self.bundles = BundleState()
        self.nodes = NodeRegister()

    def machine(self) -> Machine:
        return Machine([self.controller, self.groups, self.bundles, self.nodes])


def _view(node: Node) -> NodeView:
    """A node as the scheduler wants it.  One that starts again may be given work already."""
    return NodeView(
        name=node.name,
        memory_bytes=node.memory_bytes,
        cpu=node.cpu,
        disk_bytes=node.disk_bytes,
        online=node.state in (NodeState.INITIALIZING, NodeState.AVAILABLE, NodeState.UNAVAILABLE),
        cordoned=node.state is NodeState.UNAVAILABLE,
    )


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
    process = HubProcess(agent, replicated, states)
    agent.statistics = process.statistics
    agent.teardown = replicated.close
    async with trio.open_nursery() as nursery:
        api, resources = await process.connect()
        await nursery.start(replicated.run)
        await process.report(_report(agent.start.node))
        process.bundles.collect()
        dispatcher = Dispatcher(
            nursery, agent.clock, authorise=process.authorise, on_bug=agent.report_bug
        )
        for part in (process.hub, process.logs, process.bundles, api, resources):
            part.register(dispatcher)
        check_policy(dispatcher.methods(), POLICY)
        assert process.controller is not None
        assert process.client is not None
        actors = Supervisor(
            "hub",
            [Child(name="logs", run=process.mailbox.actor.run)],
            jitter=agent.entropy.fraction,
        )
        await nursery.start(actors.run)
        await nursery.start(process.controller.run)
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
