"""Groups in the cluster state, through the real machine: order, tokens, limits, snapshots."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
)
from paas.hub import limits
from paas.hub.state import GroupState, JoinGroups, LeaveGroups, MemberJoined, MemberLeft
from paas.raft.command import SEED_BYTES, Stamp, command, encode
from paas.raft.machine import Applied, Context, Machine


@command(9_901)
class Happens(msgspec.Struct, frozen=True, kw_only=True):
    """Test command: a component life's event, as the controller's section would announce it."""

    what: str
    component: str
    groups: list[str] = []
    state: str = ""
    previous: str = ""
    incarnation: int = 1


class Lives:
    """Stands for the controller's section: announces what it is told to."""

    name = "lives"

    def __init__(self) -> None:
        self.commands = {Happens: self._happens}

    def _happens(self, cmd: Happens, ctx: Context) -> None:
        common: dict[str, Any] = {"index": ctx.index, "time_ms": ctx.stamp.time_ms}
        if cmd.what == "created":
            ctx.emit(
                ComponentCreated(
                    component=cmd.component,
                    name="n",
                    type="t@1",
                    node="node",
                    groups=cmd.groups,
                    created_by="",
                    **common,
                )
            )
        elif cmd.what == "changed":
            ctx.emit(
                ComponentChanged(
                    component=cmd.component,
                    incarnation=cmd.incarnation,
                    state=cmd.state,
                    previous=cmd.previous,
                    reason="",
                    **common,
                )
            )
        elif cmd.what == "ended":
            ctx.emit(
                ComponentEnded(
                    component=cmd.component,
                    incarnation=1,
                    reason="normal",
                    will_restart=False,
                    because="",
                    **common,
                )
            )
        else:
            ctx.emit(ComponentForgotten(component=cmd.component))

    def react(self, event: object, ctx: Context, /) -> None:
        pass

    def snapshot(self) -> Any:
        return None

    def restore(self, plain: Any, /) -> None:
        pass


class World:
    """A machine with groups, and short words for what happens."""

    def __init__(self) -> None:
        self.groups = GroupState()
        self.machine = Machine([Lives(), self.groups])
        self.index = 0

    def apply(self, cmd: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(1_000 + self.index, bytes(SEED_BYTES), "n1", self.index)
        return self.machine.apply(self.index, encode(cmd, stamp))

    def create(self, component: str, *groups: str) -> None:
        self.apply(Happens(what="created", component=component, groups=list(groups)))

    def change(self, component: str, state: str, previous: str = "initializing") -> Applied:
        return self.apply(
            Happens(what="changed", component=component, state=state, previous=previous)
        )

    def end(self, component: str) -> Applied:
        return self.apply(Happens(what="ended", component=component))

    def join(self, component: str, *groups: str, unique: bool = False) -> Applied:
        return self.apply(JoinGroups(component=component, groups=list(groups), unique=unique))

    def leave(self, component: str, *groups: str) -> Applied:
        return self.apply(LeaveGroups(component=component, groups=list(groups)))


@pytest.fixture
def world() -> World:
    made = World()
    for component in "abc":
        made.create(component)
    return made


def joined(applied: Applied) -> list[tuple[str, str]]:
    return [(e.group, e.component) for e in applied.events if isinstance(e, MemberJoined)]


def left(applied: Applied) -> list[tuple[str, str]]:
    return [(e.group, e.component) for e in applied.events if isinstance(e, MemberLeft)]


def error(applied: Applied) -> PlatformError:
    assert applied.error is not None
    return applied.error


def test_joining_tells_position_count_and_token(world: World) -> None:
    first = world.join("a", "g", "h")
    second = world.join("b", "g")
    assert first.result == {
        "positions": {"g": 1, "h": 1},
        "members": {"g": 1, "h": 1},
        "token": {"g": world.index - 1, "h": world.index - 1},
    }
    assert second.result == {"positions": {"g": 2}, "members": {"g": 2}, "token": {"g": 5}}
    assert joined(first) == [("g", "a"), ("h", "a")]


def test_members_are_listed_in_joining_order(world: World) -> None:
    for component in "cab":
        world.join(component, "g")
    assert world.groups.members("g") == ["c", "a", "b"]
    assert world.groups.groups() == {"g": 3}
    assert world.groups.groups("x") == {}


def test_joining_again_changes_nothing(world: World) -> None:
    token = world.join("a", "g").result["token"]
    again = world.join("a", "g", "g")
    assert again.result["token"] == token
    assert joined(again) == []
    assert world.groups.members("g") == ["a"]


def test_tokens_grow_also_when_a_group_was_empty_between(world: World) -> None:
    tokens = []
    for component in "abab":
        tokens.append(world.join(component, "g").result["token"]["g"])
        world.leave(component, "g")
        assert not world.groups.has("g")
    assert tokens == sorted(set(tokens))


def test_after_the_first_left_the_second_is_first(world: World) -> None:
    world.join("a", "g")
    world.join("b", "g")
    assert left(world.leave("a", "g", "unknown")) == [("g", "a")]
    assert world.join("b", "g").result["positions"] == {"g": 1}
    assert world.groups.groups_of("a") == []


def test_unique_is_refused_while_another_is_member(world: World) -> None:
    assert world.join("a", "lock", unique=True).error is None
    assert world.join("a", "lock", unique=True).error is None
    refused = error(world.join("b", "free", "lock", unique=True))
    assert refused.code == "conflict"
    assert refused.data == {"group": "lock", "holder": "a"}
    assert not world.groups.has("free"), "all or nothing"
    world.end("a")
    assert world.join("b", "lock", unique=True).error is None


def test_a_component_may_be_in_so_many_groups(world: World) -> None:
    many = [f"g{i}" for i in range(limits.GROUPS_OF_COMPONENT_MAX)]
    assert world.join("a", *many).error is None
    assert error(world.join("a", "one-more")).code == "limit-exceeded"
    assert world.join("a", many[0]).error is None


def test_there_are_so_many_members_in_a_group(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GROUP_MEMBERS_MAX", 2)
    world.join("a", "g")
    world.join("b", "g")
    assert error(world.join("c", "g")).code == "limit-exceeded"
    assert world.join("a", "g").error is None


def test_there_are_so_many_groups_and_one_command_cannot_pass_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GROUPS_MAX", 3)
    assert world.join("a", "g1", "g2").error is None
    assert error(world.join("a", "g3", "g4")).code == "limit-exceeded"
    assert world.join("b", "g1", "g3", "g3").error is None
    assert error(world.join("b", "g4")).code == "limit-exceeded"


def test_groups_of_creation_are_joined_when_available_and_again_after_a_restart(
    world: World,
) -> None:
    world.create("d", "g", "h")
    assert world.groups.groups() == {}
    assert joined(world.change("d", "available")) == [("g", "d"), ("h", "d")]
    world.leave("d", "h")
    world.change("d", "unavailable", "available")
    assert joined(world.change("d", "available", "unavailable")) == []
    assert left(world.end("d")) == [("g", "d")]
    world.change("d", "destroying", "available")
    world.change("d", "preparing", "destroying")
    assert joined(world.change("d", "available", "preparing")) == [("g", "d"), ("h", "d")]


@pytest.mark.parametrize("last", ["destroying", "failed", "destroyed"])
def test_a_state_without_a_process_ends_memberships(world: World, last: str) -> None:
    world.join("a", "g")
    assert left(world.change("a", last, "stopping")) == [("g", "a")]


def test_an_unreachable_node_does_not_end_memberships(world: World) -> None:
    world.join("a", "g")
    world.change("a", "offline", "available")
    assert world.groups.members("g") == ["a"]


def test_who_has_ended_or_never_was_cannot_join(world: World) -> None:
    world.end("a")
    world.change("a", "destroying", "available")
    for component in ("a", "nobody"):
        assert error(world.join(component, "g")).code == "not-available"
    world.change("a", "preparing", "destroying")
    assert world.join("a", "g").error is None


def test_a_joining_of_an_earlier_incarnation_is_not_that_of_the_present_one(world: World) -> None:
    world.apply(Happens(what="changed", component="a", state="preparing", incarnation=2))
    late = world.apply(JoinGroups(component="a", groups=["g"], incarnation=1))
    assert error(late).code == "not-available"
    assert world.groups.members("g") == []
    assert world.apply(JoinGroups(component="a", groups=["g"], incarnation=2)).error is None
    restored = GroupState()
    restored.restore(world.groups.snapshot())
    assert restored.snapshot() == world.groups.snapshot()


def test_a_state_from_before_incarnations_were_told_is_taken_over(world: World) -> None:
    world.join("a", "g")
    old = {**world.groups.snapshot(), "alive": ["a", "b"]}
    world.groups.restore(old)
    assert world.apply(JoinGroups(component="b", groups=["g"], incarnation=7)).error is None
    assert error(world.join("c", "g")).code == "not-available"


@pytest.mark.parametrize("what", ["destroyed", "forgotten"])
def test_of_a_component_that_is_gone_for_good_nothing_is_kept(world: World, what: str) -> None:
    empty = world.groups.snapshot()
    world.create("d", "g")
    world.change("d", "available")
    if what == "destroyed":
        world.end("d")
        world.change("d", "destroyed", "destroying")
    else:
        world.apply(Happens(what="forgotten", component="d"))
    assert world.groups.snapshot() == empty


# -- random histories against a simple model -------------------------------------------------------

names = st.sampled_from("abcd")
group_lists = st.lists(st.sampled_from(["g", "h", "i"]), min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(st.just("create"), names, group_lists),
    st.tuples(st.just("join"), names, group_lists, st.booleans()),
    st.tuples(st.just("leave"), names, group_lists),
    st.tuples(st.just("available"), names),
    st.tuples(st.just("preparing"), names),
    st.tuples(st.just("end"), names),
    st.tuples(st.just("forget"), names),
)


class Model:
    """The same rules as a list of (group, component, token) and two small tables."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int]] = []
        self.alive: set[str] = set()
        self.configured: dict[str, list[str]] = {}

    def members(self, group: str) -> list[str]:
        return [c for g, c, _ in self.rows if g == group]

    def add(self, component: str, groups: list[str], index: int) -> None:
        for group in groups:
            if component not in self.members(group):
                self.rows.append((group, component, index))

    def drop(self, component: str, groups: list[str] | None = None) -> None:
        self.rows = [
            r for r in self.rows if r[1] != component or (groups is not None and r[0] not in groups)
        ]

    def join(self, component: str, groups: list[str], unique: bool, index: int) -> str:
        if component not in self.alive:
            return "not-available"
        if unique and any(set(self.members(g)) - {component} for g in groups):
            return "conflict"
        self.add(component, groups, index)
        return ""


def drive(world: World, step: tuple[Any, ...]) -> Applied:
    word, component, *rest = step
    if word == "create":
        return world.apply(Happens(what="created", component=component, groups=rest[0]))
    if word == "join":
        return world.join(component, *rest[0], unique=rest[1])
    if word == "leave":
        return world.leave(component, *rest[0])
    if word in ("available", "preparing"):
        return world.change(component, word)
    return world.apply(Happens(what="ended" if word == "end" else "forgotten", component=component))


def follow(model: Model, step: tuple[Any, ...], index: int) -> str:
    """The model's step; the code of the expected error."""
    word, component, *rest = step
    if word == "join":
        return model.join(component, rest[0], rest[1], index)
    if word == "leave":
        model.drop(component, rest[0])
    elif word in ("create", "available", "preparing"):
        model.alive.add(component)
        if word == "create":
            model.configured[component] = rest[0]
        elif word == "available":
            model.add(component, model.configured.get(component, []), index)
    else:
        model.alive.discard(component)
        model.drop(component)
        if word == "forget":
            model.configured.pop(component, None)
    return ""


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40), st.integers(0, 40))
def test_any_history_agrees_with_the_model_and_survives_a_snapshot(
    history: list[tuple[Any, ...]], cut: int
) -> None:
    world, copy, model = World(), World(), Model()
    told: set[tuple[str, str]] = set()
    for number, step in enumerate(history):
        applied = drive(world, step)
        assert (applied.error.code if applied.error else "") == follow(model, step, world.index)
        assert not told & set(joined(applied))
        assert told >= set(left(applied))
        told = (told | set(joined(applied))) - set(left(applied))
        assert told == {(g, c) for g, c, _ in model.rows}, "the events tell the whole story"
        if number == cut:
            copy.machine.restore_bytes(world.machine.snapshot_bytes())
            copy.index = world.index
        elif number > cut:
            drive(copy, step)
    for group in "ghi":
        assert world.groups.members(group) == model.members(group)
    if cut < len(history):
        assert copy.machine.snapshot_bytes() == world.machine.snapshot_bytes()
        assert copy.groups.groups() == world.groups.groups()
