"""Is this container one that the node can make?  Every bad value is named with what was expected.

Pure.  What depends on the machine (its memory, cores, registered bases) comes as `NodeLimits`;
whether the directories exist is found when they are used.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.bundle import egress
from paas.container import limits, powers
from paas.container.messages import BACK_ENDS, ContainerSpec, Limits

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDPOINT = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """What one component may ask of this node at most."""

    memory_bytes: int
    cpu: float
    disk_bytes: int
    bases: Collection[str]


def check(spec: ContainerSpec, node: NodeLimits) -> ContainerSpec:
    """Return the specification, or raise `invalid` naming the field."""
    if not ids.is_id(spec.component):
        raise invalid("component", "an identifier of 40 hexadecimal digits")
    _check_unicode(spec)
    if spec.backend and spec.backend not in BACK_ENDS:
        raise invalid("backend", f"one of {', '.join(BACK_ENDS)}, or empty: the node's")
    if spec.base not in node.bases:
        raise invalid("base", f"one of {', '.join(sorted(node.bases))}")
    for field in ("bundle_dir", "hub_dir"):
        path = getattr(spec, field)
        if not path.startswith("/") or any(c in path for c in "\0,:\\"):
            raise invalid(field, "an absolute path without commas, colons and backslashes")
    _check_command(spec.command)
    if spec.directory and (not spec.directory.startswith("/") or "\0" in spec.directory):
        raise invalid("directory", "an absolute path without zero bytes")
    _check_environment(spec.environment)
    _check_endpoints(spec.endpoints)
    check_limits(spec.limits, node)
    if spec.hostname and (
        not _HOST_NAME.fullmatch(spec.hostname) or len(spec.hostname) > limits.HOST_NAME_LENGTH_MAX
    ):
        raise invalid("hostname", "letters, digits and - (at most 63)")
    if not 0 < spec.ready_timeout_s <= limits.READY_TIMEOUT_S_MAX:
        raise invalid("ready_timeout_s", f"more than 0, at most {limits.READY_TIMEOUT_S_MAX:g}")
    _check_configuration(spec.configuration)
    powers.check(spec.capabilities)
    _check_outside(spec)
    return spec


def _check_unicode(spec: ContainerSpec) -> None:
    for field in spec.__struct_fields__:
        try:
            msgspec.msgpack.encode(getattr(spec, field))
        except UnicodeEncodeError:
            raise invalid(field, "text without halves of surrogate pairs") from None
        except (OverflowError, TypeError):
            continue  # no text; it has a check of its own


def _check_outside(spec: ContainerSpec) -> None:
    try:
        egress.check(spec.egress)
    except ValueError as exc:
        raise invalid("egress", str(exc)) from None
    for name, port in spec.published.items():
        if name not in spec.endpoints or not 0 < port < 1 << 16:
            raise invalid("published", "endpoints of the component, each to a port of the node")


def _check_command(command: tuple[str, ...]) -> None:
    if not command or not command[0]:
        raise invalid("command", "a program and its arguments")
    if any("\0" in word for word in command):
        raise invalid("command", "no zero bytes")
    size = sum(len(word.encode()) + 1 for word in command)
    if len(command) > limits.COMMAND_ARGUMENTS_MAX or size > limits.COMMAND_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"command: at most {limits.COMMAND_ARGUMENTS_MAX} arguments and "
            f"{limits.COMMAND_BYTES_MAX} bytes",
            field="command",
        )


def _check_environment(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            raise invalid(f"environment.{name}", "a name of letters, digits and _")
        if name.startswith("PAAS_"):
            raise invalid(f"environment.{name}", "names that begin with PAAS_ are the platform's")
        if "\0" in value:
            raise invalid(f"environment.{name}", "no zero bytes")
    size = sum(len(n) + len(v.encode()) + 2 for n, v in environment.items())
    if size > limits.ENVIRONMENT_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"environment: at most {limits.ENVIRONMENT_BYTES_MAX} bytes",
            field="environment",
        )


def _check_endpoints(endpoints: dict[str, str]) -> None:
    if len(endpoints) > limits.ENDPOINTS_MAX:
        raise PlatformError(
            "limit-exceeded", f"endpoints: at most {limits.ENDPOINTS_MAX}", field="endpoints"
        )
    for name in endpoints:
        if not _ENDPOINT.fullmatch(name):
            raise invalid(f"endpoints.{name}", "a name of lower-case letters, digits and -")


def check_limits(wanted: Limits, node: NodeLimits) -> None:
    """Raise `invalid` naming the bound that this node cannot give."""
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("memory_bytes", wanted.memory_bytes, limits.MEMORY_BYTES_MIN, node.memory_bytes),
        ("cpu", wanted.cpu, limits.CPU_CORES_MIN, node.cpu),
        ("pids", wanted.pids, limits.PIDS_MIN, limits.PIDS_MAX),
        ("disk_bytes", wanted.disk_bytes, limits.DISK_BYTES_MIN, node.disk_bytes),
        ("cpu_weight", wanted.cpu_weight, limits.CPU_WEIGHT_MIN, limits.CPU_WEIGHT_MAX),
    )
    for field, value, low, high in bounds:
        # Written so that NaN, which compares false with everything, is refused.
        if not low <= value <= high:
            raise invalid(f"limits.{field}", f"between {low:g} and {high:g} on this node")
    low, high = limits.IO_BYTES_PER_S_MIN, limits.IO_BYTES_PER_S_MAX
    if wanted.io_bytes_per_s and not low <= wanted.io_bytes_per_s <= high:
        raise invalid("limits.io_bytes_per_s", f"0 (no limit), or between {low} and {high}")


def _check_configuration(configuration: object) -> None:
    try:
        size = len(msgspec.msgpack.encode(configuration))
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise invalid("configuration", "plain data") from None
    if size > limits.CONFIGURATION_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"configuration: at most {limits.CONFIGURATION_BYTES_MAX} bytes",
            field="configuration",
        )
