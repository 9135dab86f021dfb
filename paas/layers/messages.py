"""Messages about base layers: upload, register, list, remove, read.  Numbers 620-639.

Between the hubs of a cluster: fetch, keep, check.  Numbers 640-649.
"""

from __future__ import annotations

from paas.bundle.messages import Begun, Fetch, Keep, Piece
from paas.wire.registry import Message, Nothing, Params, method


class ListImages(Params, frozen=True, kw_only=True):
    """List the registered images."""


class LayerInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One layer: of its stored bytes digest and size, of its tar bytes the digest."""

    digest: str
    size: int
    diff_id: str


class ImageInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One registered image.

    `manifest` and `chain` are digests: of the image as it was imported, and of the file system that
    its layers make.  `types` use it as their base.
    """

    name: str
    manifest: str
    chain: str
    architecture: str
    size: int
    layers: list[LayerInfo]
    environment: dict[str, str]
    command: list[str]
    user: str
    directory: str
    source: str
    since: float
    types: list[str]


class Images(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The registered images."""

    images: list[ImageInfo]


class ShowImage(Params, frozen=True, kw_only=True):
    """One registered image, by name."""

    name: str


class BeginBlob(Params, frozen=True, kw_only=True):
    """Begin the upload of a layer.  `present`: it is here, verified; nothing need be sent."""

    digest: str
    size: int


class AppendBlob(Params, frozen=True, kw_only=True):
    """The next piece of an upload; in JSON `data` is base64."""

    upload: int
    offset: int
    data: bytes


class CommitBlob(Params, frozen=True, kw_only=True):
    """End an upload: both digests are computed and every entry is looked at before it is kept."""

    upload: int
    digest: str
    diff_id: str


class RegisterImage(Params, frozen=True, kw_only=True):
    """Make an image known under a name, when all of its layers are here.

    `manifest` and `config` are the image's own documents; `source` says where it came from.  A name
    that means another image is a conflict unless `replace` is given; what runs goes on as it is.
    """

    name: str
    manifest: bytes
    config: bytes
    source: str = ""
    replace: bool = False


class RemoveImage(Params, frozen=True, kw_only=True):
    """Forget an image that no type has as its base; its layers go where no other image has them."""

    name: str


class ReadContent(Params, frozen=True, kw_only=True):
    """Bytes of a registered image's layer, or of the bundle of a type, from `offset` on."""

    digest: str
    offset: int
    limit: int


class VerifyImage(Params, frozen=True, kw_only=True):
    """Read an image again on every node that has it; what is damaged is fetched or made anew."""

    name: str


class NodeVerdict(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What one node found.  `layers`: how many it has; `damaged`: digests and files."""

    node: str
    layers: int
    unpacked: bool
    damaged: list[str]


class Verdicts(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the nodes found; `missing` could not be asked."""

    nodes: list[NodeVerdict]
    missing: list[str]


LIST = method(620, "image.list", ListImages, Images)
SHOW = method(621, "image.show", ShowImage, ImageInfo)
BEGIN = method(622, "image.begin", BeginBlob, Begun)
APPEND = method(623, "image.append", AppendBlob, Nothing)
COMMIT = method(624, "image.commit", CommitBlob, Nothing)
REGISTER = method(625, "image.register", RegisterImage, ImageInfo)
REMOVE = method(626, "image.remove", RemoveImage, Nothing)
READ = method(627, "image.read", ReadContent, Piece)
VERIFY = method(628, "image.verify", VerifyImage, Verdicts)
FETCH = method(640, "image.fetch", Fetch, Piece, public=False)
KEEP = method(641, "image.keep", Keep, Nothing, public=False)
CHECK = method(642, "image.check", VerifyImage, NodeVerdict, public=False)
