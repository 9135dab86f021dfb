"""Routes, gateways and departures on two nodes: real processes, containers and sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import dev_cluster
from paas.testing.gateway_world import KIND, Socket, World, load

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with dev_cluster(2) as cluster:
        world = World(cluster, "built-in")
        world.prepare()
        yield world


@pytest.fixture
def world(shared: World) -> World:
    shared.begin("n1")
    return shared


class Asked(threading.Thread):
    """A request that takes a while."""

    def __init__(self, world: World, method: str) -> None:
        super().__init__(daemon=True)
        self._world, self._method = world, method
        self._answer: tuple[int, str] = (0, "no answer")
        self.start()

    def run(self) -> None:
        self._answer = self._world.ask(self._method, "/slow?10", timeout_s=60)

    def finish(self) -> tuple[str, int, str]:
        """Method, status, and what was said."""
        self.join(90)
        return (self._method, *self._answer)


def later(seconds: float, job: Any, *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, job, arguments)
    timer.start()
    return timer


def test_an_endpoint_route_reaches_members_of_both_nodes_and_only_its_own(world: World) -> None:
    near, far = world.member("n1"), world.member("n2")
    world.route(path="/shop", strip_prefix=True)
    world.serving(2, "/shop/who")
    assert set(world.members().values()) == {"serving"}
    found = {world.ask("GET", "/shop/who")[1] for _ in range(40)}
    assert found == {near, far}
    assert world.ask("GET", "/who")[0] == 404, "no route"
    assert world.ask("POST", "/shop/echo", b"body")[1] == "body"
    world.cluster.run("gateway", "remove", "site", "--yes")
    world.cluster.until(lambda: world.ask("GET", "/shop/who")[0] == 404)


def test_an_operation_route_calls_members_of_both_nodes(world: World) -> None:
    near, far = world.member("n1"), world.member("n2")
    world.route(kind="operation")
    world.serving(2)
    assert {world.ask("GET", "/who")[1] for _ in range(40)} == {near, far}
    assert world.ask("POST", "/echo", b"b" * 200_000) == (200, "b" * 200_000)
    assert world.ask("GET", "/nowhere") == (404, "nothing here")
    said = world.ask("GET", "/events")[1]
    assert [line.split()[1] for line in said.split("\n\n") if line] == ["0", "1", "2"]


def test_only_a_route_lets_a_gateway_call_and_it_calls_nothing_else(world: World) -> None:
    member = world.member("n2")
    (gateway,) = world.cluster.api("hub.members", group="gateways")["members"]
    ask = {"target": member, "from": gateway["component"]}
    assert not world.cluster.api("hub.allow", operation="http", **ask)["allowed"]
    world.route(kind="operation")
    assert world.cluster.api("hub.allow", operation="http", **ask)["allowed"]
    assert not world.cluster.api("hub.allow", operation="push", **ask)["allowed"]
    back = {"target": gateway["component"], "from": member, "operation": "gateway.send"}
    assert world.cluster.api("hub.allow", **back)["allowed"]


def test_a_graceful_stop_under_load_loses_no_request(world: World) -> None:
    world.member("n1")
    leaver = world.member("n2")
    world.route(path="/")
    world.route("calls", path="/", host="calls.example", kind="operation")
    world.serving(2)
    with load(world.address(), "POST", "/slow?0.05") as clients:
        time.sleep(0.5)
        world.member("n2")
        world.destroy(leaver)
        time.sleep(0.5)
    assert [wrong for one in clients for wrong in one.wrong] == []
    assert sum(one.answers.get(leaver, 0) for one in clients) > 0, "it was asked before"


def test_an_operation_routes_member_is_stopped_without_a_lost_request(world: World) -> None:
    world.member("n1")
    leaver = world.member("n2")
    world.route(kind="operation")
    world.serving(2)
    with load(world.address(), "POST", "/slow?0.05") as clients:
        time.sleep(0.5)
        world.destroy(leaver)
        time.sleep(0.3)
    assert [wrong for one in clients for wrong in one.wrong] == []
    assert sum(one.answers.get(leaver, 0) for one in clients) > 0


def test_terminate_and_the_move_of_a_drained_node_lose_no_request(world: World) -> None:
    world.member("n1")
    asked = world.member("n1")
    mover = world.member()
    assert world.cluster.component(mover)["node"] == "n2", "spread over the nodes"
    world.route()
    world.serving(3)
    with load(world.address(), "POST", "/slow?0.05") as clients:
        time.sleep(0.3)
        answer = world.cluster.api("controller.terminate", component=asked, timeout_s=60)
        assert answer["accepted"]
        world.cluster.run("nodes", "drain", "n2")
        assert world.cluster.available(mover, besides="n2") == "n1"
        time.sleep(0.3)
    world.cluster.run("nodes", "uncordon", "n2")
    assert [wrong for one in clients for wrong in one.wrong] == []


@pytest.mark.parametrize("kind", ["endpoint", "operation"])
def test_a_member_that_is_killed_costs_only_what_is_unsafe_and_begun(
    world: World, kind: str
) -> None:
    members = [world.member("n1"), world.member("n2")]
    world.route(kind=kind)
    world.serving(2)
    with (
        load(world.address(), "GET", "/slow?0.05", 6) as safe,
        load(world.address(), "POST", "/slow?0.05", 6) as unsafe,
    ):
        time.sleep(0.3)
        os.kill(world.main_process(members[1]), signal.SIGKILL)
        time.sleep(1.0)
    assert [wrong for one in safe for wrong in one.wrong] == []
    failed = [wrong for one in unsafe for wrong in one.wrong]
    assert len(failed) <= 6, "one for each that was under way"
    assert all(wrong.startswith("502") for wrong in failed)


@pytest.mark.parametrize("link", ["kept", "taken"])
@pytest.mark.parametrize("kind", ["endpoint", "operation"])
def test_what_waits_for_a_member_that_is_killed_ends_at_once(
    world: World, kind: str, link: str
) -> None:
    members = [world.member("n1"), world.member("n2")]
    world.route(kind=kind, websocket=True, timeout_s=120)
    world.serving(2)
    asked = [Asked(world, method) for method in ("GET", "POST") * 8]  # the less busy gets the next
    time.sleep(1.0)
    sockets: dict[str, list[Socket]] = {member: [] for member in members}
    while min(len(those) for those in sockets.values()) < 3:
        one = Socket(world.address())
        one.say("who")
        sockets[one.hear()].append(one)
    killed, spared = members
    process = world.main_process(killed)
    if link == "taken":
        world.take_link(killed)
    os.kill(process, signal.SIGKILL)
    assert {one.wait_closed(30).code for one in sockets[killed]} == {1011}
    for one in sockets[spared]:
        one.say("still there")
        assert one.hear() == "still there"
        one.close()
    answers = [one.finish() for one in asked]
    assert {status for method, status, _ in answers if method == "GET"} == {200}
    lost = [(status, said) for _, status, said in answers if status != 200]
    assert {status for status, _ in lost} == {502}
    if link == "taken":
        assert all("while it worked" in said for _, said in lost), lost


@pytest.mark.parametrize("kind", ["endpoint", "operation"])
def test_an_unsafe_request_whose_member_dies_is_502_and_an_idempotent_one_is_repeated(
    world: World, kind: str
) -> None:
    world.member("n1")
    world.member("n2")
    world.route(kind=kind)
    world.serving(2)
    assert world.ask("POST", "/die")[0] == 502
    # The way that kills every member is not repeated for ever, whatever the method.
    world.route(kind=kind, idempotent=True, retries=1)
    assert world.ask("POST", "/die")[0] in (502, 503)


@pytest.mark.parametrize("kind", ["endpoint", "operation"])
def test_websockets_of_a_leaving_member_are_warned_and_live_to_the_end_of_the_drain(
    world: World, kind: str
) -> None:
    leaver = world.member("n2")
    world.route(kind=kind, websocket=True, drain_s=3, drain_notice="please come back")
    world.serving(1)
    one = Socket(world.address())
    one.say("before")
    assert one.hear() == "before"
    world.member("n1")
    began = time.monotonic()
    timer = later(0, lambda: world.destroy(leaver))
    assert one.hear() == "please come back"
    one.say("still here")
    assert one.hear() == "still here"
    closed = one.wait_closed()
    lasted_s = time.monotonic() - began
    timer.join(30)
    assert closed.code == 1001
    assert 2.5 < lasted_s < 10
    other = Socket(world.address())
    other.say("again")
    assert other.hear() == "again"
    other.close()


def test_a_component_pushes_to_browsers_and_hears_when_they_go(world: World) -> None:
    member = world.member("n2")
    world.route(kind="operation", websocket=True)
    world.serving(1)
    sockets = [Socket(world.address()) for _ in range(5)]
    assert world.cluster.call(member, "open_sockets") == {"count": 5}
    world.cluster.call(member, "push", text="news")
    assert [one.hear() for one in sockets] == ["news"] * 5
    sockets.pop().close()
    world.cluster.until(lambda: world.cluster.call(member, "open_sockets") == {"count": 4})
    for one in sockets:
        one.close()
    world.cluster.until(lambda: world.cluster.call(member, "open_sockets") == {"count": 0})


def test_a_gateway_that_is_killed_comes_back_and_holds_no_departure_up(world: World) -> None:
    (gateway,) = [
        m["component"] for m in world.cluster.api("hub.members", group="gateways")["members"]
    ]
    leaver = world.member("n1")
    world.member("n2")
    world.route(drain_s=60)
    world.serving(2)
    for _ in range(2):  # one for each member, as the less busy is asked
        later(0, lambda: _quietly(lambda: world.ask("POST", "/slow?30", timeout_s=40)))
    time.sleep(0.5)
    stopping = later(0, lambda: world.destroy(leaver))
    world.cluster.until(lambda: world.members().get(leaver) == "leaving")
    time.sleep(0.5)
    assert world.members()[leaver] == "leaving", "it is waited for"
    os.kill(world.main_process(gateway), signal.SIGKILL)
    stopping.join(20)
    world.cluster.until(lambda: world.cluster.component(leaver)["state"] == "destroyed", 20)
    world.serving(1)


def test_a_hub_that_is_killed_costs_no_safe_request(world: World) -> None:
    world.member("n1")
    world.member("n2")
    world.route()
    world.route("calls", path="/calls", strip_prefix=True, kind="operation", timeout_s=20)
    world.serving(2)
    with (
        load(world.address(), "GET", "/slow?0.02", 4) as endpoint,
        load(world.address(), "GET", "/calls/slow?0.02", 4) as operation,
    ):
        time.sleep(0.3)
        world.cluster.kill_agents("n1", "hub")
        time.sleep(4)
    assert [wrong for one in endpoint for wrong in one.wrong] == []
    assert [wrong for one in operation for wrong in one.wrong] == []
    # What changes afterwards is heard: the watch goes on.
    new = world.member("n2")
    world.cluster.until(lambda: world.ask("GET", "/who")[1] == new)


def test_routes_by_the_command_line(world: World) -> None:
    cluster = world.cluster
    cluster.run("gateway", "set", "site", "--group", "web", "--path", "/a", "--field", "retries=1")
    cluster.run("gateway", "set", "site", "--host", "shop.example")
    shown = cluster.run("gateway", "routes")
    assert "shop.example" in shown
    assert "/a" in shown
    assert '"retries"' in cluster.run("gateway", "route", "site", "-o", "json")
    refused = cluster.run("gateway", "set", "site", "--path", "a b", status=None)
    assert "route.path" in refused
    assert "site" in cluster.run("gateway", "remove", "site", "--yes")
    assert "n1" in cluster.run("gateway", "status")


def test_answered_requests_are_events_of_the_gateway_without_their_queries(world: World) -> None:
    member = world.member("n1")
    world.route()
    world.serving(1)
    (gateway,) = world.cluster.api("hub.members", group="gateways")["members"]
    assert world.ask("GET", "/who?secret=word") == (200, member)
    words = ("logs", gateway["component"], "--grep", "/who", "-o", "jsonl")

    def answered() -> list[str]:
        """Events of what a member has answered; those before it was ready have no member."""
        return [line for line in world.cluster.run(*words).splitlines() if member in line]

    world.cluster.until(answered)
    assert "secret" not in world.cluster.run("logs", gateway["component"], "-o", "jsonl")


def test_only_gateways_follow(world: World) -> None:
    with pytest.raises(PlatformError) as refused:
        world.cluster.api("gateway.follow")
    assert refused.value.code == "denied"
    assert (
        world.cluster.api("controller.type", type=KIND)["manifest"]["component"]["gateway"] is False
    )


def _quietly(job: Any) -> None:
    with contextlib.suppress(Exception):
        job()
