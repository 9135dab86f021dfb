"""The hub's face for base layers (io): names, copies on other nodes, reading them back.

    uploads: both digests, every entry looked at ──> store
    register: all layers here and on enough nodes ──> log ──> name
    remove ──> log ──> stores and container controllers drop what no image has any more

A layer is kept only after the very code that unpacks it has read it to its end; so what a node
unpacks later was read before.  Layers travel between nodes as bundles do (`bundle.client`,
`bundle.agent`), by digest, believed by nobody.

A removal and a registration that share a layer may meet: a registration says how many removals it
knew of when it made sure of its layers, and the log refuses it when there was another since
(`state`); then it makes sure again, from this node, which has kept them meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.bundle import digest as digests
from paas.bundle.agent import Copies
from paas.bundle.client import Fetcher, NoPeers, Peers
from paas.bundle.digest import Digest
from paas.bundle.limits import PIECE_BYTES as PEER_PIECE_BYTES
from paas.bundle.messages import Fetch, Keep, Piece
from paas.bundle.store import BlobStore
from paas.layers import limits, messages
from paas.layers.state import (
    Image,
    ImageChanged,
    ImageForgotten,
    ImageRegistered,
    ImageState,
    check_name,
)
from paas.layers.uploads import Uploads
from paas.oci import documents
from paas.oci.documents import Layer
from paas.oci.limits import LAYER_PACKED_BYTES_MAX
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


class Users(Protocol):
    """Who has an image as base."""

    def types_on(self, base: str) -> list[str]: ...


class Bases(Protocol):
    """This node's container controller."""

    async def retain(self, chains: Sequence[str]) -> None:
        """Drop what was unpacked of other images and is not in use."""
        ...

    async def check(self, chain: str) -> tuple[bool, list[str]]:
        """Is it unpacked, and which of its files are damaged?"""
        ...


Contents = Callable[[str, int, int], Any]
"""(digest, offset, limit) of a bundle → awaitable (bytes, size of the whole)."""


class Images:
    """Handlers of `image.*`; `run` it, with or without other nodes."""

    def __init__(
        self,
        store: BlobStore,
        state: ImageState,
        log: Log,
        users: Users,
        bases: Bases,
        *,
        bundle_piece: Contents,
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
        self._bases = bases
        self._bundle_piece = bundle_piece
        self._node = node
        self._peers = peers or NoPeers()
        self._alone = peers is None
        self._on_trouble = on_trouble
        self._pinned: dict[str, int] = {}
        """Layers of registrations under way, and of how many."""
        self._changed = trio.Event()
        self._changed.set()
        self._fetcher = Fetcher(
            store,
            self._peers,
            size_of=self._size_of,
            on_stored=lambda digest: None,
            on_trouble=on_trouble,
            fetch=messages.FETCH,
        )
        self._copies = Copies(
            node,
            store,
            state,
            self._fetcher,
            self._peers,
            settled=settled,
            on_trouble=on_trouble,
            keep=messages.KEEP,
        )
        self.uploads = Uploads(store, state, self._copies.wanted)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch, keep copies, have the container controller drop what is over; until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._fetcher.run)
            nursery.start_soon(self._copies.run)
            nursery.start_soon(self._retain)
            task_status.started()

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.plain(messages.SHOW, self._show)
        self.uploads.register(dispatcher)
        dispatcher.task(messages.REGISTER, self._register)
        dispatcher.task(messages.REMOVE, self._remove)
        dispatcher.task(messages.READ, self._read)
        dispatcher.task(messages.VERIFY, self._verify)
        dispatcher.task(messages.FETCH, self._fetch)
        dispatcher.task(messages.KEEP, self._keep)
        dispatcher.task(messages.CHECK, self._check)

    # -- what happens ----------------------------------------------------------------------------

    def nodes_changed(self) -> None:
        """Other nodes can be reached, or cannot any more: look soon who should keep what."""
        self._copies.changed()

    def connection_closed(self, peer: Peer) -> None:
        """An upload ends with its connection."""
        self.uploads.connection_closed(peer)

    def state_changed(self, _index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log."""
        for event in events:
            if isinstance(event, ImageChanged):
                for digest in event.gone:
                    self.uploads.forget(Digest(digest))
                    if digest not in self._pinned:
                        self._copies.forget(digest)
            if isinstance(event, ImageChanged | StateReplaced):
                self._copies.changed()
                self.bases_changed()

    def bases_changed(self) -> None:
        """Names stand for other images, or the container controller is another one."""
        self._changed.set()

    def collect(self) -> None:
        """At the start of a node that is alone: remove layers that the log does not know."""
        if self._alone:
            self._store.collect(keep={digests.parse(d) for d in self._state.bundles})

    async def _retain(self) -> None:
        while True:
            with trio.move_on_after(limits.RETAIN_PERIOD_S):
                await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self._bases.retain(self._state.chains())
            except PlatformError:  # it is being restarted: then again
                self._changed.set()
                await trio.sleep(limits.RETAIN_PAUSE_S)

    async def ensure(self, name: str, *, doubt: bool = False) -> Image:
        """The image of this name, when all of its layers are in this node's store.

        `doubt`: read what is there, and fetch anew what is damaged.  Raises `not-available` naming
        the layer, `no-such-target`, `storage-full`.
        """
        image = self._state.image(name)
        try:
            with trio.fail_after(limits.FETCH_WAIT_S):
                for layer in image.layers:
                    await self._fetcher.ensure(
                        layer.digest, timeout_s=limits.FETCH_WAIT_S, doubt=doubt
                    )
        except trio.TooSlowError:
            raise PlatformError(
                "not-available", f"the layers of {name} are still being fetched from another node"
            ) from None
        except PlatformError as exc:
            if exc.code not in ("not-available", "no-such-bundle"):
                raise
            raise PlatformError(
                "not-available",
                f"image {name}: {exc.message.replace('bundle', 'layer')}",
                hint="start the nodes that have it, or import it again: paas images import PATH",
                image=name,
            ) from None
        return image

    def _size_of(self, digest: str) -> int | None:
        known = self._state.bundles.get(digest)
        return None if known is None else known.size

    # -- names -----------------------------------------------------------------------------------

    async def _register(
        self, params: messages.RegisterImage, context: Context
    ) -> messages.ImageInfo:
        check_name(params.name)
        image = documents.read_image(params.manifest, params.config)
        for layer in image.layers:
            self.uploads.require(layer)
        deadline = trio.current_time() + context.timeout_s - limits.ANSWER_MARGIN_S
        with self._pin(image.layers):
            await self._propose(params, image, deadline)
        return self._info(params.name)

    @contextlib.contextmanager
    def _pin(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Whatever is removed meanwhile, this node keeps these layers for as long as it lasts."""
        for layer in layers:
            self._pinned[layer.digest] = self._pinned.get(layer.digest, 0) + 1
        try:
            yield
        finally:
            for layer in layers:
                self._pinned[layer.digest] -= 1
                if not self._pinned[layer.digest]:
                    del self._pinned[layer.digest]
                    if not self.uploads.is_known(Digest(layer.digest)):
                        self._copies.forget(layer.digest)

    async def _propose(
        self, params: messages.RegisterImage, image: documents.Image, deadline: float
    ) -> None:
        for left in reversed(range(limits.REGISTER_TRIES)):
            removals = self._state.removals
            await self._spread(image.layers, deadline)
            command = ImageRegistered(
                name=params.name,
                manifest=image.manifest_digest,
                architecture=image.architecture,
                layers=image.layers,
                defaults=image.defaults,
                source=params.source,
                replace=params.replace,
                removals=removals,
            )
            try:
                await self._log.propose(command, timeout_s=deadline - trio.current_time())
            except PlatformError as exc:
                if "removals" not in exc.data or not left:
                    raise
            else:
                return

    async def _spread(self, layers: Iterable[Layer], deadline: float) -> None:
        for layer in layers:
            digest = digests.parse(layer.digest)
            self._copies.wanted(digest)
            left_s = deadline - trio.current_time()
            await self._fetcher.ensure(digest, size=layer.size, timeout_s=left_s)
            await self._copies.spread(digest, layer.size, deadline - trio.current_time())

    async def _remove(self, params: messages.RemoveImage, context: Context) -> Nothing:
        self._state.image(params.name)
        users = self._users.types_on(params.name)
        if users:
            raise PlatformError(
                "conflict",
                f"{params.name} is the base of {', '.join(users[:5])}",
                hint="remove the types first: paas types remove NAME",
                types=users[:5],
            )
        await self._log.propose(ImageForgotten(name=params.name), timeout_s=context.timeout_s)
        return Nothing()

    def _list(self, _params: messages.ListImages, _context: Context) -> messages.Images:
        return messages.Images(images=[self._info(name) for name in sorted(self._state.images)])

    def _show(self, params: messages.ShowImage, _context: Context) -> messages.ImageInfo:
        self._state.image(params.name)
        return self._info(params.name)

    def _info(self, name: str) -> messages.ImageInfo:
        image = self._state.image(name)
        return messages.ImageInfo(
            name=name,
            manifest=image.manifest,
            chain=image.chain,
            architecture=image.architecture,
            size=sum(layer.size for layer in image.layers),
            layers=[
                messages.LayerInfo(digest=x.digest, size=x.size, diff_id=x.diff_id)
                for x in image.layers
            ],
            environment=image.defaults.environment,
            command=list(image.defaults.command),
            user=image.defaults.user,
            directory=image.defaults.directory,
            source=image.source,
            since=image.since_ms / 1000,
            types=self._users.types_on(name),
        )

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, params: messages.ReadContent, _context: Context) -> Piece:
        digest = digests.parse(params.digest)
        _check_part(params.offset, params.limit, limits.PIECE_BYTES)
        if digest in self._state.bundles:
            await self._fetcher.ensure(digest)
            data, size = await trio.to_thread.run_sync(
                self._store.piece, digest, params.offset, params.limit
            )
        else:
            data, size = await self._bundle_piece(digest, params.offset, params.limit)
        return Piece(data=data, size=size)

    async def _verify(self, params: messages.VerifyImage, context: Context) -> messages.Verdicts:
        self._state.image(params.name)
        found: dict[str, messages.NodeVerdict] = {}
        missing: list[str] = []
        patience_s = min(limits.VERIFY_TIMEOUT_S, context.timeout_s - limits.ANSWER_MARGIN_S)

        async def ask(node: str) -> None:
            peer = self._peers.peer(node)
            try:
                if peer is None:
                    raise PlatformError("not-available")
                question = messages.VerifyImage(name=params.name, timeout=patience_s)
                found[node] = await peer.call(messages.CHECK, question, timeout_s=patience_s)
            except PlatformError:
                missing.append(node)

        async with trio.open_nursery() as nursery:
            for node in self._peers.connected():
                nursery.start_soon(ask, node)
            found[self._node] = await self._check(params, context)
        verdicts = [found[node] for node in sorted(found)]
        return messages.Verdicts(nodes=verdicts, missing=sorted(missing))

    async def _check(self, params: messages.VerifyImage, _context: Context) -> messages.NodeVerdict:
        """On this node; a damaged layer is fetched anew, a damaged file not shared any further."""
        image, damaged, layers = self._state.image(params.name), list[str](), 0
        for layer in image.layers:
            digest = digests.parse(layer.digest)
            if not self._store.has(digest):
                continue
            layers += 1
            if not await trio.to_thread.run_sync(partial(_is_whole, self._store, digest)):
                damaged.append(digest)
                try:
                    await self._fetcher.ensure(digest, doubt=True)
                except PlatformError as exc:
                    self._on_trouble(f"the damaged layer {digest} is nowhere else: {exc.message}")
        unpacked, names = await self._bases.check(image.chain)
        return messages.NodeVerdict(
            node=self._node, layers=layers, unpacked=unpacked, damaged=damaged + names
        )

    # -- for other nodes -------------------------------------------------------------------------

    async def _fetch(self, params: Fetch, _context: Context) -> Piece:
        digest = digests.parse(params.digest)
        _check_part(params.offset, params.limit, PEER_PIECE_BYTES)
        data, size = await trio.to_thread.run_sync(
            self._store.piece, digest, params.offset, params.limit
        )
        return Piece(data=data, size=size)

    async def _keep(self, params: Keep, context: Context) -> Nothing:
        digest = digests.parse(params.digest)
        if not 0 < params.size <= LAYER_PACKED_BYTES_MAX:
            raise invalid("size", f"expected 1 to {LAYER_PACKED_BYTES_MAX} bytes", param="size")
        self._copies.wanted(digest)
        await self._fetcher.ensure(
            digest,
            size=params.size,
            holder=params.holder,
            timeout_s=max(0.0, context.timeout_s - limits.ANSWER_MARGIN_S),
        )
        return Nothing()


def _check_part(offset: int, limit: int, limit_max: int) -> None:
    if offset < 0:
        raise invalid("offset", "expected 0 or more", param="offset")
    if not 0 < limit <= limit_max:
        raise invalid("limit", f"expected 1 to {limit_max} bytes", param="limit")


def _is_whole(store: BlobStore, digest: Digest) -> bool:
    try:
        for _ in store.chunks(digest):
            pass
    except PlatformError:
        return False
    return True
