"""Routes: what they may say, in the cluster's state, and the grants that they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import commands
from paas.gateway import limits, rules
from paas.gateway.grants import RouteGrants
from paas.gateway.messages import Route
from paas.gateway.state import GatewayState, RouteRemoved, RouteSet, RoutesFollowed
from paas.testing.controlled_node import BUNDLE, ControlledNode, manifest


def a_route(**fields: Any) -> Route:
    return msgspec.convert({"name": "site", "group": "web", **fields}, Route)


def test_a_route_is_brought_into_canonical_form() -> None:
    route = rules.check(
        a_route(
            host="Shop.Example.ORG.",
            path="/a/b/",
            methods=["post", "GET", "GET"],
            headers={"X-Frame-Options": "DENY"},
            weights={"2": 1, "1": 3},
        )
    )
    assert (route.host, route.path, route.methods) == ("shop.example.org", "/a/b", ("GET", "POST"))
    assert route.headers == {"x-frame-options": "DENY"}
    assert list(route.weights) == ["1", "2"]
    assert rules.check(route) == route, "what was checked is accepted again, unchanged"


WRONG = [
    ("name", {"name": "Site"}),
    ("name", {"name": "a" * 129}),
    ("application", {"application": "No Good"}),
    ("gateway", {"gateway": ""}),
    ("host", {"host": "a b"}),
    ("host", {"host": "*.*.org"}),
    ("host", {"host": "a.org:80"}),
    ("host", {"host": ".".join(["a" * 60] * 5)}),
    ("path", {"path": "a"}),
    ("path", {"path": "/a/../b"}),
    ("path", {"path": "/a/./b"}),
    ("path", {"path": "/%61"}),
    ("path", {"path": "/a//b"}),
    ("path", {"path": "/a?b"}),
    ("path", {"path": "/" + "a" * 2_000}),
    ("group", {"group": ""}),
    ("group", {"group": "gateways"}),
    ("endpoint", {"endpoint": "HTTP"}),
    ("operation", {"kind": "operation", "operation": "*"}),
    ("directory", {"directory": "x"}),
    ("directory", {"kind": "static", "group": "", "directory": ""}),
    ("directory", {"kind": "static", "group": "", "directory": "../x"}),
    ("directory", {"kind": "static", "group": "", "directory": "/etc"}),
    ("websocket", {"kind": "static", "group": "", "directory": "x", "websocket": True}),
    ("methods", {"methods": ["GE T"]}),
    ("timeout_s", {"timeout_s": 0}),
    ("timeout_s", {"timeout_s": float("nan")}),
    ("retries", {"retries": 11}),
    ("body_max", {"body_max": -1}),
    ("weights", {"weights": {"1": -1}}),
    ("weights", {"weights": {"1": 0}}),
    ("weights", {"weight_by": "type"}),
    ("weight_by", {"weight_by": "colour", "weights": {"1": 1}}),
    ("drain_s", {"drain_s": 1e9}),
    ("drain_notice", {"drain_notice": "ä" * 1_000}),
    ("rate", {"rate": -1}),
    ("headers.connection", {"headers": {"connection": "close"}}),
    ("headers.x-a", {"headers": {"x-a": "1\r\nset-cookie: a"}}),
    ("headers.x a", {"headers": {"x a": "1"}}),
    ("headers", {"headers": {"x": "1" * 5_000}}),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(PlatformError) as refused:
        rules.check(a_route(**wrong))
    assert refused.value.code == "invalid"
    assert refused.value.data["field"] == f"route.{field}"


def test_every_field_of_a_route_is_checked_or_has_a_type_that_says_all() -> None:
    elsewhere = {"group", "directory", "kind", "sticky", "idempotent", "websocket", "strip_prefix"}
    assert set(Route.__struct_fields__) == set(rules.CHECKS) | elsewhere


def test_the_operations_that_a_route_grants() -> None:
    assert rules.operations(a_route()) == ()
    assert rules.operations(a_route(kind="operation")) == ("http", "http.close")
    open_ = rules.operations(a_route(kind="operation", operation="ws", websocket=True))
    assert open_ == ("ws", "ws.open", "ws.message", "ws.close")


def test_weights() -> None:
    assert rules.weight(a_route(), "1") == limits.WEIGHT_DEFAULT
    some = a_route(weights={"1": 9, "": 2})
    assert (rules.weight(some, "1"), rules.weight(some, "7")) == (9, 2)
    assert rules.weight(a_route(weights={"1": 9}), "7") == 0


# -- in the cluster's state ------------------------------------------------------------------------


async def a_gateway(node: ControlledNode, name: str = "edge") -> str:
    plain = manifest(name)
    plain["component"].update(gateway=True, application="gateway")
    await node.log.propose(commands.RegisterType(bundle=BUNDLE, manifest=plain))
    (gateway,) = await node.create(name, groups=["gateways"])
    return gateway


async def a_type(node: ControlledNode, name: str, application: str) -> None:
    plain = manifest(name)
    plain["component"]["application"] = application
    await node.log.propose(commands.RegisterType(bundle=BUNDLE, manifest=plain))


async def test_a_route_is_set_changed_and_removed(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    state = node.common.gateway
    assert await node.log.propose(RouteSet(route=a_route())) == {"changed": True}
    assert await node.log.propose(RouteSet(route=a_route())) == {"changed": False}
    await node.log.propose(RouteSet(route=a_route(path="/x")))
    assert state.route("site").route.path == "/x"
    with pytest.raises(PlatformError) as owned:
        await node.log.propose(RouteSet(route=a_route(application="shop")))
    assert owned.value.code == "conflict", "nobody takes over a route by its name"
    taken = await node.log.propose(RouteRemoved(name="site", application="shop"))
    assert taken == {"changed": False}
    assert await node.log.propose(RouteRemoved(name="site")) == {"changed": True}
    with pytest.raises(PlatformError) as unknown:
        state.route("site")
    assert unknown.value.code == "no-such-target"


async def test_the_section_comes_back_from_its_snapshot_as_it_was(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    await node.log.propose(RouteSet(route=a_route(weights={"1": 2})))
    await node.log.propose(RoutesFollowed(gateway=gateway, incarnation=1))
    state, other = node.common.gateway, GatewayState()
    other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(state.snapshot())))
    assert other.snapshot() == state.snapshot()
    assert other.to_group("web") == state.to_group("web") != []
    assert dict(other.followers) == {gateway: 1}


async def test_only_a_gateway_that_lives_follows(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    await node.register()
    (other,) = await node.create("greeter")
    with pytest.raises(PlatformError) as refused:
        await node.log.propose(RoutesFollowed(gateway=other, incarnation=1))
    assert refused.value.code == "denied"
    await node.log.propose(RoutesFollowed(gateway=gateway, incarnation=1))
    await node.containers.kill(gateway)
    await node.wait_state(gateway, "available", incarnation=2)
    assert not node.common.gateway.followers
    with pytest.raises(PlatformError) as over:
        await node.log.propose(RoutesFollowed(gateway=gateway, incarnation=1))
    assert over.value.code == "not-available"


async def test_what_a_route_grants_and_what_not(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    await a_type(node, "shop", "shop")
    await a_type(node, "thief", "thieves")
    (member,) = await node.create("shop", groups=["web"])
    (sibling,) = await node.create("shop", groups=["else"])
    (thief,) = await node.create("thief", groups=["web", "gateways"])
    grants = RouteGrants(node.common.gateway, node.state, node.groups)
    assert not grants.granted(gateway, member, "http"), "no route, no grant"
    await node.log.propose(RouteSet(route=a_route(kind="operation", application="shop")))
    assert grants.granted(gateway, member, "http")
    assert grants.granted(gateway, member, "http.close")
    assert not grants.granted(gateway, member, "http.open"), "no WebSockets"
    assert not grants.granted(gateway, member, "delete_all")
    assert not grants.granted(gateway, sibling, "http"), "not in the group"
    assert not grants.granted(gateway, thief, "http"), "of another application"
    assert not grants.granted(thief, member, "http"), "in the gateways' group, but no gateway"
    assert grants.granted(member, gateway, "gateway.send")
    assert grants.granted(sibling, gateway, "gateway.send"), "of the route's application"
    assert not grants.granted(thief, gateway, "gateway.send")
    assert not grants.granted(member, gateway, "http")
    assert not grants.granted(member, thief, "gateway.send")
    await node.log.propose(RouteRemoved(name="site"))
    assert not grants.granted(gateway, member, "http"), "taken back with the route"
    await node.log.propose(RouteSet(route=a_route(application="shop")))
    assert not grants.granted(gateway, member, "http"), "a way to an endpoint is no operation"


async def test_a_grant_ends_with_the_membership(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    await a_type(node, "shop", "shop")
    (member,) = await node.create("shop", groups=["web"])
    await node.log.propose(RouteSet(route=a_route(kind="operation")))
    grants = RouteGrants(node.common.gateway, node.state, node.groups)
    assert grants.granted(gateway, member, "http")
    await node.containers.kill(gateway)
    await node.wait_state(gateway, "destroying", "preparing")
    assert not grants.granted(gateway, member, "http")
