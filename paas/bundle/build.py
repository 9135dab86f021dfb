"""Source directory to bundle (io): check the manifest, archive the tree, name it by its digest.

Used by the command line.  Building twice gives the same file; a failed build leaves none.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle import archive, files, limits, manifest
from paas.bundle.digest import Digest, Summer
from paas.bundle.manifest import Manifest
from paas.bundle.signature import PreHash, SecretKey, sign


@dataclass(frozen=True, slots=True)
class Built:
    """A bundle on disk; `prehash` is what its publisher signs."""

    archive: Path
    digest: Digest
    size: int
    entries: int
    unpacked_bytes: int
    manifest: Manifest
    prehash: bytes

    def sign(self, key: SecretKey) -> str:
        """The text of the bundle's signature file."""
        return sign(key, self.prehash, f"{self.manifest.type_name} {self.digest}")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a source directory; raises `invalid` when there is none, or a wrong one."""
    file = directory / limits.MANIFEST_NAME
    if not directory.is_dir():
        raise PlatformError("invalid", f"{directory}: this is not a directory")
    if file.is_symlink() or not file.is_file():
        raise PlatformError(
            "invalid",
            f"{file}: there is no manifest",
            hint=f"describe the component in {limits.MANIFEST_NAME}",
            file=str(file),
        )
    with file.open("rb") as opened:
        return manifest.parse(opened.read(limits.MANIFEST_BYTES_MAX + 1), str(file))


def build(directory: Path, output: Path) -> Built:
    """Make the bundle of a source directory and write it to `output` (replaced if it exists)."""
    declared = read_manifest(directory)
    summer, hasher = Summer(), PreHash()
    with files.reporting_full_disk():
        descriptor, name = tempfile.mkstemp(prefix=".bundle-", dir=output.parent)
        try:
            with open(descriptor, "wb") as file:

                def write_out(chunk: bytes) -> None:
                    summer.update(chunk)
                    hasher.update(chunk)
                    file.write(chunk)

                totals = archive.write(directory, write_out)
            os.replace(name, output)
        except BaseException:
            os.unlink(name)
            raise
    return Built(
        archive=output,
        digest=summer.digest(),
        size=summer.size,
        entries=totals.entries,
        unpacked_bytes=totals.unpacked_bytes,
        manifest=declared,
        prehash=hasher.digest(),
    )


def manifest_of(packed: archive.Chunks) -> Manifest:
    """The manifest inside of packed bytes, once the whole archive was checked; writes nothing.

    The platform calls this before it keeps an upload.
    """
    text = archive.read_file(packed, limits.MANIFEST_NAME, limits.MANIFEST_BYTES_MAX)
    return manifest.parse(text)
