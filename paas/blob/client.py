"""Attachments of other nodes (io): one fetch for each, piece by piece, no faster than its readers.

    piece(offset) ──> a fetch of (digest, key, node), begun if there is none
                        asks the node for FETCH_BYTES at a time, FETCH_WINDOW_BYTES under way,
                        never more than FETCH_AHEAD_BYTES beyond what its readers have asked for
                        writes them to the disk, in order; readers get what has come
                        all there: digest right? ──> the last piece is given, and it is kept here

Readers see bytes before the whole has been verified, but never the last ones: who has come to the
end has got what the digest says, or else an error.  A fetch whose readers have gone stops where it
is and ends after a while (`sweep`), so that a reader that dies costs neither the other node nor
this one more than it was ahead.  Memory: the window, whatever the size.

What has come is charged to the node, not to who reads it.  A key that another node has accepted is
good for the copy here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from paas.base.errors import PlatformError, invalid
from paas.blob import limits, messages
from paas.blob.shelf import COPY, Shelf
from paas.blob.store import AttachmentStore
from paas.bundle.client import Peers
from paas.bundle.store import Incoming

AGAIN = ("not-available", "unknown-outcome", "timeout", "limit-exceeded")
"""Errors of a piece after which it is asked for again."""


@dataclass(slots=True)
class _Flight:
    """One fetch under way."""

    digest: str
    key: str
    node: str
    reader: str
    """Whose question began it."""

    wanted: int = 0
    used_s: float = 0.0
    size: int | None = None
    upload: Incoming | None = None
    closing: bool = False
    """Nobody may begin to read what has come: it is moved, or thrown away."""

    done: bool = False
    error: PlatformError | None = None
    waiting: int = 0
    reading: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    bell: trio.Event = field(default_factory=trio.Event)

    def ring(self) -> None:
        """Something has changed for who waits."""
        self.bell.set()
        self.bell = trio.Event()

    @property
    def have(self) -> int:
        return 0 if self.upload is None else self.upload.size


class Far:
    """Attachments of other nodes, through this one.  `run` it."""

    def __init__(
        self,
        store: AttachmentStore,
        shelf: Shelf,
        peers: Peers,
        disk: trio.Lock,
        *,
        check_disk: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        """`disk` is held while contents come to their place or go; see the agent."""
        self._store = store
        self._shelf = shelf
        self._peers = peers
        self._disk = disk
        self._check_disk = check_disk
        self._on_trouble = on_trouble
        self._flights: dict[tuple[str, str, str], _Flight] = {}
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def size(self, digest: str, key: str, node: str) -> int:
        """What the other node says; raises what it answers."""
        return (await self._ask(digest, key, node, 0, 0)).size

    async def piece(
        self, digest: str, key: str, node: str, offset: int, count: int, reader: str
    ) -> tuple[bytes, bool] | None:
        """Bytes from `offset` on, and whether they are the last; waits until they have come.

        None: all of it is here now, verified.  Raises what made the fetch fail.
        """
        flight = self._flights.get((digest, key, node)) or self._begin(digest, key, node, reader)
        flight.waiting += 1
        given: bytes | None = None
        try:
            while not flight.done and given is None:
                if flight.size is not None:
                    self._want(flight, offset, count)
                if not flight.closing and offset + count < min(flight.have + 1, flight.size or 0):
                    given = await self._give(flight, offset, count)
                else:
                    await flight.bell.wait()
        finally:
            flight.used_s = trio.current_time()
            flight.waiting -= 1
        if given is not None:
            return given, False
        if flight.error is not None:
            error = flight.error
            raise PlatformError(error.code, error.message, hint=error.hint, **error.data)
        return None

    @staticmethod
    def _want(flight: _Flight, offset: int, count: int) -> None:
        """A reader asks for this; who asks for what is not there makes nobody fetch."""
        assert flight.size is not None
        if offset > flight.size:
            raise invalid("offset", f"expected at most {flight.size}, its size", param="offset")
        if offset + count > flight.wanted:
            flight.wanted = offset + count
            flight.ring()

    @staticmethod
    async def _give(flight: _Flight, offset: int, count: int) -> bytes | None:
        """None: the fetch has failed, and its file has gone."""
        assert flight.upload is not None
        flight.reading += 1
        try:
            return await trio.to_thread.run_sync(flight.upload.piece, offset, count)
        except FileNotFoundError:
            flight.closing = True
            return None
        finally:
            flight.reading -= 1
            flight.ring()

    def sweep(self, now_s: float) -> None:
        """End what nobody has asked for lately."""
        for flight in list(self._flights.values()):
            if not flight.waiting and now_s - flight.used_s >= limits.FETCH_IDLE_S:
                flight.scope.cancel()

    # -- one fetch -------------------------------------------------------------------------------

    def _begin(self, digest: str, key: str, node: str, reader: str) -> _Flight:
        theirs = sum(flight.reader == reader for flight in self._flights.values())
        if theirs >= limits.FETCHES_OF_READER_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"{theirs} attachments of other nodes are being fetched for you; try later",
            )
        if len(self._flights) >= limits.FETCHES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"{limits.FETCHES_MAX} attachments of other nodes are being fetched; try later",
            )
        if self._nursery is None:
            raise PlatformError("unavailable", "the hub is being stopped")
        flight = _Flight(digest, key, node, reader, used_s=trio.current_time())
        self._flights[digest, key, node] = flight
        self._nursery.start_soon(self._fly, flight)
        return flight

    async def _fly(self, flight: _Flight) -> None:
        error: PlatformError | None = PlatformError("unavailable", "the fetch was ended")
        try:
            with flight.scope:
                await self._fetch(flight)
                error = None
        except PlatformError as exc:
            error = exc
        except OSError as exc:
            error = PlatformError("internal", f"{flight.digest} could not be stored: {exc}")
        finally:
            flight.error, flight.done = error, True
            del self._flights[flight.digest, flight.key, flight.node]
            flight.ring()

    async def _fetch(self, flight: _Flight) -> None:
        """Return when the attachment is here, verified."""
        digest, key = flight.digest, flight.key
        size = (await self._patiently(flight, 0, 0)).size
        if not 0 <= size <= limits.OWNER_BYTES_MAX:
            raise self._wrong(flight, f"a size of {size} bytes")
        async with self._disk:
            entry = self._shelf.get(digest)
            if entry is not None:  # the same bytes, stored here by another
                self._shelf.check_room(digest, COPY, trio.current_time())
                self._shelf.add(digest, entry.size, key, COPY, trio.current_time(), checked=False)
                return
        self._shelf.charge(COPY, size, trio.current_time())
        try:
            self._check_disk()
            flight.upload = await trio.to_thread.run_sync(self._store.begin, size)
            flight.size = size
            flight.ring()
            await self._pull(flight, flight.upload)
            await self._still(flight)
            async with self._disk:
                self._shelf.check_room(digest, COPY, trio.current_time())
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(
                        self._store.keep, flight.upload, digest, key, COPY
                    )
                self._shelf.add(digest, size, key, COPY, trio.current_time())
        except PlatformError as exc:
            if exc.code == "corrupt":
                raise self._wrong(flight, "wrong bytes") from None
            raise
        finally:
            self._shelf.refund(COPY, size)
            with trio.CancelScope(shield=True):
                await self._still(flight)
                if flight.upload is not None:
                    await trio.to_thread.run_sync(flight.upload.abort)

    @staticmethod
    async def _still(flight: _Flight) -> None:
        """Nobody reads what has come, from now on."""
        flight.closing = True
        while flight.reading:
            await flight.bell.wait()

    def _wrong(self, flight: _Flight, what: str) -> PlatformError:
        self._on_trouble(f"node {flight.node} gave {what} for {flight.digest}")
        return PlatformError(
            "corrupt", f"node {flight.node} gave {what} for {flight.digest}", hint="send it again"
        )

    async def _pull(self, flight: _Flight, upload: Incoming) -> None:
        """All bytes, in order; several pieces under way, written as soon as it is their turn."""
        size = flight.size
        assert size is not None
        come: dict[int, bytes | PlatformError] = {}
        asked = 0
        failure: PlatformError | OSError | None = None
        async with trio.open_nursery() as nursery:
            while upload.size < size and failure is None:
                ahead = min(flight.wanted + limits.FETCH_AHEAD_BYTES, size)
                ahead = min(ahead, upload.size + limits.FETCH_WINDOW_BYTES)
                while asked < ahead:
                    nursery.start_soon(self._take, flight, asked, size, come)
                    asked += limits.FETCH_BYTES
                bell = flight.bell
                data = come.pop(upload.size, None)
                if data is None:
                    await bell.wait()
                elif isinstance(data, PlatformError):
                    failure = data
                else:
                    try:
                        self._check_disk()
                        await trio.to_thread.run_sync(upload.write, data)
                    except (PlatformError, OSError) as exc:  # raised here, it would be in a group
                        failure = exc
                    flight.ring()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _take(
        self,
        flight: _Flight,
        offset: int,
        size: int,
        come: dict[int, bytes | PlatformError],
    ) -> None:
        count = min(limits.FETCH_BYTES, size - offset)
        try:
            piece = await self._patiently(flight, offset, count)
        except PlatformError as exc:
            come[offset] = exc
        else:
            right = piece.size == size and len(piece.data) == count
            come[offset] = piece.data if right else PlatformError("corrupt")
        flight.ring()

    async def _patiently(self, flight: _Flight, offset: int, count: int) -> messages.Fetched:
        for _ in range(limits.FETCH_RETRIES_MAX):
            try:
                return await self._ask(flight.digest, flight.key, flight.node, offset, count)
            except PlatformError as exc:
                if exc.code not in AGAIN:
                    raise
            await trio.sleep(limits.FETCH_RETRY_S)
        return await self._ask(flight.digest, flight.key, flight.node, offset, count)

    async def _ask(
        self, digest: str, key: str, node: str, offset: int, count: int
    ) -> messages.Fetched:
        peer = self._peers.peer(node)
        if peer is None:
            raise PlatformError(
                "not-available", f"node {node}, which has the attachment, cannot be reached"
            )
        ask = messages.Fetch(blob=digest, key=key, offset=offset, size=count)
        return await peer.call(messages.FETCH, ask, timeout_s=limits.FETCH_PIECE_TIMEOUT_S)
