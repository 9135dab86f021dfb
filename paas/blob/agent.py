"""Handlers of attachments beyond a message's size (io): one for each node's hub.

    component ── begin, append …, commit ──> store                     on the sender's node
    component ── read … ──> here? ── yes ──> store
                              └ no ── Far ──> blob.fetch at the hub of the node the item names

An upload belongs to its owner (a component, or the operators together), not to a connection: its
number is random and its pieces may come over another connection.  Pieces are written in the order
in which they come, in worker threads; each says its offset, so that one whose answer was lost can
be sent again and is told where to go on.  Bounded are the pieces that wait, the reads under way of
a connection, and the bytes queued towards whoever reads: memory does not depend on sizes.

`disk` is held while a content comes to its place or goes, so that one that is stored again is not
taken for the one that has just expired.  What expires is looked for while there is anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from paas.base.errors import PlatformError, invalid
from paas.base.limits import NAME_LENGTH_MAX
from paas.base.ports import Entropy
from paas.blob import limits, messages
from paas.blob.client import Far
from paas.blob.shelf import Entry, Gone, Shelf
from paas.blob.store import AttachmentStore
from paas.bundle import digest as digests
from paas.bundle.client import NoPeers, Peers
from paas.bundle.store import Incoming
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing

OPERATOR = "operator"
"""The owner of what any operator stores."""

HINT = "attachments are removed some minutes after their last use: have it sent again"


@dataclass(slots=True)
class Upload:
    """Bytes on their way to the disk."""

    owner: str
    size: int | None
    incoming: Incoming
    used_s: float
    waiting: int = 0
    ended: bool = False
    turn: trio.Lock = field(default_factory=trio.Lock)


@dataclass(slots=True)
class Reading:
    """The reads under way of one connection."""

    count: int = 0
    turn: trio.Lock = field(default_factory=trio.Lock)
    """Whose piece is read from the disk; released when the answer is queued."""


class Attachments:
    """See the module's text.  `run` it."""

    def __init__(
        self,
        node: str,
        store: AttachmentStore,
        entropy: Entropy,
        *,
        peers: Peers | None = None,
        lives: Callable[[str], bool] = lambda component: True,
        on_trouble: Callable[[str], None] = lambda text: None,
        shelf: Shelf | None = None,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """`lives`: is there still such a component, as far as this node knows?"""
        self._node = node
        self._store = store
        self._entropy = entropy
        self._lives = lives
        self._on_trouble = on_trouble
        self._free_bytes = free_bytes or store.free_bytes
        self.shelf = Shelf() if shelf is None else shelf
        self._disk = trio.Lock()
        self.far = Far(
            store,
            self.shelf,
            peers or NoPeers(),
            self._disk,
            check_disk=self._check_disk,
            on_trouble=on_trouble,
        )
        self._uploads: dict[int, Upload] = {}
        self._reading: dict[Peer, Reading] = {}
        self._checking: dict[str, trio.Lock] = {}
        self._busy = trio.Event()

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.BEGIN, self._begin)
        dispatcher.task(messages.APPEND, self._append)
        dispatcher.task(messages.COMMIT, self._commit)
        dispatcher.task(messages.READ, self._read, while_connected=True)
        dispatcher.task(messages.INFO, self._info, while_connected=True)
        dispatcher.task(messages.FETCH, self._fetch, while_connected=True)
        dispatcher.task(messages.RELEASE, self._release)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take over what has survived; fetch, and remove what has expired, until cancelled."""
        now_s = trio.current_time()
        for digest, size, grants in await trio.to_thread.run_sync(self._store.load):
            for key, owner in grants:
                self.shelf.add(digest, size, key, owner, now_s, checked=False)
            self._busy.set()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.far.run)
            task_status.started()
            while True:
                await self._busy.wait()
                await trio.sleep(limits.SWEEP_PERIOD_S)
                await self.sweep()
                if not (len(self.shelf) or self._uploads or len(self.far)):
                    self._busy = trio.Event()

    async def sweep(self) -> None:
        """Remove what has not been used for its time."""
        now_s = trio.current_time()
        self.far.sweep(now_s)
        for number, upload in list(self._uploads.items()):
            if not upload.waiting and now_s - upload.used_s >= limits.UPLOAD_IDLE_S:
                await self._drop(number, upload)
        self.shelf.sweep(now_s, lambda owner: owner == OPERATOR or self._lives(owner))
        await self._remove_gone()

    async def _remove_gone(self) -> None:
        """Carry out what the shelf has decided."""
        async with self._disk:
            for gone in self.shelf.take_gone():
                try:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(self._remove, gone)
                except OSError as exc:  # the next start tries again
                    self._on_trouble(f"{gone.digest} could not be removed: {exc}")

    def _remove(self, gone: Gone) -> None:
        """In a worker thread, while `disk` is held: unless it was stored again meanwhile."""
        entry = self.shelf.get(gone.digest)
        if gone.owner and (entry is None or gone.key not in entry.grants):
            self._store.revoke(gone.digest, gone.key, gone.owner)
        if gone.last and entry is None:
            self._store.delete(gone.digest)

    # -- storing ---------------------------------------------------------------------------------

    async def _begin(self, params: messages.Begin, context: Context) -> messages.Begun:
        owner = _owner(context.peer)
        if params.size is not None and params.size < 0:
            raise invalid("size", "expected 0 or more", param="size")
        theirs = sum(1 for upload in self._uploads.values() if upload.owner == owner)
        if theirs >= limits.UPLOADS_OF_OWNER_MAX:
            text = f"{theirs} of your uploads are under way; end one, or try later"
            raise PlatformError("limit-exceeded", text)
        if len(self._uploads) >= limits.UPLOADS_MAX:
            text = f"{len(self._uploads)} uploads are under way on this node; try later"
            raise PlatformError("limit-exceeded", text)
        self._check_disk()
        if params.size:
            # Asked only: bytes count as they come.
            self.shelf.charge(owner, params.size, trio.current_time())
            self.shelf.refund(owner, params.size)
        number = 0
        while not number or number in self._uploads:
            number = int.from_bytes(self._entropy.bytes(6), "big")  # exact in every JSON reader
        most = limits.OWNER_BYTES_MAX if params.size is None else params.size
        incoming = self._store.begin(most)
        self._uploads[number] = Upload(owner, params.size, incoming, trio.current_time())
        self._busy.set()
        await self._remove_gone()
        return messages.Begun(upload=number)

    def _check_disk(self) -> None:
        if self._free_bytes() < limits.DISK_FREE_BYTES_MIN:
            raise PlatformError(
                "storage-full",
                "the disk of this node has too little left for attachments",
                hint="free space on the state directory's file system",
            )

    def _upload(self, number: int, peer: Peer) -> Upload:
        upload = self._uploads.get(number)
        if upload is None or upload.owner != _owner(peer):
            raise PlatformError(
                "no-such-target",
                f"no upload {number} is under way",
                hint="an upload ends a minute after its last piece: begin again, blob.begin",
            )
        return upload

    @asynccontextmanager
    async def _turn(self, number: int, peer: Peer) -> AsyncIterator[Upload]:
        """The upload, when the pieces that came before have been written."""
        upload = self._upload(number, peer)
        if upload.waiting >= limits.APPENDS_WAITING_MAX:
            raise PlatformError(
                "limit-exceeded", f"{upload.waiting} pieces of this upload wait already"
            )
        upload.waiting += 1
        try:
            async with upload.turn:
                self._upload(number, peer)
                yield upload
        finally:
            upload.waiting -= 1
            upload.used_s = trio.current_time()

    async def _append(self, params: messages.Append, context: Context) -> Nothing:
        if len(params.data) > limits.PIECE_BYTES_MAX:
            raise invalid("data", f"expected at most {limits.PIECE_BYTES_MAX} bytes", param="data")
        async with self._turn(params.upload, context.peer) as upload:
            have, count = upload.incoming.size, len(params.data)
            if params.offset != have:
                raise invalid("offset", f"expected {have}", param="offset", next=have)
            if upload.size is not None and have + count > upload.size:
                raise invalid("data", f"{upload.size} bytes were announced", param="data")
            self._check_disk()
            self.shelf.charge(upload.owner, count, trio.current_time())
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(upload.incoming.write, params.data)
            except (PlatformError, OSError):
                # What has been written is gone, and with it the upload.
                upload.ended = True
                del self._uploads[params.upload]
                self.shelf.refund(upload.owner, have + count)
                raise
        await self._remove_gone()
        return Nothing()

    async def _commit(self, params: messages.Commit, context: Context) -> messages.Stored:
        async with self._turn(params.upload, context.peer) as upload:
            incoming, owner = upload.incoming, upload.owner
            if upload.size is not None and incoming.size != upload.size:
                raise invalid(
                    "upload", f"{incoming.size} of the announced {upload.size} bytes have come"
                )
            size, digest = incoming.size, incoming.digest
            try:
                if params.digest is not None and digests.parse(params.digest) != digest:
                    raise PlatformError(
                        "corrupt", f"the {size} bytes have the digest {digest}, not {params.digest}"
                    )
                key = await self._keep(incoming, digest, size, owner)
            finally:
                await self._drop(params.upload, upload)
        await self._remove_gone()
        return messages.Stored(blob=digest, size=size, node=self._node, key=key)

    async def _keep(self, incoming: Incoming, digest: str, size: int, owner: str) -> str:
        """Under its digest and a key; what its owner has stored already keeps its key."""
        async with self._disk:
            known = self.shelf.key_of(digest, owner)
            key = known or self._entropy.bytes(limits.KEY_BYTES).hex()
            if not known:
                self.shelf.check_room(digest, owner, trio.current_time())
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.keep, incoming, digest, key, owner)
            self.shelf.add(digest, size, key, owner, trio.current_time())
            return key

    async def _drop(self, number: int, upload: Upload) -> None:
        if not upload.ended:
            upload.ended = True
            del self._uploads[number]
            self.shelf.refund(upload.owner, upload.incoming.size)
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(upload.incoming.abort)
            except OSError as exc:  # the next start tries again
                self._on_trouble(f"an upload could not be removed: {exc}")

    async def _release(self, params: messages.Release, context: Context) -> Nothing:
        digest = digests.parse(params.blob, "blob")
        if not self.shelf.release(digest, params.key, _owner(context.peer)):
            raise _missing(digest, self._node)
        await self._remove_gone()
        return Nothing()

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, params: messages.Read, context: Context) -> messages.Piece:
        digest = _checked(params.blob, params.key, params.node)
        if params.offset < 0:
            raise invalid("offset", "expected 0 or more", param="offset")
        if not 0 < params.size <= limits.PIECE_BYTES_MAX:
            raise invalid("size", f"expected 1 to {limits.PIECE_BYTES_MAX} bytes", param="size")
        async with self._reading_of(context.peer, limits.READS_MAX) as reading:
            await _drained(context.peer)
            piece = None
            entry = self.shelf.find(digest, params.key, trio.current_time())
            if entry is None and params.node not in ("", self._node):
                self._busy.set()
                piece = await self.far.piece(
                    digest,
                    params.key,
                    params.node,
                    params.offset,
                    params.size,
                    _owner(context.peer),
                )
                await self._remove_gone()
                entry = self.shelf.find(digest, params.key, trio.current_time())
            if piece is None:
                if entry is None:
                    raise _missing(digest, params.node or self._node)
                async with reading.turn:  # nothing waits between its release and the answer
                    await _drained(context.peer)
                    piece = await self._here(entry, params.offset, params.size)
            return messages.Piece(data=piece[0], eof=piece[1])

    async def _here(self, entry: Entry, offset: int, count: int) -> tuple[bytes, bool]:
        """Bytes of what is on this node's disk, and whether they are the last."""
        if offset > entry.size:
            raise invalid("offset", f"expected at most {entry.size}, its size", param="offset")
        try:
            await self._check(entry)
            data = await trio.to_thread.run_sync(self._store.piece, entry.digest, offset, count)
        except PlatformError as exc:
            if exc.code != "corrupt":
                raise
            if self.shelf.get(entry.digest) is not entry:  # released while it was being read
                raise _missing(entry.digest, self._node) from None
            self._on_trouble(f"the attachment {entry.digest} is damaged and was removed")
            self.shelf.discard(entry.digest)
            await self._remove_gone()
            raise
        return data, offset + len(data) >= entry.size

    async def _check(self, entry: Entry) -> None:
        """What was there before this process is read once as a whole, before it is believed."""
        while not entry.checked:
            turn = self._checking.setdefault(entry.digest, trio.Lock())
            async with turn:
                try:
                    if not entry.checked:
                        await trio.to_thread.run_sync(self._store.check, entry.digest)
                        entry.checked = True
                except PlatformError:
                    if not entry.checked:  # else it was stored again meanwhile, and is whole
                        raise
                finally:
                    self._checking.pop(entry.digest, None)

    @asynccontextmanager
    async def _reading_of(self, peer: Peer, most: int) -> AsyncIterator[Reading]:
        reading = self._reading.get(peer) or Reading()
        if reading.count >= most:
            text = f"{reading.count} reads of yours are under way already"
            raise PlatformError("limit-exceeded", text)
        self._reading[peer] = reading
        reading.count += 1
        try:
            yield reading
        finally:
            reading.count -= 1
            if not reading.count:
                del self._reading[peer]

    async def _info(self, params: messages.Info, context: Context) -> messages.InfoResult:
        digest = _checked(params.blob, params.key, params.node)
        entry = self.shelf.find(digest, params.key, trio.current_time())
        if entry is not None:
            return messages.InfoResult(size=entry.size, here=True)
        if params.node in ("", self._node):
            raise _missing(digest, self._node)
        async with self._reading_of(context.peer, limits.READS_MAX):
            size = await self.far.size(digest, params.key, params.node)
        return messages.InfoResult(size=size, here=False)

    async def _fetch(self, params: messages.Fetch, context: Context) -> messages.Fetched:
        """For the hub of another node."""
        digest = _checked(params.blob, params.key, "")
        if params.offset < 0:
            raise invalid("offset", "expected 0 or more", param="offset")
        if not 0 <= params.size <= limits.FETCH_BYTES:
            raise invalid("size", f"expected 0 to {limits.FETCH_BYTES} bytes", param="size")
        async with self._reading_of(context.peer, limits.SERVED_MAX) as reading, reading.turn:
            await _drained(context.peer)
            entry = self.shelf.find(digest, params.key, trio.current_time())
            if entry is None:
                raise _missing(digest, self._node)
            data = b""
            if params.size:
                data, _ = await self._here(entry, params.offset, params.size)
            return messages.Fetched(data=data, size=entry.size)

    def statistics(self) -> dict[str, Any]:
        return {
            "stored": len(self.shelf),
            "bytes": self.shelf.total,
            "uploads": len(self._uploads),
            "fetches": len(self.far),
        }


def _owner(peer: Peer) -> str:
    component = peer.info.get("component")
    return component if isinstance(component, str) else OPERATOR


def _checked(blob: str, key: str, node: str) -> str:
    """The digest, once all three have the right form."""
    digest = digests.parse(blob, "blob")
    if len(key) != 2 * limits.KEY_BYTES:
        raise invalid("key", "expected the key that came with the attachment", param="key")
    if len(node) > NAME_LENGTH_MAX:
        raise invalid("node", f"expected at most {NAME_LENGTH_MAX} characters", param="node")
    return digest


def _missing(digest: str, node: str) -> PlatformError:
    """Also when the key is wrong: who does not know it need not know what is here."""
    return PlatformError(
        "no-such-target",
        f"node {node} has no attachment {digest} for this key",
        hint=HINT,
        blob=digest,
    )


async def _drained(peer: Peer) -> None:
    """Wait while much is queued towards it."""
    while peer.link.queued_bytes > limits.LINK_PAUSE_BYTES and not peer.closed:  # noqa: ASYNC110
        await trio.sleep(limits.LINK_POLL_S)
