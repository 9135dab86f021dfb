"""The answers to `controller.snapshot`, `.rollback`, `.snapshots`, `.drop_snapshot`; and their end.

    operator ──> any hub ──> hub of the component's node ──> container controller, which keeps them

Snapshots are of one node's disk and are not in the replicated log: a component that is placed
elsewhere has none there, and finds them again when it comes back.  They end with the component:
this hub drops those of components that are destroyed or forgotten, also of what happened while it
or the container controller was away.

A rollback is an order to the container controller, and then the end of what runs: the restart that
follows begins with the snapshot's files.  It counts as a restart like any other, so a component
that is not restarted (`temporary`) cannot go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.controller import limits
from paas.controller import snapshot_messages as messages
from paas.controller.agent import Controller
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.located import Located
from paas.controller.messages import ComponentChanged, ComponentForgotten
from paas.controller.ports import Remote
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, Dispatcher, Rule
from paas.wire.registry import Nothing

_OPERATOR_OR_HUB = Rule(frozenset({"operator", "hub"}))
POLICY = {
    "controller.snapshot": _OPERATOR_OR_HUB,
    "controller.rollback": _OPERATOR_OR_HUB,
    "controller.snapshots": _OPERATOR_OR_HUB,
    "controller.drop_snapshot": _OPERATOR_OR_HUB,
}


class KeptFiles(Protocol):
    """What is asked of the node's container controller."""

    async def create(self, component: str, name: str, timeout_s: float) -> messages.Snapshot: ...

    async def rollback(self, component: str, name: str) -> None: ...

    async def kept(self, component: str) -> list[messages.Snapshot]:
        """Those of one component; empty: of all."""
        ...

    async def drop(self, component: str, name: str) -> None:
        """One of them; an empty name: all."""
        ...


class NoKeptFiles:
    """A node whose components' files cannot be kept."""

    async def create(self, component: str, name: str, timeout_s: float) -> messages.Snapshot:
        raise PlatformError("unsupported", "this node keeps no snapshots")

    async def rollback(self, component: str, name: str) -> None:
        raise PlatformError("unsupported", "this node keeps no snapshots")

    async def kept(self, component: str) -> list[messages.Snapshot]:
        return []

    async def drop(self, component: str, name: str) -> None:
        raise PlatformError("unsupported", "this node keeps no snapshots")


class SnapshotApi:
    """See the module's text.  Without `remote` there are no other nodes."""

    def __init__(
        self, controller: Controller, remote: Remote | None, files: KeptFiles, clock: Clock
    ) -> None:
        self._controller = controller
        self._state = controller.state
        self._log = controller.log
        self._located = Located(controller, remote)
        self._files = files
        self._clock = clock
        self._owners: dict[str, None] | None = None
        """Components that have snapshots here; None: to be asked for."""
        self._wake = trio.Event()

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.SNAPSHOT, self.create)
        dispatcher.task(messages.ROLLBACK, self.rollback)
        dispatcher.task(messages.SNAPSHOTS, self.kept)
        dispatcher.task(messages.DROP_SNAPSHOT, self.drop)

    # -- the requests ----------------------------------------------------------------------------

    async def create(self, params: messages.TakeSnapshot, context: Context) -> messages.Snapshot:
        instance = await self._find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.SNAPSHOT, params, instance, context)
        name = params.name or f"s{self._clock.now_ms()}"
        self._own(instance.id)
        made = await self._files.create(instance.id, name, context.timeout_s)
        return self._here(made)

    async def rollback(self, params: messages.RollBack, context: Context) -> Nothing:
        instance = await self._find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.ROLLBACK, params, instance, context)
        if instance.ended or instance.state is ComponentState.STOPPING:
            raise PlatformError("conflict", f"{instance.short} is {instance.state}")
        if instance.restart == "temporary":
            raise PlatformError(
                "conflict",
                f"{instance.short} is temporary: it is not started again, so it cannot go back",
                hint="create it with: --restart permanent",
            )
        await self._files.rollback(instance.id, params.name)
        if self._controller.pid_of(instance.id) is not None:
            await self._controller.containers.kill(instance.id)
        return Nothing()

    async def kept(self, params: messages.ListSnapshots, context: Context) -> messages.Snapshots:
        instance = await self._find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.SNAPSHOTS, params, instance, context)
        found = await self._files.kept(instance.id)
        return messages.Snapshots(snapshots=[self._here(each) for each in found])

    async def drop(self, params: messages.DropSnapshot, context: Context) -> Nothing:
        instance = await self._find(params.component, context)
        if node := self._located.elsewhere(instance, context):
            return await self._located.ask(node, messages.DROP_SNAPSHOT, params, instance, context)
        if not params.name:
            raise PlatformError("invalid", "name: expected the name of a snapshot", param="name")
        await self._files.drop(instance.id, params.name)
        return Nothing()

    def _here(self, snapshot: messages.Snapshot) -> messages.Snapshot:
        return msgspec.structs.replace(snapshot, node=self._controller.node)

    async def _find(self, target: str, context: Context) -> Instance:
        instance = await self._located.find(target, context)
        if not instance.node:
            raise PlatformError("not-available", f"{instance.short} is on no node")
        return instance

    # -- what nobody can ask for any more --------------------------------------------------------

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the replicated log."""
        for event in events:
            gone = isinstance(event, ComponentForgotten) or (
                isinstance(event, ComponentChanged) and event.state == ComponentState.DESTROYED
            )
            if isinstance(event, StateReplaced) or (gone and event.component in self._known()):
                self._wake.set()

    def _known(self) -> dict[str, None]:
        return self._owners or {}

    def _own(self, component: str) -> None:
        if self._owners is not None:
            self._owners[component] = None

    async def run(self) -> None:
        """Drop the snapshots of components that are no more, until cancelled."""
        while True:
            self._wake = wake = trio.Event()
            try:
                await self._sweep()
            except PlatformError:
                await trio.sleep(limits.PLACING_RETRY_S)
                continue  # the container controller is away: what is due stays so
            await wake.wait()

    async def _sweep(self) -> None:
        if self._owners is None:
            self._owners = {s.component: None for s in await self._files.kept("")}
        for component in list(self._owners):
            instance = self._state.instances.get(component)
            if instance is None or instance.state is ComponentState.DESTROYED:
                await self._files.drop(component, "")
                self._owners.pop(component, None)
