"""The face of `living.py`: `container.resize`, `container.freeze`, `container.thaw`.

What was begun is finished or undone whatever becomes of the asker.
"""

from __future__ import annotations

from typing import Protocol

import trio

from paas.container import messages, methods
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class LivingContainers(Protocol):
    """What is needed of `paas.container.living.Living`."""

    async def resize(self, component: str, wanted: messages.Limits) -> None: ...

    async def freeze(self, component: str) -> None: ...

    async def thaw(self, component: str) -> None: ...


class LivingFace:
    """Handlers; see the module's text."""

    def __init__(self, living: LivingContainers) -> None:
        self._living = living

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(methods.RESIZE, self._resize)
        dispatcher.task(methods.FREEZE, self._freeze)
        dispatcher.task(methods.THAW, self._thaw)

    async def _resize(self, params: methods.ResizeContainer, _context: Context) -> Nothing:
        with trio.CancelScope(shield=True):
            await self._living.resize(params.component, params.limits)
        return Nothing()

    async def _freeze(self, params: methods.FreezeContainer, _context: Context) -> Nothing:
        with trio.CancelScope(shield=True):
            await self._living.freeze(params.component)
        return Nothing()

    async def _thaw(self, params: methods.ThawContainer, _context: Context) -> Nothing:
        await self._living.thaw(params.component)
        return Nothing()
