"""Uploads of bundles: the face of the blob store and of the cluster's knowledge about bundles.

    begin ──> append … append ──> commit: size, digest, signature, archive ──> blob ──> log

Nothing is kept before all of it was verified: the bytes have the announced digest, the signature
over them is of a trusted publisher, and the archive could be unpacked (a dry run by the same code
that unpacks it on a node).  Then the blob is made durable, and after it the command that makes the
bundle known; a crash between leaves a blob that nobody knows, which the next start collects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.bundle import digest as digests
from paas.bundle import limits, messages, signature
from paas.bundle.build import manifest_of
from paas.bundle.state import BundleForgotten, BundleState, BundleStored, PublisherTrusted
from paas.bundle.store import BlobStore, Incoming
from paas.controller.messages import TypeRegistered, TypeUnregistered
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing

PIECE_BYTES_MAX = 2 << 20


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


class TypeUsers(Protocol):
    """Who refers to a bundle."""

    def types_of(self, digest: str) -> list[str]: ...


class Bundles:
    """Handlers of `bundle.*`."""

    def __init__(self, store: BlobStore, state: BundleState, log: Log, users: TypeUsers) -> None:
        self._store = store
        self._state = state
        self._log = log
        self._users = users
        self._uploads: dict[tuple[Peer, int], tuple[Incoming, int]] = {}
        self._last = 0

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.BEGIN, self._begin)
        dispatcher.plain(messages.APPEND, self._append)
        dispatcher.task(messages.COMMIT, self._commit)
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.task(messages.TRUST, self._trust)
        dispatcher.task(messages.REMOVE, self._remove)

    def connection_closed(self, peer: Peer) -> None:
        """An upload ends with its connection."""
        for key in [k for k in self._uploads if k[0] is peer]:
            self._uploads.pop(key)[0].abort()

    def collect(self) -> None:
        """At a start: note who refers to what, and remove blobs that the log does not know."""
        for digest in self._state.bundles:
            for user in self._users.types_of(digest):
                self._refer(digest, user)
        self._store.collect(keep={digests.parse(d) for d in self._state.bundles})

    def state_changed(self, _index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log: types hold the bundles that they are made of."""
        for event in events:
            if isinstance(event, TypeRegistered):
                self._refer(event.bundle, event.type)
            elif isinstance(event, TypeUnregistered):
                self._store.release(digests.parse(event.bundle), event.type)

    def _refer(self, digest: str, user: str) -> None:
        """A blob that is missing here is no reason to stop: it is asked for when it is needed."""
        with contextlib.suppress(PlatformError):
            self._store.refer(digests.parse(digest), user)

    # -- uploads ---------------------------------------------------------------------------------

    def _begin(self, params: messages.Begin, context: Context) -> messages.Begun:
        digest = digests.parse(params.digest)
        if not 0 < params.size <= limits.BUNDLE_BYTES_MAX:
            raise invalid("size", f"expected 1 to {limits.BUNDLE_BYTES_MAX} bytes", param="size")
        if digest in self._state.bundles and self._store.has(digest):
            return messages.Begun(present=True)
        self._last += 1
        self._uploads[context.peer, self._last] = self._store.begin(params.size), params.size
        return messages.Begun(present=False, upload=self._last)

    def _append(self, params: messages.Append, context: Context) -> Nothing:
        upload, _ = self._upload(context.peer, params.upload)
        if params.offset != upload.size:
            raise invalid("offset", f"expected {upload.size}, the next byte", param="offset")
        if len(params.data) > PIECE_BYTES_MAX:
            raise invalid("data", f"expected at most {PIECE_BYTES_MAX} bytes", param="data")
        upload.write(params.data)
        return Nothing()

    def _upload(self, peer: Peer, number: int) -> tuple[Incoming, int]:
        try:
            return self._uploads[peer, number]
        except KeyError:
            raise PlatformError(
                "no-such-target", f"this connection has no upload {number}"
            ) from None

    async def _commit(self, params: messages.Commit, context: Context) -> Nothing:
        upload, size = self._upload(context.peer, params.upload)
        del self._uploads[context.peer, params.upload]
        digest = digests.parse(params.digest)
        try:
            if upload.size != size:
                text = f"{upload.size} of the announced {size} bytes have come"
                raise PlatformError("corrupt", text)
            made_by = signature.verify(params.signature, upload.prehash, self._state.trusted())
            await trio.to_thread.run_sync(partial(_keep, upload, digest))
        finally:
            upload.abort()
        command = BundleStored(
            digest=digest, size=size, signature=params.signature, publisher=made_by.key_id
        )
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    # -- the rest --------------------------------------------------------------------------------

    def _list(self, _params: messages.List, _context: Context) -> messages.Bundles:
        return messages.Bundles(
            bundles=[
                messages.BundleInfo(
                    digest=digest,
                    size=known.size,
                    publisher=known.publisher,
                    types=self._users.types_of(digest),
                )
                for digest, known in sorted(self._state.bundles.items())
            ]
        )

    async def _trust(self, params: messages.Trust, context: Context) -> messages.Trusted:
        key = signature.parse_public_key(params.public_key)
        command = PublisherTrusted(key_id=key.key_id, public_key=key.line(), name=params.name)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.Trusted(key_id=key.key_id)

    async def _remove(self, params: messages.Remove, context: Context) -> Nothing:
        digest = digests.parse(params.digest)
        self._state.bundle(digest)
        users = self._users.types_of(digest)
        if users:
            raise PlatformError("conflict", f"{digest} is used by {', '.join(users[:5])}")
        await self._log.propose(BundleForgotten(digest=digest), timeout_s=context.timeout_s)
        self._store.delete(digest)
        return Nothing()


def _keep(upload: Incoming, digest: digests.Digest) -> None:
    """In a worker thread: could it be unpacked, does it have a manifest?  Then make it durable."""
    manifest_of(upload.chunks())
    upload.commit(digest)
