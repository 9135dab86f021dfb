"""The JSON of an image: index, manifest, configuration; and the names that follow from it.

    index ──> manifest ──> configuration: diff ids (digests of the layers' tar bytes), defaults
                    └────> layers: digests of the stored, usually compressed, bytes

Nothing here is believed because a tool wrote it: digests have their one form, the number of layers
is the number of diff ids, sizes are bounded.  A chain id names the file system that a list of
layers makes: the digest over the one before and the next diff id.

Pure.  Source: OCI image specification v1.1, "Image Manifest", "Image Configuration", "ChainID".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.oci import limits

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
REFERENCE = "org.opencontainers.image.ref.name"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on."""

    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A reference to a blob."""

    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    def reference(self) -> str:
        return (self.annotations or {}).get(REFERENCE, "")


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """Manifests, or indexes of them, one a platform."""

    manifests: list[Descriptor] = []


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """One image on one platform."""

    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = 2


class _Rootfs(msgspec.Struct, frozen=True):
    diff_ids: list[str]
    type: str = "layers"


class _Runtime(msgspec.Struct, frozen=True, rename="pascal"):
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    user: str = ""
    working_dir: str = ""


class Config(msgspec.Struct, frozen=True):
    """The configuration, as far as it matters here."""

    rootfs: _Rootfs
    architecture: str = ""
    os: str = ""
    config: _Runtime | None = None


class ArchiveImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One image of a docker archive's `manifest.json`."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the image says about the program to run in it."""

    environment: dict[str, str] = {}
    command: tuple[str, ...] = ()
    """Entry point and arguments."""
    user: str = ""
    directory: str = ""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer: of its stored bytes digest and size, of its tar bytes the digest."""

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was looked at and can be used."""

    manifest_digest: str
    config_digest: str
    layers: tuple[Layer, ...]
    defaults: Defaults
    architecture: str

    @property
    def chain(self) -> str:
        return chain_id([layer.diff_id for layer in self.layers])


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(text: str, what: str) -> str:
    """A digest of the one form that is used here; raises `invalid` or `unsupported`."""
    if _DIGEST.fullmatch(text):
        return text
    if re.fullmatch(r"[a-z0-9+._-]{1,64}:[0-9a-zA-Z=_-]{1,256}", text):
        raise PlatformError("unsupported", f"{what}: only sha256 digests can be read")
    raise PlatformError("invalid", f"{what}: expected sha256: and 64 hexadecimal digits")


def chain_id(diff_ids: Sequence[str]) -> str:
    """The name of the file system that these layers make, the lowest first."""
    if not diff_ids:
        raise PlatformError("invalid", "an image needs at least one layer")
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = digest_of(f"{chain} {diff_id}".encode())
    return chain


def own_architecture(machine: str) -> str:
    """The name that images use for this machine's processor."""
    return _PLATFORMS.get(machine, machine)


def read_index(data: bytes) -> Index:
    index: Index = _decode(data, Index, "the index")
    if len(index.manifests) > limits.IMAGES_MAX:
        raise PlatformError("limit-exceeded", f"the index offers more than {limits.IMAGES_MAX}")
    return index


def is_index(descriptor: Descriptor) -> bool:
    return descriptor.media_type in (INDEX, _DOCKER_LIST)


def read_archive(data: bytes) -> list[ArchiveImage]:
    images: list[ArchiveImage] = _decode(data, list[ArchiveImage], "manifest.json")
    if not 0 < len(images) <= limits.IMAGES_MAX:
        raise PlatformError("invalid", f"manifest.json: expected 1 to {limits.IMAGES_MAX} images")
    return images


def read_manifest(data: bytes) -> Manifest:
    read: Manifest = _decode(data, Manifest, "the manifest")
    return read


def read_image(manifest: bytes, config: bytes) -> Image:
    """Manifest and configuration, which must belong together; raises what is wrong with them."""
    read = read_manifest(manifest)
    if check_digest(read.config.digest, "the manifest's config") != digest_of(config):
        raise PlatformError("corrupt", "the configuration is not the one that the manifest names")
    settings = read_config(config)
    diff_ids = settings.rootfs.diff_ids
    if len(diff_ids) != len(read.layers):
        raise PlatformError(
            "invalid", f"the image has {len(read.layers)} layers and {len(diff_ids)} diff ids"
        )
    layers = tuple(_layer(d, diff_id) for d, diff_id in zip(read.layers, diff_ids, strict=True))
    return Image(
        manifest_digest=digest_of(manifest),
        config_digest=read.config.digest,
        layers=layers,
        defaults=_defaults(settings.config or _Runtime()),
        architecture=settings.architecture,
    )


def read_config(data: bytes) -> Config:
    """A configuration whose layers can be named."""
    config: Config = _decode(data, Config, "the configuration")
    if config.rootfs.type != "layers" or not 0 < len(config.rootfs.diff_ids) <= limits.LAYERS_MAX:
        raise PlatformError("invalid", f"expected an image of 1 to {limits.LAYERS_MAX} layers")
    for diff_id in config.rootfs.diff_ids:
        check_digest(diff_id, "a diff id")
    if config.os not in ("", "linux"):
        raise PlatformError("unsupported", f"this is an image for {config.os[:40]!r}, not linux")
    return config


def write_config(
    diff_ids: Sequence[str], defaults: Defaults, architecture: str, history: Sequence[str]
) -> bytes:
    """A configuration without times, so that the same image has the same digest."""
    runtime: dict[str, Any] = {}
    if defaults.environment:
        runtime["Env"] = [f"{k}={v}" for k, v in sorted(defaults.environment.items())]
    if defaults.command:
        runtime["Entrypoint"] = list(defaults.command)
    if defaults.user:
        runtime["User"] = defaults.user
    if defaults.directory:
        runtime["WorkingDir"] = defaults.directory
    return _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": runtime,
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": text} for text in history],
        }
    )


def write_manifest(config: bytes, layers: Sequence[Layer], media_types: Sequence[str]) -> bytes:
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [
                {"mediaType": kind, "digest": layer.digest, "size": layer.size}
                for layer, kind in zip(layers, media_types, strict=True)
            ],
        }
    )


def write_index(manifest: bytes, reference: str, architecture: str) -> bytes:
    entry = {
        "mediaType": MANIFEST,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": {REFERENCE: reference},
        "platform": {"architecture": architecture, "os": "linux"},
    }
    return _encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})


def _encode(plain: dict[str, Any]) -> bytes:
    return msgspec.json.encode(plain)


def _decode(data: bytes, kind: Any, what: str) -> Any:
    if len(data) > limits.DOCUMENT_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded", f"{what} has more than {limits.DOCUMENT_BYTES_MAX} bytes"
        )
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PlatformError("invalid", f"{what}: {exc}") from None


def _layer(descriptor: Descriptor, diff_id: str) -> Layer:
    if "encrypted" in descriptor.media_type:
        raise PlatformError("unsupported", "encrypted layers cannot be read")
    if not 0 < descriptor.size <= limits.LAYER_PACKED_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded", f"a layer has 1 to {limits.LAYER_PACKED_BYTES_MAX} bytes"
        )
    digest = check_digest(descriptor.digest, "a layer")
    return Layer(digest=digest, size=descriptor.size, diff_id=diff_id)


def _defaults(runtime: _Runtime) -> Defaults:
    """Variables that no program could have asked for by name are left out, and ours."""
    environment = {}
    for text in runtime.env or ():
        name, equals, value = text.partition("=")
        if equals and _VARIABLE.fullmatch(name) and not name.startswith("PAAS_"):
            environment[name] = value
    command = (*(runtime.entrypoint or ()), *(runtime.cmd or ()))
    for what, words, bytes_max in (
        ("variables", [*environment, *environment.values()], limits.ENVIRONMENT_BYTES_MAX),
        ("command", command, limits.WORDS_BYTES_MAX),
    ):
        if any("\0" in word for word in words):
            raise PlatformError("invalid", f"the image's {what} contain a zero byte")
        if sum(len(word.encode()) + 1 for word in words) > bytes_max:
            raise PlatformError(
                "limit-exceeded", f"the image's {what} have more than {bytes_max} bytes"
            )
    return Defaults(
        environment=environment,
        command=command,
        user=runtime.user[: limits.NAME_BYTES_MAX],
        directory=runtime.working_dir[: limits.PATH_BYTES_MAX],
    )
