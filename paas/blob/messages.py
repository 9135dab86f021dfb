"""Messages about attachments beyond a message's size.  Numbers 370-379.

An item of a call's `attachments` is `{"name", "type", "data"}`, or, for what is stored here,
`{"name", "type", "blob", "size", "node", "key"}`: the result of `blob.commit` with name and type.
Whoever gets such an item can read it: the digest says what it is, the key that he was given it.
"""

from __future__ import annotations

from paas.wire.registry import Message, Nothing, Params, method


class Begin(Params, frozen=True, kw_only=True):
    """Begin to store an attachment.  `size`, if it is known, is checked against the quota now."""

    size: int | None = None


class Begun(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The upload to send pieces to, in order; it ends when none comes for a minute."""

    upload: int


class Append(Params, frozen=True, kw_only=True):
    """The next piece of an upload, at most 1 MiB; in JSON `data` is base64."""

    upload: int
    offset: int
    data: bytes


class Commit(Params, frozen=True, kw_only=True):
    """End an upload: from now on it can be read.  With `digest`, only if that is its digest."""

    upload: int
    digest: str | None = None


class Stored(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What to put into the item of a message: digest, size in bytes, node, key."""

    blob: str
    size: int
    node: str
    key: str


class Read(Params, frozen=True, kw_only=True):
    """Read at most `size` bytes (at most 1 MiB) of an attachment from `offset` on.

    `node` is the one that the item names; the bytes come from there if they are not here.  Whoever
    has got the last piece (`eof`) has got what the digest says.
    """

    blob: str
    key: str
    node: str = ""
    offset: int = 0
    size: int = 1 << 20


class Piece(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Bytes of an attachment; `eof` with the last ones.  In JSON `data` is base64."""

    data: bytes
    eof: bool


class Info(Params, frozen=True, kw_only=True):
    """Say how large an attachment is, and whether it can still be read."""

    blob: str
    key: str
    node: str = ""


class InfoResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Its size in bytes, and whether all of it is on the node that answers."""

    size: int
    here: bool


class Fetch(Params, frozen=True, kw_only=True):
    """Ask the hub of another node for bytes of an attachment, or (`size` 0) how many it has."""

    blob: str
    key: str
    offset: int
    size: int


class Fetched(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Bytes of an attachment.  `size`: of the whole."""

    data: bytes
    size: int


class Release(Params, frozen=True, kw_only=True):
    """Say that an attachment is no longer needed: its owner's quota is free again at once."""

    blob: str
    key: str


BEGIN = method(370, "blob.begin", Begin, Begun)
APPEND = method(371, "blob.append", Append, Nothing)
COMMIT = method(372, "blob.commit", Commit, Stored)
READ = method(373, "blob.read", Read, Piece)
INFO = method(374, "blob.info", Info, InfoResult)
FETCH = method(375, "blob.fetch", Fetch, Fetched, public=False)
RELEASE = method(376, "blob.release", Release, Nothing)
