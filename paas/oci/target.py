"""Writing images (io): an OCI layout as a directory or as a tar, the same bytes every time.

    Writer ── blobs as they come ──> DIR/blobs/sha256/…   ── finish: manifest, index, oci-layout
                                                          └─> FILE.tar of the same, if wanted

`add_layer` packs a stream of tar bytes; `add_blob` takes bytes that are packed already.  Names in
the archive are sorted, owners and times are zero.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paas.base.errors import PlatformError
from paas.oci import compression, documents
from paas.oci.documents import Defaults, Layer

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Writer:
    """An image on its way into an empty directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._layers: list[Layer] = []
        self._kinds: list[str] = []

    def add_blob(self, layer: Layer, media_type: str, chunks: Iterable[bytes]) -> None:
        """A layer in the form that it has been stored in."""
        digest, _ = self._store(chunks)
        if digest != layer.digest:
            raise PlatformError("corrupt", f"the layer {layer.digest} is damaged")
        self._layers.append(layer)
        self._kinds.append(media_type)

    def add_layer(self, chunks: Iterable[bytes]) -> Layer:
        """A layer of these tar bytes."""
        plain = hashlib.sha256()

        def summed() -> Iterator[bytes]:
            for piece in chunks:
                plain.update(piece)
                yield piece

        digest, size = self._store(compression.packed(summed()))
        layer = Layer(digest=digest, size=size, diff_id=f"sha256:{plain.hexdigest()}")
        self._layers.append(layer)
        self._kinds.append(documents.LAYER_GZIP)
        return layer

    def finish(
        self, reference: str, defaults: Defaults, architecture: str, history: Sequence[str]
    ) -> str:
        """Write the documents; the manifest's digest."""
        diff_ids = [layer.diff_id for layer in self._layers]
        config = documents.write_config(diff_ids, defaults, architecture, history)
        manifest = documents.write_manifest(config, self._layers, self._kinds)
        index = documents.write_index(manifest, reference, architecture)
        for document in (config, manifest):
            self._store([document])
        (self._directory / "oci-layout").write_bytes(LAYOUT)
        (self._directory / "index.json").write_bytes(index)
        return documents.digest_of(manifest)

    def _store(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        summer, size = hashlib.sha256(), 0
        fresh = self._blobs / ".new"
        with fresh.open("wb") as file:
            for piece in chunks:
                summer.update(piece)
                size += len(piece)
                file.write(piece)
        fresh.rename(self._blobs / summer.hexdigest())
        return f"sha256:{summer.hexdigest()}", size


def archive(directory: Path, file: Path) -> None:
    """The layout as one tar file."""
    names = sorted(path.relative_to(directory) for path in directory.rglob("*"))
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            path = directory / name
            member = tarfile.TarInfo(str(name))
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as opened:
                    tar.addfile(member, opened)
