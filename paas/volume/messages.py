"""What can be asked about volumes, and what is told when they change.  Methods 650-669.

Sizes are in bytes.  `owner` is the name of a component, or the identifier of one without a name.
"""

from __future__ import annotations

import msgspec

from paas.wire.registry import Message, Nothing, Params, method


class VolumesChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: the volumes of an owner are on another node, begin to move, or are no more."""

    owner: str
    node: str
    state: str
    to: str = ""
    index: int = 0


class VolumeInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One volume.  `used` is known to its node only, and None where that was not asked."""

    owner: str
    name: str
    path: str
    size: int
    on_loss: str
    type: str
    node: str
    """The node that has it; empty while none does."""
    state: str
    """`none`, `held`, or `moving`."""
    to: str
    """The node that it moves to."""
    epoch: int
    """Larger than that of any copy before: an older copy counts for nothing."""
    component: str
    """Who has it in use, on `node`; empty for nobody."""
    waits: str
    """Why its component cannot run now; empty if it can."""
    used: int | None = None
    copied: int | None = None
    """Bytes that `to` has by now."""


class ListVolumes(Params, frozen=True, kw_only=True):
    """List all volumes, or those on one node."""

    node: str = ""


class Volumes(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All volumes that were asked for, by owner and name."""

    volumes: list[VolumeInfo]


class ShowVolumes(Params, frozen=True, kw_only=True):
    """The volumes of one owner, with what is used of them."""

    owner: str


class RemoveVolume(Params, frozen=True, kw_only=True):
    """Remove the volumes of an owner with all that is in them.  Nobody may have them in use."""

    owner: str


class MoveVolume(Params, frozen=True, kw_only=True):
    """Move the volumes of an owner to another node; a component that uses them is stopped, and
    started again there.

    Answered at once; the state of the volumes tells when it is done.  The node that has them: give
    a move up.
    """

    owner: str
    node: str
    grace: float = 10.0


class GetUsage(Params, frozen=True, kw_only=True):
    """What is used of the volumes of an owner on this node; for the hub of another."""

    owner: str


class Usage(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Volume to bytes in use; `copied` of a copy that is being made."""

    used: dict[str, int]
    copied: int = 0


class GetPiece(Params, frozen=True, kw_only=True):
    """Content of a volume, from the first byte at or after `offset` that was ever written."""

    owner: str
    epoch: int
    volume: str
    offset: int
    limit: int


class Piece(Message, frozen=True, kw_only=True, omit_defaults=False):
    """`data` is at `offset`; when it is empty nothing more follows."""

    offset: int
    data: bytes
    size: int


class GetDigest(Params, frozen=True, kw_only=True):
    """The size of a volume and the digest of its content; for the hub of another node."""

    owner: str
    epoch: int
    volume: str


class Digest(Message, frozen=True, kw_only=True, omit_defaults=False):
    """See `paas.real.kernel_volume.digest`: the same however the file is stored."""

    size: int
    digest: str


LIST = method(650, "volume.list", ListVolumes, Volumes)
SHOW = method(651, "volume.show", ShowVolumes, Volumes)
REMOVE = method(652, "volume.remove", RemoveVolume, Nothing)
MOVE = method(653, "volume.move", MoveVolume, Nothing)
USAGE = method(660, "volume.usage", GetUsage, Usage, public=False)
PIECE = method(661, "volume.piece", GetPiece, Piece, public=False)
DIGEST = method(662, "volume.digest", GetDigest, Digest, public=False)
