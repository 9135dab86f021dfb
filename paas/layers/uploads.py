"""Layers on their way into the store (io): in pieces, and kept only when they could be unpacked.

    begin ─> append … append ─> commit: size, both digests, every entry ──> store

What was kept so is remembered until an image has it: who registers one names layers that were
looked at, by the digests that they were looked at with.  That is forgotten with the process, and
then the layer is sent again.  An upload ends with its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle.arriving import Arriving
from paas.bundle.digest import Digest
from paas.bundle.messages import Begun
from paas.bundle.store import BlobStore, Incoming
from paas.layers import limits, messages
from paas.layers.state import ImageState
from paas.oci import compression, tar_reader
from paas.oci.documents import Layer
from paas.oci.limits import LAYER_PACKED_BYTES_MAX
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing


class Uploads:
    """Handlers of `image.begin`, `image.append`, `image.commit`."""

    def __init__(
        self, store: BlobStore, state: ImageState, on_wanted: Callable[[Digest], None]
    ) -> None:
        """`on_wanted`: what was said of the layer's end is over."""
        self._store = store
        self._state = state
        self._on_wanted = on_wanted
        self._arriving = Arriving(store, LAYER_PACKED_BYTES_MAX, limits.PIECE_BYTES)
        self._checked: dict[Digest, str] = {}

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.BEGIN, self.begin)
        dispatcher.plain(messages.APPEND, self.append)
        dispatcher.task(messages.COMMIT, self.commit)

    def connection_closed(self, peer: Peer) -> None:
        """An upload ends with its connection."""
        self._arriving.closed(peer)

    def is_known(self, digest: Digest) -> bool:
        """Some image has it, or one may soon."""
        return digest in self._state.bundles or digest in self._checked

    def forget(self, digest: Digest) -> None:
        self._checked.pop(digest, None)

    def require(self, layer: Layer) -> None:
        """Raise unless the layer was verified, by both of these digests."""
        digest = digests.parse(layer.digest)
        known = self._state.bundles.get(digest)
        verified = known.diff_id if known is not None else self._checked.get(digest)
        if verified is None:
            raise PlatformError("invalid", f"layer {digest} was not sent yet", field="manifest")
        if verified != layer.diff_id:
            raise PlatformError("corrupt", f"layer {digest} is not {layer.diff_id}", digest=digest)

    def begin(self, params: messages.BeginBlob, context: Context) -> Begun:
        digest = digests.parse(params.digest)
        self._arriving.check_size(params.size)
        if self.is_known(digest) and self._store.has(digest):
            return Begun(present=True)
        upload = self._arriving.begin(context.peer, params.size)
        return Begun(present=False, upload=upload)

    def append(self, params: messages.AppendBlob, context: Context) -> Nothing:
        self._arriving.append(context.peer, params.upload, params.offset, params.data)
        return Nothing()

    async def commit(self, params: messages.CommitBlob, context: Context) -> Nothing:
        upload = self._arriving.take(context.peer, params.upload)
        try:
            digest, diff_id = digests.parse(params.digest), digests.parse(params.diff_id, "diff_id")
            self._on_wanted(digest)
            await trio.to_thread.run_sync(partial(_keep, upload, digest, diff_id))
        finally:
            upload.abort()
        while len(self._checked) >= limits.CHECKED_MAX:
            del self._checked[next(iter(self._checked))]
        self._checked[digest] = diff_id
        return Nothing()


def _keep(upload: Incoming, digest: Digest, diff_id: Digest) -> None:
    """In a worker thread: read it as unpacking will; then make it durable."""
    tar_bytes = digests.verified(compression.unpacked(upload.chunks()), diff_id)
    for _ in tar_reader.read(tar_bytes):
        pass
    upload.commit(digest)
