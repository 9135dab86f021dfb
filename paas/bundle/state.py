"""What the cluster knows about bundles: which are stored, who made them, whose are trusted.

    BundleStored BundleForgotten PublisherTrusted PublisherRevoked --apply--> bundles, publishers

A section of the replicated state machine: pure, deterministic, all of it in `snapshot`.  The
content is in each node's `store`, and the signature was verified by who proposed the command; this
section refuses a bundle whose publisher is not trusted at that place in the log, so that a
revocation and an upload at the same time have one outcome.  Revoking a publisher stops new bundles,
not stored ones.  Repeating a command changes nothing.  Command numbers: 300-319.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.bundle import digest, limits
from paas.bundle.signature import PublicKey, parse_public_key
from paas.raft.command import command


class Stamp(Protocol):
    """What the proposer drew for a command."""

    @property
    def time_ms(self) -> int: ...


class Context(Protocol):
    """What an apply function is given beside the command."""

    @property
    def stamp(self) -> Stamp: ...

    def emit(self, event: Any, /) -> Any: ...


@command(300)
class BundleStored(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle was verified and is in the store.  `signature` is the text of its signature file."""

    digest: str
    size: int
    signature: str
    publisher: str


@command(301)
class BundleForgotten(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle is no longer known; the stores may remove it."""

    digest: str


@command(302)
class PublisherTrusted(msgspec.Struct, frozen=True, kw_only=True):
    """Bundles signed with this key may be stored.  `public_key`: its one-word form."""

    key_id: str
    public_key: str
    name: str = ""


@command(303)
class PublisherRevoked(msgspec.Struct, frozen=True, kw_only=True):
    """No further bundle of this key is accepted."""

    key_id: str


class BundleAdded(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a bundle became known."""

    digest: str
    size: int
    publisher: str


class BundleRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a bundle is known no more."""

    digest: str


class PublisherChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a key became trusted, or stopped being so."""

    key_id: str
    trusted: bool


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """One known bundle.  Its publisher was trusted when it was stored."""

    size: int
    signature: str
    publisher: str
    since_ms: int


class Publisher(msgspec.Struct, frozen=True, kw_only=True):
    """One trusted key.  `public_key` parses, and its id is the key under which this stands."""

    public_key: str
    name: str
    since_ms: int


class _Snapshot(msgspec.Struct, frozen=True):
    bundles: dict[str, Bundle]
    publishers: dict[str, Publisher]


class BundleState:
    """The section `bundles`."""

    name = "bundles"
    hears: tuple[type, ...] = ()

    def __init__(self) -> None:
        self.bundles: dict[str, Bundle] = {}
        self.publishers: dict[str, Publisher] = {}
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            BundleStored: self._store,
            BundleForgotten: self._forget,
            PublisherTrusted: self._trust,
            PublisherRevoked: self._revoke,
        }

    def trusted(self) -> dict[str, PublicKey]:
        """The keys that `signature.verify` may accept, by key id."""
        return {
            key_id: parse_public_key(publisher.public_key)
            for key_id, publisher in self.publishers.items()
        }

    def bundle(self, content: str) -> Bundle:
        """A known bundle; raises `no-such-bundle`."""
        try:
            return self.bundles[content]
        except KeyError:
            raise PlatformError(
                "no-such-bundle", f"no bundle {content} is known", digest=content
            ) from None

    def react(self, event: Any, ctx: Context) -> None:
        """Nothing that happens elsewhere changes what is known about bundles."""

    def snapshot(self) -> Any:
        """Plain values, in one order whatever the order of the commands."""
        return {
            "bundles": {
                key: msgspec.to_builtins(self.bundles[key]) for key in sorted(self.bundles)
            },
            "publishers": {
                key: msgspec.to_builtins(self.publishers[key]) for key in sorted(self.publishers)
            },
        }

    def restore(self, plain: Any) -> None:
        """Become what a snapshot says."""
        read = msgspec.convert(plain, _Snapshot)
        self.bundles, self.publishers = read.bundles, read.publishers

    def _store(self, cmd: BundleStored, ctx: Context) -> None:
        content = digest.parse(cmd.digest)
        if content in self.bundles:
            return
        if cmd.publisher not in self.publishers:
            raise PlatformError(
                "untrusted",
                f"the publisher {cmd.publisher} is not trusted",
                publisher=cmd.publisher,
            )
        if not 0 < cmd.size <= limits.BUNDLE_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded", f"a bundle has 1 to {limits.BUNDLE_BYTES_MAX} bytes"
            )
        if len(cmd.signature) > limits.SIGNATURE_BYTES_MAX:
            raise PlatformError("limit-exceeded", "the signature is too long")
        if len(self.bundles) >= limits.BUNDLES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the cluster knows {limits.BUNDLES_MAX} bundles already"
            )
        self.bundles[content] = Bundle(
            size=cmd.size,
            signature=cmd.signature,
            publisher=cmd.publisher,
            since_ms=ctx.stamp.time_ms,
        )
        ctx.emit(BundleAdded(digest=content, size=cmd.size, publisher=cmd.publisher))

    def _forget(self, cmd: BundleForgotten, ctx: Context) -> None:
        if self.bundles.pop(cmd.digest, None) is not None:
            ctx.emit(BundleRemoved(digest=cmd.digest))

    def _trust(self, cmd: PublisherTrusted, ctx: Context) -> None:
        key = parse_public_key(cmd.public_key)
        if key.key_id != cmd.key_id:
            raise PlatformError(
                "invalid", f"key_id: expected {key.key_id}, the key's own", field="key_id"
            )
        known = self.publishers.get(key.key_id)
        if known is not None:
            if parse_public_key(known.public_key) != key:
                raise PlatformError("conflict", f"another key has the id {key.key_id} already")
            return
        if len(self.publishers) >= limits.PUBLISHERS_MAX:
            raise PlatformError(
                "limit-exceeded", f"the cluster trusts {limits.PUBLISHERS_MAX} publishers already"
            )
        self.publishers[key.key_id] = Publisher(
            public_key=key.line(), name=cmd.name, since_ms=ctx.stamp.time_ms
        )
        ctx.emit(PublisherChanged(key_id=key.key_id, trusted=True))

    def _revoke(self, cmd: PublisherRevoked, ctx: Context) -> None:
        if self.publishers.pop(cmd.key_id, None) is not None:
            ctx.emit(PublisherChanged(key_id=cmd.key_id, trusted=False))
