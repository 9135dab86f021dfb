"""What would happen, if nothing goes wrong: a plan to its end, on a copy.  Pure.

The command is applied to a copy of the section as the log would apply it, with the same refusals;
then all steps that can be done are done at once, again and again, until there are none.  What waits
for somebody else then is told with what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from paas.application import limits
from paas.application.lifecycle import ApplicationState
from paas.application.plan import Present, Step, plan
from paas.application.records import READY, Application, Member
from paas.application.specification import member_name
from paas.application.state import ApplicationsState


@dataclass(frozen=True, slots=True)
class _Stamp:
    time_ms: int = 0


@dataclass(slots=True)
class _Context:
    """What the handlers of the section want to know; nobody hears the events."""

    index: int
    stamp: _Stamp = field(default_factory=_Stamp)

    def emit(self, event: Any) -> None:
        pass


def changed(state: ApplicationsState, command: msgspec.Struct, name: str) -> Application:
    """The application as the command would leave it; raises what the command is refused with."""
    copy = ApplicationsState()
    copy.restore(state.snapshot())
    copy.commands[type(command)](command, _Context(index=copy.index + 1))
    return copy.applications[name]


def preview(application: Application, present: Present) -> Iterator[list[Step]]:
    """The steps in rounds, each of what can be done then; the last may be of what waits.

    The application is changed by it.
    """
    model = Model(application, present)
    done = 0
    while done < limits.PREVIEW_STEPS_MAX:
        steps = plan(model.application, model.present)
        ready = [step for step in steps if step.ready]
        if not ready:
            if steps:
                yield steps
            return
        for step in ready:
            model.do(step)
        done += len(ready)
        yield ready


class Model:
    """A world in which every step is done at once, and whoever is born is available."""

    def __init__(self, application: Application, present: Present) -> None:
        self.application = application
        self.present = present
        births = [member.birth for member in application.members.values()]
        self._births = max([application.index, *births])

    def do(self, step: Step) -> None:
        """Carry out one step."""
        members = self.application.members
        match step.action:
            case "create":
                self._births += 1
                component = f"new-{self._births}"
                members[component] = self.born(step, component)
            case "end" | "clear":
                members.pop(step.component, None)
            case "set-route":
                wanted = self.application.specification.routes
                route = next(r for r in wanted if r.name == step.subject)
                routes = {**self.present.routes, route.name: route}
                self.present = _with_routes(self.present, routes)
            case "remove-route":
                routes = {n: r for n, r in self.present.routes.items() if n != step.subject}
                self.present = _with_routes(self.present, routes)
            case "remove-volumes":
                self.present = Present(
                    routes=self.present.routes,
                    groups=self.present.groups,
                    volumes=self.present.volumes - {step.subject},
                )
            case _:
                raise AssertionError(f"{step.action} is no step of a plan")

    def born(self, step: Step, component: str, state: str = READY) -> Member:
        """The member that a step makes."""
        role = self.application.specification.role(step.role)
        assert role is not None, "only members of known roles are born"
        assert step.subject == member_name(self.application.name, step.role, step.slot)
        return Member(
            component=component,
            role=step.role,
            slot=step.slot,
            digest=role.digest,
            birth=self._births,
            type=role.type,
            state=state,
        )


def _with_routes(present: Present, routes: dict[str, Any]) -> Present:
    return Present(routes=routes, groups=present.groups, volumes=present.volumes)


def as_new(specification: Any, state: ApplicationState = ApplicationState.DEPLOYING) -> Application:
    """An application of which there is nothing yet."""
    return Application(
        name=specification.name, specification=replace(specification), state=state, revision=1
    )
