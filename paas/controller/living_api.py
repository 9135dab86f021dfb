"""The answers to `controller.resize`, `.freeze`, `.thaw` and `.why`.

    operator ──> any hub ──> hub of the component's node ──┬──> container controller: try
                                                           └──> replicated log: write down

A resize is tried first and written down then: what the kernel refuses (memory that is in use) never
becomes what is wanted.  If it cannot be written down the old bounds are put back.  A freeze is
written down first, so that nobody sends anything to it any more, and taken back if it cannot be
done.  A thaw is done first, so that it answers at once.  Whatever is left half done by a crash is
finished by the component's keeper (standing.py), towards what is written.

Without a container that runs (it is being started, or started again) only the record changes, and
the next incarnation begins with it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.container.messages import Limits
from paas.controller import commands, limits, messages
from paas.controller.agent import Controller
from paas.controller.bounds import check_changes, container_limits, declared
from paas.controller.instances import Instance
from paas.controller.located import Located
from paas.controller.ports import LogTail, Remote
from paas.controller.why import explain
from paas.rpc.dispatch import Context, Dispatcher


class LivingApi:
    """See the module's text.  Without `remote` there are no other nodes."""

    def __init__(self, controller: Controller, remote: Remote | None, log_tail: LogTail) -> None:
        self._controller = controller
        self._state = controller.state
        self._log = controller.log
        self._located = Located(controller, remote)
        self._log_tail = log_tail

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.RESIZE, self.resize)
        dispatcher.task(messages.FREEZE, self.freeze)
        dispatcher.task(messages.THAW, self.thaw)
        dispatcher.plain(messages.WHY, self.why)

    def _runs(self, instance: Instance) -> bool:
        return self._controller.pid_of(instance.id) is not None

    # -- other bounds ----------------------------------------------------------------------------

    async def resize(self, params: messages.Resize, context: Context) -> messages.Resized:
        changes = check_changes(params.limits)
        instance = await self._located.find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.RESIZE, params, instance, context)
        types = self._state.types
        manifest = types.manifest(types.resolve(instance.type))
        async with self._controller.adjusting.hold(instance.id):
            before = dict(instance.resized)
            after = {**before, **changes}
            await self._try(instance, container_limits(manifest, after))
            command = commands.ResizeInstance(component=instance.id, limits=changes)
            try:
                await self._log.propose(command, timeout_s=context.timeout_s)
            except PlatformError:
                with contextlib.suppress(PlatformError):  # then its keeper does it
                    await self._try(instance, container_limits(manifest, before))
                raise
        return messages.Resized(
            component=instance.id, limits=msgspec.to_builtins(declared(manifest, after))
        )

    async def _try(self, instance: Instance, wanted: Limits) -> None:
        if self._runs(instance):
            await self._controller.containers.resize(instance.id, wanted)

    # -- standing still --------------------------------------------------------------------------

    async def freeze(self, params: messages.Freeze, context: Context) -> messages.Frozen:
        instance = await self._located.find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.FREEZE, params, instance, context)
        command = commands.FreezeInstance(component=instance.id)
        await self._log.propose(command, timeout_s=context.timeout_s)
        if self._runs(instance):
            try:
                await self._controller.containers.freeze(instance.id)
            except PlatformError as error:
                if error.code != "timeout":
                    raise
                await self._thawed(instance, context.timeout_s)
                raise
        return self._frozen(instance)

    async def thaw(self, params: messages.Thaw, context: Context) -> messages.Frozen:
        instance = await self._located.find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.THAW, params, instance, context)
        if self._runs(instance):
            await self._controller.containers.thaw(instance.id)
        await self._thawed(instance, context.timeout_s)
        return self._frozen(instance)

    async def _thawed(self, instance: Instance, timeout_s: float) -> None:
        command = commands.ThawInstance(
            component=instance.id,
            incarnation=instance.incarnation,
            ready=self._controller.is_ready(instance.id),
        )
        await self._log.propose(command, timeout_s=timeout_s)

    def _frozen(self, instance: Instance) -> messages.Frozen:
        now = self._state.instances.get(instance.id) or instance
        return messages.Frozen(component=now.id, state=str(now.state), frozen=now.frozen)

    # -- why -------------------------------------------------------------------------------------

    def why(self, params: messages.Why, _context: Context) -> messages.Explanation:
        instance = self._state.instances.resolve(params.component)
        facts: dict[str, Any] = dict(instance.facts)
        return messages.Explanation(
            component=instance.id,
            state=str(instance.state),
            reason=instance.unplaced or instance.reason,
            text=explain(instance),
            facts=facts,
            log=self._log_tail.tail(instance.id, limits.LOG_LINES_IN_ERRORS),
        )
