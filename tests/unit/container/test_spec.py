"""Bad specifications are refused with the field's name."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.messages import ContainerSpec, Limits
from paas.container.spec import NodeLimits, check

NODE = NodeLimits(memory_bytes=1 << 30, cpu=2.0, disk_bytes=1 << 30, bases=("host",))
GOOD = ContainerSpec(component="0" * 40, command=("python3", "x.py"), bundle_dir="/b", hub_dir="/h")


def test_a_good_one_is_returned() -> None:
    assert check(GOOD, NODE) is GOOD


def test_a_bound_on_io_may_be_asked_for() -> None:
    limited = replace(GOOD, limits=Limits(io_bytes_per_s=20 << 20))
    assert check(limited, NODE) is limited


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"component": "abc"}, "component"),
        ({"base": "debian-12"}, "base"),
        ({"backend": "chroot"}, "backend"),
        ({"bundle_dir": "relative"}, "bundle_dir"),
        ({"bundle_dir": "/a:b"}, "bundle_dir"),
        ({"hub_dir": "/a,b"}, "hub_dir"),
        ({"command": ()}, "command"),
        ({"command": ("",)}, "command"),
        ({"command": ("a\0b",)}, "command"),
        ({"environment": {"A=B": "x"}}, "environment.A=B"),
        ({"environment": {"PAAS_SOCKET": "x"}}, "environment.PAAS_SOCKET"),
        ({"environment": {"A": "\0"}}, "environment.A"),
        ({"endpoints": {"Web": "http"}}, "endpoints.Web"),
        ({"hostname": "-x"}, "hostname"),
        ({"hostname": "x" * 64}, "hostname"),
        ({"ready_timeout_s": 0.0}, "ready_timeout_s"),
        ({"ready_timeout_s": float("nan")}, "ready_timeout_s"),
        ({"limits": Limits(memory_bytes=1)}, "limits.memory_bytes"),
        ({"limits": Limits(memory_bytes=1 << 40)}, "limits.memory_bytes"),
        ({"limits": Limits(cpu=0)}, "limits.cpu"),
        ({"limits": Limits(cpu=float("nan"))}, "limits.cpu"),
        ({"limits": Limits(cpu=64.0)}, "limits.cpu"),
        ({"limits": Limits(pids=1)}, "limits.pids"),
        ({"limits": Limits(disk_bytes=1 << 50)}, "limits.disk_bytes"),
        ({"limits": Limits(io_bytes_per_s=1)}, "limits.io_bytes_per_s"),
        ({"limits": Limits(io_bytes_per_s=-1)}, "limits.io_bytes_per_s"),
        ({"limits": Limits(io_bytes_per_s=1 << 50)}, "limits.io_bytes_per_s"),
        ({"configuration": object()}, "configuration"),
    ],
)
def test_a_bad_value_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        check(replace(GOOD, **changes), NODE)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"command": ("x",) * (limits.COMMAND_ARGUMENTS_MAX + 1)}, "command"),
        ({"environment": {"A": "x" * limits.ENVIRONMENT_BYTES_MAX}}, "environment"),
        ({"endpoints": {f"e{n}": "tcp" for n in range(limits.ENDPOINTS_MAX + 1)}}, "endpoints"),
        ({"configuration": "x" * (limits.CONFIGURATION_BYTES_MAX + 1)}, "configuration"),
    ],
)
def test_too_much_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        check(replace(GOOD, **changes), NODE)
    assert caught.value.code == "limit-exceeded"
    assert caught.value.data["field"] == field
