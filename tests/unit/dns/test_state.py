"""What was published: by whom, until when, beside what; the serial; the snapshot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.controller import messages as controller
from paas.dns import limits, records
from paas.dns import messages as dns
from paas.dns.state import (
    TOUCHING,
    AnnounceAgents,
    DnsState,
    PublishRecord,
    WithdrawRecords,
)
from paas.hub import state as groups
from paas.node import messages as node
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine


class Instance:
    def __init__(self) -> None:
        self.over = False

    def is_over(self, incarnation: int) -> bool:
        return self.over or incarnation < 2


class Components:
    """A section that says who lives, and announces ends."""

    name = "controller"

    def __init__(self) -> None:
        self.instances = {"c1": Instance()}
        self.commands: dict[Any, Any] = {groups.LeaveGroups: self._end}

    def _end(self, cmd: groups.LeaveGroups, ctx: Any) -> dict[str, Any]:
        self.instances["c1"].over = True
        ctx.emit(
            controller.ComponentEnded(
                component=cmd.component,
                incarnation=2,
                reason="signal:9",
                will_restart=True,
                because="",
                index=ctx.index,
                time_ms=0,
            )
        )
        return {}

    def react(self, event: Any, ctx: Any) -> None:
        """Nothing of it is looked at."""

    def snapshot(self) -> Any:
        return {}

    def restore(self, plain: Any) -> None:
        """There is nothing."""


class World:
    def __init__(self) -> None:
        self.state = DnsState()
        self.machine = Machine([Components(), self.state])
        self.index = 0

    def do(self, command: msgspec.Struct) -> Any:
        self.index += 1
        stamp = Stamp(time_ms=1, seed=b"s" * 16, proposer="n1", sequence=self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))
        if applied.error is not None:
            raise applied.error
        return applied.result

    def publish(self, name: str, kind: int = records.A, data: bytes = b"1234", **facts: Any) -> Any:
        return self.do(PublishRecord(name=name, kind=kind, data=data, ttl_s=5, **facts))


@pytest.fixture
def world() -> World:
    return World()


def test_a_record_is_there_from_its_serial_on_until_it_is_withdrawn(world: World) -> None:
    assert world.publish("www.shop.app") == {"serial": 1}
    assert world.state.serial == 1
    (entry,) = world.state.entries("www.shop.app")
    assert (entry.kind, entry.data, entry.ttl_s) == (records.A, b"1234", 5)
    assert world.state.is_above((b"shop", b"app"))
    done = world.do(WithdrawRecords(name="www.shop.app"))
    assert done == {"count": 1, "serial": 2}
    assert world.state.entries("www.shop.app") == []
    assert not world.state.is_above((b"shop", b"app"))


def test_the_same_record_again_changes_its_ttl_only(world: World) -> None:
    world.publish("a")
    world.do(PublishRecord(name="a", kind=records.A, data=b"1234", ttl_s=60))
    assert [entry.ttl_s for entry in world.state.entries("a")] == [60]


def test_only_what_is_meant_is_withdrawn(world: World) -> None:
    world.publish("a")
    world.publish("a", data=b"4321")
    world.publish("a", kind=records.TXT, data=b"\x01x")
    assert world.do(WithdrawRecords(name="a", kind=records.A, data=b"4321"))["count"] == 1
    assert world.do(WithdrawRecords(name="a", kind=records.TXT, owner="c1"))["count"] == 0
    assert world.do(WithdrawRecords(name="b"))["count"] == 0
    assert [entry.data for entry in world.state.entries("a")] == [b"1234", b"\x01x"]


def test_a_cname_stands_alone(world: World) -> None:
    world.publish("a")
    with pytest.raises(PlatformError, match="stands alone"):
        world.publish("a", kind=records.CNAME, data=b"\x01x\0")
    world.publish("b", kind=records.CNAME, data=b"\x01x\0")
    with pytest.raises(PlatformError, match="stands alone"):
        world.publish("b")
    assert world.state.serial == 3


def test_what_a_component_published_ends_with_its_incarnation(world: World) -> None:
    world.publish("x.shop.app", owner="c1", incarnation=2)
    world.publish("x.shop.app", data=b"4321")
    world.do(groups.LeaveGroups(component="c1", groups=[]))
    assert [entry.owner for entry in world.state.entries("x.shop.app")] == [""]
    assert world.state.serial == 3
    with pytest.raises(PlatformError, match="has ended"):
        world.publish("x.shop.app", data=b"late", owner="c1", incarnation=2)


def test_nobody_takes_over_or_withdraws_what_is_anothers(world: World) -> None:
    world.publish("x.shop.app")
    with pytest.raises(PlatformError, match="from an operator"):
        world.publish("x.shop.app", owner="c1", incarnation=2)
    assert world.do(WithdrawRecords(name="x.shop.app", owner="c1"))["count"] == 0


def test_there_are_limits(world: World) -> None:
    for number in range(limits.PUBLISHED_NAME_MAX):
        world.publish("a", data=number.to_bytes(4, "big"))
    with pytest.raises(PlatformError, match="a name has at most"):
        world.publish("a")
    for number in range(limits.PUBLISHED_COMPONENT_MAX):
        world.publish(f"n{number}.shop.app", owner="c1", incarnation=2)
    with pytest.raises(PlatformError, match="a component publishes at most"):
        world.publish("more.shop.app", owner="c1", incarnation=2)


def test_agents_are_announced_once_and_serials_count_changes_only(world: World) -> None:
    command = AnnounceAgents(node="n1", agents={"hub": ("192.0.2.1", 7420)}, key=b"k")
    world.do(command)
    world.do(command)
    assert (world.state.serial, world.state.keys) == (1, {"n1": b"k"})
    world.do(AnnounceAgents(node="n1", agents={}))
    assert (world.state.serial, world.state.keys) == (3, {})


def test_another_replica_takes_all_of_it_over(world: World) -> None:
    world.publish("x.shop.app", owner="c1", incarnation=2)
    world.publish("a.b")
    world.do(AnnounceAgents(node="n1", agents={"hub": ("192.0.2.1", 7420)}, key=b"k"))
    other = World()
    other.machine.restore_bytes(world.machine.snapshot_bytes())
    assert other.machine.snapshot_bytes() == world.machine.snapshot_bytes()
    other.index = world.index
    other.do(groups.LeaveGroups(component="c1", groups=[]))
    assert other.state.names() == ["a.b"]
    assert other.state.is_above((b"b",))
    assert not other.state.is_above((b"app",))


def test_every_event_that_touches_names_is_one_that_there_is() -> None:
    known = {name for module in (controller, groups, node, dns) for name in vars(module)}
    assert known >= TOUCHING
