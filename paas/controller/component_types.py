"""The repository of component types (platform document §4.2.5, §4.7.3, "register component type").

A type is exactly one version of one bundle, called `name@version`; another version is another type,
so versions run beside each other.  The same name and version with another bundle is a conflict:
what runs under a name never changes silently.  A bare `name` means its newest registration.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.bundle.manifest import Manifest, from_plain
from paas.controller import limits
from paas.controller.messages import TypeInfo
from paas.controller.restarts import Policy


class ComponentType(msgspec.Struct, frozen=True, kw_only=True):
    """One registered type."""

    name: str
    version: str
    bundle: str
    manifest: dict[str, Any]
    index: int
    since_ms: int
    registered_by: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"

    def policy(self, restart: str = "") -> Policy:
        """Its restart policy, with the request's word in place of the manifest's."""
        supervision = self.manifest["supervision"]
        return Policy(
            restart=restart or supervision["restart"],
            max_restarts=supervision["max_restarts"],
            within_s=supervision["within"],
        )

    def info(self, running: int) -> TypeInfo:
        return TypeInfo(
            type=self.full_name,
            name=self.name,
            version=self.version,
            bundle=self.bundle,
            manifest=self.manifest,
            since=self.since_ms / 1000,
            running=running,
        )


class ComponentTypes:
    """All registered types, by full name, in the order of their registration."""

    def __init__(self) -> None:
        self._types: dict[str, ComponentType] = {}
        self._manifests: dict[str, Manifest] = {}

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[ComponentType]:
        return iter(self._types.values())

    def check_new(self, manifest: Manifest, bundle: str) -> ComponentType | None:
        """The type if it is registered already; raises `conflict` or `limit-exceeded`."""
        known = self._types.get(manifest.type_name)
        if known is not None:
            if known.bundle != bundle:
                raise PlatformError(
                    "conflict",
                    f"{known.full_name} is registered with another bundle",
                    hint="give the new bundle another version",
                    type=known.full_name,
                    bundle=known.bundle,
                )
            return known
        if len(self._types) >= limits.TYPES_MAX:
            raise PlatformError("limit-exceeded", f"{limits.TYPES_MAX} types are registered")
        return None

    def add(self, kind: ComponentType) -> None:
        self._types[kind.full_name] = kind

    def remove(self, full_name: str) -> None:
        del self._types[full_name]
        self._manifests.pop(full_name, None)

    def resolve(self, name: str) -> ComponentType:
        """By full name, or by bare name the newest; raises `no-such-type` with suggestions."""
        if name in self._types:
            return self._types[name]
        versions = [kind for kind in self._types.values() if kind.name == name]
        if versions:
            return versions[-1]
        raise no_such_type(name, self._types)

    def manifest(self, kind: ComponentType) -> Manifest:
        """The manifest as typed values; kept, since creating asks for it each time."""
        if kind.full_name not in self._manifests:
            self._manifests[kind.full_name] = from_plain(kind.manifest)
        return self._manifests[kind.full_name]

    def snapshot(self) -> Any:
        return [msgspec.to_builtins(kind) for kind in self._types.values()]

    def restore(self, plain: Any) -> None:
        kinds = [msgspec.convert(item, ComponentType) for item in plain]
        self._types = {kind.full_name: kind for kind in kinds}
        self._manifests = {}


def no_such_type(name: str, known: Iterable[str]) -> PlatformError:
    names = list(known)
    bare = [full.partition("@")[0] for full in names]
    close = difflib.get_close_matches(name, [*names, *bare], n=limits.SUGGESTIONS_MAX, cutoff=0.6)
    close = list(dict.fromkeys(close))
    hint = f"did you mean {close[0]!r}?  list them: paas types" if close else ""
    return PlatformError(
        "no-such-type", f"no component type is called {name!r}", hint=hint, did_you_mean=close
    )
