"""The hub as a whole on a small log in memory: who may say hello, phases, groups, waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness import messages as harness
from paas.harness.messages import STOP, PhaseChange, Records
from paas.hub import messages
from paas.hub.agent import PROTOCOL_VERSION
from paas.hub.policy import POLICY
from paas.rpc.dispatch import check_policy
from paas.testing.hub_in_memory import World, hello, hub_world, settled
from paas.wire import codec
from paas.wire.registry import Nothing


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with hub_world() as made:
        yield made


async def test_every_method_of_the_hub_has_a_policy_row(world: World) -> None:
    others = {m for m in POLICY if not m.startswith(("hub.", "rpc.", "harness."))}
    check_policy(world.dispatcher.methods() | others, POLICY)


# -- hello ----


async def test_the_right_user_is_attached(world: World) -> None:
    world.exists("a", uid=77)
    far = world.connect(77, "harness")
    result = await far.call(harness.HELLO, hello("a", "initializing", version=9))
    assert (result.version, result.node) == (PROTOCOL_VERSION, "n1")
    assert world.hub.attached("a")
    assert not world.hub.router.is_ready("a")
    assert world.notes.heard == [("attached", "a", "initializing")]


async def test_the_wrong_user_is_told_and_cut_off(world: World) -> None:
    world.exists("a", uid=77)
    far = world.connect(78, "harness")
    assert (await far.error(harness.HELLO, hello("a"))).code in ("denied", "unknown-outcome")
    await settled()
    assert far.peer.closed
    assert not world.hub.attached("a")
    assert world.notes.heard == []


async def test_a_harness_that_is_faster_than_the_word_about_it_waits(world: World) -> None:
    far = world.connect(77, "harness")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.call, harness.HELLO, hello("a"))
        await settled()
        assert not world.hub.attached("a")
        world.exists("a", uid=77)
        world.hub.wake()
    assert world.hub.attached("a")


async def test_a_harness_nobody_ever_speaks_of_is_denied(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    far = world.connect(77, "harness")
    assert (await far.error(harness.HELLO, hello("a"))).code in ("denied", "unknown-outcome")
    assert not world.hub.attached("a")


async def test_one_that_hangs_up_while_it_waits_is_not_attached(world: World) -> None:
    far = world.connect(77, "harness")
    far.peer.send_request(
        harness.HELLO.name, codec.pack(hello("a")), lambda _answer: None, timeout_s=9.0
    )
    await settled()
    far.peer.close()
    await settled()
    world.exists("a", uid=77)
    world.hub.wake()
    await settled()
    assert not world.hub.attached("a")


async def test_a_connection_belongs_to_one_component(world: World) -> None:
    far = await world.component("a", uid=77)
    world.exists("b", uid=77)
    assert (await far.error(harness.HELLO, hello("b"))).code == "denied"
    assert not world.hub.attached("b")
    await far.call(harness.HELLO, hello("a"))


async def test_without_hello_nothing_is_possible(world: World) -> None:
    far = world.connect(77, "harness")
    for method, params in (
        (harness.PHASE, PhaseChange(phase="available")),
        (harness.RECORDS, Records(records=[])),
        (messages.JOIN, messages.Join(groups=["g"])),
    ):
        assert (await far.error(method, params)).code == "denied"


async def test_an_operator_is_no_harness(world: World) -> None:
    world.exists("a", uid=0)
    assert (await world.operator().error(harness.HELLO, hello("a"))).code == "denied"


# -- phases, records, requests to harnesses ----


async def test_phases_decide_about_readiness_and_are_passed_on(world: World) -> None:
    far = await world.component("a", "initializing")
    far.peer.notify(harness.PHASE, PhaseChange(phase="available"))
    await settled()
    assert world.hub.router.is_ready("a")
    await far.call(harness.PHASE, PhaseChange(phase="unavailable", reason="busy"))
    assert not world.hub.router.is_ready("a")
    assert world.notes.heard[1:] == [
        ("phase", "a", "available", ""),
        ("phase", "a", "unavailable", "busy"),
    ]


async def test_records_go_to_the_sink(world: World) -> None:
    far = await world.component("a")
    record = harness.LogRecord(
        sequence=1, time_ms=1, stream="stdout", level="info", message="hello"
    )
    await far.call(harness.RECORDS, Records(records=[record]))
    assert world.notes.heard[-1] == ("records", "a", ["hello"])


async def test_requests_reach_the_harness_that_is_attached(world: World) -> None:
    far = await world.component("a")
    assert await world.hub.request("a", STOP, harness.Stop(), 5.0) == Nothing()
    assert far.asked == [STOP.name]
    with pytest.raises(PlatformError) as caught:
        await world.hub.request("b", STOP, harness.Stop(), 5.0)
    assert caught.value.code == "not-available"


async def test_a_connection_that_ends_is_detached_and_told(world: World) -> None:
    far = await world.component("a")
    far.peer.close()
    await settled()
    assert not world.hub.attached("a")
    assert world.notes.heard[-1] == ("detached", "a")


async def test_a_reconnected_harness_stays_when_its_old_connection_ends(world: World) -> None:
    old = await world.component("a")
    await world.component("a")
    await settled()
    assert old.peer.closed
    assert world.hub.attached("a")
    assert ("detached", "a") not in world.notes.heard


# -- groups ----


async def test_components_join_and_leave(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    first = await a.call(messages.JOIN, messages.Join(groups=["g"]))
    second = await b.call(messages.JOIN, messages.Join(groups=["g", "h"]))
    assert (first.positions, first.members) == ({"g": 1}, {"g": 1})
    assert (second.positions, second.members) == ({"g": 2, "h": 1}, {"g": 2, "h": 1})
    assert second.token["g"] > first.token["g"]
    await a.call(messages.LEAVE, messages.Leave(groups=["g"]))
    result = await world.operator().call(messages.GROUPS, messages.Groups())
    assert result.groups == {"g": 1, "h": 1}
    result = await world.operator().call(messages.GROUPS, messages.Groups(prefix="h"))
    assert result.groups == {"h": 1}


async def test_an_operator_cannot_be_a_member(world: World) -> None:
    operator = world.operator()
    assert (await operator.error(messages.JOIN, messages.Join(groups=["g"]))).code == "denied"
    assert (await operator.error(messages.LEAVE, messages.Leave(groups=["g"]))).code == "denied"


async def test_what_the_log_refuses_is_the_caller_s_error(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    await a.call(messages.JOIN, messages.Join(groups=["lock"], unique=True))
    error = await b.error(messages.JOIN, messages.Join(groups=["lock"], unique=True))
    assert (error.code, error.data["holder"]) == ("conflict", "a")


@pytest.mark.parametrize("groups", [[], [""], ["a:b"], ["a\nb"], ["x" * 129], ["ok", ""]])
async def test_bad_group_names_never_reach_the_log(world: World, groups: list[str]) -> None:
    far = await world.component("a")
    index = world.log.applied()
    error = await far.error(messages.JOIN, messages.Join(groups=groups))
    assert (error.code, error.data["field"]) == ("invalid", "groups")
    assert world.log.applied() == index


async def test_members_in_joining_order_or_one_that_is_ready(world: World) -> None:
    for name, phase in (("b", "initializing"), ("a", "available"), ("c", "available")):
        far = await world.component(name, phase)
        await far.call(messages.JOIN, messages.Join(groups=["g"]))
    operator = world.operator()
    result = await operator.call(messages.MEMBERS, messages.Members(group="g"))
    assert [m.component for m in result.members] == ["b", "a", "c"]
    assert (result.members[0].name, result.members[0].node) == ("name-b", "n1")
    result = await operator.call(messages.MEMBERS, messages.Members(group="g", selector="any"))
    assert [m.component for m in result.members] == ["a"]
    result = await operator.call(messages.MEMBERS, messages.Members(group="nobody"))
    assert result.members == []
    error = await operator.error(messages.MEMBERS, messages.Members(group="g", selector="x"))
    assert error.code == "invalid"


async def test_turns_of_a_group_that_has_gone_are_forgotten(world: World) -> None:
    a = await world.component("a")
    for number in range(5):
        group = f"g{number}"
        await a.call(messages.JOIN, messages.Join(groups=[group]))
        await a.call(messages.CAST, messages.Cast(target=f"group:{group}", operation="op"))
        await a.call(messages.LEAVE, messages.Leave(groups=[group]))
    assert world.hub.router.chooser.groups() == set()


# -- await ----


async def test_await_what_is_there_already(world: World) -> None:
    a = await world.component("a")
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    for params in (messages.Await(group="g"), messages.Await(name="name-a")):
        result = await world.operator().call(messages.AWAIT, params)
        assert [m.component for m in result.members] == ["a"]


async def test_await_what_comes_later(world: World) -> None:
    """Each of: a name becomes known, a harness attaches, a phase, a second member."""
    done: list[str] = []

    async def wait(params: messages.Await) -> None:
        result = await world.operator().call(messages.AWAIT, params)
        done.append(" ".join(m.component for m in result.members))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, messages.Await(name="name-a"))
        nursery.start_soon(wait, messages.Await(group="g", count=2))
        await settled()
        a = await world.component("a", "initializing")
        await a.call(messages.JOIN, messages.Join(groups=["g"]))
        await settled()
        assert done == []
        a.peer.notify(harness.PHASE, PhaseChange(phase="available"))
        await settled()
        assert done == ["a"]
        b = await world.component("b")
        await settled()
        assert done == ["a"]
        await b.call(messages.JOIN, messages.Join(groups=["g"]))
    assert done == ["a", "a b"]


async def test_await_ends_at_its_deadline(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    error = await world.operator().error(messages.AWAIT, messages.Await(group="g", timeout=3.0))
    assert error.code == "timeout"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (messages.Await(), "group"),
        (messages.Await(group="g", name="n"), "group"),
        (messages.Await(group="g", count=0), "count"),
    ],
)
async def test_await_of_nothing_sensible(world: World, params: messages.Await, field: str) -> None:
    error = await world.operator().error(messages.AWAIT, params)
    assert (error.code, error.data["field"]) == ("invalid", field)


async def test_nobody_waits_for_one_that_has_hung_up(world: World) -> None:
    far = world.operator()
    for _ in range(3):
        far.peer.send_request(
            messages.AWAIT.name,
            codec.pack(messages.Await(group="g", timeout=3_600.0)),
            lambda _answer: None,
            timeout_s=9.0,
        )
    far.peer.notify(messages.AWAIT, messages.Await(group="g", timeout=3_600.0))
    await settled()
    nursery = world.dispatcher._nursery
    assert len(nursery.child_tasks) == 1 + 4, "the hub's own, and four that wait"
    far.peer.close()
    await settled()
    assert len(nursery.child_tasks) == 1


async def test_the_api_describes_itself(world: World) -> None:
    result = await world.operator().call(messages.DISCOVER, messages.Discover())
    assert "hub.call" in {m["name"] for m in result.methods}


async def test_a_slow_log_is_a_timeout_of_the_caller(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    a = await world.component("a")
    world.log.slow = trio.Event()
    error = await a.error(messages.JOIN, messages.Join(groups=["g"], timeout=2.0))
    assert error.code == "timeout"
