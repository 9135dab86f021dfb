"""Requests about a component, answered by the hub of the node that it is on.

    operator ──> any hub ──> hub of the component's node

Whoever answers such a request looks first where the component is: here, then it goes on; or on
another node, then that node's hub is asked the same, with the identifier in place of the name and
what is left of the time.  A hub that is asked by another one does not pass it on: the component has
moved meanwhile, and who asked looks again.
"""

from __future__ import annotations

import msgspec

from paas.base.errors import PlatformError
from paas.controller.agent import Controller
from paas.controller.instances import Instance
from paas.controller.ports import Remote
from paas.rpc.dispatch import Context
from paas.wire.registry import Method, P, R

HUB = "hub"


class Located:
    """Where components are, seen from one hub.  Without `remote` there are no other nodes."""

    def __init__(self, controller: Controller, remote: Remote | None) -> None:
        self._controller = controller
        self._remote = remote

    async def find(self, target: str, context: Context) -> Instance:
        """A component that was created through another hub may be news to this one.

        Raises `no-such-target`.
        """
        instances = self._controller.state.instances
        try:
            return instances.resolve(target)
        except PlatformError as error:
            if error.code != "no-such-target":
                raise
        await self._controller.log.barrier(timeout_s=context.timeout_s)
        return instances.resolve(target)

    def elsewhere(self, instance: Instance, context: Context) -> str:
        """The node whose hub has to be asked; empty when it is this one, or none.

        Raises `not-available` when another hub believes that it is here.
        """
        if instance.node in ("", self._controller.node):
            return ""
        if HUB in context.peer.info.get("roles", ()):
            raise PlatformError("not-available", f"{instance.short} is not on this node any more")
        return instance.node

    async def ask(
        self, node: str, method: Method[P, R], params: P, instance: Instance, context: Context
    ) -> R:
        """The answer of that node's hub.  Raises `not-available` when it is out of reach."""
        if self._remote is None:
            raise PlatformError("not-available", f"{instance.short} is on {node}, out of reach")
        changes = {"component": instance.id, "timeout": context.timeout_s}
        return await self._remote.request(
            node, method, msgspec.structs.replace(params, **changes), context.timeout_s
        )
