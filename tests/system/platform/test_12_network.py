"""A component reaches what its manifest requires, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system


def test_an_endpoint_is_reachable_only_once_it_was_resolved(platform: Any) -> None:
    store = platform.create("probe", groups=["stores"])
    asker, other = platform.create("probe"), platform.create("probe")
    endpoint = platform.component(store)["endpoints"]["http"]
    where = {"host": endpoint["host"], "port": endpoint["port"]}
    assert platform.call(asker, "reach", **where)["reached"] is False
    resolved = platform.call(asker, "request", method="resource.resolve", params={"name": "store"})
    assert resolved["endpoints"] == [{"protocol": "http", "component": store, **where}]
    answer = platform.call(asker, "reach", **where)
    assert answer == {"reached": True, "said": f"this is {store}"}
    assert platform.call(other, "reach", **where)["reached"] is False, "granted to one only"


def test_the_way_back_and_other_ports_stay_closed(platform: Any) -> None:
    store = platform.create("probe", groups=["stores"])
    asker = platform.create("probe")
    platform.call(asker, "request", method="resource.resolve", params={"name": "store"})
    back = platform.component(asker)["endpoints"]["http"]
    assert platform.call(store, "reach", host=back["host"], port=back["port"])["reached"] is False
    there = platform.component(store)["endpoints"]["http"]
    assert platform.call(asker, "reach", host=there["host"], port=22)["reached"] is False


def test_what_the_manifest_does_not_require_is_not_resolved(platform: Any) -> None:
    asker = platform.create("probe")
    with pytest.raises(PlatformError) as caught:
        platform.call(asker, "request", method="resource.resolve", params={"name": "mail"})
    assert caught.value.code == "no-such-target"
    assert "requires.mail" in caught.value.hint


def test_a_resource_that_nobody_provides_has_no_endpoints(platform: Any) -> None:
    asker = platform.create("probe")
    resolved = platform.call(asker, "request", method="resource.resolve", params={"name": "store"})
    assert resolved["endpoints"] == []


def test_the_host_and_the_bridge_are_not_reachable(platform: Any) -> None:
    asker = platform.create("probe")
    address = platform.component(asker)["endpoints"]["http"]["host"]
    bridge = ".".join([*address.split(".")[:2], "0", "1"])
    for host in (bridge, "127.0.0.1"):
        assert platform.call(asker, "reach", host=host, port=22)["reached"] is False
