"""Base layers in a container controller: methods of `container.*_base` on trees and the engine.

    prepare_base ──> tree of the layers, held by the component ──> known to the engine ──> start
    destroy, or a start that failed ──> `release` ──> dropped when no name stands for it any more

The engine learns of a base here, while it runs; a container that was started keeps its tree, by the
holder's mark on the disk, whatever becomes of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.container import base_methods as methods
from paas.container.parts import Parts
from paas.container.plan import Base
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class Trees(Protocol):
    """The unpacked images of this node, by chain id; its methods block."""

    def acquire(self, layers: Sequence[Any], holder: str) -> Path: ...

    def release(self, chain: str, holder: str) -> None: ...

    def retain(self, holders: Collection[str]) -> None: ...

    def laid_out(self) -> Sequence[str]: ...

    def keep_only(self, chains: Collection[str]) -> Sequence[str]: ...

    def damaged(self, chain: str) -> list[str]: ...


class Engine(Protocol):
    """What is asked of the engine."""

    def ready(self) -> Parts: ...


class BaseFace:
    """Handlers of `container.*_base`."""

    def __init__(
        self, engine: Engine, trees: Trees, chain_of: Callable[[Sequence[str]], str]
    ) -> None:
        """`chain_of(diff ids)` names the tree that layers make."""
        self._engine = engine
        self._trees = trees
        self._chain_of = chain_of

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(methods.PREPARE, self._prepare)
        dispatcher.task(methods.RETAIN, self._retain)
        dispatcher.task(methods.CHECK, self._check)

    def retain(self, components: Collection[str]) -> None:
        """After a restart: only these still have containers."""
        self._trees.retain(components)

    def release(self, component: str) -> None:
        """The component's container is gone."""
        for chain in self._trees.laid_out():
            self._trees.release(chain, component)

    async def _prepare(
        self, params: methods.PrepareBase, _context: Context
    ) -> methods.PreparedBase:
        if not ids.is_id(params.component):
            raise invalid("component", "an identifier of 40 hexadecimal digits")
        bases = self._engine.ready().bases
        chain = self._chain_of([layer.diff_id for layer in params.layers])
        # Begun, it is finished: half a tree that nobody waits for is of no use.
        with trio.CancelScope(shield=True):
            tree = await trio.to_thread.run_sync(
                partial(self._trees.acquire, params.layers, params.component)
            )
        bases[chain] = Base(name=chain, lower=str(tree))
        return methods.PreparedBase(base=chain)

    async def _retain(self, params: methods.RetainBases, _context: Context) -> Nothing:
        bases = self._engine.ready().bases
        gone = await trio.to_thread.run_sync(partial(self._trees.keep_only, params.chains))
        for chain in gone:
            if chain not in self._trees.laid_out():  # or made again meanwhile
                bases.pop(chain, None)
        return Nothing()

    async def _check(self, params: methods.CheckBase, _context: Context) -> methods.CheckedBase:
        if params.chain not in self._trees.laid_out():
            return methods.CheckedBase(present=False, damaged=[])
        try:
            damaged = await trio.to_thread.run_sync(partial(self._trees.damaged, params.chain))
        except OSError as exc:  # removed meanwhile, or a disk that cannot be read
            raise PlatformError("not-available", f"the tree cannot be read: {exc}") from None
        return methods.CheckedBase(present=True, damaged=damaged)
