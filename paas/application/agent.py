"""Makes applications what they are wanted to be (io).

    log (what is wanted, what happened) ──wake──> look: plan of each application decided here
                                                        │ steps that can be done, a few at a time
                                                        v
                   up to date? still in the plan? ──> one command ──> log ──> …

It runs in every hub; each does the steps of the applications whose virtual node it is the primary
of (looking.py).  It keeps nothing that must survive: a step is one command of the log, what follows
from it is seen in the state, and whoever takes over plans from the state as it finds it.

Why no step is done twice, even while two hubs believe that they decide: before a step the replica
is brought up to date, and the step is done only if a new plan still has it; a birth carries a
request that names it, and a member's name belongs to one component at a time; ending the same
member twice is ending it once.

A step that fails is tried again after a while, and the reason is written down for everybody to see;
it is taken back when the role is whole.  Platform document §4.6.7.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import trio

from paas.application import limits
from paas.application.backing import Patience
from paas.application.commands import (
    ApplicationLost,
    ApplicationSettled,
    ForgetApplication,
    ForgetStray,
    NoteTrouble,
)
from paas.application.lifecycle import APPLICATION, ApplicationEvent, ApplicationState
from paas.application.looking import decider, present
from paas.application.messages import ApplicationChanged
from paas.application.plan import Step, plan, settled
from paas.application.ports import Surroundings
from paas.application.records import Application
from paas.base.errors import PlatformError
from paas.node.messages import NodeChanged
from paas.raft.machine import StateReplaced

_CONCERNING = (ApplicationChanged, NodeChanged, StateReplaced)

_E = ApplicationEvent

WHOLE = "application"
"""What a trouble or a failure is about that belongs to no role and no route."""

FAILURES = " failed"
"""Behind a role: members of it that have failed are waited for by themselves."""

_QUIET = frozenset({"conflict", "no-such-target"})
"""How a command is refused that was overtaken."""

_AWAY = frozenset({"unavailable", "unknown-outcome", "timeout"})
"""The log cannot be reached: no reason of the application's, and it could not be written down."""

_Work = tuple[str, str, str]
"""What is under way: application, action, subject."""


class Reconciler:
    """See the module's text."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._state = around.state
        self._wake = trio.Event()
        self._changed = trio.Event()
        self._under_way: set[_Work] = set()
        self._patience = Patience(around.jitter)
        self._counted: dict[str, None] = {}  # failed members for which one waits already
        self._revisions: dict[str, int] = {}  # of the applications decided about here
        self._missing_since_s: dict[str, float] = {}
        self._at_rest: dict[str, tuple[int, int]] = {}
        """Applications with nothing to do, and where they and the routes were then."""
        self._index = 0
        self.done = 0
        self.failed = 0

    # -- what others tell ------------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed that may matter."""
        self._wake.set()

    def state_changed(self, index: int, events: Sequence[Any]) -> None:
        """Subscriber of the log; called for every command, so it looks briefly."""
        if self._state.index == self._index:
            for event in events:
                if isinstance(event, _CONCERNING):
                    break
            else:
                return
        self._index = self._state.index
        self._changed.set()
        self._changed = trio.Event()
        self._wake.set()

    async def wait_change(self) -> None:
        """Until something of some application is different."""
        await self._changed.wait()

    # -- the loop --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        unsubscribe = self._around.log.subscribe(self.state_changed)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    self._wake = wake = trio.Event()
                    with trio.move_on_at(self._look(nursery)):
                        await wake.wait()
                    await trio.sleep(limits.LOOK_PAUSE_S)
        finally:
            unsubscribe()

    def _look(self, nursery: trio.Nursery) -> float:
        """Begin what can be done; when to look again, if nothing happens until then."""
        now_s, until_s = trio.current_time(), math.inf
        for component, name in list(self._state.strays.items()):
            if decider(self._around, name) == self._around.node:
                step = Step(action="end", subject=component, component=component, why="a stray")
                until_s = min(until_s, self._begin(nursery, name, step, now_s))
        mine = [
            application
            for application in self._state.applications.values()
            if decider(self._around, application.name) == self._around.node
        ]
        self._remember(mine)
        for application in mine:
            until_s = min(until_s, self._look_at(nursery, application, now_s))
        return until_s

    def _remember(self, mine: list[Application]) -> None:
        """Patience is for one revision, and for as long as one decides."""
        now = {application.name: application.revision for application in mine}
        for name, revision in self._revisions.items():
            if now.get(name) != revision:
                self._patience.forget(name)
                self._missing_since_s.pop(name, None)
                self._at_rest.pop(name, None)
        self._revisions = now
        if not mine:
            self._counted.clear()

    def _look_at(self, nursery: trio.Nursery, application: Application, now_s: float) -> float:
        mark = (application.index, self._around.routes.revision)
        if self._at_rest.get(application.name) == mark:
            return math.inf
        there = present(self._around, application)
        steps = plan(application, there)
        whole = settled(application, there)
        self._recover(nursery, application, steps, now_s)
        until_s = math.inf if whole else now_s + limits.LOOK_PERIOD_S
        closing = self._closing(application, whole=whole, now_s=now_s)
        if closing is not None:
            steps = [*steps, closing]
        for step in steps:
            if step.ready:
                until_s = min(until_s, self._begin(nursery, application.name, step, now_s))
        if whole and not steps and not application.troubles:
            self._at_rest[application.name] = mark
        return until_s

    def _closing(self, application: Application, *, whole: bool, now_s: float) -> Step | None:
        """What is to be said of the application as a whole."""
        name, state = application.name, application.state
        if whole:
            self._missing_since_s.pop(name, None)
            if state is ApplicationState.DESTROYING and not application.members:
                return Step(action="forget", subject=name, why="nothing is left")
            if APPLICATION.allows(state, _E.SETTLED) and (
                application.runs or not application.members
            ):
                return Step(action="settle", subject=name, why="all is there")
        elif APPLICATION.allows(state, _E.LOST):
            since_s = self._missing_since_s.setdefault(name, now_s)
            if now_s >= since_s + limits.DEGRADED_AFTER_S:
                return Step(action="lose", subject=name, why="something is missing")
        return None

    def _recover(
        self, nursery: trio.Nursery, application: Application, steps: list[Step], now_s: float
    ) -> None:
        """What was wrong and is no more."""
        busy = {_about(step) for step in steps}
        whole = not busy and all(
            sum(m.available for m in application.of_role(role.name)) >= application.target(role)
            for role in application.specification.roles
        )
        for what in list(application.troubles):
            role = application.specification.role(what)
            fine = what not in busy and (
                role is None
                or sum(m.available for m in application.of_role(what)) >= application.target(role)
            )
            if fine or (what == WHOLE and whole):
                self._patience.fine((application.name, what))
                self._patience.fine((application.name, what + FAILURES))
                step = Step(action="recover", subject=what, why="nothing is wrong with it")
                self._begin(nursery, application.name, step, now_s)

    # -- steps -----------------------------------------------------------------------------------

    def _begin(self, nursery: trio.Nursery, name: str, step: Step, now_s: float) -> float:
        """Do a step, unless it is under way or has to wait; when to look at it again."""
        work = (name, step.action, step.subject)
        key = _key(name, step)
        if work in self._under_way or len(self._under_way) >= limits.STEPS_MAX:
            return math.inf  # whoever ends wakes us
        if step.patient and step.component not in self._counted:
            self._counted[step.component] = None
            self._patience.failed(key, now_s, limits.FAILED_BACKOFF)
        due_s = self._patience.due_s(key)
        if due_s > now_s:
            return due_s
        self._under_way.add(work)
        nursery.start_soon(self._do, work, step)
        return math.inf

    async def _do(self, work: _Work, step: Step) -> None:
        name = work[0]
        try:
            with trio.fail_after(limits.STEP_TIMEOUT_S):
                await self._around.log.barrier(timeout_s=limits.STEP_TIMEOUT_S)
                if self._still_wanted(name, step):
                    await self._execute(name, step)
                    self.done += 1
                if not step.patient:
                    self._patience.fine(_key(name, step))
        except trio.TooSlowError:
            await self._failed(name, step, PlatformError("timeout", "the platform is too slow"))
        except PlatformError as error:
            await self._failed(name, step, error)
        finally:
            self._under_way.discard(work)
            self.wake()

    def _still_wanted(self, name: str, step: Step) -> bool:
        """With all that this replica knows by now."""
        if decider(self._around, name) != self._around.node:
            return False
        if step.component in self._state.strays:
            return True
        application = self._state.applications.get(name)
        if application is None:
            return False
        if step.action == "recover":
            return step.subject in application.troubles
        there = present(self._around, application)
        if step.action in ("settle", "forget"):
            return settled(application, there)
        if step.action == "lose":
            return not settled(application, there)
        return any(
            (s.action, s.subject, s.component) == (step.action, step.subject, step.component)
            and s.ready
            for s in plan(application, there)
        )

    async def _execute(self, name: str, step: Step) -> None:
        around = self._around
        if step.component in self._state.strays:
            await around.components.end(step.component, 0.0)
            await around.log.propose(ForgetStray(component=step.component))
            return
        application = self._state.applications[name]
        role = application.specification.role(step.role)
        match step.action:
            case "create":
                assert role is not None, "only members of known roles are born"
                await around.components.create(application, role, step.slot)
            case "end" | "clear":
                if step.patient:
                    await self._note(name, step, "failed", f"{step.subject}: {step.why}")
                grace_s = 0.0 if step.action == "clear" else 10.0 if role is None else role.grace
                await around.components.end(step.component, grace_s)
            case "set-route":
                routes = application.specification.routes
                await around.routes.set(next(r for r in routes if r.name == step.subject))
            case "remove-route":
                await around.routes.remove(step.subject, name)
            case "remove-volumes":
                await around.volumes.remove(step.subject)
            case _:
                await around.log.propose(_closing_command(application, step))

    async def _failed(self, name: str, step: Step, error: PlatformError) -> None:
        """Wait before the next try, and say why."""
        self.failed += 1
        self._patience.failed(_key(name, step), trio.current_time())
        if error.code in _AWAY or (error.code in _QUIET and step.action not in _EXPLAINED):
            return
        self._around.on_trouble(name, error)
        # The application may be gone, or the log away: then it is told with the next try.
        with contextlib.suppress(PlatformError):
            await self._note(name, step, error.code, f"{step.subject}: {error.message}")

    async def _note(self, name: str, step: Step, code: str, text: str) -> None:
        known = self._state.applications[name].troubles.get(_about(step))
        text = text[: limits.TROUBLE_LENGTH_MAX]
        if known is None or (known.code, known.text) != (code, text):
            note = NoteTrouble(application=name, what=_about(step), code=code, text=text)
            await self._around.log.propose(note)

    def statistics(self) -> dict[str, int]:
        """Steps done and failed by this hub, and applications that it decides about."""
        return {"done": self.done, "failed": self.failed, "decides": len(self._revisions)}


_EXPLAINED = frozenset({"create", "set-route", "remove-volumes"})
"""Steps for which `conflict` is a reason: a name, a route, or volumes are somebody else's."""


def _about(step: Step) -> str:
    """Under what its failures and troubles are kept."""
    if step.action in ("set-route", "remove-route"):
        return f"route {step.subject}"
    if step.action == "recover":
        return step.subject
    return step.role or WHOLE


def _key(name: str, step: Step) -> tuple[str, str]:
    """Under what one waits for a step."""
    return (name, _about(step) + (FAILURES if step.patient else ""))


def _closing_command(application: Application, step: Step) -> Any:
    name, revision = application.name, application.revision
    match step.action:
        case "settle":
            return ApplicationSettled(application=name, revision=revision)
        case "lose":
            return ApplicationLost(application=name, revision=revision)
        case "forget":
            return ForgetApplication(application=name, revision=revision)
        case _:
            return NoteTrouble(application=name, what=step.subject)
