"""A whole component controller in one process: real state, keepers and answers; fake node below.

    Api ── Controller ── FakeLog (real machine)
               ├──────── FakeContainers
               └──────── FakeHarnesses

`ControlledCluster` has several of them over one log, with the real sections "nodes" and "ring".
Nothing here draws by itself: entropy comes from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.controller.admission import node_view
from paas.controller.agent import Controller
from paas.controller.api import Api, Neighbours
from paas.controller.commands import RegisterType
from paas.controller.instances import Instance
from paas.controller.living_api import LivingApi
from paas.controller.ports import StartOrder
from paas.controller.state import ControllerState
from paas.gateway.state import GatewayState
from paas.harness.messages import Event
from paas.hub.ring_state import RingState
from paas.hub.state import GroupState
from paas.hub.watches import Watches
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode, DrainNode, LoseNode, NodeRegister, ReportNode
from paas.raft.machine import Section
from paas.rpc.dispatch import Context
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.scheduler.messages import NodeView
from paas.testing.fake_containers import Behaviour, FakeContainers
from paas.testing.fake_harnesses import FakeHarnesses
from paas.testing.fake_log import FakeLog
from paas.volume.state import VolumeState
from paas.wire.registry import Method, P, R

NODE = "n1"
BUNDLE = "sha256:" + "0" * 64
EPOCH_MS = 1_700_000_000_000


class TrioClock:
    """Wall time that goes with trio's clock, so that a mock clock moves both."""

    def now_ms(self) -> int:
        return EPOCH_MS + int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()


class SeededEntropy:
    """Entropy from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


class RecordingPeer:
    """A connected peer that keeps what it is told."""

    closed = False

    def __init__(self, component: str | None = None) -> None:
        self.info: dict[str, Any] = {} if component is None else {"component": component}
        self.events: list[Event] = []

    def notify(self, _method: Any, event: Event) -> None:
        self.events.append(event)


class LogLines:
    """The newest log lines, the same for every component."""

    def __init__(self) -> None:
        self.lines = ["Traceback", "KeyError: 'x'"]

    def tail(self, _component: str, count: int) -> list[str]:
        return self.lines[-count:]


def manifest(name: str = "greeter", version: str = "1.0.0", **supervision: Any) -> dict[str, Any]:
    """A small manifest."""
    return {
        "component": {"name": name, "version": version, "command": ["./run"]},
        "endpoints": {"http": {"protocol": "http"}},
        "supervision": supervision,
    }


class Common:
    """What the nodes of a cluster have in common: clock, log and state."""

    def __init__(self, commit_s: float, seed: int, *, several: bool) -> None:
        self.entropy = SeededEntropy(seed)
        self.clock = TrioClock()
        self.state = ControllerState()
        self.groups = GroupState()
        self.register = NodeRegister()
        self.ring = RingState() if several else None
        self.volumes = VolumeState()
        self.state.volumes = self.volumes
        self.gateway = GatewayState()
        sections: list[Section] = [self.state, self.groups, self.volumes, self.gateway]
        if self.ring is not None:
            sections += [self.register, self.ring]
        self.log = FakeLog(sections, self.clock, self.entropy, commit_s=commit_s)
        self.bundles = {BUNDLE}
        self.events: list[Any] = []
        self.log.subscribe(lambda _index, events: self.events.extend(events))
        self.by_name: dict[str, ControlledNode] = {}


class ControlledNode:
    """See the module's text.  `restart_controller` does what a restart of the hub does."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        commit_s: float = 0.004,
        seed: int = 0,
        name: str = NODE,
        common: Common | None = None,
    ) -> None:
        self.name = name
        self.now = Behaviour()
        """What components do that are started from now on."""
        self.by_incarnation: dict[int, Behaviour] = {}
        """What those of certain incarnations do instead."""
        self._nursery = nursery
        common = common or Common(commit_s, seed, several=False)
        common.by_name[name] = self
        self.common = common
        self.entropy, self.clock, self.log = common.entropy, common.clock, common.log
        self.state, self.groups = common.state, common.groups
        self.bundles, self.events = common.bundles, common.events
        self.view = self.log.view()
        """The log as this node has it: `cut_off` and `come_back` are there."""
        self.containers = FakeContainers(nursery, self._behaviour)
        self.harnesses = FakeHarnesses(nursery, self.containers)
        self.log_lines = LogLines()
        self.nodes = [NodeView(name=name)]
        self.bugs: list[Exception] = []
        self.troubles: list[str] = []
        self._scope = trio.CancelScope()
        self._make_controller()

    def _behaviour(self, order: StartOrder) -> Behaviour:
        return self.by_incarnation.get(order.incarnation, self.now)

    def _make_controller(self) -> None:
        self.watches = Watches()
        self.controller = Controller(
            node=self.name,
            state=self.state,
            log=self.view,
            containers=self.containers,
            harnesses=self.harnesses,
            watches=self.watches,
            clock=self.clock,
            entropy=self.entropy,
            on_started=lambda: None,
            on_trouble=lambda component, error: self.troubles.append(f"{component}: {error}"),
            on_bug=lambda _where, bug: self.bugs.append(bug),
            nodes=self._views,
            ring=self.common.ring,
        )
        self.api = Api(
            self.controller,
            Neighbours(
                nodes=self._views,
                groups_of=self.groups.groups_of,
                has_bundle=lambda digest: digest in self.bundles,
                log_tail=self.log_lines,
                cluster=lambda: "test",
                version="0",
                log_status=dict,
                hub_status=dict,
                remote=self if self.common.ring is not None else None,
                drain=self._drain if self.common.ring is not None else None,
                staleness=lambda: None if self.view.connected else 1.5,
            ),
        )

        remote = self if self.common.ring is not None else None
        self.living = LivingApi(self.controller, remote, self.log_lines)

    def _views(self) -> list[NodeView]:
        if self.common.ring is None:
            return self.nodes
        return [node_view(node) for node in self.common.register.nodes()]

    async def _drain(self, node: str) -> None:
        await self.view.propose(DrainNode(node=node, draining=True))

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        """`controller.ports.Remote`: the hub of another node answers."""
        other = self.common.by_name[node]
        await trio.lowlevel.checkpoint()
        if not (self.view.connected and other.view.connected):
            raise PlatformError("not-available", f"{node} cannot be reached")
        context = other.context(timeout_s=timeout_s)
        answer: Any
        if method.name in other.answers:
            peer = RecordingPeer()
            peer.info["roles"] = frozenset({"hub"})
            answer = await other.answers[method.name](params, other.context(peer, timeout_s))
        elif method.name == messages.FIGURES.name:
            answer = await other.api.figures(cast(messages.GetFigures, params), context)
        else:
            answer = await other.api.terminate_here(cast(messages.TerminateHere, params), context)
        return cast(R, answer)

    @property
    def answers(self) -> dict[str, Callable[[Any, Context], Any]]:
        """What other hubs ask about components that run here."""
        return {
            messages.RESIZE.name: self.living.resize,
            messages.FREEZE.name: self.living.freeze,
            messages.THAW.name: self.living.thaw,
        }

    async def start(self) -> None:
        """Run the controller, and connect it to the container controller and the harnesses."""
        await self._nursery.start(self._run)
        self.containers.listener = self.controller
        self.harnesses.listener = self.controller
        self.harnesses.attach_all()
        self.containers.come_up()

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self._scope = trio.CancelScope()
        with self._scope:
            await self.controller.run(task_status=task_status)

    async def stop_controller(self) -> None:
        """The hub process dies; containers, components and the container controller go on."""
        self.containers.listener = None
        self.harnesses.lose_hub()
        self._scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def restart_controller(self) -> None:
        """A new hub process: the state as read from a snapshot, nothing else known."""
        data = self.log.machine.snapshot_bytes()
        self.log.machine.restore_bytes(data)
        self._make_controller()
        await self.start()

    # -- what tests ask --------------------------------------------------------------------------

    def context(self, peer: Any = None, timeout_s: float = 30.0) -> Context:
        return Context(cast(Peer, peer or RecordingPeer()), Request(1, "test", b""), timeout_s)

    async def register(self, name: str = "greeter", **supervision: Any) -> str:
        plain = manifest(name, **supervision)
        command = RegisterType(bundle=BUNDLE, manifest=plain)
        result = await self.log.propose(command)
        return str(result["type"])

    async def create(self, type_name: str = "greeter", **fields: Any) -> list[str]:
        timeout_s = fields.pop("timeout_s", 30.0)
        params = msgspec.convert({"type": type_name, **fields}, messages.Create)
        created = await self.api.create(params, self.context(timeout_s=timeout_s))
        return created.components

    async def destroy(self, component: str, grace: float = 10.0) -> None:
        params = messages.Destroy(component=component, grace=grace)
        await self.api.destroy(params, self.context())

    def get(self, component: str) -> Instance:
        instance = self.state.instances.get(component)
        if instance is None:
            raise PlatformError("no-such-target", component)
        return instance

    def states(self, component: str) -> list[str]:
        """The states that were announced of it, in order."""
        changes = [e for e in self.events if isinstance(e, messages.ComponentChanged)]
        return [e.state for e in changes if e.component == component]

    def ends(self, component: str) -> list[messages.ComponentEnded]:
        """The ends that were announced of it, in order."""
        ends = [e for e in self.events if isinstance(e, messages.ComponentEnded)]
        return [e for e in ends if e.component == component]

    async def wait_state(self, component: str, *states: str, incarnation: int = 0) -> Instance:
        """Until it is in one of these states, in this incarnation or later."""
        with trio.fail_after(3_600):
            while True:
                instance = self.get(component)
                if instance.state in states and instance.incarnation >= incarnation:
                    return instance
                await self.controller.wait_change(component)


class ControlledCluster:
    """Several controlled nodes.  A node that is lost is cut off, and its fence has killed."""

    def __init__(
        self,
        nursery: trio.Nursery,
        names: Sequence[str] = ("n1", "n2", "n3"),
        *,
        commit_s: float = 0.004,
        seed: int = 0,
        memory_bytes: int = 1 << 30,
    ) -> None:
        self.common = Common(commit_s, seed, several=True)
        self.memory_bytes = memory_bytes
        self.nodes = {
            name: ControlledNode(nursery, name=name, common=self.common) for name in names
        }

    def __getitem__(self, name: str) -> ControlledNode:
        return self.nodes[name]

    @property
    def first(self) -> ControlledNode:
        """A node that can be asked: one that is not cut off."""
        return next(node for node in self.nodes.values() if node.view.connected)

    async def start(self) -> None:
        for name, node in self.nodes.items():
            await self.report(name)
            await node.start()

    async def report(self, name: str) -> None:
        """The node joins, and can be given components."""
        report = ReportNode(
            node=name, memory_bytes=self.memory_bytes, cpu=2.0, leased=True, cleared=True
        )
        await self.common.log.propose(report)
        await self.common.log.propose(ChangeNode(node=name, event=NodeEvent.READY))

    async def on_node(self, where: str, count: int = 1, **fields: Any) -> list[str]:
        """So many components on this very node of an empty cluster, that may go elsewhere."""
        made = await self.first.create(count=count * len(self.nodes), **fields)
        found = []
        for component in made:
            if self.first.get(component).node == where:
                found.append(component)
            else:
                await self.first.destroy(component)
        return found

    def cut_off(self, name: str) -> None:
        """Its hub hears of nothing, and when its lease is over its fence kills what it runs."""
        self[name].view.cut_off()
        self[name].containers.kill_all()

    async def declare_lost(self, name: str) -> None:
        node = self.common.register.get(name)
        epoch = 0 if node is None else node.epoch
        await self.common.log.propose(LoseNode(node=name, epoch=epoch, term=1))

    async def lose(self, name: str) -> None:
        self.cut_off(name)
        await self.declare_lost(name)

    async def come_back(self, name: str) -> None:
        """It is connected again, learns what it missed, and joins."""
        self[name].view.come_back()
        await self.report(name)

    def running(self) -> dict[str, list[str]]:
        """Component to the nodes on which a container of it runs."""
        found: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            for component in node.containers.running():
                found.setdefault(component, []).append(name)
        return found

    @property
    def bugs(self) -> list[Exception]:
        return [bug for node in self.nodes.values() for bug in node.bugs]
