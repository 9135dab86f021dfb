"""A simulated machine: power, disk, clock, kernel; a hub and a container controller come and go.

    Machine ── Kernel (containers, fence)          outlives the agents
       ├── HubLife: HubCore on ReplicatedLog, mesh, door for harnesses, way to the containers
       └── ContainerController

The node controller's part is played here: an agent that died is started again after a moment, for
ever.  A crash is the end of a process between any two of its steps; where it happens inside an
operation of the disk, the disk keeps what it had until then, and after a power cut less than that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import trio

from paas.assembly.address_book import AddressBook
from paas.assembly.hub_core import POLICY, HubCore, HubPorts, States, authoriser
from paas.assembly.seeking import Seeker
from paas.base.errors import PlatformError
from paas.node.state import ReportNode
from paas.raft.journal import JournalFailed
from paas.raft.log import ReplicatedLog
from paas.raft.settings import RaftSettings
from paas.rpc.connection import Connection as RpcConnection
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Form
from paas.rpc.link import PeerCredentials
from paas.rpc.peer import Peer
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.platform.clocks import NodeClock
from paas.sim.platform.components import Component
from paas.sim.platform.containers import ContainerController, ContainersPort, Session
from paas.sim.platform.kernel import Kernel
from paas.sim.platform.links import LocalLink, SimSweeper, feed
from paas.sim.platform.mesh import SimMesh
from paas.sim.platform.network import Network
from paas.sim.platform.process import Process
from paas.sim.platform.volume_port import VolumesPort
from paas.sim.platform.world import World

LOCAL_S = 0.0002
"""One way over a local socket."""


class Crash(BaseException):
    """A process, or its machine, ends here.  No handler in between may go on."""

    def __init__(self, *, power: bool) -> None:
        super().__init__()
        self.power = power


class Watcher(Protocol):
    """Who looks at what hubs do, from outside."""

    def booting(self, machine: Machine, states: States, entropy: SimEntropy) -> Any:
        """The machine (state machine) of a new life, watched."""
        ...

    def booted(self, machine: Machine, life: HubLife) -> None: ...

    def bug(self, where: str, error: BaseException) -> None: ...


class NoLogs:
    """Simulated components write no logs."""

    def tail(self, _component: str, _count: int) -> list[str]:
        return []


class Trouble:
    """Where a hub says what goes wrong around it: into the story."""

    def __init__(self, world: World, node: str) -> None:
        self._world = world
        self._node = node

    def warning(self, event: str, /, **fields: Any) -> None:
        self._world.count(f"trouble-{event}")


class HubLife:
    """One life of the hub's process."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.world = machine.world
        self.process = Process(machine.world, f"{machine.name}/hub")
        self.states = States()
        self.port = ContainersPort(self.process)
        self.sweeper = SimSweeper(self.process)
        self.core: HubCore
        self.mesh: SimMesh
        self.replicated: ReplicatedLog
        self.dispatcher: Dispatcher
        self.listening = False
        self._peers: dict[Peer, None] = {}

    # -- the process -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is killed; raises what ends it by itself."""
        machine, world = self.machine, self.world
        async with trio.open_nursery() as nursery:
            self.dispatcher = Dispatcher(
                nursery, machine.clock, authorise=authoriser(POLICY), on_bug=self._on_bug
            )
            self.mesh = SimMesh(
                machine.network, self.process, machine.name, self.sweeper, self.dispatcher
            )
            entropy = SimEntropy(world.random.getrandbits(64))
            self.replicated = ReplicatedLog.open(
                files=machine.disk,
                clock=machine.clock,
                entropy=entropy,
                machine=machine.watcher.booting(machine, self.states, entropy),
                node=machine.name,
                join=machine.joins,
                transport=self.mesh.raft(),
                settings=machine.settings,
            )
            self.replicated._in_thread = self._disk_work  # type: ignore[method-assign]
            self.core = HubCore(self._ports(entropy), self.replicated, self.states)
            self.port.listener = self.core.controller
            self.port.on_connected = self._compare_volumes
            book = AddressBook(machine.name, self.mesh, self.states.nodes, machine.told)
            book.update()
            self.replicated.subscribe(book.state_changed)
            seeker = Seeker(book, self.mesh, self.core.staleness)
            seeker.register(self.dispatcher)
            self.core.register(self.dispatcher)
            machine.watcher.booted(machine, self)
            machine.network.join(self.mesh)
            await self.core.start(nursery)
            nursery.start_soon(seeker.run)
            book.update()  # the log has been replayed, of which nobody was told
            machine.hub_is_up(self)

    def _compare_volumes(self) -> None:
        """The container controller answers; without files there is nothing to compare."""
        files = self.machine.kernel.files
        if files.whole or files.incoming:
            self.core.volumes.agent.containers_connected()

    async def _disk_work(self, work: Callable[[], Any]) -> Any:
        delay_s = self.machine.disk_s
        if delay_s:
            await trio.sleep(self.world.random.random() * delay_s)
        return work()

    def _ports(self, entropy: SimEntropy) -> HubPorts:
        machine = self.machine
        return HubPorts(
            node=machine.name,
            cluster="simulated",
            clock=machine.clock,
            entropy=entropy,
            containers=self.port,
            log_tail=NoLogs(),
            has_bundle=lambda digest: True,
            trouble=Trouble(self.world, machine.name),
            on_bug=self._on_bug,
            fence=self.port,
            boottime=machine.clock,
            report=machine.report,
            prepared=self.port.prepared,
            links=self.mesh,
            volumes=VolumesPort(self.port),
        )

    def _on_bug(self, where: str, error: Exception) -> None:
        if self.process.alive:
            self.machine.watcher.bug(f"{self.machine.name}: {where}", error)

    # -- connections -----------------------------------------------------------------------------

    def connect(
        self, roles: frozenset[str], uid: int, pid: int, deliver: Callable[[bytes], None]
    ) -> Peer:
        """A local socket; `deliver` gets what the hub says."""
        link = LocalLink(self.process, LOCAL_S, deliver)
        peer = Peer(
            link,
            RpcConnection(Form.COMPACT),
            self.sweeper,
            self.dispatcher,
            on_close=self._closed,
        )
        peer.info.update(credentials=PeerCredentials(pid, uid, uid), roles=roles)
        self._peers[peer] = None
        return peer

    def _closed(self, peer: Any) -> None:
        self._peers.pop(peer, None)
        self.core.hub.connection_closed(peer)

    def die(self, *, power: bool) -> None:
        """At once.  Its sockets are closed by the kernel, if there still is one."""
        if not self.process.alive:
            return
        self.process.kill()
        self.listening = False
        if hasattr(self, "mesh"):
            self.machine.network.leave(self.mesh, power=power)
        session = self.port.session
        if session is not None:
            session.open = False
            session.controller.session = None
        for peer in list(self._peers):
            link = peer.link
            link.close()


class Machine:
    """See the module's text."""

    def __init__(
        self,
        world: World,
        network: Network,
        watcher: Watcher,
        nursery: trio.Nursery,
        *,
        name: str,
        clock: NodeClock,
        settings: RaftSettings,
        told: dict[str, str],
        joins: bool,
        memory_bytes: int,
        kernel: Callable[[Machine], Kernel],
    ) -> None:
        self.world = world
        self.network = network
        self.watcher = watcher
        self.name = name
        self.clock = clock
        self.settings = settings
        self.told = told
        self.joins = joins
        self.memory_bytes = memory_bytes
        self.disk = SimDisk()
        self.disk_s = 0.0
        self.kernel = kernel(self)
        self.kernel.powered = False
        self.hub: HubLife | None = None
        self.containers: ContainerController | None = None
        self.expected = not joins
        """The cluster knows that it will come; before, it is not switched on."""
        self.removed = False
        """It is no node of the cluster any more, and does not start again."""
        self.restart_s: Callable[[], float] = lambda: 0.3
        self.lives = 0
        self.start_fault = ""
        """The code of the error that starts of containers end with; empty: none."""
        self._nursery = nursery

    @property
    def address(self) -> str:
        return f"{self.name}:7400"

    @property
    def belongs(self) -> bool:
        """Is it a node of the cluster?"""
        return self.expected and not self.removed

    def report(self) -> ReportNode:
        return ReportNode(
            node=self.name,
            memory_bytes=self.memory_bytes,
            cpu=64.0,
            disk_bytes=1 << 40,
            version="simulated",
            address=self.address,
            boot=f"{self.name}/{self.kernel.boots}",
        )

    # -- power -----------------------------------------------------------------------------------

    def power_on(self) -> None:
        if self.kernel.powered or not self.belongs:
            return
        self.world.record(f"{self.name} power on")
        self.kernel.power_on()
        self.start_containers()
        self._start_hub_later()

    def power_off(self) -> None:
        """Everything ends; what the disk had not written may be gone."""
        if not self.kernel.powered:
            return
        self.world.record(f"{self.name} power off")
        self.kernel.power_off()
        containers, self.containers = self.containers, None
        if containers is not None:
            containers.die()
        if self.hub is not None:
            self._kill_hub(power=True)
        else:
            self._settle_disk(power=True)

    def hasten(self) -> None:
        """What is down starts now, if the machine belongs to the cluster."""
        self.restart_s = lambda: 0.3
        if self.kernel.powered:
            self.start_containers()
            self._start_hub_later()
        else:
            self.power_on()

    # -- the container controller ----------------------------------------------------------------

    def start_containers(self) -> None:
        if self.containers is None and self.kernel.powered:
            self.containers = ContainerController(self.world, self.kernel)
            self.containers.start_fault = self._fault
            self._meet_later()

    def _fault(self) -> PlatformError | None:
        return PlatformError(self.start_fault, "simulated") if self.start_fault else None

    def crash_containers(self) -> bool:
        containers, self.containers = self.containers, None
        if containers is None:
            return False
        self.world.record(f"{self.name} containers crash")
        containers.die()
        self.world.after(self.restart_s(), self.start_containers)
        return True

    def _meet_later(self) -> None:
        self.world.after(0.005 + self.world.random.random() * 0.1, self._meet)

    def _meet(self) -> None:
        """Hub and container controller connect."""
        hub, containers = self.hub, self.containers
        if hub is None or containers is None or not hub.listening:
            return
        if hub.process.paused or containers.process.paused:
            self._meet_later()
        elif hub.port.session is None and containers.session is None:
            session = containers.session = Session(hub.port, containers)
            hub.process.post(hub.port.connected, session)

    # -- the hub ---------------------------------------------------------------------------------

    def _start_hub_later(self, delay_s: float | None = None) -> None:
        self.world.after(self.restart_s() if delay_s is None else delay_s, self._start_hub)

    def _start_hub(self) -> None:
        if self.hub is None and self.kernel.powered and not self.removed:
            self.lives += 1
            life = self.hub = HubLife(self)
            self.world.record(f"{self.name} hub starts, life {self.lives}")
            life.process.spawn(self._nursery, self._live, life)

    async def _live(self, life: HubLife) -> None:
        power = False
        try:
            with life.process.scope:
                await life.run()
        except BaseException as exc:
            power = self._why(exc)
        if life.process.alive:  # it ended by itself
            life.die(power=power)
        if power and self.kernel.powered:
            self.hub = None
            self.power_off()
            self.world.after(1.0 + self.restart_s(), self.power_on)
            return
        self._gone(life)

    def _why(self, exc: BaseException) -> bool:
        """Look through what ended a hub; was it the power?"""
        power = False
        for cause in _leaves(exc):
            if isinstance(cause, Crash):
                power = power or cause.power
            elif isinstance(cause, JournalFailed):
                self.world.count("seen-stopped-by-disk")
            elif isinstance(cause, PlatformError) and cause.code == "storage-full":
                self.world.count("seen-no-room-to-start")
            elif not isinstance(cause, trio.Cancelled):
                self.watcher.bug(f"{self.name}: the hub ended", cause)
        return power

    def crash_hub(self) -> bool:
        if self.hub is None or not self.hub.process.alive:
            return False
        self.world.record(f"{self.name} hub crash")
        self._kill_hub(power=False)
        return True

    def _kill_hub(self, *, power: bool) -> None:
        """The rest of it is cleaned up within this moment; then `_gone`."""
        life = self.hub
        if life is not None and life.process.alive:
            self._power_lost = power
            self.disk.on_operation = _nobody
            life.die(power=power)

    _power_lost = False

    def _gone(self, life: HubLife) -> None:
        """The last task of a dead hub has ended."""
        if self.hub is life:
            self.hub = None
        self._settle_disk(power=self._power_lost)
        if self.kernel.powered:
            self._start_hub_later()

    def _settle_disk(self, *, power: bool) -> None:
        self.disk.on_operation = None
        self.disk.fail_next_sync = None
        self.disk.tear_next_write = None
        self._power_lost = False
        if power:
            self.disk.power_cut(self.world.random.randrange)

    def hub_is_up(self, life: HubLife) -> None:
        life.listening = True
        self._meet_later()

    # -- harnesses and operators -----------------------------------------------------------------

    def knock(self, harness: Component) -> Callable[[bytes], None] | None:
        """`components.HubDoor`."""
        life = self.hub
        if life is None or not life.listening or not self.kernel.powered:
            return None
        peer = life.connect(
            frozenset({"harness"}), harness.uid, harness.pid, _while(harness, harness._connection)
        )
        link = peer.link
        assert isinstance(link, LocalLink)
        number = harness._connection
        link.on_closed = lambda: _ended(harness, number)
        return self._sender(life, peer)

    def operator(
        self, deliver: Callable[[bytes], None], ended: Callable[[], None]
    ) -> Callable[[bytes], None] | None:
        """A connection of an operator to this node's hub; None if it is not up."""
        life = self.hub
        if life is None or not life.listening:
            return None
        peer = life.connect(frozenset({"operator"}), 0, 1, deliver)
        link = peer.link
        assert isinstance(link, LocalLink)
        link.on_closed = ended
        return self._sender(life, peer)

    def _sender(self, life: HubLife, peer: Peer) -> Callable[[bytes], None]:
        """What the far end writes; nothing: it closes."""

        def send(data: bytes) -> None:
            action = partial(feed, peer) if data else lambda _data: peer.finish()
            self.world.after(LOCAL_S, life.process.post, action, data)

        return send

    # -- pauses ----------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        """The living agents."""
        found = []
        if self.hub is not None and self.hub.process.alive:
            found.append(self.hub.process)
        if self.containers is not None:
            found.append(self.containers.process)
        return found

    def resumed(self) -> None:
        """Its agents go on after a pause."""
        self.network.redial(self.name)


def _nobody(_operation: str) -> None:
    """The disk of a process that is dead: nothing it still does reaches it."""
    raise Crash(power=False)


def _while(harness: Component, number: int) -> Callable[[bytes], None]:
    """Deliver only to the connection that is meant."""

    def deliver(data: bytes) -> None:
        if harness._connection == number:
            harness.receive(data)

    return deliver


def _ended(harness: Component, number: int) -> None:
    if harness._connection == number:
        harness.hub_lost()


def _leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for part in exc.exceptions for leaf in _leaves(part)]
    return [exc]
