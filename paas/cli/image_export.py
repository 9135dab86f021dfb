"""`paas images export TYPE`: a type's base and bundle as an OCI image (io).

    layers of the base (none for `host`) + one layer with the bundle under /app + command, variables

The bundle is read and verified as a node does it; the same type gives the same image.
"""

from __future__ import annotations

import io
import platform
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.bundle import archive as bundles
from paas.bundle import digest as digests
from paas.bundle.tar_format import Kind
from paas.cli import limits
from paas.cli.session import Session
from paas.oci import compression, documents
from paas.oci.documents import Defaults, Layer
from paas.oci.target import Writer, archive

_HOST = "host"
_APP = "app"
_USER = "1000:1000"


def export(session: Session, *, type_: str, to: str | None, dry_run: bool) -> int:
    """Print the image's digest."""
    kind = session.call("controller.type", {"type": type_})
    target = Path(to or f"{kind['name']}-{kind['version']}.tar")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PlatformError("conflict", f"{target} exists already", hint="name another: --to PATH")
    if dry_run:
        value = {"would": "export", "type": kind["type"], "to": str(target)}
        session.output.value(value, f"would export {kind['type']} to {target}")
        return Exit.DONE
    with tempfile.TemporaryDirectory(prefix="paas-export-", dir=_beside(target)) as folder:
        layout = Path(folder) / "image"
        layout.mkdir()
        digest = _write(session, kind, layout)
        if target.suffix == ".tar":
            archive(layout, Path(folder) / "image.tar")
            (Path(folder) / "image.tar").rename(target)
        else:
            layout.rename(target)
    value = {"type": kind["type"], "image": digest, "to": str(target)}
    session.output.value(value, f"{kind['type']} is in {target}  ({digest})", [digest])
    return Exit.DONE


def _beside(target: Path) -> Path:
    """What is written there can be renamed to its name."""
    folder = target.absolute().parent
    if not folder.is_dir():
        raise PlatformError("invalid", f"{folder}: there is no such directory")
    return folder


def _write(session: Session, kind: dict[str, Any], layout: Path) -> str:
    writer = Writer(layout)
    component = kind["manifest"]["component"]
    defaults, architecture = Defaults(), documents.own_architecture(platform.machine())
    if component["base"] == _HOST:
        session.output.note("the base `host` is not part of the image: it has /app alone")
    else:
        base = session.call("image.show", {"name": component["base"]})
        architecture = base["architecture"] or architecture
        defaults = Defaults(environment=base["environment"], command=tuple(base["command"]))
        for item in base["layers"]:
            layer = Layer(digest=item["digest"], size=item["size"], diff_id=item["diff_id"])
            head, chunks = _head(content(session, layer.digest))
            writer.add_blob(layer, _media_type(head), chunks)
    packed = digests.verified(content(session, kind["bundle"]), digests.parse(kind["bundle"]))
    with tempfile.TemporaryFile() as file:
        _bundle_layer(packed, file)
        file.seek(0)
        writer.add_layer(iter(lambda: file.read(limits.UPLOAD_PIECE_BYTES), b""))
    environment = {**defaults.environment, **kind["manifest"].get("environment", {})}
    settings = Defaults(
        environment=environment,
        command=tuple(component["command"]) or defaults.command,
        user=_USER,
        directory=f"/{_APP}",
    )
    return writer.finish(kind["version"], settings, architecture, [f"paas {kind['type']}"])


def content(session: Session, digest: str) -> Iterator[bytes]:
    """A layer or a bundle, piece by piece; whoever takes all compares the digest."""
    offset, size = 0, 1
    while offset < size:
        params = {"digest": digest, "offset": offset, "limit": limits.UPLOAD_PIECE_BYTES}
        piece = session.call("image.read", params, binary=True, timeout_s=limits.IMAGE_TIMEOUT_S)
        size = piece["size"]
        if not piece["data"]:
            raise PlatformError("corrupt", f"{digest} ends too early")
        offset += len(piece["data"])
        yield piece["data"]


def _head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    first = next(chunks, b"")

    def whole() -> Iterator[bytes]:
        yield first
        yield from chunks

    return first[:4], whole()


def _media_type(head: bytes) -> str:
    if head.startswith(compression.GZIP_MAGIC):
        return documents.LAYER_GZIP
    return f"{documents.LAYER}+zstd" if head == compression.ZSTD_MAGIC else documents.LAYER


def _bundle_layer(packed: Iterator[bytes], file: Any) -> None:
    """The bundle's files under /app, owners and times as in the bundle: root's, none."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(_APP, tarfile.DIRTYPE, 0o755))
        for entry, pieces in bundles.read(packed):
            name = f"{_APP}/{entry.path.decode()}"
            if entry.kind is Kind.DIRECTORY:
                tar.addfile(_member(name, tarfile.DIRTYPE, entry.mode))
            elif entry.kind is Kind.LINK:
                member = _member(name, tarfile.SYMTYPE, entry.mode)
                member.linkname = entry.target.decode()
                tar.addfile(member)
            else:
                member = _member(name, tarfile.REGTYPE, entry.mode)
                member.size = entry.size
                tar.addfile(member, io.BufferedReader(_Pieces(pieces)))


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


class _Pieces(io.RawIOBase):
    """Pieces as a file that can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._held = next(self._pieces, b"")
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
