"""Every command of the section "controller": what it changes, refuses and announces."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from paas.base import ids
from paas.base.errors import PlatformError
from paas.controller import commands, limits
from paas.controller.lifecycle import ComponentEvent
from paas.controller.lifecycle import ComponentState as S
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
    ComponentOrdered,
    TypeRegistered,
    TypeUnregistered,
)
from paas.controller.state import ControllerState
from paas.hub.state import GroupState
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.testing.controlled_node import BUNDLE, manifest


class World:
    """One replica, to which commands are applied."""

    def __init__(self) -> None:
        self.state = ControllerState()
        self.machine = Machine([self.state, GroupState()])
        self.index = 0
        self.now_ms = 1_000_000
        self.events: list[Any] = []
        self.log: list[bytes] = []
        self.refusals: set[str] = set()

    def apply(self, command: msgspec.Struct) -> Any:
        self.index += 1
        self.now_ms += 10
        seed = self.index.to_bytes(16, "little")
        data = encode(command, Stamp(self.now_ms, seed, "p", self.index))
        self.log.append(data)
        applied = self.machine.apply(self.index, data)
        self.events = list(applied.events)
        if applied.error is not None:
            assert not applied.events
            raise applied.error
        return applied.result

    def register(self, name: str = "greeter", **supervision: Any) -> None:
        plain = manifest(name, **supervision)
        self.apply(commands.RegisterType(bundle=BUNDLE, manifest=plain))

    def create(self, count: int = 1, **fields: Any) -> list[str]:
        fields.setdefault("type", "greeter")
        result = self.apply(commands.CreateInstances(nodes=["n1"] * count, **fields))
        created: list[str] = result["components"]
        return created

    def change(self, component: str, event: ComponentEvent, **fields: Any) -> None:
        instance = self.state.instances.get(component)
        incarnation = fields.pop("incarnation", instance.incarnation if instance else 1)
        self.apply(
            commands.ChangeInstance(
                component=component, incarnation=incarnation, event=event, **fields
            )
        )

    def available(self, count: int = 1, **fields: Any) -> list[str]:
        created = self.create(count, **fields)
        for component in created:
            self.change(component, E.READY)
        return created

    def at(self, component: str) -> Any:
        return self.state.instances.get(component)


E = ComponentEvent


@pytest.fixture
def world() -> World:
    made = World()
    made.register()
    return made


def refused(code: str) -> Any:
    return pytest.raises(PlatformError, match=rf"\[{code}\]")


# -- types ---------------------------------------------------------------------------------------


def test_a_type_is_registered_once_and_announced() -> None:
    world = World()
    command = commands.RegisterType(bundle=BUNDLE, manifest=manifest())
    assert world.apply(command) == {"type": "greeter@1.0.0"}
    assert world.events == [TypeRegistered(type="greeter@1.0.0", bundle=BUNDLE)]
    assert world.apply(command) == {"type": "greeter@1.0.0"}
    assert world.events == []


def test_the_same_version_with_another_bundle_is_a_conflict(world: World) -> None:
    with refused("conflict"):
        world.apply(commands.RegisterType(bundle="sha256:1", manifest=manifest()))


def test_versions_are_types_beside_each_other_and_the_newest_is_meant(world: World) -> None:
    plain = manifest(version="0.9.0")
    world.apply(commands.RegisterType(bundle="sha256:2", manifest=plain))
    [component] = world.create()
    assert world.at(component).type == "greeter@0.9.0"
    [other] = world.create(type="greeter@1.0.0")
    assert world.at(other).type == "greeter@1.0.0"


def test_a_bad_manifest_is_refused(world: World) -> None:
    with refused("invalid"):
        world.apply(commands.RegisterType(bundle=BUNDLE, manifest={"component": {}}))


def test_the_number_of_types_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TYPES_MAX", 1)
    with refused("limit-exceeded"):
        world.register("other")


def test_a_type_is_forgotten_when_nothing_of_it_is_left(world: World) -> None:
    [component] = world.create()
    with refused("conflict"):
        world.apply(commands.UnregisterType(type="greeter@1.0.0"))
    world.apply(commands.EndInstance(component=component))
    world.change(component, E.CLEARED)
    world.apply(commands.UnregisterType(type="greeter@1.0.0"))
    assert world.events == [TypeUnregistered(type="greeter@1.0.0", bundle=BUNDLE)]
    with refused("no-such-type"):
        world.apply(commands.UnregisterType(type="greeter@1.0.0"))


# -- creating ------------------------------------------------------------------------------------


def test_created_components_have_derived_identifiers_on_the_types_part_of_the_ring(
    world: World,
) -> None:
    created = world.create(20, name="w", groups=["g"], created_by="operator")
    assert len(set(created)) == 20
    prefixes = {ids.virtual_node(ids.parse(c)) >> 6 for c in created}
    assert len(prefixes) == 1
    assert [world.at(c).name for c in created][:2] == ["w-1", "w-2"]
    kinds = [type(e) for e in world.events]
    assert kinds[:2] == [ComponentCreated, ComponentChanged]
    assert world.events[0].groups == ["g"]
    assert (world.events[1].state, world.events[1].previous) == ("preparing", "none")


def test_a_request_id_makes_a_repetition_harmless(world: World) -> None:
    first = world.create(2, request_id="r", created_by="a")
    assert world.create(2, request_id="r", created_by="a") == first
    assert world.events == []
    assert world.create(2, request_id="r", created_by="b") != first


def test_remembered_requests_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUESTS_KEPT_MAX", 2)
    first = world.create(request_id="r0")
    for number in range(1, 3):
        world.create(request_id=f"r{number}")
    assert world.create(request_id="r0") != first


def test_a_name_belongs_to_one_living_component(world: World) -> None:
    [component] = world.create(name="ada")
    with refused("conflict"):
        world.create(name="ada")
    world.apply(commands.EndInstance(component=component))
    with refused("conflict"):
        world.create(name="ada")
    world.change(component, E.CLEARED)
    [second] = world.create(name="ada")
    assert world.state.instances.resolve("ada").id == second


@pytest.mark.parametrize("name", ["-a", "a b", "x" * 64, "0123456789abcdef", "a:b", "ä"])
def test_a_bad_name_is_refused(world: World, name: str) -> None:
    with refused("invalid"):
        world.create(name=name)
    assert not len(world.state.instances)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "nobody"}, "no-such-type"),
        ({"count": 0}, "invalid"),
        ({"restart": "sometimes"}, "invalid"),
        ({"links": ["f" * 40]}, "no-such-target"),
    ],
)
def test_a_bad_creation_is_refused_and_changes_nothing(
    world: World, fields: dict[str, Any], code: str
) -> None:
    before = world.state.snapshot()
    with refused(code):
        world.create(**fields)
    assert world.state.snapshot() == before


def test_the_number_of_components_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPONENTS_MAX", 3)
    world.create(2)
    with refused("limit-exceeded"):
        world.create(2)
    world.create()


def test_the_requests_policy_overrides_the_manifests(world: World) -> None:
    world.register("job", restart="temporary", max_restarts=7, within=5)
    [component] = world.create(type="job")
    assert (world.at(component).restart, world.at(component).max_restarts) == ("temporary", 7)
    [other] = world.create(type="job", restart="transient")
    assert world.at(other).restart == "transient"


# -- changing ------------------------------------------------------------------------------------


def test_a_change_is_announced_with_what_was_before(world: World) -> None:
    [component] = world.create()
    world.change(component, E.READY, endpoints={"http": {"port": 1}})
    [event] = world.events
    assert isinstance(event, ComponentChanged)
    assert (event.state, event.previous, event.incarnation) == ("available", "preparing", 1)
    assert (event.index, event.time_ms) == (world.index, world.now_ms)
    assert world.at(component).endpoints == {"http": {"port": 1}}
    assert world.at(component).ready_once


@pytest.mark.parametrize("event", [E.STARTED, E.PAUSE, E.CLEARED, E.CREATE, E.STOP, E.GIVE_UP])
def test_an_illegal_transition_is_a_conflict_and_changes_nothing(
    world: World, event: ComponentEvent
) -> None:
    [component] = world.available()
    if event is E.PAUSE:
        world.change(component, E.PAUSE)
    before = world.state.snapshot()
    with refused("conflict"):
        world.change(component, event)
    assert world.state.snapshot() == before


def test_what_was_seen_must_still_be_so(world: World) -> None:
    [component] = world.available()
    with refused("conflict"):
        world.change(component, E.EXITED, incarnation=2)
    with refused("conflict"):
        world.change(component, E.EXITED, expected="preparing")
    world.change(component, E.EXITED, expected="available", reason="exit:1")


def test_unknown_components_and_events_are_refused(world: World) -> None:
    with refused("no-such-target"):
        world.change("f" * 40, E.READY)
    [component] = world.create()
    with refused("invalid"):
        world.apply(commands.ChangeInstance(component=component, incarnation=1, event="explode"))


def test_an_end_announces_the_incarnation_its_reason_and_what_follows(world: World) -> None:
    [component] = world.available()
    world.change(component, E.EXITED, reason="exit:1", facts={"code": 1})
    ended, changed = world.events
    assert isinstance(ended, ComponentEnded)
    assert (ended.incarnation, ended.reason, ended.will_restart) == (1, "exit:1", True)
    assert changed.state == "destroying"
    instance = world.at(component)
    assert instance.facts == {"code": 1}
    assert world.now_ms < instance.not_before_ms <= world.now_ms + 100
    with refused("conflict"):
        world.change(component, E.CLEARED)
    world.change(component, E.RESTART)
    assert (instance.state, instance.incarnation, instance.restarts) == (S.PREPARING, 2, 1)
    assert instance.reason == "exit:1"


def test_an_end_without_a_reason_is_a_lost_node(world: World) -> None:
    [component] = world.available()
    world.change(component, E.EXITED)
    assert world.at(component).reason == "node-lost"


def test_a_component_that_is_given_up_has_failed(world: World) -> None:
    world.register("weak", max_restarts=0)
    [component] = world.available(type="weak", name="ada")
    world.change(component, E.EXITED, reason="exit:1")
    world.change(component, E.GIVE_UP)
    assert world.at(component).state is S.FAILED
    assert world.state.instances.holder("ada") is None
    assert world.state.instances.resolve("ada").id == component
    world.apply(commands.EndInstance(component=component))
    assert world.at(component).state is S.DESTROYED


def test_a_fatal_end_fails_at_once(world: World) -> None:
    [component] = world.create()
    world.change(component, E.EXITED, reason="start-failed:x", fatal=True)
    world.change(component, E.GIVE_UP)
    assert world.at(component).state is S.FAILED


def test_groups_follow_the_life_of_their_members(world: World) -> None:
    [component] = world.create(groups=["g"])
    groups = world.machine.sections["groups"]
    assert isinstance(groups, GroupState)
    assert groups.members("g") == []
    world.change(component, E.READY)
    assert groups.members("g") == [component]
    world.change(component, E.EXITED, reason="exit:1")
    assert groups.members("g") == []
    world.change(component, E.RESTART)
    world.change(component, E.READY)
    assert groups.members("g") == [component]


# -- ending --------------------------------------------------------------------------------------


def test_destroy_of_a_running_component_stops_it(world: World) -> None:
    [component] = world.available()
    world.apply(commands.EndInstance(component=component, grace_s=4))
    assert [type(e) for e in world.events] == [ComponentOrdered, ComponentChanged]
    assert (world.at(component).state, world.at(component).grace_s) == (S.STOPPING, 4)
    world.change(component, E.EXITED, reason="signal:SIGTERM")
    assert (world.at(component).reason, world.events[0].will_restart) == ("destroyed", False)
    world.change(component, E.CLEARED)
    assert world.at(component).state is S.DESTROYED
    world.apply(commands.EndInstance(component=component))
    assert world.events == []


def test_destroy_before_it_runs_ends_the_incarnation(world: World) -> None:
    [component] = world.create()
    world.apply(commands.EndInstance(component=component))
    assert world.at(component).state is S.DESTROYING
    ended = [e for e in world.events if isinstance(e, ComponentEnded)]
    assert [e.reason for e in ended] == ["destroyed"]


def test_destroy_while_it_is_to_be_restarted_prevents_that(world: World) -> None:
    [component] = world.available()
    world.change(component, E.EXITED, reason="exit:1")
    world.apply(commands.EndInstance(component=component))
    with refused("conflict"):
        world.change(component, E.RESTART)
    world.change(component, E.CLEARED)
    assert world.at(component).reason == "exit:1"


def test_one_that_terminates_keeps_its_own_reason_and_is_not_restarted(world: World) -> None:
    [component] = world.available()
    world.apply(commands.EndInstance(component=component, mode="terminate"))
    assert world.at(component).state is S.STOPPING
    world.change(component, E.EXITED, reason="normal")
    assert (world.at(component).reason, world.events[0].will_restart) == ("normal", False)


def test_destroy_outranks_terminate_and_the_shorter_grace_counts(world: World) -> None:
    [component] = world.available()
    world.apply(commands.EndInstance(component=component, mode="terminate", grace_s=9))
    world.apply(commands.EndInstance(component=component, grace_s=5))
    assert (world.at(component).mode, world.at(component).grace_s) == ("destroy", 5)
    world.apply(commands.EndInstance(component=component, grace_s=7))
    assert world.at(component).grace_s == 5
    world.apply(commands.EndInstance(component=component, mode="terminate"))
    assert world.at(component).mode == "destroy"


@pytest.mark.parametrize(
    "fields", [{"mode": "explode"}, {"grace_s": -1.0}, {"grace_s": limits.GRACE_S_MAX + 1}]
)
def test_a_bad_order_to_end_is_refused(world: World, fields: dict[str, Any]) -> None:
    [component] = world.available()
    with refused("invalid"):
        world.apply(commands.EndInstance(component=component, **fields))


def test_ended_components_are_remembered_in_bounded_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENDED_KEPT_MAX", 2)
    created = world.create(3)
    for component in created:
        world.apply(commands.EndInstance(component=component))
        world.change(component, E.CLEARED)
    assert [i.id for i in world.state.instances] == created[1:]
    assert world.events[-1] == ComponentForgotten(component=created[0])


def test_ended_components_are_forgotten_after_a_while(world: World) -> None:
    [component] = world.create()
    world.apply(commands.EndInstance(component=component))
    world.change(component, E.CLEARED)
    world.now_ms += int(limits.ENDED_KEPT_S * 1000) + 1
    world.create()
    assert component not in world.state.instances


def test_a_record_is_forgotten_on_request_when_its_component_has_ended(world: World) -> None:
    world.register("weak", max_restarts=0)
    [component] = world.available(type="weak")
    with refused("conflict"):
        world.apply(commands.ForgetInstance(component=component))
    world.change(component, E.EXITED, reason="exit:1")
    world.change(component, E.GIVE_UP)
    world.apply(commands.ForgetInstance(component=component))
    assert component not in world.state.instances
    assert [type(e) for e in world.events] == [ComponentChanged, ComponentForgotten]
    with refused("no-such-target"):
        world.apply(commands.ForgetInstance(component=component))


# -- links ---------------------------------------------------------------------------------------


def test_an_abnormal_end_stops_all_that_are_linked(world: World) -> None:
    a, b, c = world.available(3)
    [d] = world.create(links=[c])
    for one, other in ((a, b), (b, c), (c, a)):
        world.apply(commands.LinkInstances(a=one, b=other))
    world.change(a, E.EXITED, reason="exit:5")
    assert [world.at(x).state for x in (a, b, c, d)] == [
        S.DESTROYING,
        S.STOPPING,
        S.STOPPING,
        S.DESTROYING,
    ]
    assert {world.at(x).because for x in (b, c, d)} == {a}
    world.change(b, E.EXITED, reason="signal:SIGTERM")
    ended, _ = world.events
    assert (ended.reason, ended.because, ended.will_restart) == ("exit:5", a, True)
    assert world.at(a).state is S.DESTROYING
    assert world.at(c).state is S.STOPPING


@pytest.mark.parametrize("reason", ["normal", "destroyed"])
def test_an_ordinary_end_stops_nobody(world: World, reason: str) -> None:
    a, b = world.available(2)
    world.apply(commands.LinkInstances(a=a, b=b))
    world.change(a, E.EXITED, reason=reason)
    assert world.at(b).state is S.AVAILABLE


def test_a_link_lasts_until_one_has_ended_for_good(world: World) -> None:
    a, b = world.available(2, restart="temporary")
    world.apply(commands.LinkInstances(a=a, b=b))
    world.apply(commands.EndInstance(component=a))
    world.change(a, E.EXITED)
    assert world.state.links.has(a, b)
    world.change(a, E.CLEARED)
    assert world.state.links.of(b) == []


def test_links_to_oneself_to_the_dead_and_too_many_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = world.available(3)
    with refused("invalid"):
        world.apply(commands.LinkInstances(a=a, b=a))
    monkeypatch.setattr(limits, "LINKS_OF_COMPONENT_MAX", 1)
    world.apply(commands.LinkInstances(a=a, b=b))
    world.apply(commands.LinkInstances(a=b, b=a))
    with refused("limit-exceeded"):
        world.apply(commands.LinkInstances(a=c, b=b))
    with refused("limit-exceeded"):
        world.create(links=[a])
    world.apply(commands.UnlinkInstances(a=a, b=b))
    world.apply(commands.EndInstance(component=a))
    with refused("not-available"):
        world.apply(commands.LinkInstances(a=b, b=a))


# -- the whole -----------------------------------------------------------------------------------


def random_log(seed: int, count: int) -> World:
    """Commands drawn without regard to what is allowed: most errors and most paths occur."""
    chance = random.Random(seed)
    world = World()
    world.register(max_restarts=2)
    for _ in range(count):
        known = [i.id for i in world.state.instances] or ["f" * 40]
        one, other = chance.choice(known), chance.choice(known)
        instance = world.at(one)
        drawn: list[msgspec.Struct] = [
            commands.CreateInstances(
                type="greeter",
                nodes=["n1"] * chance.randrange(1, 3),
                name=chance.choice(["", "ada", "bob"]),
                groups=chance.choice([[], ["g"]]),
                request_id=chance.choice(["", "", "r"]),
            ),
            commands.EndInstance(component=one, mode=chance.choice(["destroy", "terminate"])),
            commands.LinkInstances(a=one, b=other),
            commands.UnlinkInstances(a=one, b=other),
            commands.ForgetInstance(component=one),
        ]
        drawn += [
            commands.ChangeInstance(
                component=one,
                incarnation=instance.incarnation if instance else 1,
                event=chance.choice([*E]),
                reason=chance.choice(["", "normal", "exit:1"]),
            )
            for _ in range(8)
        ]
        try:
            world.apply(chance.choice(drawn))
        except PlatformError as error:
            world.refusals.add(error.code)
    assert world.refusals <= {"conflict", "no-such-target", "invalid", "not-available"}
    return world


@pytest.mark.parametrize("seed", range(10))
def test_the_same_log_gives_the_same_bytes_also_over_a_snapshot(seed: int) -> None:
    world = random_log(seed, 600)
    whole = world.machine.snapshot_bytes()
    again = World()
    for index, data in enumerate(world.log, 1):
        again.machine.apply(index, data)
        if index == len(world.log) // 2:
            half = again.machine.snapshot_bytes()
            again = World()
            again.machine.restore_bytes(half)
            assert again.machine.snapshot_bytes() == half
    assert again.machine.snapshot_bytes() == whole


@pytest.mark.parametrize("seed", range(10, 15))
def test_every_incarnation_ends_exactly_once(seed: int) -> None:
    chance_world = random_log(seed, 600)
    replay = World()
    ended: list[tuple[str, int]] = []
    for index, data in enumerate(chance_world.log, 1):
        events = replay.machine.apply(index, data).events
        ended += [(e.component, e.incarnation) for e in events if isinstance(e, ComponentEnded)]
    assert ended
    assert len(ended) == len(set(ended))
