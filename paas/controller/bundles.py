"""Uploads of bundles: the face of the blob store and of the cluster's knowledge about bundles.

    begin ──> append … append ──> commit: size, digest, signature, archive ──> blob ──> log

Nothing is kept before all of it was verified: the bytes have the announced digest, the signature
over them is of a trusted publisher, and the archive could be unpacked (a dry run by the same code
that unpacks it on a node).  Then the blob is made durable, and after it the command that makes the
bundle known; a crash between leaves a blob that nobody knows, which is collected later.

With several nodes the blob is on enough of them before the log knows it (`paas.bundle.agent`), and
each node fetches from the others what it needs or should keep (`paas.bundle.client`); this is also
the face that the other nodes' hubs ask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.bundle import digest as digests
from paas.bundle import limits, messages, signature
from paas.bundle.agent import Copies
from paas.bundle.arriving import Arriving
from paas.bundle.build import manifest_of
from paas.bundle.client import Fetcher, NoPeers, Peers
from paas.bundle.state import (
    BundleAdded,
    BundleForgotten,
    BundleRemoved,
    BundleState,
    BundleStored,
    PublisherTrusted,
)
from paas.bundle.store import BlobStore, Incoming
from paas.controller.limits import ANSWER_MARGIN_S
from paas.controller.messages import TypeRegistered, TypeUnregistered
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, Dispatcher, Rule
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing

PIECE_BYTES_MAX = 2 << 20

_HUB = Rule(frozenset({"hub"}))
PEER_POLICY = {"bundle.has": _HUB, "bundle.fetch": _HUB, "bundle.keep": _HUB}
"""Who may call what `register_peers` registers: hubs of other nodes."""


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


class TypeUsers(Protocol):
    """Who refers to a bundle."""

    def types_of(self, digest: str) -> list[str]: ...


class Bundles:
    """Handlers of `bundle.*`.  Without `peers` it is alone, and `run` need not be called."""

    def __init__(
        self,
        store: BlobStore,
        state: BundleState,
        log: Log,
        users: TypeUsers,
        *,
        node: str = "",
        peers: Peers | None = None,
        settled: Callable[[], bool] = lambda: True,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`settled`: this replica has caught up with the log (only then is anything collected);
        `on_trouble` gets what an operator should know.
        """
        self._store = store
        self._state = state
        self._log = log
        self._users = users
        self._arriving = Arriving(store, limits.BUNDLE_BYTES_MAX, PIECE_BYTES_MAX)
        self._alone = peers is None
        links = peers or NoPeers()
        self._fetcher = Fetcher(
            store, links, size_of=self._size_of, on_stored=self._stored, on_trouble=on_trouble
        )
        self._copies = Copies(
            node, store, state, self._fetcher, links, settled=settled, on_trouble=on_trouble
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch from other nodes and keep copies, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._fetcher.run)
            nursery.start_soon(self._copies.run)
            task_status.started()

    def nodes_changed(self) -> None:
        """Other nodes can be reached, or cannot any more: look soon who should keep what."""
        self._copies.changed()

    async def ensure(
        self, digest: str, *, timeout_s: float = limits.FETCH_WAIT_S, doubt: bool = False
    ) -> None:
        """Return when the bundle is in this node's store; see `Fetcher.ensure`."""
        await self._fetcher.ensure(digest, timeout_s=timeout_s, doubt=doubt)

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.BEGIN, self._begin)
        dispatcher.plain(messages.APPEND, self._append)
        dispatcher.task(messages.COMMIT, self._commit)
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.task(messages.TRUST, self._trust)
        dispatcher.task(messages.REMOVE, self._remove)

    def register_peers(self, dispatcher: Dispatcher) -> None:
        """What hubs of other nodes may ask; rows of their policy are in PEER_POLICY."""
        dispatcher.plain(messages.HAS, self._has)
        dispatcher.task(messages.FETCH, self._fetch)
        dispatcher.task(messages.KEEP, self._keep_copy)

    def connection_closed(self, peer: Peer) -> None:
        """An upload ends with its connection."""
        self._arriving.closed(peer)

    def collect(self) -> None:
        """At a start: note who refers to what, and remove blobs that the log does not know.

        With other nodes, what this replica does not know yet may be known to them: then the blobs
        are left to `run`.
        """
        self._note_references()
        if self._alone:
            self._store.collect(keep={digests.parse(d) for d in self._state.bundles})

    def _note_references(self) -> None:
        for digest in self._state.bundles:
            users = self._users.types_of(digest)
            for user in users:
                self._refer(digest, user)
            for user in self._store.references(digests.parse(digest)):
                if user not in users:
                    self._store.release(digests.parse(digest), user)

    def state_changed(self, _index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log: types hold the bundles that they are made of."""
        for event in events:
            if isinstance(event, TypeRegistered):
                self._refer(event.bundle, event.type)
            elif isinstance(event, TypeUnregistered):
                self._store.release(digests.parse(event.bundle), event.type)
            elif isinstance(event, BundleAdded):
                self._copies.changed()
            elif isinstance(event, BundleRemoved):
                self._copies.forget(event.digest)
            elif isinstance(event, StateReplaced):
                self._note_references()
                self._copies.changed()

    def _stored(self, digest: str) -> None:
        """A blob has come from another node: types that wait for it hold it from now on."""
        for user in self._users.types_of(digest):
            self._refer(digest, user)

    def _size_of(self, digest: str) -> int | None:
        known = self._state.bundles.get(digest)
        return None if known is None else known.size

    def _refer(self, digest: str, user: str) -> None:
        """A blob that is missing here is no reason to stop: it is asked for when it is needed."""
        with contextlib.suppress(PlatformError):
            self._store.refer(digests.parse(digest), user)

    # -- uploads ---------------------------------------------------------------------------------

    def _begin(self, params: messages.Begin, context: Context) -> messages.Begun:
        digest = digests.parse(params.digest)
        self._arriving.check_size(params.size)
        if digest in self._state.bundles and self._store.has(digest):
            return messages.Begun(present=True)
        upload = self._arriving.begin(context.peer, params.size)
        return messages.Begun(present=False, upload=upload)

    def _append(self, params: messages.Append, context: Context) -> Nothing:
        self._arriving.append(context.peer, params.upload, params.offset, params.data)
        return Nothing()

    async def _commit(self, params: messages.Commit, context: Context) -> Nothing:
        deadline = trio.current_time() + context.timeout_s - ANSWER_MARGIN_S
        digest = digests.parse(params.digest)
        upload = self._arriving.take(context.peer, params.upload)
        size = upload.size
        try:
            made_by = signature.verify(params.signature, upload.prehash, self._state.trusted())
            self._copies.wanted(digest)
            await trio.to_thread.run_sync(partial(_keep, upload, digest))
        finally:
            upload.abort()
        await self._copies.spread(digest, size, deadline - trio.current_time())
        command = BundleStored(
            digest=digest, size=size, signature=params.signature, publisher=made_by.key_id
        )
        await self._log.propose(command, timeout_s=context.timeout_s)
        return Nothing()

    # -- for other nodes -------------------------------------------------------------------------

    def _has(self, params: messages.Has, _context: Context) -> messages.Held:
        digest = digests.parse(params.digest)
        if not self._store.has(digest):
            return messages.Held(present=False)
        return messages.Held(present=True, size=self._store.size(digest))

    async def _fetch(self, params: messages.Fetch, _context: Context) -> messages.Piece:
        digest = digests.parse(params.digest)
        if params.offset < 0:
            raise invalid("offset", "expected 0 or more", param="offset")
        if not 0 < params.limit <= limits.PIECE_BYTES:
            raise invalid("limit", f"expected 1 to {limits.PIECE_BYTES} bytes", param="limit")
        data, size = await trio.to_thread.run_sync(
            self._store.piece, digest, params.offset, params.limit
        )
        return messages.Piece(data=data, size=size)

    async def _keep_copy(self, params: messages.Keep, context: Context) -> Nothing:
        digest = digests.parse(params.digest)
        self._arriving.check_size(params.size)
        self._copies.wanted(digest)
        await self._fetcher.ensure(
            digest,
            size=params.size,
            holder=params.holder,
            timeout_s=max(0.0, context.timeout_s - ANSWER_MARGIN_S),
        )
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
        if self._alone:
            self._store.delete(digest)
        return Nothing()


def _keep(upload: Incoming, digest: digests.Digest) -> None:
    """In a worker thread: could it be unpacked, does it have a manifest?  Then make it durable."""
    manifest_of(upload.chunks())
    upload.commit(digest)
