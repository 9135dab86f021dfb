"""What a hub does about volumes: has them moved, copies them, drops what does not count (io).

    cluster state changes ──wake──> look what is to be done (duties.py) ──> do it, look again
                             ^──── every 2 s while something is under way ────┘

It keeps nothing but copies under way: a hub that starts anew looks and goes on.  A copy that nobody
wants any more (the move was given up) is cancelled.  What fails is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentChanged, ComponentPlaced, EmptyingChanged
from paas.node.messages import NodeChanged
from paas.raft.machine import StateReplaced
from paas.volume import duties, limits
from paas.volume.client import Copier, Files, Log, Remote
from paas.volume.commands import MoveVolumes
from paas.volume.duties import Evacuation, Fetch
from paas.volume.lifecycle import HoldingState
from paas.volume.messages import VolumesChanged
from paas.volume.state import VolumeState

_LOOK_AT = (VolumesChanged, StateReplaced)

_OF_OTHERS = (ComponentChanged, ComponentPlaced, NodeChanged)


class VolumeAgent:
    """See the module's text.

    `move_away` orders a component to end here and go on elsewhere; `choose` finds a node for the
    volumes of an owner, or none; `draining` says whether this node is being emptied.
    """

    def __init__(
        self,
        *,
        node: str,
        state: VolumeState,
        sections: Mapping[str, Any],
        log: Log,
        files: Files,
        remote: Remote,
        move_away: Callable[[Evacuation], Awaitable[None]],
        choose: Callable[[str], str],
        draining: Callable[[], float | None],
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self._node = node
        self._state = state
        self._sections = sections
        self._log = log
        self._files = files
        self._move_away = move_away
        self._choose = choose
        self._draining = draining
        self._on_trouble = on_trouble
        self._copier = Copier(node, files, remote, log)
        self._slots = trio.Semaphore(limits.COPIES_MAX)
        self._under_way: dict[Fetch, trio.CancelScope] = {}
        self._wake = trio.Event()
        self._busy = False
        self._look = False
        """May there be copies here that do not count?"""

    def state_changed(self, _index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log."""
        for event in events:
            if isinstance(event, _LOOK_AT):
                self._look = True
                self._wake.set()
            elif isinstance(event, EmptyingChanged) or (
                self._busy and isinstance(event, _OF_OTHERS)
            ):
                self._wake.set()

    def containers_connected(self) -> None:
        """The container controller answers: its copies can be compared."""
        self._look = True
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = wake = trio.Event()
                await self._round(nursery)
                if self._busy or self._look:
                    with trio.move_on_after(limits.RETRY_S):
                        await wake.wait()
                else:
                    await wake.wait()

    async def _round(self, nursery: trio.Nursery) -> None:
        for evacuation in duties.evacuations(self._state, self._sections, self._node):
            await self._try(evacuation.component, self._move_away, evacuation)
        grace_s = self._draining()
        if grace_s is not None:
            for holding in duties.departures(self._state, self._node):
                await self._try(holding.owner, self._depart, holding.owner, grace_s)
        wanted = duties.fetches(self._state, self._sections, self._node)
        for fetch, scope in list(self._under_way.items()):
            if fetch not in wanted:
                scope.cancel()
        for fetch in wanted:
            if fetch not in self._under_way:
                self._under_way[fetch] = trio.CancelScope()
                nursery.start_soon(self._fetch, fetch)
        self._busy = grace_s is not None or any(
            holding.state is HoldingState.MOVING and self._node in (holding.node, holding.to)
            for holding in self._state
        )
        if self._look:
            self._look = False
            await self._try("", self._clean)

    async def _try(self, what: str, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        try:
            await work(*given)
        except PlatformError as error:
            if error.code != "conflict":  # that it was overtaken is no trouble
                self._on_trouble(what, error)

    async def _depart(self, owner: str, grace_s: float) -> None:
        to, holding = self._choose(owner), self._state.get(owner)
        if to and holding is not None:
            order = MoveVolumes(owner=owner, epoch=holding.epoch, to=to, grace_s=grace_s)
            await self._log.propose(order, timeout_s=limits.PROPOSE_TIMEOUT_S)

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            with self._under_way[fetch]:
                async with self._slots:
                    await self._try(fetch.owner, self._copier.move, fetch)
                await trio.sleep(limits.COPY_RETRY_S)
        finally:
            del self._under_way[fetch]
            self._look = True  # a copy that was given up is rubbish
            self._wake.set()

    async def _clean(self) -> None:
        """Drop what does not count, by a state that is no older than the list."""
        try:
            copies = await self._files.copies()
            if not duties.rubbish(copies, self._state, self._node):
                return
            await self._log.barrier(timeout_s=limits.PROPOSE_TIMEOUT_S)
            left = duties.rubbish(copies, self._state, self._node)
            under_way = [(fetch.owner, fetch.copy) for fetch in self._under_way]
            for owner, epoch in left:
                if (owner, epoch) not in under_way:
                    await self._files.drop(owner, epoch)
        except PlatformError:
            self._look = True  # not there, in use still, or no leader: later
            raise

    def statistics(self) -> dict[str, Any]:
        held = sum(1 for holding in self._state if holding.node == self._node)
        return {"owners": len(self._state), "here": held, "copying": len(self._under_way)}
