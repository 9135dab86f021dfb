"""The answers to the requests about applications (io).

An order is checked, becomes one command of the log, and is answered with the steps that follow;
the steps are done by whoever decides about the application (agent.py).  Looking is answered from
this replica's state, and may wait for a change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from paas.application import commands, limits, messages, reading
from paas.application.agent import Reconciler
from paas.application.looking import listed, present, status, steps_of
from paas.application.plan import Step, plan
from paas.application.ports import Surroundings
from paas.application.preview import changed, preview
from paas.application.specification import Role, Specification
from paas.base.errors import PlatformError, invalid
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import P, R

Handler = Callable[[P, Context], Awaitable[R]]


class Api:
    """Handlers of `application.*`."""

    def __init__(self, around: Surroundings, reconciler: Reconciler) -> None:
        self._around = around
        self._state = around.state
        self._reconciler = reconciler

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handlers on a dispatcher."""
        dispatcher.task(messages.DEPLOY, self._caught_up(self.deploy))
        dispatcher.task(messages.STATUS, self._caught_up(self.status), while_connected=True)
        dispatcher.plain(messages.LIST, self.list)
        dispatcher.task(messages.SCALE, self._caught_up(self.scale))
        dispatcher.task(messages.STOP, self._caught_up(self.stop))
        dispatcher.task(messages.START, self._caught_up(self.start))
        dispatcher.task(messages.DESTROY, self._caught_up(self.destroy))

    def _caught_up(self, handler: Handler[P, R]) -> Handler[P, R]:
        """What a request names, and this replica does not know, may be news to it."""

        async def answer(params: P, context: Context) -> R:
            try:
                return await handler(params, context)
            except PlatformError as error:
                if error.code not in ("no-such-target", "no-such-type"):
                    raise
            await self._around.log.barrier(timeout_s=context.timeout_s)
            return await handler(params, context)

        return answer

    # -- orders ----------------------------------------------------------------------------------

    async def deploy(self, params: messages.Deploy, context: Context) -> messages.Ordered:
        specification = self.checked(params.specification, planned=params.plan)
        command = commands.DeployApplication(
            specification=specification, if_revision=params.if_revision
        )
        return await self._order(specification.name, command, params.plan, context)

    async def scale(self, params: messages.Scale, context: Context) -> messages.Ordered:
        self._state.get(params.application)
        command = commands.ScaleApplication(
            application=params.application, counts=params.counts, if_revision=params.if_revision
        )
        return await self._order(params.application, command, params.plan, context)

    async def stop(self, params: messages.Stop, context: Context) -> messages.Ordered:
        self._state.get(params.application)
        command = commands.StopApplication(application=params.application)
        return await self._order(params.application, command, params.plan, context)

    async def start(self, params: messages.Start, context: Context) -> messages.Ordered:
        self._state.get(params.application)
        command = commands.StartApplication(application=params.application)
        return await self._order(params.application, command, params.plan, context)

    async def destroy(self, params: messages.Destroy, context: Context) -> messages.Ordered:
        self._state.get(params.application)
        command = commands.DestroyApplication(
            application=params.application, volumes=params.volumes
        )
        return await self._order(params.application, command, params.plan, context)

    async def _order(
        self, name: str, command: msgspec.Struct, only_plan: bool, context: Context
    ) -> messages.Ordered:
        if only_plan:
            return await self._plan(name, command)
        timeout_s = max(context.timeout_s - limits.ANSWER_MARGIN_S, 0.0)
        result: dict[str, Any] = await self._around.log.propose(command, timeout_s=timeout_s)
        application = self._state.applications.get(name)
        steps = list[Step]()
        if application is not None:  # a destroyed one may have gone in the meantime
            steps = plan(application, present(self._around, application))
        return messages.Ordered(
            application=name,
            revision=result["revision"],
            changed=result["changed"],
            steps=steps_of(steps),
        )

    async def _plan(self, name: str, command: msgspec.Struct) -> messages.Ordered:
        known = self._state.applications.get(name)
        before = 0 if known is None else known.revision
        application = changed(self._state, command, name)
        steps = list[Step]()
        for some in preview(application, present(self._around, application)):
            steps += some
            await trio.lowlevel.checkpoint()
        return messages.Ordered(
            application=name,
            revision=before,
            changed=application.revision != before,
            steps=steps_of(steps),
        )

    # -- what is asked for -----------------------------------------------------------------------

    def checked(self, plain: dict[str, Any], *, planned: bool = False) -> Specification:
        """A specification that the cluster can be made to have; each error names its field.

        What is only `planned` may have types that are still to be pushed.
        """
        read = reading.from_plain(plain)
        roles = tuple(self._role(role, planned=planned) for role in read.roles)
        specification = replace(read, roles=roles)
        routes = []
        for route in specification.routes:
            short = route.name.removeprefix(f"{specification.name}.")
            try:
                routes.append(self._around.routes.check(route))
            except PlatformError as error:
                raise _within(error, f"routes.{short}", "route.") from None
            if not planned:
                self._check_answers(specification, f"routes.{short}.group", route.group)
        return replace(specification, routes=tuple(routes))

    def _role(self, role: Role, *, planned: bool) -> Role:
        where = f"roles.{role.name}"
        if role.source:
            raise invalid(
                f"{where}.source",
                "the directory has to be pushed first, and its type given; paas app deploy does",
                param="specification",
            )
        try:
            facts = self._around.components.type(role.type)
        except PlatformError as error:
            if planned and "@" in role.type:
                return role
            raise PlatformError(
                error.code,
                f"{where}.type: {error.message}",
                hint=error.hint,
                **{**error.data, "field": f"{where}.type"},
            ) from None
        known = replace(role, type=facts.full_name, keeps_files=facts.has_volumes)
        if known.keeps_files and role.replace == "start-first":
            raise invalid(
                f"{where}.replace",
                f"{facts.full_name} has volumes, which belong to a member's name: its successor "
                'can only follow it ("stop-first")',
                param="specification",
            )
        try:
            self._around.components.check(known)
        except PlatformError as error:
            raise _within(error, where, "") from None
        return known

    def _check_answers(self, specification: Specification, field: str, group: str) -> None:
        """Only components of the application answer for its routes."""
        role = specification.role(group.removeprefix(f"{specification.name}."))
        if role is None:
            return
        theirs = self._around.components.type(role.type).application
        if theirs != specification.name:
            raise invalid(
                field,
                f"{role.type} is of the application {theirs}, and only components of "
                f"{specification.name} answer for its routes",
                hint=f'write application = "{specification.name}" into its component.toml',
                param="specification",
            )

    # -- looking ---------------------------------------------------------------------------------

    async def status(
        self, params: messages.GetStatus, context: Context
    ) -> messages.ApplicationStatus:
        if not 0 <= params.wait <= limits.STATUS_WAIT_S_MAX:
            raise invalid(
                "wait", f"expected 0 to {limits.STATUS_WAIT_S_MAX:.0f} seconds", param="wait"
            )
        wait_s = min(params.wait, max(context.timeout_s - limits.ANSWER_MARGIN_S, 0.0))
        with trio.move_on_after(wait_s):
            while self._state.get(params.application).index == params.index:
                await self._reconciler.wait_change()
        return status(self._around, self._state.get(params.application))

    def list(self, _params: messages.ListApplications, _context: Context) -> messages.Applications:
        applications = self._state.applications
        return messages.Applications(
            applications=[listed(self._around, applications[n]) for n in sorted(applications)],
            stale_s=self._around.staleness(),
        )


def _within(error: PlatformError, where: str, prefix: str) -> PlatformError:
    """The same error about a part of the specification."""
    field = str(error.data.get("field", "")).removeprefix(prefix)
    whole = f"{where}.{field}" if field else where
    message = error.message
    for known in (f"{prefix}{field}: ", f"{field}: "):
        message = message.removeprefix(known)
    data = {**error.data, "field": whole, "param": "specification"}
    return PlatformError(error.code, f"{whole}: {message}", hint=error.hint, **data)
