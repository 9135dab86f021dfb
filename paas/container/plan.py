"""From a checked specification and what was set aside for it to everything the hooks will do.

Pure: the same inputs give the same plan, and the plan can be shown before anything is done.  The
`LaunchOrder` is what travels to the template process; its reader is `launch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from paas.container import limits
from paas.container.messages import ContainerSpec

APP = "/app"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ID_SHORT = 12


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A base file system as prepared on this node."""

    name: str
    lower: str
    """Directory that becomes the root's read-only layer."""
    binds: tuple[tuple[str, str], ...] = ()
    """(host path, path inside): trees shown read-only on top of it."""
    lowers: tuple[str, ...] = ()
    """Where the base is a stack of layers: their directories, the uppermost first.  `lower` is then
    the uppermost one.
    """

    @property
    def stack(self) -> tuple[str, ...]:
        """Its directories, the uppermost first."""
        return self.lowers or (self.lower,)


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What the container's tree is made of, as `filesystems` has prepared it."""

    filesystem: str = "overlay"
    """How base, bundle and writable layer become one tree: the name of a `filesystems` entry."""
    device: str = ""
    """Block device with the writable layer; empty: memory, or `clone`."""
    clone: str = ""
    """Host directory with a writable copy of the whole tree; empty: there is none."""
    mount: str = ""
    """Path, in the controller's process, of a mount of the device that is nowhere yet."""
    content_uid_base: int = -1
    """The layer has content already, whose owners are those of this range; -1: it is empty."""


class LaunchVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A persistent volume that is attached and to be mounted."""

    device: str
    path: str
    """In the container."""
    owners: str
    """Path of a user namespace that maps as the container's; empty: there is none."""


class LaunchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """All that the process which becomes pid 1 is told.  Paths are the host's."""

    component: str
    incarnation: int
    host_name: str
    directory: str
    lower: str
    binds: tuple[tuple[str, str], ...]
    bundle_dir: str
    hub_dir: str
    device: str
    """Block device with the writable layer; empty: memory of `disk_bytes`."""
    disk_bytes: int
    tmp_bytes: int
    uid_base: int
    address: str
    harness_entrances: tuple[str, ...]
    component_entrances: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]
    protocol: str
    configuration: Any
    endpoints: dict[str, tuple[str, int]]
    ready_timeout_s: float
    capabilities: tuple[str, ...] = ()
    lowers: tuple[str, ...] = ()
    """The base's directories, the uppermost first; `lower` is the first of them."""
    files: Files = Files()
    backend: str = "namespaces"
    """Who makes the namespaces: a name of `backends`."""
    volumes: tuple[LaunchVolume, ...] = ()
    cwd: str = APP
    """Where the command begins, in the container."""
    resolver: str = ""
    """Who is asked for the addresses of names; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was set aside for one container."""

    uid_base: int
    address: str
    directory: str
    gateway: str = ""
    address6: str = ""


def host_name(spec: ContainerSpec) -> str:
    """The given name, or the part of the identifier that is drawn by chance."""
    return spec.hostname or f"c{spec.component[-_ID_SHORT:]}"


def endpoints(spec: ContainerSpec, address: str) -> dict[str, tuple[str, int]]:
    """Every endpoint gets the container's own address and a port by its place in the order."""
    names = sorted(spec.endpoints)
    return {name: (address, limits.ENDPOINT_PORT_FIRST + i) for i, name in enumerate(names)}


def environment(
    spec: ContainerSpec, ports: Mapping[str, tuple[str, int]], name: str, address6: str = ""
) -> dict[str, str]:
    """What the component finds in its environment; the harness adds PAAS_SOCKET."""
    found = {"PATH": _PATH, "HOME": APP, "LANG": "C.UTF-8", "HOSTNAME": name, "TMPDIR": "/tmp"}
    found |= spec.environment
    found["PAAS_COMPONENT"] = spec.component
    for endpoint, (host, port) in ports.items():
        word = endpoint.upper().replace("-", "_")
        found[f"PAAS_ENDPOINT_{word}"] = f"{host}:{port}"
        if address6:
            found[f"PAAS_ENDPOINT6_{word}"] = f"[{address6}]:{port}"
    return found


def launch_order(
    spec: ContainerSpec,
    assigned: Assigned,
    base: Base,
    *,
    device: str,
    harness_entrances: Sequence[str],
    component_entrances: Sequence[str],
    files: Files | None = None,
    volumes: tuple[LaunchVolume, ...] = (),
) -> LaunchOrder:
    """The order for the template process."""
    ports = endpoints(spec, assigned.address)
    name = host_name(spec)
    return LaunchOrder(
        component=spec.component,
        incarnation=spec.incarnation,
        host_name=name,
        directory=assigned.directory,
        lower=base.stack[0],
        binds=base.binds,
        bundle_dir=spec.bundle_dir,
        hub_dir=spec.hub_dir,
        device=device,
        disk_bytes=spec.limits.disk_bytes,
        tmp_bytes=min(limits.TMP_BYTES_MAX, spec.limits.memory_bytes // 2),
        uid_base=assigned.uid_base,
        address=assigned.address,
        harness_entrances=tuple(harness_entrances),
        component_entrances=tuple(component_entrances),
        command=spec.command,
        environment=environment(spec, ports, name, assigned.address6),
        protocol=spec.protocol,
        configuration=spec.configuration,
        endpoints=ports,
        ready_timeout_s=spec.ready_timeout_s,
        capabilities=spec.capabilities,
        lowers=base.stack,
        files=files or Files(device=device),
        volumes=volumes,
        cwd=spec.directory or APP,
        resolver=assigned.gateway,
    )
