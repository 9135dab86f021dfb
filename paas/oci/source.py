"""Where an image is read from (io): an OCI layout (directory or tar), or a docker archive.

    path ──> directory: oci-layout, index.json, blobs/
         └─> tar, also compressed ──> oci-layout inside, or else manifest.json of `docker save`

An archive is indexed once and then read by offset; a compressed one is unpacked beside, into the
scratch directory.  Layers of a docker archive have no packed form of their own: they get the one of
`compression.packed`, and manifest and digests follow from it.  Every blob that is given out was, or
will be while it passes, compared with its digest: `Found.chunks` raises `corrupt` at the end.
"""

from __future__ import annotations

import hashlib
import os
import platform
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paas.base.errors import PlatformError
from paas.oci import compression, documents, limits, tar_reader
from paas.oci.documents import ArchiveImage, Descriptor, Image, Layer
from paas.oci.tar_reader import Kind

_LINKS_MAX = 8
_INDEXES_MAX = 4

Chunks = Callable[[], Iterator[bytes]]
Progress = Callable[[str], None]


class Files(Protocol):
    """Named files, in a directory or in an archive."""

    def has(self, name: str) -> bool: ...

    def chunks(self, name: str) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Found:
    """One image, ready to be taken."""

    reference: str
    image: Image
    manifest: bytes
    config: bytes
    _open: Callable[[str], Iterator[bytes]]

    def chunks(self, layer: Layer) -> Iterator[bytes]:
        """A layer's stored bytes; raises `corrupt` after the last one if they are others."""
        return _verified(self._open(layer.digest), layer.digest, layer.size)


def open_image(path: Path, scratch: Path, *, reference: str = "", machine: str = "") -> Found:
    """The image at a path.  `reference` chooses one of several; raises what is wrong with it."""
    architecture = documents.own_architecture(machine or platform.machine())
    files: Files
    try:
        if path.is_dir():
            files = _Directory(path)
        else:
            files = _Archive(_plain_tar(path, scratch))
    except OSError as exc:
        raise PlatformError("invalid", f"{path}: {exc.strerror or exc}") from None
    if files.has("index.json"):
        found = _from_layout(files, reference, architecture)
    elif files.has("manifest.json"):
        found = _from_docker(files, scratch, reference, architecture)
    else:
        raise PlatformError(
            "invalid",
            f"{path}: this is neither an OCI image layout nor a docker archive",
            hint="make one: skopeo copy docker://… oci-archive:FILE, or docker save -o FILE",
        )
    if found.image.architecture not in ("", architecture):
        raise PlatformError(
            "unsupported", f"the image is for {found.image.architecture}, not {architecture}"
        )
    return found


# -- OCI layouts --------------------------------------------------------------------------------


def _from_layout(files: Files, reference: str, architecture: str) -> Found:
    def blob(digest: str) -> Iterator[bytes]:
        return files.chunks(_blob_name(digest))

    def document(descriptor: Descriptor) -> bytes:
        digest = documents.check_digest(descriptor.digest, "a descriptor")
        return _read(_verified(blob(digest), digest, descriptor.size), digest)

    index = documents.read_index(_read(files.chunks("index.json"), "index.json"))
    chosen = _choose(index.manifests, reference, architecture)
    name = chosen.reference()
    for _ in range(_INDEXES_MAX):
        if not documents.is_index(chosen):
            break
        chosen = _choose(documents.read_index(document(chosen)).manifests, "", architecture)
    manifest = document(chosen)
    wanted = documents.read_manifest(manifest).config
    config = document(wanted)
    image = documents.read_image(manifest, config)
    for layer in image.layers:
        if not files.has(_blob_name(layer.digest)):
            raise PlatformError("corrupt", f"the layer {layer.digest} is not in the layout")
    return Found(reference or name, image, manifest, config, blob)


def _choose(offered: list[Descriptor], reference: str, architecture: str) -> Descriptor:
    """The one with this name; without a name, the only one for this processor."""
    if reference:
        offered = [d for d in offered if d.reference() == reference]
    fitting = [
        d
        for d in offered
        if d.platform is None or (d.platform.architecture, d.platform.os) == (architecture, "linux")
    ]
    if len(fitting) == 1:
        return fitting[0]
    names = sorted({d.reference() for d in fitting or offered} - {""})
    if not fitting:
        text = f"there is no image for linux on {architecture}" + (
            f" called {reference}" if reference else ""
        )
        raise PlatformError("invalid", text)
    raise PlatformError(
        "invalid",
        "there are several images: " + ", ".join(names[:10]),
        hint="choose one: --image REFERENCE",
    )


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


# -- docker archives ----------------------------------------------------------------------------


def _from_docker(files: Files, scratch: Path, reference: str, architecture: str) -> Found:
    chosen = _choose_tag(
        documents.read_archive(_read(files.chunks("manifest.json"), "")), reference
    )
    config = _read(files.chunks(chosen.config), chosen.config)
    settings = documents.read_config(config)
    if len(chosen.layers) != len(settings.rootfs.diff_ids):
        raise PlatformError("invalid", "the archive and its configuration name different layers")
    layers: list[Layer] = []
    packed: dict[str, Path] = {}
    for name, diff_id in zip(chosen.layers, settings.rootfs.diff_ids, strict=True):
        path = scratch / f"layer-{len(layers)}"
        layer = _pack(files.chunks(name), diff_id, path)
        layers.append(layer)
        packed[layer.digest] = path
    manifest = documents.write_manifest(config, layers, [documents.LAYER_GZIP] * len(layers))
    image = documents.read_image(manifest, config)
    tag = reference or next(iter(chosen.repo_tags or ()), "")
    return Found(tag, image, manifest, config, lambda digest: _file_chunks(packed[digest]))


def _choose_tag(offered: list[ArchiveImage], reference: str) -> ArchiveImage:
    fitting = [i for i in offered if not reference or reference in (i.repo_tags or ())]
    if len(fitting) == 1:
        return fitting[0]
    names = sorted(tag for image in offered for tag in image.repo_tags or ())
    raise PlatformError(
        "invalid",
        "the archive has these images: " + ", ".join(names[:10]),
        hint="choose one: --image REFERENCE",
    )


def _pack(chunks: Iterator[bytes], diff_id: str, path: Path) -> Layer:
    """The packed form of a layer, in a file; its tar bytes must have the expected digest."""
    plain, stored, size = hashlib.sha256(), hashlib.sha256(), 0

    def summed() -> Iterator[bytes]:
        for piece in compression.unpacked(chunks):
            plain.update(piece)
            yield piece

    with path.open("wb") as file:
        for piece in compression.packed(summed()):
            stored.update(piece)
            size += len(piece)
            file.write(piece)
    if f"sha256:{plain.hexdigest()}" != diff_id:
        raise PlatformError("corrupt", f"a layer of the archive is not {diff_id}")
    return Layer(digest=f"sha256:{stored.hexdigest()}", size=size, diff_id=diff_id)


# -- files --------------------------------------------------------------------------------------


class _Directory:
    """A directory; only regular files below it are opened, by names that were checked."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def chunks(self, name: str) -> Iterator[bytes]:
        return _file_chunks(self._path(name))

    def _path(self, name: str) -> Path:
        """The file itself, which must lie below the directory whatever links say."""
        parts = (os.fsdecode(part) for part in tar_reader.split(os.fsencode(name)))
        path = self._root.joinpath(*parts).resolve()
        if not path.is_relative_to(self._root):
            raise PlatformError("invalid", f"{name[:200]!r} leads out of the layout")
        return path


class _Archive:
    """A tar file, by the offsets of its members."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        for entry, offset in tar_reader.index(_file_chunks(path)):
            name = b"/".join(entry.parts).decode("utf-8", "backslashreplace")
            if entry.kind is Kind.FILE:
                self._members[name] = (offset, entry.size)
            elif entry.kind is Kind.LINK:
                target = entry.target.decode("utf-8", "backslashreplace")
                self._links[name] = posixpath.normpath(
                    posixpath.join(posixpath.dirname(name), target)
                )
            elif entry.kind is Kind.HARD_LINK:
                source = b"/".join(entry.source).decode("utf-8", "backslashreplace")
                self._links[name] = source

    def has(self, name: str) -> bool:
        return self._resolved(name) in self._members

    def chunks(self, name: str) -> Iterator[bytes]:
        found = self._members.get(self._resolved(name))
        if found is None:
            raise PlatformError("corrupt", f"{name[:200]!r} is not in the archive")
        return _file_chunks(self._path, *found)

    def _resolved(self, name: str) -> str:
        """Older docker archives hold a layer once and link to it."""
        for _ in range(_LINKS_MAX):
            if name not in self._links:
                break
            name = self._links[name]
        return name


def _plain_tar(path: Path, scratch: Path) -> Path:
    """The archive, or what it unpacks to if it is compressed."""
    with path.open("rb") as file:
        head = file.read(4)
    if not head.startswith(compression.GZIP_MAGIC) and head != compression.ZSTD_MAGIC:
        return path
    plain = scratch / "archive.tar"
    with plain.open("wb") as out:
        for piece in compression.unpacked(_file_chunks(path)):
            out.write(piece)
    return plain


def _file_chunks(path: Path, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
    """The bytes of a regular file, or of a part of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise PlatformError("invalid", f"{path}: {exc.strerror}") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PlatformError("invalid", f"{path}: this is no regular file")
        file.seek(offset)
        left = size
        while left is None or left:
            piece = file.read(limits.CHUNK_BYTES if left is None else min(left, limits.CHUNK_BYTES))
            if not piece:
                return
            if left is not None:
                left -= len(piece)
            yield piece


def _read(chunks: Iterator[bytes], name: str) -> bytes:
    data = b""
    for piece in chunks:
        data += piece
        if len(data) > limits.DOCUMENT_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded", f"{name} has more than {limits.DOCUMENT_BYTES_MAX} bytes"
            )
    return data


def _verified(chunks: Iterator[bytes], digest: str, size: int) -> Iterator[bytes]:
    """Pass the chunks on; raise `corrupt` as soon as they are too many, or if they are others."""
    summer, count = hashlib.sha256(), 0
    for piece in chunks:
        summer.update(piece)
        count += len(piece)
        if count > size:
            break
        yield piece
    if count != size or f"sha256:{summer.hexdigest()}" != digest:
        raise PlatformError("corrupt", f"the content of {digest} is damaged", digest=digest)
