"""A specification becomes the same order every time."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from paas.container import limits, plan
from paas.container.messages import ContainerSpec, Limits

SPEC = ContainerSpec(
    component="ab" * 20,
    command=("run",),
    bundle_dir="/b",
    hub_dir="/h",
    endpoints={"web": "http", "admin-api": "tcp"},
    environment={"PATH": "/own", "A": "b"},
    configuration={"x": [1, 2.5, None]},
)
BASE = plan.Base(name="host", lower="/base", binds=(("/usr", "/usr"),))
ASSIGNED = plan.Assigned(uid_base=200_000, address="10.0.0.9", directory="/state/c")


def order(spec: ContainerSpec = SPEC) -> plan.LaunchOrder:
    return plan.launch_order(
        spec,
        ASSIGNED,
        BASE,
        device="/dev/loop1",
        harness_entrances=["/g/harness/tasks"],
        component_entrances=["/g/component/tasks"],
    )


def test_ports_are_by_the_order_of_names() -> None:
    assert order().endpoints == {"admin-api": ("10.0.0.9", 8000), "web": ("10.0.0.9", 8001)}


def test_the_environment_names_endpoints_and_keeps_what_was_given() -> None:
    found = order().environment
    assert found["PAAS_ENDPOINT_ADMIN_API"] == "10.0.0.9:8000"
    assert found["PATH"] == "/own"
    assert found["HOME"] == "/app"
    assert found["PAAS_COMPONENT"] == "ab" * 20


def test_the_host_name_is_given_or_from_the_identifier() -> None:
    assert order().host_name == "c" + "ab" * 6
    assert order(replace(SPEC, hostname="greeter")).host_name == "greeter"


def test_tmp_is_at_most_half_of_the_memory() -> None:
    small = replace(SPEC, limits=Limits(memory_bytes=8 << 20))
    assert order(small).tmp_bytes == 4 << 20
    large = replace(SPEC, limits=Limits(memory_bytes=1 << 30))
    assert order(large).tmp_bytes == limits.TMP_BYTES_MAX


def test_an_order_survives_its_journey() -> None:
    data = msgspec.msgpack.encode(order())
    assert msgspec.msgpack.decode(data, type=plan.LaunchOrder) == order()
