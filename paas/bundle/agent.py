"""Copies of bundles on several nodes, so that the loss of one loses none (io).

    upload ── spread ──> as many nodes as `copies_at_upload` says have it ── then it may be
                                                                             acknowledged
    later  ── balance ─> every node fetches what it should keep (`placement.keepers`), one bundle
                         after the other, whenever bundles or nodes have come or gone

A blob that the log does not know is removed only by a replica that has caught up with the log, and
only long after it was first seen: it may belong to an upload that another node is about to
acknowledge.  What is forgotten by the log is removed at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.bundle import limits, messages
from paas.bundle.client import Fetcher, Peers
from paas.bundle.digest import Digest
from paas.bundle.placement import copies_at_upload, keepers, ranked
from paas.bundle.store import BlobStore
from paas.wire.registry import Method, Nothing


class Sized(Protocol):
    """What is known about one of them."""

    @property
    def size(self) -> int: ...


class Known(Protocol):
    """What the log says should be kept: bundles by digest, or what else lives in such a store."""

    @property
    def bundles(self) -> Mapping[str, Sized]: ...


class Copies:
    """The copies that this node makes, has others make, and removes."""

    def __init__(
        self,
        node: str,
        store: BlobStore,
        state: Known,
        fetcher: Fetcher,
        peers: Peers,
        *,
        settled: Callable[[], bool],
        on_trouble: Callable[[str], None],
        keep: Method[messages.Keep, Nothing] = messages.KEEP,
    ) -> None:
        """`settled`: this replica has applied what the log held when it was last looked at; `keep`:
        how another node is asked.
        """
        self._keep = keep
        self._node = node
        self._store = store
        self._state = state
        self._fetcher = fetcher
        self._peers = peers
        self._settled = settled
        self._on_trouble = on_trouble
        self._forgotten: dict[Digest, None] = {}
        self._unknown: dict[Digest, float] = {}
        self._told: dict[str, None] = {}
        self._changed = trio.Event()

    # -- before an upload is acknowledged --------------------------------------------------------

    async def spread(self, digest: Digest, size: int, timeout_s: float) -> None:
        """Return when enough of the nodes that are present have it, this one counted.

        Raises `not-available` when others are present and not enough of them take it.
        """
        patience_s = max(0.1, min(timeout_s, limits.KEEP_TIMEOUT_S))
        kept: dict[str, None] = {}
        asked: dict[str, str] = {}  # node to why it did not
        with trio.move_on_after(patience_s):
            while True:
                nodes = ranked(digest, self._peers.connected())
                missing = copies_at_upload(1 + len(nodes)) - 1 - len(kept)
                if missing <= 0:
                    return
                next_ones = [n for n in nodes if n not in kept and n not in asked][:missing]
                if not next_ones:
                    break
                async with trio.open_nursery() as nursery:
                    for node in next_ones:
                        asked[node] = "it did not answer in time"
                        keep = messages.Keep(
                            digest=digest, size=size, holder=self._node, timeout=patience_s
                        )
                        nursery.start_soon(self._ask, node, keep, kept, asked)
        reasons = "; ".join(f"{n}: {why}" for n, why in asked.items() if n not in kept)
        raise PlatformError(
            "not-available",
            f"bundle {digest} is on {1 + len(kept)} nodes only, which is too few: {reasons}",
            hint="push again when the other nodes can take it: paas nodes",
            digest=digest,
        )

    async def _ask(
        self, node: str, keep: messages.Keep, kept: dict[str, None], asked: dict[str, str]
    ) -> None:
        peer = self._peers.peer(node)
        if peer is None:
            asked[node] = "it cannot be reached"
            return
        try:
            await peer.call(self._keep, keep, timeout_s=limits.KEEP_TIMEOUT_S)
            kept[node] = None
        except PlatformError as exc:
            asked[node] = exc.message

    # -- in the background -----------------------------------------------------------------------

    def changed(self) -> None:
        """Bundles or nodes have come or gone."""
        self._changed.set()

    def forget(self, digest: str) -> None:
        """The log does not know it any more."""
        self._fetcher.forget(digest)
        self._forgotten[Digest(digest)] = None
        self.changed()

    def wanted(self, digest: Digest) -> None:
        """It is being stored anew: what was said of its end is over."""
        self._forgotten.pop(digest, None)
        self._unknown.pop(digest, None)

    async def run(self) -> None:
        """Keep what this node should keep, remove what nobody knows; until cancelled."""
        collect_at = trio.current_time()
        nodes: list[str] | None = None
        complete = False
        while True:
            self._remove_forgotten()
            now_nodes = sorted(self._peers.connected())
            if self._changed.is_set() or not complete or now_nodes != nodes:
                self._changed = trio.Event()
                nodes = now_nodes
                complete = await self._balance(now_nodes)
            if trio.current_time() >= collect_at:
                await self._collect()
                collect_at = trio.current_time() + limits.COLLECT_PERIOD_S
            with trio.move_on_after(limits.BALANCE_PERIOD_S):
                await self._changed.wait()

    async def _balance(self, others: list[str]) -> bool:
        """Fetch what this node should keep; whether that is complete now."""
        complete = True
        for digest, bundle in list(self._state.bundles.items()):
            if self._node not in keepers(digest, [self._node, *others]):
                continue
            if self._store.has(Digest(digest)) or digest not in self._state.bundles:
                continue
            try:
                await self._fetcher.ensure(digest, size=bundle.size, timeout_s=math.inf)
                self._told.pop(digest, None)
            except PlatformError as exc:
                complete = False
                if digest not in self._told and len(self._told) < limits.BUNDLES_MAX:
                    self._told[digest] = None
                    self._on_trouble(f"this node should keep {digest} and cannot: {exc.message}")
            await trio.sleep(limits.BALANCE_PAUSE_S)
        return complete

    def _remove_forgotten(self) -> None:
        """In one go, without letting others in between looking and removing."""
        while self._forgotten:
            digest, _ = self._forgotten.popitem()
            if digest not in self._state.bundles:
                self._remove(digest)

    async def _collect(self) -> None:
        """Remove blobs that have been unknown to the log for long."""
        if not self._settled():
            return
        now_s = trio.current_time()
        stored = await trio.to_thread.run_sync(self._store.stored)
        unknown = [d for d in stored if d not in self._state.bundles]
        self._unknown = {d: self._unknown.get(d, now_s) for d in unknown}
        for digest, since_s in self._unknown.items():
            if now_s - since_s >= limits.COLLECT_AFTER_S:
                self._remove(digest)

    def _remove(self, digest: Digest) -> None:
        try:
            self._store.delete(digest)
        except PlatformError as exc:
            if exc.code != "no-such-bundle":  # a type refers to it
                self._on_trouble(f"{digest} is kept although the log has forgotten it: {exc}")
