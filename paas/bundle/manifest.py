"""`component.toml`: what a developer declares about a component type (component API, "Manifest").

    parse(bytes)  --checks, by line and field-->  Manifest  <--checks, by field--  from_plain
                                                     |
                                                  to_plain -> wire and cluster state

A manifest is validated where it enters: by the developer's command line, and again by the platform,
which trusts no client.  An unknown section or field is an error, never ignored: a misspelt limit
would otherwise be no limit.  The canonical form holds sizes in bytes, processor shares in cores and
times in seconds; it is itself a valid manifest, and reading it gives an equal one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from paas.bundle import limits, toml_lines, toml_tables
from paas.bundle import manifest_fields as fields

Restart = Literal["permanent", "transient", "temporary"]
Protocol = Literal["json", "msgpack", "none"]


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """What runs.  `base` is the file system below the bundle; `protocol` how it speaks with us.

    Components of one `application` may call each other as they like (manifest_terms.py).

    `sdk` names the language whose SDK file `paas push` puts into the bundle; empty: none.
    `capabilities` are the few powers over its own container that it may be given; usually none.
    `backend` is who makes its container; empty: whom the node prefers.
    A `gateway` may reach what routes lead to (internals/world/gateway.md).
    Without a `command`, that of the image which is the base runs; `host` has none.
    """

    name: str
    version: str
    command: tuple[str, ...] = ()
    description: str = ""
    application: str = "default"
    base: str = "host"
    protocol: Protocol = "json"
    sdk: Literal["", "python", "node"] = ""
    capabilities: tuple[str, ...] = ()
    backend: Literal["", "namespaces", "lxc"] = ""
    gateway: bool = False


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What it may use: bytes, cores, processes, bytes; `io` in bytes per second, 0: any.

    `cpu_weight` is its share when there is not enough processor time for all: 100 is everybody's.
    """

    memory: int = 64 << 20
    cpu: float = 0.5
    pids: int = 64
    disk: int = 128 << 20
    io: int = 0
    cpu_weight: int = 100


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A port that it listens on; which one is told by PAAS_ENDPOINT_<NAME>.

    `scope` is who may be given a way there: components of its `node`, of the `cluster`, or also the
    `internet`; then `publish` may name a port of the node that leads there, 0: none.
    """

    protocol: str = "tcp"
    scope: Literal["cluster", "node", "internet"] = "cluster"
    publish: int = 0


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """Operations that components of other applications may call; `*` means all of a kind."""

    operations: tuple[str, ...]
    to: tuple[str, ...]
    objects: tuple[str, ...] = ("*",)


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """A group that it calls; naming it here opens the network path.

    `application` and `operations` narrow what it wants of members in other applications.
    """

    group: str
    application: str = ""
    operations: tuple[str, ...] = ("*",)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """How a group keeps what is cast to it; the same in all manifests that declare the group.

    `backoff` and `timeout` in seconds: before the second attempt, and for the answer to each.
    """

    mailbox: Literal["durable", "none"]
    attempts: int = 5
    backoff: float = 1.0
    messages_max: int = 10_000
    bytes_max: int = 4 << 20
    ordered: bool = True
    timeout: float = 30.0
    in_flight: int = 16


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """When it is started again, and how long it may take to be ready and to stop (seconds)."""

    restart: Restart = "permanent"
    max_restarts: int = 5
    within: float = 60.0
    ready_timeout: float = 30.0
    stop_timeout: float = 10.0


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Files that outlive the component, at `path`; they stay with its name.

    `on_loss`: when their node is lost, `wait` for it, or begin `empty` elsewhere.
    """

    path: str
    size: int
    on_loss: Literal["wait", "empty"] = "wait"


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """What it may reach outside of the cluster (egress.py); nothing else."""

    allow: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole manifest, checked and canonical."""

    component: Component
    limits: Limits = Limits()
    endpoints: dict[str, Endpoint] = {}
    exposes: dict[str, Exposure] = {}
    requires: dict[str, Requirement] = {}
    groups: dict[str, Group] = {}
    supervision: Supervision = Supervision()
    environment: dict[str, str] = {}
    volumes: dict[str, Volume] = {}
    egress: Egress = Egress()

    @property
    def type_name(self) -> str:
        """The component type that this manifest declares."""
        return f"{self.component.name}@{self.component.version}"

    def to_plain(self) -> dict[str, Any]:
        """Plain values in canonical form, all defaults written out."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for field in ("command", "capabilities"):
            plain["component"][field] = list(getattr(self.component, field))
        plain["egress"]["allow"] = list(self.egress.allow)
        for section in ("exposes", "requires"):
            for entry in plain[section].values():
                entry.update({k: list(v) for k, v in entry.items() if isinstance(v, tuple)})
        return plain


def parse(text: bytes, file: str = limits.MANIFEST_NAME) -> Manifest:
    """Read a manifest file; raises `invalid` with file, line, field and what was expected."""
    plain, decoded = toml_tables.load(text, file, "manifest", limits.MANIFEST_BYTES_MAX)
    return _Reader(file, decoded).manifest(plain)


def from_plain(plain: object, file: str = "manifest") -> Manifest:
    """Check plain values that came over a wire; canonical or as in `component.toml`."""
    return _Reader(file, None).manifest(plain)


class _Reader(toml_tables.Tables):
    """Checks one manifest."""

    what = "manifest"
    outermost = "section"

    def manifest(self, plain: object) -> Manifest:
        table = self._table((), plain)
        self._known((), table, fields.SECTION_NAMES)
        return Manifest(
            component=self._component(table),
            limits=Limits(**self._section(("limits",), table, fields.SECTIONS)),
            supervision=Supervision(**self._section(("supervision",), table, fields.SECTIONS)),
            endpoints=self._endpoints(table),
            exposes={name: Exposure(**entry) for name, entry in self._entries("exposes", table)},
            requires={
                name: Requirement(**entry) for name, entry in self._entries("requires", table)
            },
            groups={name: Group(**entry) for name, entry in self._entries("groups", table)},
            environment=self._environment(table),
            volumes=self._volumes(table),
            egress=Egress(**self._section(("egress",), table, fields.SECTIONS)),
        )

    def _component(self, table: Mapping[str, object]) -> Component:
        component = Component(**self._section(("component",), table, fields.SECTIONS))
        if not component.command and component.base == "host":
            given = table["component"]
            empty = isinstance(given, dict) and "command" in given
            reason = fields.COMMAND_EXPECTED if empty else "is required"
            self._refuse(("component", "command"), reason)
        return component

    def _section(
        self,
        path: toml_lines.Path,
        parent: Mapping[str, object],
        kinds: Mapping[str, Mapping[str, fields.Check]],
    ) -> dict[str, Any]:
        """One table with fixed fields, each checked; missing optional ones are left out."""
        checks, required = kinds[path[0]], fields.REQUIRED.get(path[0], ())
        table = self._table(path, parent.get(path[-1], {}))
        self._known(path, table, tuple(checks))
        checked = {}
        for name in checks:
            if name in table:
                checked[name] = self._check((*path, name), checks[name], table[name])
            elif name in required:
                self._refuse((*path, name), "is required")
        return checked

    def _entries(
        self, section: str, parent: Mapping[str, object]
    ) -> list[tuple[str, dict[str, Any]]]:
        """The named tables of a section, in the order of their names."""
        table = self._table((section,), parent.get(section, {}))
        self._few((section,), table)
        for name in table:
            if section == "groups" and not fields.GROUP.fullmatch(name):
                self._refuse((section, name), "expected the name of a group")
            elif section != "groups" and not fields.KEY.fullmatch(name):
                self._refuse(
                    (section, name), "expected a name of lower-case letters, digits, hyphens"
                )
        return [
            (name, self._section((section, name), table, fields.TABLES)) for name in sorted(table)
        ]

    def _endpoints(self, parent: Mapping[str, object]) -> dict[str, Endpoint]:
        """What is published is for everybody, and each has a port of its own."""
        found = {name: Endpoint(**entry) for name, entry in self._entries("endpoints", parent)}
        ports: dict[int, str] = {}
        for name, endpoint in found.items():
            path = ("endpoints", name, "publish")
            if endpoint.publish and endpoint.scope != "internet":
                self._refuse(path, 'needs scope = "internet"')
            if endpoint.publish and (other := ports.setdefault(endpoint.publish, name)) != name:
                self._refuse(path, f"is the port of {other}")
        return found

    def _volumes(self, parent: Mapping[str, object]) -> dict[str, Volume]:
        """None of them may be below another: which is mounted first would matter."""
        found = {name: Volume(**entry) for name, entry in self._entries("volumes", parent)}
        if len(found) > limits.VOLUMES_MAX:
            self._refuse(("volumes",), f"expected at most {limits.VOLUMES_MAX} volumes")
        for name, volume in found.items():
            for other, above in found.items():
                if name != other and f"{volume.path}/".startswith(f"{above.path}/"):
                    self._refuse(("volumes", name, "path"), f"is within the volume {other}")
        return found

    def _environment(self, parent: Mapping[str, object]) -> dict[str, str]:
        table = self._table(("environment",), parent.get("environment", {}))
        self._few(("environment",), table)
        checked = {}
        for name in sorted(table):
            path = ("environment", name)
            if not fields.VARIABLE.fullmatch(name):
                self._refuse(path, "expected a name of letters, digits and underscores")
            if name.startswith(fields.RESERVED_VARIABLE_PREFIX):
                self._refuse(path, "names that begin with PAAS_ are set by the platform")
            checked[name] = str(self._check(path, fields.text, table[name]))
        return checked

    def _few(self, path: toml_lines.Path, table: Mapping[str, object]) -> None:
        if len(table) > limits.TABLE_ENTRIES_MAX:
            self._refuse(path, f"expected at most {limits.TABLE_ENTRIES_MAX} entries")

    def _hint(self, path: toml_lines.Path, name: str, names: tuple[str, ...]) -> str:
        """The section that the field belongs to, or a valid name."""
        for section, known in fields.SECTIONS.items():
            if name in known and path[:1] != (section,):
                return f'"{name}" belongs to the section [{section}]'
        return super()._hint(path, name, names)
