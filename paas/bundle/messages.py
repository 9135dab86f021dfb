"""Messages about bundles: upload in pieces, list, trust a publisher.  Numbers 350-359.

Between the hubs of a cluster: has, fetch, keep.  Numbers 360-369.
"""

from __future__ import annotations

from paas.wire.registry import Message, Nothing, Params, method


class Begin(Params, frozen=True, kw_only=True):
    """Begin the upload of a bundle.  `present`: it is stored already, nothing need be sent."""

    digest: str
    size: int


class Begun(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Whether the bundle is there, and the upload to send pieces to."""

    present: bool
    upload: int = 0


class Append(Params, frozen=True, kw_only=True):
    """The next piece of an upload; in JSON `data` is base64."""

    upload: int
    offset: int
    data: bytes


class Commit(Params, frozen=True, kw_only=True):
    """End an upload: size, digest and signature are verified before anything is kept.

    `signature` is the text of a minisign signature file; `publisher` the key id that made it.
    """

    upload: int
    digest: str
    signature: str


class List(Params, frozen=True, kw_only=True):
    """List the stored bundles."""


class BundleInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One stored bundle.  `size` in bytes; `types` that refer to it."""

    digest: str
    size: int
    publisher: str
    types: list[str]


class Bundles(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The stored bundles."""

    bundles: list[BundleInfo]


class Trust(Params, frozen=True, kw_only=True):
    """Trust a publisher's key (text of a minisign public key): its bundles may run here."""

    public_key: str
    name: str = ""


class Trusted(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The key's id."""

    key_id: str


class Remove(Params, frozen=True, kw_only=True):
    """Forget a bundle that no type refers to."""

    digest: str


class Has(Params, frozen=True, kw_only=True):
    """Ask another node whether a bundle is in its store."""

    digest: str


class Held(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Whether the bundle is there, and its size in bytes."""

    present: bool
    size: int = 0


class Fetch(Params, frozen=True, kw_only=True):
    """Ask another node for the bytes of a bundle from `offset` on, at most `limit`."""

    digest: str
    offset: int
    limit: int


class Piece(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Bytes of a bundle.  `size`: of the whole."""

    data: bytes
    size: int


class Keep(Params, frozen=True, kw_only=True):
    """Ask another node to fetch and keep a bundle; answered when it is in its store, durably.

    `holder` is a node that has it; `size` of the whole, which the log may not know yet.
    """

    digest: str
    size: int
    holder: str = ""


BEGIN = method(350, "bundle.begin", Begin, Begun)
APPEND = method(351, "bundle.append", Append, Nothing)
COMMIT = method(352, "bundle.commit", Commit, Nothing)
LIST = method(353, "bundle.list", List, Bundles)
TRUST = method(354, "bundle.trust", Trust, Trusted)
REMOVE = method(355, "bundle.remove", Remove, Nothing)
HAS = method(360, "bundle.has", Has, Held, public=False)
FETCH = method(361, "bundle.fetch", Fetch, Piece, public=False)
KEEP = method(362, "bundle.keep", Keep, Nothing, public=False)
