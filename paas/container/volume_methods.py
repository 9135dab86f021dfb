"""What the hub asks of the container controller about files of volumes.  Numbers 580-589.

`owner` and `epoch` name a copy (paas.volume.state).  Sizes in bytes.
"""

from __future__ import annotations

from paas.container.messages import VolumeCopy
from paas.wire.registry import Message, Nothing, Params, method


class ListCopies(Params, frozen=True, kw_only=True):
    """List the copies of volumes on this node; of one owner if it is named."""

    owner: str = ""


class Copies(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All that were asked for."""

    copies: list[VolumeCopy]


class ReadVolume(Params, frozen=True, kw_only=True):
    """The first content at or after `offset`; whole blocks, at most `limit` bytes."""

    owner: str
    epoch: int
    volume: str
    offset: int
    limit: int


class VolumePiece(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Empty `data`: nothing more follows."""

    offset: int
    data: bytes
    size: int


class DigestVolume(Params, frozen=True, kw_only=True):
    """Digest the content of a volume."""

    owner: str
    epoch: int
    volume: str


class VolumeDigest(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Of its content, however it is stored."""

    size: int
    digest: str


class BeginCopy(Params, frozen=True, kw_only=True):
    """Make room for a copy of these volumes (name to size); what was begun of it is dropped."""

    owner: str
    epoch: int
    sizes: dict[str, int]


class WriteCopy(Params, frozen=True, kw_only=True):
    """Write a piece into a copy that was begun."""

    owner: str
    epoch: int
    volume: str
    offset: int
    data: bytes


class KeepCopy(Params, frozen=True, kw_only=True):
    """The copy is whole, with these digests: make it durable, as one that can be attached."""

    owner: str
    epoch: int
    digests: dict[str, str]


class DropCopy(Params, frozen=True, kw_only=True):
    """Remove a copy with its content; refused while it is attached."""

    owner: str
    epoch: int


LIST = method(580, "container.volumes", ListCopies, Copies, public=False)
READ = method(581, "container.read_volume", ReadVolume, VolumePiece, public=False)
DIGEST = method(582, "container.digest_volume", DigestVolume, VolumeDigest, public=False)
BEGIN = method(583, "container.begin_copy", BeginCopy, Nothing, public=False)
WRITE = method(584, "container.write_copy", WriteCopy, Nothing, public=False)
KEEP = method(585, "container.keep_copy", KeepCopy, Nothing, public=False)
DROP = method(586, "container.drop_copy", DropCopy, Nothing, public=False)
