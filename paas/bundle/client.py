"""Fetching bundles from other nodes by their digest (io).

    ensure(digest) ──> here already? ──no──> one fetch per digest, whoever waits for it
                                               │ piece by piece from one node; when that one fails
                                               │ the next goes on where it stopped
                                               └ all bytes: digest right? ──> durable, in the store

Nobody is believed: bytes count when their digest is right, and nothing is under the bundle's name
before.  Who gave wrong bytes is reported and not asked for this bundle again; when several gave
some of them, each is asked for all of them, so that the right one is found.

A fetch outlives those who wait for it, so that a large bundle comes in spite of impatient callers.
It ends when the bundle is forgotten.  A crash in its middle leaves a file that the store's next
start removes.  Source: platform document §4.3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import limits, messages
from paas.bundle.digest import Digest
from paas.bundle.placement import ranked
from paas.bundle.store import BlobStore, Incoming
from paas.wire.registry import Method, P, R


class Hub(Protocol):
    """The hub of another node; a call raises PlatformError when it or the connection fails."""

    async def call(self, method: Method[P, R], params: P, *, timeout_s: float) -> R: ...


class Peers(Protocol):
    """The other nodes."""

    def peer(self, node: str) -> Hub | None:
        """None while it cannot be reached."""
        ...

    def connected(self) -> Sequence[str]:
        """Those that can be reached now."""
        ...


class NoPeers:
    """A cluster of one node."""

    def peer(self, node: str) -> Hub | None:
        return None

    def connected(self) -> Sequence[str]:
        return ()


@dataclass(slots=True)
class _Flight:
    """One fetch under way."""

    size: int
    holder: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    error: PlatformError | None = field(
        default_factory=lambda: PlatformError("unavailable", "the hub is being stopped")
    )


class Fetcher:
    """Bundles of other nodes, into this node's store.  `run` it; without, nothing is fetched."""

    def __init__(
        self,
        store: BlobStore,
        peers: Peers,
        *,
        size_of: Callable[[str], int | None],
        on_stored: Callable[[str], None],
        on_trouble: Callable[[str], None],
        fetch: Method[messages.Fetch, messages.Piece] = messages.FETCH,
    ) -> None:
        """`size_of`: what the log says; `on_trouble` gets what an operator should know; `fetch`:
        how another node is asked for bytes.
        """
        self._method = fetch
        self._store = store
        self._peers = peers
        self._size_of = size_of
        self._on_stored = on_stored
        self._on_trouble = on_trouble
        self._flights: dict[Digest, _Flight] = {}
        self._accused: dict[Digest, list[str]] = {}
        self._slots = trio.Semaphore(limits.FETCHES_MAX)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def ensure(
        self,
        content: str,
        *,
        size: int | None = None,
        holder: str = "",
        timeout_s: float = limits.FETCH_WAIT_S,
        doubt: bool = False,
    ) -> None:
        """Return when the bundle is in the store.

        `size`: of a bundle that the log does not know yet; `holder`: a node that has it; `doubt`:
        read what is there, and fetch it anew if it is damaged.  Raises `not-available` naming the
        bundle when it does not come in time or nobody has it, `no-such-bundle` when it is unknown
        or was forgotten, `storage-full`.
        """
        digest = digests.parse(content)
        if self._nursery is None or await self._is_here(digest, doubt):
            return
        flight = self._flights.get(digest)
        if flight is None:
            known = self._size_of(digest) or size
            if known is None:
                raise PlatformError("no-such-bundle", f"no bundle {digest} is known", digest=digest)
            flight = self._flights[digest] = _Flight(known, holder)
            self._nursery.start_soon(self._fly, digest, flight)
        with trio.move_on_after(timeout_s):
            await flight.done.wait()
        if not flight.done.is_set():
            raise _missing(digest, "it is still being fetched from another node")
        if flight.error is not None:
            error = flight.error
            raise PlatformError(error.code, error.message, hint=error.hint, **error.data)

    def forget(self, content: str) -> None:
        """The cluster does not know the bundle any more: a fetch of it ends."""
        digest = Digest(content)
        self._accused.pop(digest, None)
        if digest in self._flights:
            self._flights[digest].scope.cancel()

    async def _is_here(self, digest: Digest, doubt: bool) -> bool:
        if not self._store.has(digest):
            return False
        return not doubt or await trio.to_thread.run_sync(self._is_whole, digest)

    def _is_whole(self, digest: Digest) -> bool:
        try:
            for _ in self._store.chunks(digest):
                pass
        except PlatformError:
            self._on_trouble(f"the stored bundle {digest} is damaged; it is fetched anew")
            return False
        return True

    # -- one fetch -------------------------------------------------------------------------------

    async def _fly(self, digest: Digest, flight: _Flight) -> None:
        try:
            with flight.scope:
                async with self._slots:
                    await self._fetch(digest, flight)
            if flight.scope.cancel_called:
                flight.error = PlatformError("no-such-bundle", f"{digest} was removed")
            else:
                flight.error = None
                self._on_stored(digest)
        except PlatformError as exc:
            flight.error = exc
        except OSError as exc:
            flight.error = PlatformError("internal", f"{digest} could not be stored: {exc}")
        finally:
            del self._flights[digest]
            flight.done.set()

    async def _fetch(self, digest: Digest, flight: _Flight) -> None:
        """Return when the bundle is kept; raises `not-available`, `storage-full`."""
        gave = await self._attempt(digest, flight.size, self._sources(digest, flight.holder))
        if not gave:
            return
        if len(gave) == 1:
            self._accuse(digest, gave[0])
        # Wrong bytes: from now on all of them from one node, then from another.
        for node in self._sources(digest, flight.holder):
            try:
                gave = await self._attempt(digest, flight.size, [node])
            except PlatformError as exc:
                if exc.code != "not-available":
                    raise
                continue
            if not gave:
                return
            self._accuse(digest, node)
        raise _missing(digest, "no node that is present has it undamaged")

    def _sources(self, digest: Digest, holder: str) -> list[str]:
        """Whom to ask, the likeliest first."""
        accused = self._accused.get(digest, ())
        nodes = [n for n in ranked(digest, self._peers.connected()) if n not in accused]
        return sorted(nodes, key=lambda node: node != holder)

    async def _attempt(self, digest: Digest, size: int, sources: list[str]) -> list[str]:
        """Keep what these nodes give.  Returns nothing, or who gave the bytes if they are wrong.

        Raises `not-available` when they do not give all.
        """
        with await trio.to_thread.run_sync(self._store.begin, size) as upload:
            try:
                gave = await self._gather(upload, digest, size, sources)
            except _WrongSizeError as exc:
                return [exc.node]
            try:
                await trio.to_thread.run_sync(upload.commit, digest)
            except PlatformError as exc:
                if exc.code != "corrupt":
                    raise
                return gave
        return []

    async def _gather(
        self, upload: Incoming, digest: Digest, size: int, sources: list[str]
    ) -> list[str]:
        """All bytes, from one after the other; returns who gave some."""
        gave: dict[str, None] = {}
        reasons: list[str] = []
        more = True
        while more:
            more = False
            for node in sources:
                had = upload.size
                try:
                    await self._pull(upload, digest, node, size)
                except PlatformError as exc:
                    if exc.code == "storage-full":
                        raise
                    reasons.append(f"{node}: {exc.message}")
                if upload.size > had:
                    gave[node] = None
                    more = True
                if upload.size == size:
                    return list(gave)
            if more:  # some has come: whoever gave it may be back soon
                await trio.sleep(limits.FETCH_PAUSE_S)
        raise _missing(digest, "; ".join(reasons[-5:]) or "no other node is present")

    async def _pull(self, upload: Incoming, digest: Digest, node: str, size: int) -> None:
        """Take pieces from one node until all have come; raises what made it stop."""
        while upload.size < size:
            peer = self._peers.peer(node)
            if peer is None:
                raise PlatformError("not-available", "it cannot be reached")
            wanted = min(limits.PIECE_BYTES, size - upload.size)
            ask = messages.Fetch(digest=digest, offset=upload.size, limit=wanted)
            piece = await peer.call(self._method, ask, timeout_s=limits.PIECE_TIMEOUT_S)
            if piece.size != size or len(piece.data) != wanted:
                raise _WrongSizeError(node)
            await trio.to_thread.run_sync(upload.write, piece.data)

    def _accuse(self, digest: Digest, node: str) -> None:
        """It gave bytes that are not the bundle: by a damaged disk, or on purpose."""
        while len(self._accused) >= limits.ACCUSED_MAX and digest not in self._accused:
            del self._accused[next(iter(self._accused))]
        self._accused.setdefault(digest, []).append(node)
        self._on_trouble(f"node {node} gave wrong bytes for {digest}; it is not asked again")


class _WrongSizeError(Exception):
    """A piece, or the whole, is not as long as it should be."""

    def __init__(self, node: str) -> None:
        self.node = node
        super().__init__(node)


def _missing(digest: Digest, why: str) -> PlatformError:
    return PlatformError(
        "not-available",
        f"bundle {digest} is not on this node: {why}",
        hint="start the nodes that have it, or push it again: paas push DIR",
        digest=digest,
    )
