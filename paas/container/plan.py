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


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was set aside for one container."""

    uid_base: int
    address: str
    directory: str


def host_name(spec: ContainerSpec) -> str:
    """The given name, or the part of the identifier that is drawn by chance."""
    return spec.hostname or f"c{spec.component[-_ID_SHORT:]}"


def endpoints(spec: ContainerSpec, address: str) -> dict[str, tuple[str, int]]:
    """Every endpoint gets the container's own address and a port by its place in the order."""
    names = sorted(spec.endpoints)
    return {name: (address, limits.ENDPOINT_PORT_FIRST + i) for i, name in enumerate(names)}


def environment(
    spec: ContainerSpec, ports: Mapping[str, tuple[str, int]], name: str
) -> dict[str, str]:
    """What the component finds in its environment; the harness adds PAAS_SOCKET."""
    found = {"PATH": _PATH, "HOME": APP, "LANG": "C.UTF-8", "HOSTNAME": name, "TMPDIR": "/tmp"}
    found |= spec.environment
    found["PAAS_COMPONENT"] = spec.component
    for endpoint, (host, port) in ports.items():
        found[f"PAAS_ENDPOINT_{endpoint.upper().replace('-', '_')}"] = f"{host}:{port}"
    return found


def launch_order(
    spec: ContainerSpec,
    assigned: Assigned,
    base: Base,
    *,
    device: str,
    harness_entrances: Sequence[str],
    component_entrances: Sequence[str],
) -> LaunchOrder:
    """The order for the template process."""
    ports = endpoints(spec, assigned.address)
    name = host_name(spec)
    return LaunchOrder(
        component=spec.component,
        incarnation=spec.incarnation,
        host_name=name,
        directory=assigned.directory,
        lower=base.lower,
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
        environment=environment(spec, ports, name),
        protocol=spec.protocol,
        configuration=spec.configuration,
        endpoints=ports,
        ready_timeout_s=spec.ready_timeout_s,
    )
