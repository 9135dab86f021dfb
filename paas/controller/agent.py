"""The component controller as a running thing: one keeper a component, events in, notices out.

    replicated log ──events──┐                        ┌──> commands
    container controller ────┼──> Controller ─────────┼──> container controller (keepers)
    harnesses (through hub) ─┘    one keeper each     └──> watches: `down`

It runs in the hub's process, as they share state and connections.  A keeper (keeper.py) owns the
life of one component of this node; a keeper that crashes is our bug: it is reported, and started
anew, which loses nothing.  Beside them run the placer (placer.py), which finds nodes for components
that wait for one, and the drainer (drainer.py), which empties this node when that is ordered.  The
requests of the component API are answered by api.py.

A monitor is a watch with the topic ("down", id) that knows the incarnation it is about, and is
closed with its one notice, in one step without waiting: so it cannot fire twice, whatever ends at
the same time.  When this replica takes over a whole state, the ends in between are not told as
events; then every monitor is compared with the record (`_resume_monitors`).

After a node was thought lost its components are elsewhere, perhaps.  What still runs here of a past
incarnation is removed: by its keeper, or, where there is none, by comparing (adoption.py), which is
done on each connection to the container controller and on each take-over of a state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.controller import adoption, limits
from paas.controller.adjusting import Adjusting
from paas.controller.alarms import Alarms
from paas.controller.drainer import Drainer
from paas.controller.instances import Instance
from paas.controller.keeper import Keeper, Surroundings
from paas.controller.lifecycle import ENDED, ComponentState
from paas.controller.loads import UNPLACED
from paas.controller.messages import (
    ComponentAdjusted,
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
    ComponentOrdered,
    ComponentPlaced,
    DepartureChanged,
    EmptyingChanged,
)
from paas.controller.placer import Placer
from paas.controller.ports import Containers, ExitFacts, Harnesses, Log, Ring, Watches
from paas.controller.state import ControllerState
from paas.harness.messages import Event, Hello, PhaseChange
from paas.raft.machine import StateReplaced
from paas.scheduler.messages import NodeView

_ARRIVED = (ComponentCreated, ComponentPlaced)
_CHANGED = (
    ComponentChanged,
    ComponentOrdered,
    ComponentAdjusted,
    ComponentForgotten,
    DepartureChanged,
)
_PLACES = (EmptyingChanged, ComponentPlaced, StateReplaced)

KEEPER_CRASH_WAIT_S = 1.0
DOWN = "down"

_MAKE_ROOM = frozenset({ComponentState.PREPARING, *ENDED})
"""Entering these, a component may wait for a node, or has left one."""

_OF_OTHERS = ("Node", "Ring")
"""How the events begin that tell of nodes and of who decides; their sections belong to others."""


def _nothing() -> None:
    """There is nothing to undo yet."""


class Controller:
    """See the module's text.

    `on_started` is called when the user id of a container becomes known (`uid_of` tells it);
    `on_trouble(component, error)` and `on_bug(where, exception)` are for the log of the process.
    `nodes` are those that components can be placed on, `ring` says who decides; by default this
    node is alone.
    """

    def __init__(
        self,
        *,
        node: str,
        state: ControllerState,
        log: Log,
        containers: Containers,
        harnesses: Harnesses,
        watches: Watches,
        clock: Clock,
        entropy: Entropy,
        on_started: Callable[[], None],
        on_trouble: Callable[[str, PlatformError], None],
        on_bug: Callable[[str, Exception], None],
        nodes: Callable[[], Sequence[NodeView]] | None = None,
        ring: Ring | None = None,
    ) -> None:
        self.node = node
        self.nodes = nodes or (lambda: [NodeView(name=node)])
        self.state = state
        self.log = log
        self.containers = containers
        self.harnesses = harnesses
        self.watches = watches
        self._on_bug = on_bug
        self._on_trouble = on_trouble
        self._alarms = Alarms()
        self.adjusting = Adjusting()
        self._around = Surroundings(
            node=node,
            state=state,
            log=log,
            containers=containers,
            harnesses=harnesses,
            clock=clock,
            entropy=entropy,
            inspect=self._inspect,
            resume=self._resume_keeper,
            alarms=self._alarms,
            adjusting=self.adjusting,
            on_started=on_started,
            on_trouble=on_trouble,
        )
        self._entropy = entropy
        self._placer = Placer(
            node=node,
            state=state,
            log=log,
            nodes=self.nodes,
            ring=ring,
            on_trouble=on_trouble,
        )
        self._drainer = Drainer(
            node=node,
            state=state,
            log=log,
            nodes=self.nodes,
            wait_change=self.wait_change,
            on_trouble=on_trouble,
        )
        self._keepers: dict[str, Keeper] = {}
        self._removing: set[str] = set()
        self._changes: dict[str, trio.Event] = {}
        self._any_change = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._link_up = False
        """Is there a connection to the container controller?"""
        self._connected = False
        """And has its list been compared with ours?"""
        self._connection = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the components of this node until cancelled; they go on running after that."""
        unsubscribe = _nothing
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                unsubscribe = self.log.subscribe(self.state_changed)
                self._resume()
                if self._link_up:
                    nursery.start_soon(self._adopt, self._connection)
                nursery.start_soon(self._run_actor, "alarms", self._alarms.run)
                nursery.start_soon(self._run_actor, "placer", self._placer.run)
                nursery.start_soon(self._run_actor, "drainer", self._drainer.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            unsubscribe()
            self._nursery = None
            self._keepers.clear()
            self._alarms.clear()

    def soon(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Run something beside; it ends with the controller."""
        if self._nursery is not None:
            self._nursery.start_soon(job, *arguments)

    # -- keepers ---------------------------------------------------------------------------------

    def _resume(self) -> None:
        for instance in self.state.instances:
            if not instance.ended:
                self._keep(instance)

    def _keep(self, instance: Instance, *, new: bool = False) -> None:
        """`new`: nobody can have started it here.  That is known of one that was just placed, too,
        once lists were compared: what runs here has a keeper, or is being removed.
        """
        if self._nursery is None or instance.node != self.node or instance.id in self._keepers:
            return
        keeper = Keeper(instance.id, self._around, connected=self._connected)
        if new:
            keeper.saw_absent()
        self._keepers[instance.id] = keeper
        self._resume_keeper(keeper)

    def _resume_keeper(self, keeper: Keeper) -> None:
        self.soon(self._run_keeper, keeper)

    async def _run_keeper(self, keeper: Keeper) -> None:
        await self._run_actor(f"keeper of {keeper.component}", keeper.run)
        if keeper.done:
            self._keepers.pop(keeper.component, None)

    async def _run_actor(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
                return
            except Exception as bug:  # trio.Cancelled is none, and passes
                self._on_bug(name, bug)
                await trio.sleep(KEEPER_CRASH_WAIT_S)

    # -- what the cluster state says -------------------------------------------------------------

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the replicated log."""
        for event in events:
            if isinstance(event, ComponentEnded):
                self._notify_down(event)
            elif isinstance(event, _ARRIVED):
                self._arrived(event)
            elif isinstance(event, StateReplaced):
                self._state_replaced(event)
            if isinstance(event, _CHANGED):
                self._changed(event.component)
            if isinstance(event, ComponentChanged) and event.state in ENDED:
                self._end_monitors(event)
            if self._concerns_placing(event):
                self._placer.wake()
                self._drainer.wake()
        self._any_change.set()
        self._any_change = trio.Event()

    def _arrived(self, event: ComponentCreated | ComponentPlaced) -> None:
        """A component has a node; if it is this one, it is kept here from now on."""
        instance = self.state.instances.get(event.component)
        if instance is None or instance.ended:
            return
        sure = self._connected and event.component not in self._removing
        self._keep(instance, new=sure or isinstance(event, ComponentCreated))
        self._changed(event.component)

    def _state_replaced(self, event: StateReplaced) -> None:
        """The events in between are not told: look at everything again."""
        self._resume_monitors(event.index)
        if self._link_up:
            self.containers_connected()
        self._resume()
        for component in [*self._keepers, *self._changes]:
            self._changed(component)

    @staticmethod
    def _concerns_placing(event: Any) -> bool:
        if isinstance(event, ComponentChanged):
            return event.state in _MAKE_ROOM
        if isinstance(event, ComponentCreated):
            return not event.node
        known = isinstance(event, _PLACES)
        return known or type(event).__name__.startswith(_OF_OTHERS)

    def _changed(self, component: str) -> None:
        keeper = self._keepers.get(component)
        if keeper is not None:
            keeper.wake()
        changed = self._changes.pop(component, None)
        if changed is not None:
            changed.set()

    async def wait_change(self, component: str) -> None:
        """Return at the next change of this component's record."""
        changed = self._changes.get(component)
        if changed is None:
            changed = self._changes[component] = trio.Event()
        await changed.wait()

    async def wait_any_change(self) -> None:
        """Return when something in the cluster state has changed."""
        await self._any_change.wait()

    def _notify_down(self, event: ComponentEnded) -> None:
        instance = self.state.instances.get(event.component)
        for peer, number, incarnation in list(self.watches.watchers(DOWN, event.component)):
            if incarnation > event.incarnation:
                continue  # it was opened after this end, of which we are told only now
            self.emit_down(
                peer,
                number,
                component=event.component,
                name="" if instance is None else instance.name,
                reason=event.reason,
                index=event.index,
                time_ms=event.time_ms,
            )

    def _end_monitors(self, event: ComponentChanged) -> None:
        """It has ended for good: the incarnation that some still waited for will never be."""
        for peer, number, _incarnation in list(self.watches.watchers(DOWN, event.component)):
            self._emit_record(peer, number, event.component, event.index)

    def _resume_monitors(self, index: int) -> None:
        """Those fire whose incarnation is over in the state as it is now."""
        for component, peer, number, incarnation in list(self.watches.of_kind(DOWN)):
            instance = self.state.instances.get(component)
            if instance is None or instance.is_over(incarnation):
                self._emit_record(peer, number, component, index)

    def _emit_record(self, peer: Any, number: int, component: str, index: int) -> None:
        """The notice with what the record says; `unknown` if that is forgotten."""
        instance = self.state.instances.get(component)
        self.emit_down(
            peer,
            number,
            component=component,
            name="" if instance is None else instance.name,
            reason="unknown" if instance is None else instance.reason,
            index=index,
            time_ms=0 if instance is None else instance.since_ms,
        )

    async def down_already(self, peer: Any, number: int, component: str) -> None:
        """The notice of a monitor whose incarnation was over when it was asked for; it comes after
        the answer, which tells the number of the watch.
        """
        await trio.lowlevel.checkpoint()
        self._emit_record(peer, number, component, self.log.applied())

    def emit_down(
        self,
        peer: Any,
        number: int,
        *,
        component: str,
        name: str,
        reason: str,
        index: int,
        time_ms: int,
    ) -> None:
        """The one notice of a monitor; the watch ends with it."""
        try:
            self.watches.close(peer, number)
        except PlatformError:
            return  # it has fired, or was given up
        self.watches.emit(
            peer,
            number,
            Event(
                watch=number,
                index=index,
                event=DOWN,
                component=component,
                name=name,
                state="destroying",
                reason=reason,
                time=time_ms / 1000,
            ),
        )

    # -- what the container controller says ------------------------------------------------------

    def containers_connected(self) -> None:
        """A (new) container controller answers: compare before anything is asked of it."""
        self._link_up = True
        self._set_connected(False)
        self._connection += 1
        self.soon(self._adopt, self._connection)

    def containers_lost(self) -> None:
        """It is being restarted; what runs goes on running, the rest waits."""
        self._link_up = False
        self._set_connected(False)

    def container_exited(self, facts: ExitFacts) -> None:
        keeper = self._keepers.get(facts.component)
        if keeper is not None:
            keeper.saw_exit(facts)

    def _set_connected(self, connected: bool) -> None:
        self._connected = connected
        for keeper in self._keepers.values():
            keeper.saw_connection(connected)

    async def _adopt(self, connection: int) -> None:
        """Compare until it has succeeded, or the connection is another one."""
        failures = 0
        while self._link_up and connection == self._connection:
            try:
                await self._inspect()
            except PlatformError as error:
                failures += 1
                self._on_trouble("", error)
                fraction = self._entropy.fraction()
                await trio.sleep(limits.PROCEDURE_BACKOFF.delay_s(failures, fraction))
            else:
                if self._link_up and connection == self._connection:
                    self._set_connected(True)
                return

    async def _inspect(self) -> None:
        """Ask what runs, and tell every keeper what that means for it."""
        before = {component: keeper.changes for component, keeper in self._keepers.items()}
        try:
            with trio.fail_after(limits.LIST_TIMEOUT_S):
                facts = await self.containers.list()
        except trio.TooSlowError:
            raise PlatformError("timeout", "the container controller did not answer") from None
        for verdict in adoption.compare(self.node, self.state.instances, facts):
            keeper = self._keepers.get(verdict.component)
            if keeper is not None and before.get(verdict.component) != keeper.changes:
                continue  # it did something while the list was made: the list is older than that
            match verdict:
                case adoption.Remove(component):
                    if keeper is None and component not in self._removing:
                        self._removing.add(component)
                        self.soon(self._remove, component)
                case adoption.Missing():
                    if keeper is not None:
                        keeper.saw_absent()
                case adoption.Adopt(_, fact) | adoption.Ended(_, fact):
                    if keeper is not None:
                        keeper.saw_container(fact)

    async def _remove(self, component: str) -> None:
        """A container that nobody wants."""
        failures = 0
        try:
            # A keeper that has come meanwhile removes what it does not want by itself, in order.
            while self._link_up and component not in self._keepers:
                try:
                    await self.containers.destroy(component)
                    return
                except PlatformError as error:
                    failures += 1
                    self._on_trouble(component, error)
                    await trio.sleep(
                        limits.PROCEDURE_BACKOFF.delay_s(failures, self._entropy.fraction())
                    )
        finally:
            self._removing.discard(component)

    # -- what harnesses say ----------------------------------------------------------------------

    def harness_attached(self, component: str, hello: Hello) -> None:
        keeper = self._keepers.get(component)
        if keeper is not None:
            keeper.saw_harness(hello)

    def harness_phase(self, component: str, change: PhaseChange) -> None:
        keeper = self._keepers.get(component)
        if keeper is not None:
            keeper.saw_phase(change)

    def harness_detached(self, component: str) -> None:
        keeper = self._keepers.get(component)
        if keeper is not None:
            keeper.saw_detached()

    # -- what others ask -------------------------------------------------------------------------

    def uid_of(self, component: str) -> int | None:
        """The host user that pid 1 of the component's container has, once it is known."""
        keeper = self._keepers.get(component)
        started = None if keeper is None else keeper.started
        return None if started is None else started.uid_base

    def pid_of(self, component: str) -> int | None:
        keeper = self._keepers.get(component)
        started = None if keeper is None else keeper.started
        return None if started is None else started.pid

    def is_ready(self, component: str) -> bool:
        """Its harness says that it takes requests, frozen or not."""
        keeper = self._keepers.get(component)
        return keeper is not None and keeper.seen.phase == "available"

    def running(self) -> list[str]:
        """Components of this node whose containers run."""
        return [component for component, k in self._keepers.items() if k.started is not None]

    def statistics(self) -> dict[str, Any]:
        return {
            "keepers": len(self._keepers),
            "containers": self._connected,
            "waiting": len(self._changes),
            "placed": self._placer.placed,
            "unplaced": self.state.loads.count(UNPLACED),
        }
