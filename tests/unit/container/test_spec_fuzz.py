"""Any specification is either refused by name or one that can be planned, encoded and read back.

The inputs are drawn for a bounded time.  What is drawn is a good specification with some fields
replaced: by nonsense of the field's type, and by what attackers of container managers have sent.
"""

from __future__ import annotations

import string
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.messages import ContainerSpec, Limits
from paas.container.plan import endpoints, environment, host_name
from paas.container.spec import NodeLimits, check

NODE = NodeLimits(memory_bytes=1 << 30, cpu=2.0, disk_bytes=1 << 30, bases=("host", "debian-12"))
GOOD = ContainerSpec(component="0" * 40, command=("true",), bundle_dir="/b", hub_dir="/h")
MEANT = {"invalid", "limit-exceeded", "unsupported"}
"""The codes that a bad specification may be refused with."""

NASTY = (
    "",
    "\0",
    "a\0b",
    "../../etc/passwd",
    "/proc/self/exe",
    "/proc/self/fd/7",
    "/",
    "//",
    "/a/../..",
    "/a:b",
    "/a,upperdir=/",
    "a\\b",
    "\n",
    "LD_PRELOAD",
    "PAAS_SOCKET",
    "x=1",
    "-rf",
    "%s%n",
    "a" * 70_000,
    "\ud800",
    "\u202e",
    "🐘",
    "0" * 41,
    "F" * 40,
    "g" * 40,
)
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.text(string.printable))
numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([0, -1, 1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1]),
)
reals = st.one_of(st.floats(), st.sampled_from([float("nan"), float("inf"), -0.0, 1e-300, 1e300]))
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, reals, texts, st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)
BOUNDS = st.fixed_dictionaries(
    {},
    optional={
        "memory_bytes": numbers,
        "cpu": reals,
        "pids": numbers,
        "disk_bytes": numbers,
        "io_bytes_per_s": numbers,
        "cpu_weight": numbers,
    },
).map(lambda given: Limits(**given))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "component": texts,
    "command": st.lists(texts, max_size=5).map(tuple),
    "bundle_dir": texts,
    "hub_dir": texts,
    "base": texts,
    "backend": texts,
    "directory": texts,
    "environment": st.dictionaries(texts, texts, max_size=4),
    "configuration": plain,
    "endpoints": st.dictionaries(texts, texts, max_size=4),
    "published": st.dictionaries(texts, numbers, max_size=3),
    "egress": st.lists(texts, max_size=3).map(tuple),
    "limits": BOUNDS,
    "ready_timeout_s": reals,
    "hostname": texts,
    "capabilities": st.lists(texts, max_size=3).map(tuple),
}


def refused(spec: ContainerSpec) -> PlatformError | None:
    """Why it is no specification for this node; None if it is one."""
    try:
        check(spec, NODE)
    except PlatformError as error:
        return error
    return None


@given(st.fixed_dictionaries({}, optional=FIELDS))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_specification_is_refused_by_name_or_can_be_planned(changes: dict[str, Any]) -> None:
    spec = replace(GOOD, **changes)
    refusal = refused(spec)
    if refusal is not None:
        assert refusal.code in MEANT
        assert refusal.data.get("field"), refusal
        return
    ports = endpoints(spec, "10.0.0.2")
    assert all(0 < port < 1 << 16 for _, port in ports.values())
    name = host_name(spec)
    assert 0 < len(name) <= limits.HOST_NAME_LENGTH_MAX
    variables = environment(spec, ports, name)
    for key, value in variables.items():
        assert key
        assert "=" not in key
        assert "\0" not in key + value
    assert variables["PAAS_COMPONENT"] == spec.component
    assert not any("\0" in word for word in spec.command)
    assert 0 < spec.limits.memory_bytes <= NODE.memory_bytes
    assert 0 < spec.limits.cpu <= NODE.cpu
    msgspec.msgpack.encode(spec)


@given(plain)
@settings(max_examples=200, deadline=None)
def test_what_comes_over_the_wire_is_a_specification_or_an_error(value: Any) -> None:
    try:
        data = msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError):
        return
    try:
        found = msgspec.msgpack.decode(data, type=ContainerSpec)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    raise AssertionError(f"{found} has no command")
