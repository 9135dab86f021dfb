"""Placement: who can, who is best, and why not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.scheduler import limits
from paas.scheduler.client import Load, Scheduler, room
from paas.scheduler.feasible import parse_constraints
from paas.scheduler.messages import Needs, NodeView, Placed, Request
from paas.scheduler.plan import place

GIB = 1 << 30
NEEDS = Needs(memory_bytes=64 << 20, cpu=0.5)


def node(name: str, **fields: object) -> NodeView:
    values: dict[str, object] = {"memory_bytes": GIB, "cpu": 2.0, **fields}
    return NodeView(name=name, **values)  # type: ignore[arg-type]


def request(count: int = 1, type_name: str = "t@1", **fields: object) -> Request:
    return Request(type=type_name, count=count, **{"needs": NEEDS, **fields})  # type: ignore[arg-type]


def placed_on(*names: str, type_name: str = "t@1") -> list[Placed]:
    return [Placed(node=name, type=type_name, needs=NEEDS) for name in names]


def test_one_node_takes_all() -> None:
    choices = place([node("n1")], [], request(50))
    assert {choice.node for choice in choices} == {"n1"}


def test_instances_of_a_type_are_spread() -> None:
    nodes = [node(f"n{i}") for i in range(4)]
    names = [choice.node for choice in place(nodes, [], request(8))]
    assert sorted(names) == sorted(2 * ["n0", "n1", "n2", "n3"])


def test_spread_counts_what_is_there() -> None:
    nodes = [node("n1"), node("n2")]
    assert place(nodes, placed_on("n1"), request())[0].node == "n2"


def test_pressure_is_evened_out_between_types() -> None:
    nodes = [node("n1"), node("n2")]
    others = placed_on("n1", "n1", "n1", type_name="other@1")
    assert place(nodes, others, request())[0].node == "n2"


def test_the_larger_node_is_under_less_pressure() -> None:
    nodes = [node("n1"), node("n2", memory_bytes=8 * GIB, cpu=8.0)]
    assert place(nodes, [], request())[0].node == "n2"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"online": False}, "offline"),
        ({"cordoned": True}, "cordoned"),
        ({"storage_full": True}, "disk full"),
        ({"bases": ("debian-12",)}, "base layer 'host' is not there"),
        ({"memory_bytes": 1 << 20}, "memory: 64 MiB wanted, 4 MiB left"),
    ],
)
def test_a_node_that_cannot_says_why(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(PlatformError) as caught:
        place([node("n1", **fields)], [], request())
    assert caught.value.code == "no-placement"
    assert caught.value.data["nodes"] == {"n1": [reason]}
    assert reason in caught.value.message


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(PlatformError) as caught:
        place([node("n1", online=False, cordoned=True)], [], request())
    assert caught.value.data["nodes"] == {"n1": ["offline", "cordoned"]}


def test_disk_and_the_number_of_components_are_bounded() -> None:
    needs = Needs(memory_bytes=0, cpu=0.0, disk_bytes=GIB)
    with pytest.raises(PlatformError, match="disk"):
        place([node("n1", disk_bytes=1 << 20)], [], request(needs=needs))
    full = placed_on(*["n1"] * limits.COMPONENTS_PER_NODE_MAX)
    with pytest.raises(PlatformError, match="the most a node takes"):
        place([node("n1", memory_bytes=0)], full, request())


def test_unknown_resources_bound_nothing() -> None:
    assert place([node("n1", memory_bytes=0, cpu=0.0)], [], request())[0].node == "n1"


def test_constraints_are_hard() -> None:
    nodes = [node("n1"), node("n2")]
    assert place(nodes, [], request(constraints=("node=n2",)))[0].node == "n2"
    assert place(nodes, [], request(constraints=("node!=n2",)))[0].node == "n1"
    with pytest.raises(PlatformError, match="constraint node=n3 does not hold"):
        place(nodes, [], request(constraints=("node=n3",)))


@pytest.mark.parametrize("text", ["", "node", "node=", "zone=a", "node!!=x", "=x", "node>2"])
def test_a_bad_constraint_is_refused(text: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse_constraints([text])
    assert caught.value.data["field"] == "constraints"


def test_a_cluster_without_nodes_says_so() -> None:
    with pytest.raises(PlatformError, match="the cluster has no node"):
        place([], [], request())


def test_all_or_none_and_which_one_did_not_fit() -> None:
    tight = node("n1", memory_bytes=48 << 20)
    with pytest.raises(PlatformError, match="number 4 of 9"):
        place([tight], [], request(9))


def test_a_choice_explains_all_nodes() -> None:
    [choice] = place([node("n1"), node("n2", cordoned=True)], [], request())
    best, refused = choice.verdicts
    assert best.feasible
    assert set(best.scores) == {"spread", "pressure"}
    assert refused.reasons == ("cordoned",)


def test_the_client_asks_for_the_nodes_each_time() -> None:
    nodes = [node("n1")]
    scheduler = Scheduler(lambda: nodes)
    assert scheduler.place([], request())[0].node == "n1"
    nodes[:] = [node("n2")]
    assert scheduler.place([], request())[0].node == "n2"


def test_a_node_that_is_lost_or_cordoned_gets_nothing_of_a_request() -> None:
    nodes = [node("n1"), node("n2", cordoned=True), node("n3", online=False), node("n4")]
    choices = place(nodes, [], request(6))
    assert sorted(choice.node for choice in choices) == 3 * ["n1"] + 3 * ["n4"]
    against = {v.node: v.reasons for v in choices[0].verdicts if not v.feasible}
    assert against == {"n2": ("cordoned",), "n3": ("offline",)}


def test_what_a_lost_node_had_is_spread_over_those_that_are_left() -> None:
    nodes = [node(f"n{i}") for i in range(1, 5)] + [node("n5", online=False)]
    left = placed_on("n1", "n1", "n2", "n2", "n3", "n3", "n4", "n4")
    names = [choice.node for choice in place(nodes, left, request(4))]
    assert sorted(names) == ["n1", "n2", "n3", "n4"]


def test_instances_are_spread_over_failure_domains_first() -> None:
    nodes = [
        *(node("a1", domain="a"), node("a2", domain="a"), node("a3", domain="a")),
        *(node("b1", domain="b"), node("c1")),
    ]
    names = [choice.node for choice in place(nodes, [], request(6))]
    assert sorted(name[0] for name in names) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(name for name in names if name[0] == "a") == ["a1", "a2"]


def test_instances_on_a_node_that_takes_nothing_count_for_its_domain() -> None:
    nodes = [
        *(node("a1", domain="a", cordoned=True), node("a2", domain="a")),
        *(node("b1", domain="b"), node("b2", domain="b")),
    ]
    [choice] = place(nodes, placed_on("a1"), request())
    assert choice.node == "b1"
    assert choice.verdicts[0].scores["domain"] > choice.verdicts[-2].scores["domain"]


def test_sums_that_exist_already_give_the_same_and_are_added_to() -> None:
    nodes = [node("n1"), node("n2"), node("n3")]
    placed = placed_on("n1", "n1", "n2")
    loads: dict[str, Load] = {}
    for item in placed:
        loads.setdefault(item.node, Load()).add(item.type, item.needs)
    expected = [choice.node for choice in place(nodes, placed, request(5))]
    scheduler = Scheduler(lambda: nodes)
    assert [choice.node for choice in scheduler.place_on(loads, request(5))] == expected
    assert sum(load.components for load in loads.values()) == 8


def test_what_is_taken_away_leaves_nothing() -> None:
    load, other = Load(), Needs(memory_bytes=1, cpu=0.1, disk_bytes=2)
    load.add("t", NEEDS)
    for _ in range(10):
        load.add("u", other)
    copy = load.copy()
    for _ in range(10):
        load.remove("u", other)
    load.remove("t", NEEDS)
    assert load == Load()
    assert (copy.components, copy.cpu, copy.types) == (11, 1.5, {"t": 1, "u": 10})


def test_room_is_what_reasons_say_of_the_node_itself() -> None:
    tight = node("n1", memory_bytes=16 << 20, cordoned=True)
    load = Load()
    load.add("t", NEEDS)
    assert room(tight, load, NEEDS) == ("cordoned", "memory: 64 MiB wanted, 0 MiB left")
    assert room(node("n1"), Load(), NEEDS) == ()


@given(st.integers(1, 6), st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_order_of_nodes_decides_nothing_and_the_spread_is_even(
    count: int, wanted: int, chance: random.Random
) -> None:
    nodes = [node(f"n{i}", memory_bytes=0) for i in range(count)]
    first = [choice.node for choice in place(nodes, [], request(wanted))]
    chance.shuffle(nodes)
    assert [choice.node for choice in place(nodes, [], request(wanted))] == first
    numbers = [first.count(n.name) for n in nodes]
    assert max(numbers) - min(numbers) <= 1


def test_a_port_of_a_node_leads_to_one_component() -> None:
    needs = Needs(memory_bytes=64 << 20, cpu=0.5, ports=(8080,))
    nodes = [node("n1"), node("n2")]
    choices = place(nodes, [], request(2, needs=needs))
    assert sorted(choice.node for choice in choices) == ["n1", "n2"]
    with pytest.raises(PlatformError) as caught:
        place(nodes, [], request(3, needs=needs))
    assert caught.value.code == "no-placement"
    for name in ("n1", "n2"):
        assert caught.value.data["nodes"][name] == ["port 8080 leads to another component"]
    others = [Placed(node="n1", type="web@1", needs=needs)]
    assert place(nodes, others, request(needs=needs))[0].node == "n2"
    assert place(nodes[:1], others, request())[0].node == "n1", "who publishes nothing may come"


def test_a_port_is_free_again_when_its_component_has_gone() -> None:
    needs, load = Needs(memory_bytes=1, cpu=0.1, ports=(80, 443)), Load()
    load.add("t", needs)
    copy = load.copy()
    load.remove("t", needs)
    assert load == Load()
    assert room(node("n1"), load, needs) == ()
    assert [why for why in room(node("n1"), copy, needs) if "port" in why] == [
        "port 80 leads to another component",
        "port 443 leads to another component",
    ]
