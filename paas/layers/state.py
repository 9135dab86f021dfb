"""What the cluster knows about base layers: names, and what stands behind them.

    ImageRegistered ImageForgotten --apply--> images: name -> layers, defaults

A section of the replicated state machine: pure, deterministic, all of it in `snapshot`.  The
content is in each node's store under its digest, and was verified by who proposed the command.  A
name means one image at a time; what it meant before goes on being used by what was started from it.
Layers have no life of their own: one that no image has is known no more (`layers_of_all`), and the
stores remove it.  Repeating a command changes nothing.  Command numbers: 620-629.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.layers import limits
from paas.oci.documents import Defaults, Layer, chain_id, check_digest
from paas.raft.command import command
from paas.raft.machine import Context

HOST = "host"
"""The base that every node has by itself."""

_NAME = re.compile(r"[a-z](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_SOURCE_LENGTH_MAX = 200


@command(620)
class ImageRegistered(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose layers were verified and are in the store gets a name."""

    name: str
    manifest: str
    architecture: str
    layers: tuple[Layer, ...]
    defaults: Defaults = Defaults()
    source: str = ""
    replace: bool = False
    removals: int = -1
    """How many times layers had gone when the proposer made sure of these; -1: it does not matter.

    Layers that went meanwhile may be among them: then this is refused, and made sure of anew.
    """


@command(621)
class ImageForgotten(msgspec.Struct, frozen=True, kw_only=True):
    """A name means nothing any more."""

    name: str


class ImageChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a name means another image, or its first (`chain`); or none any more (empty)."""

    name: str
    chain: str
    gone: tuple[str, ...]
    """Layers that no image has any more."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One registered image."""

    manifest: str
    architecture: str
    layers: tuple[Layer, ...]
    defaults: Defaults
    source: str
    since_ms: int

    @property
    def chain(self) -> str:
        return chain_id([layer.diff_id for layer in self.layers])


class _Snapshot(msgspec.Struct, frozen=True):
    images: dict[str, Image]
    removals: int


class ImageState:
    """The section `images`."""

    name = "images"
    hears: tuple[type, ...] = ()

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.removals = 0
        self._layers: dict[str, Layer] = {}
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            ImageRegistered: self._register,
            ImageForgotten: self._forget,
        }

    @property
    def bundles(self) -> Mapping[str, Layer]:
        """Every layer that some image has, by the digest of its stored bytes."""
        return self._layers

    def image(self, name: str) -> Image:
        """A known image; raises `no-such-target`."""
        try:
            return self.images[name]
        except KeyError:
            raise PlatformError(
                "no-such-target",
                f"no image is called {name!r}",
                hint="list them: paas images",
                image=name,
            ) from None

    def chains(self) -> list[str]:
        """The file systems that names stand for."""
        return sorted({image.chain for image in self.images.values()})

    def react(self, event: Any, ctx: Context) -> None:
        """Nothing that happens elsewhere changes what is known about images."""

    def snapshot(self) -> Any:
        """Plain values, in one order whatever the order of the commands."""
        images = {name: msgspec.to_builtins(self.images[name]) for name in sorted(self.images)}
        return {"images": images, "removals": self.removals}

    def restore(self, plain: Any) -> None:
        """Become what a snapshot says."""
        read = msgspec.convert(plain, _Snapshot)
        self.images, self.removals = read.images, read.removals
        self._layers = self._layers_of_all()

    def _register(self, cmd: ImageRegistered, ctx: Context) -> None:
        check_name(cmd.name)
        known = self.images.get(cmd.name)
        if known is not None:
            if known.manifest == cmd.manifest:
                return
            if not cmd.replace:
                raise PlatformError(
                    "conflict",
                    f"{cmd.name} is another image",
                    hint="give this one another name, or replace it: --replace",
                    manifest=known.manifest,
                )
        elif len(self.images) >= limits.IMAGES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the cluster has {limits.IMAGES_MAX} images already"
            )
        if cmd.removals not in (-1, self.removals):
            raise PlatformError(
                "conflict", "an image was removed meanwhile", removals=self.removals
            )
        check_digest(cmd.manifest, "manifest")
        image = Image(
            manifest=cmd.manifest,
            architecture=cmd.architecture,
            layers=cmd.layers,
            defaults=cmd.defaults,
            source=cmd.source[:_SOURCE_LENGTH_MAX],
            since_ms=ctx.stamp.time_ms,
        )
        chain = image.chain  # also: the layers have digests of the right form, and there are some
        self.images[cmd.name] = image
        ctx.emit(ImageChanged(name=cmd.name, chain=chain, gone=self._renew()))

    def _forget(self, cmd: ImageForgotten, ctx: Context) -> None:
        if self.images.pop(cmd.name, None) is not None:
            ctx.emit(ImageChanged(name=cmd.name, chain="", gone=self._renew()))

    def _renew(self) -> tuple[str, ...]:
        before, self._layers = self._layers, self._layers_of_all()
        gone = tuple(sorted(digest for digest in before if digest not in self._layers))
        self.removals += bool(gone)
        return gone

    def _layers_of_all(self) -> dict[str, Layer]:
        return {
            layer.digest: layer
            for name in sorted(self.images)
            for layer in self.images[name].layers
        }


def check_name(name: str) -> str:
    """A name that a manifest may give as its base; raises `invalid`."""
    if name == HOST:
        raise invalid("name", f"another name than {HOST}, which every node has by itself")
    if not _NAME.fullmatch(name):
        raise invalid("name", "up to 63 lower-case letters, digits, - and ., a letter first")
    return name
