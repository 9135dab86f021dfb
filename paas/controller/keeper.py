"""The actor of one component on this node: looks, decides the next step, does it, looks again.

    wake ──> observe ──> next_step ──> do it ──┐     one step at a time
                 ^─────────────────────────────┘

Who waits has no task: the keeper is parked, and run again at the next wake or when its time has
come.  That is most keepers, mostly; a task each would be most of what a component takes here.

It keeps nothing that cannot be seen again, so it may be started at any point of a component's life.
A step that fails is tried again after a wait, for as long as it remains the next step: a log
without leader or a full disk delays a component's life but decides nothing about it.  The only step
that is interrupted is a start, when the component is no longer wanted here.

When the component is on another node by now, or on none, the keeper removes what is left of it here
and ends.  It may come back to this node meanwhile: then the same keeper starts it, afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.container.messages import Limits
from paas.controller import creating, ending, limits, standing
from paas.controller.adjusting import Adjusting
from paas.controller.alarms import Alarms
from paas.controller.bounds import container_limits
from paas.controller.commands import ChangeInstance
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.ports import (
    ContainerFact,
    Containers,
    ExitFacts,
    Harnesses,
    Log,
    Started,
)
from paas.controller.restarts import DESTROYED, MOVED, START_FAILED
from paas.controller.state import ControllerState
from paas.controller.steps import (
    AskStop,
    Clear,
    Container,
    Done,
    Freeze,
    Inspect,
    Kill,
    Observed,
    Propose,
    Resize,
    Start,
    Step,
    Thaw,
    Wait,
)
from paas.controller.volumes import mounts_of
from paas.harness.messages import STOP, Hello, PhaseChange, Stop

_ENDINGS = frozenset(
    {
        ComponentState.STOPPING,
        ComponentState.DESTROYING,
        ComponentState.DESTROYED,
        ComponentState.FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all keepers of `node` share.

    `inspect` compares what runs; `resume` runs a keeper that was parked, later; `alarms` call those
    that wait for a time; `on_started` tells of a user id.
    """

    node: str
    state: ControllerState
    log: Log
    containers: Containers
    harnesses: Harnesses
    clock: Clock
    entropy: Entropy
    inspect: Callable[[], Awaitable[None]]
    resume: Callable[[Keeper], None]
    alarms: Alarms
    adjusting: Adjusting
    on_started: Callable[[], None]
    on_trouble: Callable[[str, PlatformError], None]


class Keeper:
    """See the module's text.  The `saw_` methods are called from outside and never wait."""

    __slots__ = (
        "_around",
        "_incarnation",
        "_parked",
        "_start_scope",
        "_state",
        "changes",
        "component",
        "done",
        "seen",
    )

    def __init__(self, component: str, around: Surroundings, *, connected: bool) -> None:
        self.component = component
        self.seen = Observed(connected=connected)
        self._around = around
        self._parked = False
        self._start_scope: trio.CancelScope | None = None
        self._incarnation = 0
        self._state = ComponentState.NONE
        self.done = False
        """Nothing will ever have to be done again."""
        self.changes = 0
        """Counts what was learnt or done about the container, to recognise a list that is older."""

    # -- what happens ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed: look again.  A start that is no longer wanted is given up."""
        self._look_again()
        if self._start_scope is not None:
            instance = self._here(self._around.state.instances.get(self.component))
            if (
                instance is None
                or instance.state is not ComponentState.PREPARING
                or instance.incarnation != self.seen.container_incarnation
            ):
                self._start_scope.cancel()

    def due(self) -> None:
        """The time that it waited for has come."""
        self._look_again()

    def _look_again(self) -> None:
        """One that has a task looks in any case before it parks."""
        if self._parked:
            self._parked = False
            self._around.resume(self)

    def _here(self, instance: Instance | None) -> Instance | None:
        """None for one that should not be on this node."""
        if instance is None or instance.node != self._around.node:
            return None
        return instance

    def saw_connection(self, connected: bool) -> None:
        self.seen.connected = connected
        self._look_again()

    def saw_absent(self) -> None:
        """The container controller has no container for it."""
        self.seen.container = Container.ABSENT
        self._look_again()

    def saw_container(self, fact: ContainerFact) -> None:
        """A line of the container controller's list."""
        seen = self.seen
        if fact.running:
            known = seen.container is Container.ENDED
            if not (known and seen.container_incarnation == fact.incarnation):
                started = Started(
                    uid_base=fact.uid_base,
                    pid=fact.pid,
                    address=fact.address,
                    endpoints=fact.endpoints,
                )
                self._runs(started, fact.incarnation)
                seen.frozen, seen.limits = fact.frozen, fact.limits
        else:
            exit_facts = fact.exit or ExitFacts(
                component=fact.component, incarnation=fact.incarnation, reason=""
            )
            self.saw_exit(exit_facts)

    def saw_exit(self, facts: ExitFacts) -> None:
        """The container has ended; facts of an earlier incarnation are history."""
        self.changes += 1
        if facts.incarnation >= self.seen.container_incarnation:
            self.seen.container = Container.ENDED
            self.seen.container_incarnation = facts.incarnation
            self.seen.exit = facts
        self._look_again()

    def saw_harness(self, hello: Hello) -> None:
        if hello.incarnation == self._current_incarnation():
            self._look()
            self.seen.attached = True
            self.seen.hears(hello.phase, hello.reason)
        self._look_again()

    def saw_phase(self, change: PhaseChange) -> None:
        if self.seen.attached:
            self.seen.hears(change.phase, change.reason)
        self._look_again()

    def saw_detached(self) -> None:
        self.seen.attached = False
        self._look_again()

    @property
    def started(self) -> Started | None:
        """The container of the present incarnation, while it runs."""
        seen = self.seen
        if seen.container is not Container.RUNNING:
            return None
        return seen.started if seen.container_incarnation == self._current_incarnation() else None

    # -- the loop --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is parked, or `done`."""
        failures = 0
        while True:
            instance = self._look()
            step = self._next(instance)
            if isinstance(step, Done):
                self.done = True
                self._around.alarms.forget(self)
                return
            if isinstance(step, Wait):
                self._parked = True
                self._around.alarms.set(self, step.until_s)
                return
            try:
                if isinstance(step, Clear):
                    await self._clear()
                elif instance is not None:
                    await self._do(step, instance)
                failures = 0
            except PlatformError as error:
                failures += 1
                if error.code == "conflict" and failures == 1:
                    continue  # the state moved on meanwhile: no trouble, look again
                self._around.on_trouble(self.component, error)
                fraction = self._around.entropy.fraction()
                await trio.sleep(limits.PROCEDURE_BACKOFF.delay_s(failures, fraction))

    def _current_incarnation(self) -> int:
        instance = self._here(self._around.state.instances.get(self.component))
        return 0 if instance is None else instance.incarnation

    def _look(self) -> Instance | None:
        """Take note of a new incarnation or state, of a component that is here."""
        instance = self._here(self._around.state.instances.get(self.component))
        if instance is None:
            return None
        now_s = trio.current_time()
        if instance.incarnation != self._incarnation:
            if self._incarnation or instance.state is ComponentState.PREPARING:
                left_s = (instance.not_before_ms - self._around.clock.now_ms()) / 1000
                # A clock that was set back must not hold a component for longer than was decided.
                self._begin(now_s, min(max(left_s, 0.0), instance.delay_s), instance)
            self._incarnation = instance.incarnation
        if instance.state is not self._state:
            self._state = instance.state
            self.seen.state_since_s = now_s
        return instance

    def _begin(self, now_s: float, delay_s: float, instance: Instance) -> None:
        """A new incarnation; what is known of a container of that very incarnation stays known."""
        seen = self.seen
        if self._incarnation or seen.container_incarnation != instance.incarnation:
            seen.begin(now_s, delay_s)

    def _next(self, instance: Instance | None) -> Step:
        now_s = trio.current_time()
        if instance is None:
            return ending.remove_rest(self.seen)
        if instance.state is ComponentState.LEAVING:
            return ending.leaving(instance, self.seen, now_s, self._left_s(instance, now_s))
        if instance.state in _ENDINGS:
            return ending.next_step(instance, self.seen, now_s)
        if instance.state is ComponentState.OFFLINE:
            return Wait()
        types = self._around.state.types
        manifest = types.manifest(types.resolve(instance.type))
        step = standing.next_step(instance, container_limits(manifest, instance.resized), self.seen)
        if step is not None:
            return step
        return creating.next_step(instance, manifest.supervision.ready_timeout, self.seen, now_s)

    def _left_s(self, instance: Instance, now_s: float) -> float:
        """When its departure is over, by the wall clock or by its length, whichever is sooner."""
        departure = self._around.state.departures.leaving.get(instance.id)
        if departure is None:
            return now_s
        span_s = (departure.until_ms - departure.since_ms) / 1000
        rest_s = (departure.until_ms - self._around.clock.now_ms()) / 1000
        return min(self.seen.state_since_s + span_s, now_s + rest_s)

    # -- steps -----------------------------------------------------------------------------------

    async def _do(self, step: Step, instance: Instance) -> None:
        around = self._around
        match step:
            case Propose():
                await self._propose(step, instance)
            case Start():
                await self._start(instance)
            case AskStop(grace_s):
                await self._ask_stop(instance, grace_s)
            case Kill(reason):
                self.seen.kill_reason = self.seen.kill_reason or reason
                await around.containers.kill(self.component)
                self.seen.killed_s = trio.current_time()
            case Resize(wanted):
                await self._resize(wanted)
            case Freeze():
                await around.containers.freeze(self.component)
                self.seen.frozen = True
            case Thaw():
                await around.containers.thaw(self.component)
                self.seen.frozen = False
            case Inspect():
                await around.inspect()
                await trio.lowlevel.checkpoint()

    async def _resize(self, wanted: Limits) -> None:
        """Bounds that cannot be are told once; the next incarnation begins with them."""
        async with self._around.adjusting.hold(self.component):
            if self._wanted_limits() != wanted:
                return  # others are wanted by now, and may be in force
            try:
                await self._around.containers.resize(self.component, wanted)
            except PlatformError as error:
                if error.code not in standing.REFUSALS:
                    raise
                self.seen.refused = wanted
                self._around.on_trouble(self.component, error)
            else:
                self.seen.limits = wanted

    def _wanted_limits(self) -> Limits | None:
        state = self._around.state
        instance = self._here(state.instances.get(self.component))
        if instance is None:
            return None
        return container_limits(
            state.types.manifest(state.types.resolve(instance.type)), instance.resized
        )

    async def _clear(self) -> None:
        self.changes += 1
        await self._around.containers.destroy(self.component)
        self.changes += 1
        self.seen.container = Container.ABSENT

    async def _propose(self, step: Propose, instance: Instance) -> None:
        change = ChangeInstance(
            component=self.component,
            incarnation=instance.incarnation,
            event=str(step.event),
            expected=str(instance.state),
            reason=step.reason,
            endpoints=step.endpoints,
            facts=step.facts,
            fatal=step.fatal,
        )
        await self._around.log.propose(change, timeout_s=limits.PROPOSE_TIMEOUT_S)

    async def _start(self, instance: Instance) -> None:
        """Only waits for the container; that its component is ready is told by the harness."""
        around, incarnation = self._around, instance.incarnation
        kind = around.state.types.resolve(instance.type)
        manifest = around.state.types.manifest(kind)
        volumes = mounts_of(around.state.volumes, instance, manifest)
        order = creating.start_order(instance, kind, manifest, volumes)
        self.changes += 1
        self.seen.container = Container.UNKNOWN
        self.seen.container_incarnation = incarnation
        with trio.CancelScope() as self._start_scope:
            try:
                with trio.fail_after(limits.START_TIMEOUT_S):
                    started = await around.containers.start(order)
            except trio.TooSlowError:
                self._start_failed(
                    PlatformError("timeout", "the container controller did not start it in time")
                )
            except PlatformError as error:
                self._start_failed(error)
            else:
                if self.seen.container is not Container.ENDED:  # it may have ended already
                    self._runs(started, incarnation)
                    self.seen.limits = order.limits
            finally:
                self._start_scope = None
                self.changes += 1

    def _runs(self, started: Started, incarnation: int) -> None:
        self.seen.container = Container.RUNNING
        self.seen.container_incarnation = incarnation
        self.seen.started = started
        self.seen.running_since_s = trio.current_time()
        self._around.on_started()
        self._look_again()

    def _start_failed(self, error: PlatformError) -> None:
        if error.code in creating.AWAY_CODES:
            self.seen.container = Container.ABSENT
            raise error
        if error.code in creating.DOUBT_CODES:
            raise error  # unknown: the next step is to look
        self.seen.start_error = START_FAILED + error.message
        self.seen.start_fatal = error.code in creating.FATAL_CODES
        self.seen.container = Container.ENDED

    async def _ask_stop(self, instance: Instance, grace_s: float) -> None:
        reason = {"linked": instance.reason, "move": MOVED}.get(instance.mode, DESTROYED)
        self.seen.stop_grace_s = grace_s
        self.seen.stop_sent_s = trio.current_time()
        try:
            await self._around.harnesses.request(
                self.component,
                STOP,
                Stop(grace_s=grace_s, reason=reason),
                limits.STOP_REQUEST_TIMEOUT_S,
            )
        except PlatformError:
            # It may have ended at this very moment; if not, the next look asks again or uses force.
            self.seen.stop_sent_s = None
            self.seen.stop_grace_s = math.inf
            self.seen.attached = self._around.harnesses.attached(self.component)
            raise
