"""A hub keeps the ways and far paths of its node as the cluster state wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentForgotten
from paas.network import messages
from paas.network.agent import Network, host_of
from paas.network.messages import FarPath, NetworkChanged
from paas.network.state import ClaimNetwork, NetworkState

HERE, THERE = "1" * 40, "2" * 40


@dataclass
class Node:
    name: str
    address: str


@dataclass
class Instance:
    node: str
    incarnation: int = 1
    over: bool = False

    def is_over(self, incarnation: int) -> bool:
        return self.over or incarnation < self.incarnation


class Nodes:
    def __init__(self, *nodes: Node) -> None:
        self.all = {node.name: node for node in nodes}

    def nodes(self) -> list[Node]:
        return list(self.all.values())

    def get(self, name: str) -> Node | None:
        return self.all.get(name)


class Log:
    """Grants claims at once, unless told otherwise."""

    def __init__(self, state: NetworkState) -> None:
        self.state = state
        self.granted = ""
        self.claims: list[str] = []
        self.callback: Callable[[int, Sequence[Any]], None] = lambda _i, _e: None

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        assert isinstance(command, ClaimNetwork)
        await trio.lowlevel.checkpoint()
        self.claims.append(command.network)
        granted = self.granted or command.network
        self.state.restore({"networks": {**self.state.networks(), command.node: granted}})
        return {"network": granted}

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self.callback = callback
        return lambda: None

    def tell(self, *events: Any) -> None:
        self.callback(1, events)


class Controller:
    """The node's container controller: what it was told."""

    def __init__(self) -> None:
        self.network = "10.64.0.0/21"
        self.neighbours: list[messages.SetNeighbours] = []
        self.paths: dict[FarPath, None] = {}
        self.fails: dict[str, PlatformError] = {}
        self.asked: list[str] = []

    async def call(self, method: Any, params: Any, *, timeout_s: float) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(method.name)
        if (error := self.fails.get(method.name)) is not None:
            raise error
        match params:
            case messages.GetNetwork():
                return messages.NetworkFacts(network=self.network, containers=0)
            case messages.SetNeighbours():
                self.neighbours.append(params)
            case messages.ListPaths():
                return messages.FarPaths(paths=list(self.paths))
            case messages.AdmitPath():
                self.paths[params.path] = None
                return messages.Admitted(address="10.64.0.5")
            case messages.ShutPaths():
                for path in params.paths:
                    self.paths.pop(path, None)
            case messages.Renumber():
                self.network = params.network
        return None


class Remote:
    """The other hub."""

    def __init__(self) -> None:
        self.asked: list[messages.OpenEnd] = []
        self.errors: list[PlatformError] = []

    async def request(self, node: str, method: Any, params: Any, timeout_s: float) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(params)
        if self.errors:
            raise self.errors.pop(0)


class World:
    def __init__(self) -> None:
        self.state = NetworkState()
        self.state.restore({"networks": {"n2": "10.64.8.0/21"}})
        self.log, self.controller, self.remote = Log(self.state), Controller(), Remote()
        self.nodes = Nodes(Node("n1", "192.0.2.1:7000"), Node("n2", "192.0.2.2:7000"))
        self.instances = {HERE: Instance("n1"), THERE: Instance("n2")}
        self.troubles: list[str] = []
        self.agent = Network(
            node="n1",
            log=self.log,
            state=self.state,
            nodes=self.nodes,
            instances=self.instances,
            controller=self.controller,
            remote=self.remote,
            on_trouble=lambda _name, error: self.troubles.append(error.code),
        )

    def path(self, **changes: Any) -> FarPath:
        given: dict[str, Any] = {
            "component": HERE,
            "incarnation": 1,
            "end": "source",
            "peer": THERE,
            "peer_incarnation": 1,
            "peer_node": "n2",
            "peer_address": "10.64.8.7",
            "port": 8000,
        }
        return FarPath(**{**given, **changes})


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> World:
    made = World()
    await nursery.start(made.agent.run)
    made.agent.containers_connected()
    await wait_all_tasks_blocked()
    return made


async def test_a_node_claims_its_addresses_and_hears_of_the_others(world: World) -> None:
    assert world.log.claims == ["10.64.0.0/21"]
    (told,) = world.controller.neighbours
    assert told.address == "192.0.2.1"
    assert [(n.node, n.network, n.address) for n in told.neighbours] == [
        ("n2", "10.64.8.0/21", "192.0.2.2")
    ]


async def test_other_addresses_are_taken_when_the_claim_is_answered_with_others(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    world.log.granted = "10.64.16.0/21"
    await nursery.start(world.agent.run)
    world.agent.containers_connected()
    await wait_all_tasks_blocked()
    assert world.controller.network == "10.64.16.0/21"


async def test_new_nodes_are_told_and_nothing_is_told_twice(world: World) -> None:
    world.log.tell(NetworkChanged(node="n2", network="10.64.8.0/21"))
    await wait_all_tasks_blocked()
    assert len(world.controller.neighbours) == 1
    world.nodes.all["n3"] = Node("n3", "192.0.2.3:7000")
    world.state.restore({"networks": {**world.state.networks(), "n3": "10.64.24.0/21"}})
    world.log.tell(NetworkChanged(node="n3", network="10.64.24.0/21"))
    await wait_all_tasks_blocked()
    assert [n.node for n in world.controller.neighbours[-1].neighbours] == ["n2", "n3"]


async def test_a_path_is_opened_here_and_then_there(world: World) -> None:
    await world.agent.open(world.path(), "http", "store")
    assert list(world.controller.paths) == [world.path()]
    (asked,) = world.remote.asked
    assert (asked.source, asked.address, asked.target) == (HERE, "10.64.0.5", THERE)
    assert (asked.endpoint, asked.requirement) == ("http", "store")


async def test_what_the_other_node_refuses_is_closed_here(world: World) -> None:
    world.remote.errors = [PlatformError("denied", "no")]
    with pytest.raises(PlatformError, match="no"):
        await world.agent.open(world.path(), "http", "store")
    assert not world.controller.paths


async def test_a_path_that_is_open_already_stays_when_asking_again_fails(world: World) -> None:
    await world.agent.open(world.path(), "http", "store")
    world.remote.errors = [PlatformError("not-available", "gone")]
    with pytest.raises(PlatformError, match="gone"):
        await world.agent.open(world.path(), "http", "store")
    assert list(world.controller.paths) == [world.path()]


async def test_a_node_that_is_a_moment_behind_is_asked_again(world: World) -> None:
    world.remote.errors = [PlatformError("conflict")] * 2
    await world.agent.open(world.path(), "http", "store")
    assert len(world.remote.asked) == 3
    world.remote.errors = [PlatformError("conflict")] * 9
    with pytest.raises(PlatformError):
        await world.agent.open(world.path(port=8001), "http", "store")
    assert len(world.remote.asked) == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"incarnation": 2},
        {"peer_incarnation": 2},
        {"peer_node": "n3"},
        {"peer_address": "10.64.0.9"},
        {"peer_address": "192.0.2.2"},
        {"component": THERE, "peer": HERE},
        {"peer": "3" * 40},
    ],
)
async def test_ends_that_are_not_as_this_node_knows_them_are_refused(
    world: World, changes: dict[str, Any]
) -> None:
    with pytest.raises(PlatformError) as caught:
        await world.agent.admit(world.path(end="target", **changes))
    assert caught.value.code == "conflict"
    assert not world.controller.paths


@pytest.mark.parametrize("what", ["ended", "began anew", "moved", "forgotten", "readdressed"])
async def test_a_path_ends_with_its_other_end(world: World, what: str) -> None:
    await world.agent.admit(world.path(end="target"))
    assert world.controller.paths
    peer = world.instances[THERE]
    match what:
        case "ended":
            peer.over = True
        case "began anew":
            peer.incarnation = 2
        case "moved":
            peer.node = "n3"
        case "forgotten":
            del world.instances[THERE]
        case "readdressed":
            world.state.restore({"networks": {"n2": "10.64.48.0/21"}})
    world.log.tell(ComponentForgotten(component=THERE))
    await wait_all_tasks_blocked()
    assert not world.controller.paths


async def test_what_happens_to_others_wakes_nobody(world: World) -> None:
    await world.agent.admit(world.path())
    await wait_all_tasks_blocked()
    before = len(world.controller.asked)
    world.log.tell(ComponentForgotten(component="9" * 40))
    await wait_all_tasks_blocked()
    assert len(world.controller.asked) == before


async def test_after_a_restart_stale_paths_of_the_journal_are_closed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    world.controller.paths = {world.path(): None, world.path(peer_incarnation=9): None}
    await nursery.start(world.agent.run)
    world.agent.containers_connected()
    await wait_all_tasks_blocked()
    assert list(world.controller.paths) == [world.path()]


async def test_a_trouble_is_told_once_and_tried_again(world: World) -> None:
    world.controller.fails["network.neighbours"] = PlatformError("failed", "no netlink")
    world.nodes.all["n3"] = Node("n3", "192.0.2.3:7000")
    world.state.restore({"networks": {**world.state.networks(), "n3": "10.64.24.0/21"}})
    world.log.tell(NetworkChanged(node="n3", network="10.64.24.0/21"))
    await trio.sleep(10)
    assert world.troubles == ["failed"]
    world.controller.fails.clear()
    await trio.sleep(2)
    assert len(world.controller.neighbours[-1].neighbours) == 2


def test_only_ip_addresses_are_ways_between_nodes() -> None:
    assert host_of("192.0.2.1:7000") == "192.0.2.1"
    assert host_of("[2001:db8::1]:7000") == "2001:db8::1"
    assert host_of("machine.example:7000") == host_of("") == ""
