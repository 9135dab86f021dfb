"""Who may talk to whom: the table of the rule, at the caller's hub and where a call arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio.testing

from paas.base.errors import PlatformError
from paas.bundle.manifest import Manifest, from_plain
from paas.controller.messages import TypeRegistered, TypeUnregistered
from paas.harness.messages import Invoke, InvokeResult
from paas.hub import limits
from paas.hub.authorisation import ATTRIBUTES, SIGNALS, Authorisation
from paas.hub.messages import (
    CALL,
    CAST,
    FORWARD,
    Allow,
    AllowResult,
    Call,
    Cast,
    Forward,
    MessageMark,
)
from paas.hub.router import Router
from paas.hub.routing_api import RoutingApi
from paas.raft.machine import StateReplaced
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Context
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode


def manifest(name: str, application: str, **sections: Any) -> Manifest:
    component = {"name": name, "version": "1", "command": ["x"], "application": application}
    return from_plain({"component": component, **sections})


def exposes(operations: list[str], to: list[str], **more: Any) -> dict[str, Any]:
    return {"exposes": {"x": {"operations": operations, "to": to, **more}}}


def requires(group: str, **more: Any) -> dict[str, Any]:
    return {"requires": {"x": {"group": group, **more}}}


TYPES = {
    "open": manifest("open", "storage", **exposes(["get", "list"], ["shop"])),
    "wide": manifest("wide", "storage", **exposes(["*"], ["*"])),
    "orders": manifest("orders", "storage", **exposes(["get"], ["shop"], objects=["orders"])),
    "shut": manifest("shut", "storage"),
    "others": manifest("others", "storage", **exposes(["*"], ["billing"])),
    "asker": manifest("asker", "shop", **requires("kv", application="storage")),
    "getter": manifest("getter", "shop", **requires("kv", operations=["get"])),
    "elsewhere": manifest("elsewhere", "shop", **requires("kv", application="billing")),
    "plain": manifest("plain", "shop"),
    "brother": manifest("brother", "storage"),
    "watcher": manifest("watcher", "shop", **requires("kv", operations=["attributes"])),
    "shown": manifest("shown", "storage", **exposes(["attributes"], ["shop"])),
}


class Cluster:
    """Components, called by the name of their type and a number: `open-1`."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.groups: dict[str, list[str]] = {}
        self.types = dict(TYPES)
        self.looked_up = 0

    def place(self, component: str, node: str, *groups: str) -> str:
        self.nodes[component] = node
        for group in groups:
            self.groups.setdefault(group, []).append(component)
        return component

    def type_of(self, component: str) -> str:
        self.looked_up += 1
        return component.partition("-")[0] if component in self.nodes else ""

    def manifest_of(self, kind: str) -> Manifest | None:
        return self.types.get(kind)

    def in_one_of(self, groups: frozenset[str], component: str) -> bool:
        return any(component in self.groups.get(group, ()) for group in groups)

    def groups_of(self, component: str) -> list[str]:
        return sorted(g for g, members in self.groups.items() if component in members)

    def resolve(self, target: str) -> str:
        if target not in self.nodes:
            raise PlatformError("no-such-target")
        return target

    def members(self, group: str) -> list[str]:
        return list(self.groups.get(group, ()))

    def state(self, component: str) -> str:
        return "available" if component in self.nodes else "destroyed"

    def node(self, component: str) -> str:
        return self.nodes.get(component, "")


# The rule.  Every target is in the group `kv`.
TABLE = [
    # caller, target, operation, object, allowed
    ("", "shut", "get", "", True),
    ("brother", "shut", "get", "", True),
    ("brother", "open", "drop", "", True),
    ("asker", "open", "get", "", True),
    ("asker", "open", "list", "", True),
    ("asker", "open", "get", "orders", True),
    ("asker", "open", "drop", "", False),
    ("asker", "wide", "drop", "", True),
    ("asker", "orders", "get", "orders", True),
    ("asker", "orders", "get", "", False),
    ("asker", "orders", "list", "orders", False),
    ("asker", "shut", "get", "", False),
    ("asker", "others", "get", "", False),
    ("getter", "open", "get", "", True),
    ("getter", "open", "list", "", False),
    ("getter", "wide", "get", "", True),
    ("getter", "wide", "list", "", False),
    ("elsewhere", "open", "get", "", False),
    ("plain", "open", "get", "", False),
    ("plain", "wide", "get", "", False),
    ("plain", "plain", "get", "", True),
    ("asker", "plain", "get", "", True),
    ("open", "asker", "get", "", False),
    ("unheard", "wide", "get", "", False),
]


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    for kind in [*TYPES, "unheard"]:
        made.place(f"{kind}-1", "n1", "kv")
        made.place(f"{kind}-2", "n2", "kv")
    return made


def caller_of(kind: str) -> str:
    return f"{kind}-1" if kind else ""


@pytest.mark.parametrize(("caller", "target", "operation", "object_name", "allowed"), TABLE)
def test_the_rule(
    cluster: Cluster, caller: str, target: str, operation: str, object_name: str, allowed: bool
) -> None:
    rights = Authorisation(cluster)
    who, whom = caller_of(caller), f"{target}-2"
    for _ in range(2):  # the second time from what is kept
        assert rights.allows(who, whom, operation, object_name) is allowed
        assert rights.explain(who, whom, operation, object_name).allowed is allowed
    if allowed:
        rights.check(who, whom, operation, object_name)
        rights.check_forwarded("n1", who, whom, operation, object_name)
        return
    with pytest.raises(PlatformError) as caught:
        rights.check(who, whom, operation, object_name)
    assert caught.value.code == "denied"
    with pytest.raises(PlatformError) as caught:
        rights.check_forwarded("n1", who, whom, operation, object_name)
    assert caught.value.code == "denied"


def test_what_is_required_is_a_group_and_not_everybody_who_exposes(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    cluster.place("open-3", "n1", "archive")
    assert not rights.allows("asker-1", "open-3", "get", "")
    cluster.groups["kv"].append("open-3")
    assert rights.allows("asker-1", "open-3", "get", ""), "membership is as it is now"
    cluster.groups["kv"].remove("open-3")
    assert not rights.allows("asker-1", "open-3", "get", "")


def test_a_refusal_names_both_sides_and_what_to_add_to_which_manifest(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    with pytest.raises(PlatformError) as caught:
        rights.check("plain-1", "shut-1", "get", "orders")
    error = caught.value
    assert error.data["caller"] == {
        "component": "plain-1",
        "type": "plain",
        "application": "shop",
    }
    assert error.data["target"]["application"] == "storage"
    assert "plain-1 (plain, application shop)" in error.message
    assert "shut-1 (shut, application storage)" in error.message
    assert "does not expose it" in error.message
    assert "does not require it" in error.message
    assert set(error.data["add"]) == {"plain", "shut"}
    assert "manifest of shut: [exposes.shop]" in error.hint


def test_what_is_told_to_add_is_what_it_takes(cluster: Cluster) -> None:
    """Done as told, the call is allowed: the texts are sections of a manifest."""
    import tomllib

    rights = Authorisation(cluster)
    add = rights.explain("plain-1", "shut-1", "get", "orders").add
    for kind, text in add.items():
        old = cluster.types[kind].to_plain()
        section, entry = tomllib.loads(text).popitem()
        cluster.types[kind] = from_plain({**old, section: {**old[section], **entry}})
    rights.forget()
    assert rights.allows("plain-1", "shut-1", "get", "orders")
    assert not rights.allows("plain-1", "shut-1", "put", "orders")
    assert not rights.allows("plain-1", "shut-1", "get", "")


def test_only_the_side_that_lacks_something_is_told_to_add_it(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    assert set(rights.explain("asker-1", "shut-1", "get", "").add) == {"shut"}
    assert set(rights.explain("plain-1", "open-1", "get", "").add) == {"plain"}
    verdict = rights.explain("getter-1", "open-1", "list", "")
    assert (verdict.allowed, set(verdict.add)) == (False, {"getter"})


def test_pseudo_operations_follow_the_same_rule(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    assert rights.allows("watcher-1", "shown-1", ATTRIBUTES, "")
    assert not rights.allows("watcher-1", "shown-1", SIGNALS, "")
    assert not rights.allows("watcher-1", "shown-1", "get", "")
    assert rights.allows("asker-1", "wide-1", SIGNALS, "")


def test_terms_are_found_anew_when_types_change(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    assert not rights.allows("plain-1", "wide-1", "get", "")
    cluster.types["plain"] = manifest("plain", "shop", **requires("kv"))
    rights.forget()
    assert rights.allows("plain-1", "wide-1", "get", "")


def test_whatever_callers_ask_for_little_is_kept(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TERMS_KEPT_MAX", 20)
    monkeypatch.setattr(limits, "PAIRS_KEPT_MAX", 30)
    rights = Authorisation(cluster)
    for number in range(5_000):
        rights.allows("asker-1", "open-1", f"operation-{number}", f"object-{number}")
    assert len(rights._terms) == len(rights._pairs) == 1
    for caller in cluster.nodes:
        for target in cluster.nodes:
            rights.allows(caller, target, "get", "")
            assert len(rights._terms) <= 20
            assert len(rights._pairs) <= 30
    assert rights.allows("asker-1", "open-1", "get", "")
    assert not rights.allows("asker-1", "shut-1", "get", "")


def test_a_component_that_is_not_known_yet_is_not_denied_for_ever(cluster: Cluster) -> None:
    rights = Authorisation(cluster)
    assert not rights.allows("asker-9", "open-1", "get", "")
    cluster.place("asker-9", "n1")
    assert rights.allows("asker-9", "open-1", "get", "")


# -- at the routers ----


class Node:
    """One node's router with the rule, and its components."""

    def __init__(self, name: str, cluster: Cluster, maker: Pairs) -> None:
        self.name, self.cluster, self._maker = name, cluster, maker
        self.peers: dict[str, Peer] = {}
        self.seen: list[tuple[str, Invoke]] = []
        self.rights = Authorisation(cluster)
        self.router = Router(cluster, SystemClock(), node=name, links=self, rights=self.rights)

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return list(self.peers)

    def on_request(self, peer: Peer, request: Request) -> None:
        handlers = {
            CALL.name: self.router.call,
            CAST.name: self.router.cast,
            FORWARD.name: self.router.forward,
        }
        try:
            handlers[request.method](peer, request)
        except PlatformError as exc:
            peer.fail(request, exc)

    def attach(self, component: str) -> None:
        def answer(peer: Peer, request: Request) -> None:
            invoke = decode(request.params, Invoke)
            self.seen.append((component, invoke))
            if not invoke.oneway:
                peer.reply(request, InvokeResult(outputs=invoke.inputs))

        ours, _ = self._maker.join(_nobody, answer)
        self.router.attach(component, ours, ready=True)

    def caller(self, component: str) -> Peer:
        ours, theirs = self._maker.join(self.on_request, _nobody)
        if component:
            ours.info["component"] = component
        return theirs

    def hub_of(self, node: str) -> Peer:
        """A connection that has proven to be another node's hub, in the hands of the test."""
        ours, theirs = self._maker.join(self.on_request, _nobody)
        ours.info["node"] = node
        return theirs


class World:
    """Nodes n1 and n2; on each, one component of each type, all in the group `kv`."""

    def __init__(self, maker: Pairs, cluster: Cluster) -> None:
        self.cluster = cluster
        self.n1, self.n2 = Node("n1", cluster, maker), Node("n2", cluster, maker)
        left, right = maker.join(self.n1.on_request, self.n2.on_request)
        self.n1.peers["n2"], self.n2.peers["n1"] = left, right
        left.info["node"], right.info["node"] = "n2", "n1"
        for component, node in cluster.nodes.items():
            (self.n1 if node == "n1" else self.n2).attach(component)

    @property
    def seen(self) -> set[str]:
        return {component for component, _ in (*self.n1.seen, *self.n2.seen)}


def _nobody(peer: Peer, request: Request) -> None:
    peer.fail(request, PlatformError("no-such-method"))


@pytest.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    async with pairs() as maker:
        yield World(maker, cluster)


def call(target: str, operation: str = "get", object_name: str = "", **more: Any) -> Call:
    body = msgspec.Raw(codec.pack({"n": 1}))
    return Call(target=target, operation=operation, object=object_name, inputs=body, **more)


def cast(target: str, operation: str = "get", object_name: str = "", **more: Any) -> Cast:
    return Cast(target=target, operation=operation, object=object_name, **more)


async def outcome(caller: Peer, method: Any, params: Any) -> str:
    try:
        await caller.call(method, params, timeout_s=5.0)
    except PlatformError as exc:
        return exc.code
    return "done"


@pytest.mark.parametrize("where", ["1", "2"])
@pytest.mark.parametrize(("caller", "target", "operation", "object_name", "allowed"), TABLE)
async def test_calls_and_casts_reach_only_those_who_may_be_called(
    world: World,
    caller: str,
    target: str,
    operation: str,
    object_name: str,
    allowed: bool,
    where: str,
) -> None:
    peer, wanted = world.n1.caller(caller_of(caller)), f"{target}-{where}"
    expected = "done" if allowed else "denied"
    assert await outcome(peer, CALL, call(wanted, operation, object_name)) == expected
    assert world.seen == ({wanted} if allowed else set())
    assert await outcome(peer, CAST, cast(wanted, operation, object_name)) == expected
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.n1.seen) + len(world.n2.seen) == (2 if allowed else 0)


ALLOWED_TO_ASKER = {
    f"{kind}-{number}"
    for kind in ("open", "wide", "asker", "getter", "elsewhere", "plain", "watcher")
    for number in (1, 2)
}


async def test_a_group_is_its_members_that_may_be_called(world: World) -> None:
    asker = world.n1.caller("asker-1")
    every = await asker.call(CALL, call("group:kv", selector="all"))
    assert {r.component for r in every.replies} == ALLOWED_TO_ASKER  # type: ignore[union-attr]
    asked = [(await asker.call(CALL, call("group:kv"))).component for _ in range(28)]
    assert set(asked) == ALLOWED_TO_ASKER
    assert max(map(asked.count, asked)) == 2, "in turn"
    assert (await asker.call(CAST, cast("group:kv", selector="all"))).accepted == 14
    await trio.testing.wait_all_tasks_blocked()
    assert world.seen == ALLOWED_TO_ASKER


@pytest.mark.parametrize("selector", ["nearest", "least-loaded", "hash:1", "hash:2", "hash:3"])
async def test_every_selector_chooses_among_those(world: World, selector: str) -> None:
    asker = world.n1.caller("asker-1")
    for _ in range(30):
        chosen = await asker.call(CALL, call("group:kv", selector=selector))
        assert chosen.component in ALLOWED_TO_ASKER
    await trio.testing.wait_all_tasks_blocked()
    assert world.seen <= ALLOWED_TO_ASKER


@pytest.mark.parametrize("selector", ["any", "all", "leader", "nearest", "hash:1", "least-loaded"])
async def test_a_group_without_anybody_who_may_be_called_is_denied(
    world: World, selector: str
) -> None:
    world.cluster.groups["closed"] = ["shut-1", "shut-2", "others-1"]
    asker = world.n1.caller("asker-1")
    assert await outcome(asker, CALL, call("group:closed", selector=selector)) == "denied"
    assert await outcome(asker, CAST, cast("group:closed", selector=selector)) == "denied"
    assert await outcome(world.n1.caller(""), CALL, call("group:closed")) == "done"
    assert len(world.seen) == 1


async def test_the_leader_is_who_it_is_also_when_it_may_not_be_called(world: World) -> None:
    world.cluster.groups["mixed"] = ["shut-1", "brother-1", "plain-1"]
    asker = world.n1.caller("asker-1")
    assert await outcome(asker, CALL, call("group:mixed", selector="leader")) == "denied"
    assert await outcome(asker, CALL, call("group:mixed")) == "done"
    assert world.seen == {"plain-1"}


async def test_allowed_members_that_are_away_are_not_available(world: World) -> None:
    world.cluster.groups["mixed"] = ["shut-1", "plain-1"]
    world.n1.router.set_ready("plain-1", False)
    assert await outcome(world.n1.caller("asker-1"), CALL, call("group:mixed")) == "not-available"


# -- a hub that lies ----


def forwarded(caller: str, target: str, operation: str = "get", **more: Any) -> Forward:
    return Forward(component=target, operation=operation, from_=caller, timeout=5.0, **more)


@pytest.mark.parametrize(
    ("hub", "message", "expected"),
    [
        ("n1", forwarded("asker-1", "open-2"), "done"),
        ("n1", forwarded("asker-1", "open-2", "drop"), "denied"),
        ("n1", forwarded("asker-1", "shut-2"), "denied"),
        ("n1", forwarded("plain-1", "wide-2"), "denied"),
        ("n1", forwarded("brother-1", "shut-2"), "done"),
        ("n3", forwarded("brother-1", "shut-2"), "denied"),
        ("n3", forwarded("asker-1", "open-2"), "denied"),
        ("n1", forwarded("brother-2", "shut-2"), "denied"),
        ("n1", forwarded("nobody-1", "wide-2"), "not-available"),
        ("n1", forwarded("unheard-1", "wide-2"), "denied"),
        ("n1", forwarded("", "shut-2"), "done"),
    ],
)
async def test_what_another_hub_forwards_is_judged_again(
    world: World, hub: str, message: Forward, expected: str
) -> None:
    peer = world.n2.hub_of(hub)
    assert await outcome(peer, FORWARD, message) == expected
    seen = {message.component} if expected == "done" else set()
    assert world.seen == seen
    peer.notify(FORWARD, message)
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.n2.seen) == (2 if expected == "done" else 0)


async def test_a_connection_that_has_not_said_its_node_speaks_for_nobody(world: World) -> None:
    peer = world.n2.caller("")
    assert await outcome(peer, FORWARD, forwarded("brother-1", "shut-2")) == "denied"


class _Primary:
    """n3 is the primary of every mailbox."""

    def check(self, node: str, message: Forward) -> None:
        assert node == "n3"


async def test_a_message_of_a_mailbox_comes_from_its_primary_but_not_for_anybody(
    world: World,
) -> None:
    peer, mark = world.n2.hub_of("n3"), MessageMark(id="m1", attempt=1)
    message = forwarded("asker-1", "open-2", message=mark)
    assert await outcome(peer, FORWARD, message) == "denied"  # there are no mailboxes
    world.n2.router.claims = _Primary()
    assert await outcome(peer, FORWARD, message) == "done"
    assert await outcome(peer, FORWARD, forwarded("asker-1", "shut-2", message=mark)) == "denied"
    assert await outcome(peer, FORWARD, forwarded("plain-1", "wide-2", message=mark)) == "denied"


async def test_the_target_hub_decides_though_the_other_has_decided_otherwise(world: World) -> None:
    """The callers hub is persuaded that everything is allowed; the target's is not."""
    world.n1.router._rights = _Persuaded()
    asker = world.n1.caller("asker-1")
    assert await outcome(asker, CALL, call("shut-2")) == "denied"
    assert await outcome(asker, CALL, call("open-2")) == "done"
    every = await asker.call(CALL, call("group:kv", selector="all"))
    codes = {r.component: r.error for r in every.replies}  # type: ignore[union-attr]
    assert codes["shut-2"]["data"]["code"] == "denied"  # type: ignore[index]
    assert codes["open-2"] is msgspec.UNSET
    assert {c for c in world.seen if c.endswith("-2")} <= ALLOWED_TO_ASKER


class _Persuaded:
    def allows(self, caller: str, target: str, operation: str, object_name: str) -> bool:
        return True

    def check(self, caller: str, target: str, operation: str, object_name: str) -> None:
        pass

    def check_forwarded(
        self, node: str, caller: str, target: str, operation: str, object_name: str
    ) -> None:
        pass


# -- hub.allow, and watches ----


class Asker:
    """The peer of a request, as far as these handlers look at it."""

    def __init__(self, component: str) -> None:
        self.info: dict[str, Any] = {"component": component} if component else {}


def api(cluster: Cluster) -> RoutingApi:
    rights = Authorisation(cluster)
    router = Router(cluster, SystemClock(), node="n1", rights=rights)
    return RoutingApi(router, cluster, rights, node="n1", links=None, clock=SystemClock())  # type: ignore[arg-type]


def asked(cluster: Cluster, who: str, **params: Any) -> AllowResult:
    context = Context(Asker(who), Request(1, "hub.allow", b""), 5.0)  # type: ignore[arg-type]
    return api(cluster)._allow(Allow(operation="get", **params), context)


def test_operators_ask_about_any_pair(cluster: Cluster) -> None:
    said = asked(cluster, "", from_="asker-1", target="open-1")
    assert (said.allowed, said.from_.application) == (True, "shop")
    said = asked(cluster, "", from_="plain-1", target="open-1")
    assert not said.allowed
    assert set(said.targets[0].add) == {"plain"}
    assert asked(cluster, "", target="shut-1").allowed, "an operator itself"


def test_components_ask_about_themselves(cluster: Cluster) -> None:
    said = asked(cluster, "asker-1", target="group:kv")
    allowed = {verdict.component for verdict in said.targets if verdict.allowed}
    assert (said.allowed, allowed) == (True, ALLOWED_TO_ASKER)
    assert len(said.targets) == len(cluster.groups["kv"])
    assert not asked(cluster, "asker-1", target="group:nobody").allowed
    with pytest.raises(PlatformError) as caught:
        asked(cluster, "asker-1", from_="plain-1", target="open-1")
    assert caught.value.code == "denied"
    with pytest.raises(PlatformError) as caught:
        asked(cluster, "asker-1", target="nowhere")
    assert caught.value.code == "no-such-target"


def test_a_watch_is_opened_for_who_may_see(cluster: Cluster) -> None:
    permit = api(cluster).permit
    cluster.groups["shown"] = ["shown-1", "shown-2"]
    permit(Asker("watcher-1"), "shown-1", ATTRIBUTES)  # type: ignore[arg-type]
    permit(Asker("watcher-1"), "group:shown", ATTRIBUTES)  # type: ignore[arg-type]
    permit(Asker(""), "group:kv", SIGNALS)  # type: ignore[arg-type]
    cluster.groups["shown"].append("shut-1")
    for target, operation in (
        ("shown-1", SIGNALS),
        ("open-1", ATTRIBUTES),
        ("group:shown", ATTRIBUTES),
    ):
        with pytest.raises(PlatformError) as caught:
            permit(Asker("watcher-1"), target, operation)  # type: ignore[arg-type]
        assert caught.value.code == "denied"


def test_a_new_type_or_state_is_judged_anew(cluster: Cluster) -> None:
    one = api(cluster)
    assert one._authorisation is not None
    for event in (
        TypeRegistered(type="plain", bundle="b"),
        TypeUnregistered(type="plain", bundle="b"),
        StateReplaced(index=7),
    ):
        assert not one._authorisation.allows("plain-1", "wide-1", "get", "")
        assert one._authorisation._terms
        one.state_changed([event])
        assert not one._authorisation._terms
