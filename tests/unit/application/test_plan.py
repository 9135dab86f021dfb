"""The plan: from any state to what is wanted, one replacement at a time, and then nothing more.

`World` carries steps out with delays and faults as they come: births take a while and may fail,
ends take a while, members become unavailable and available again, somebody destroys one.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from paas.application import limits
from paas.application.lifecycle import ApplicationState
from paas.application.plan import Present, Step, plan, settled
from paas.application.preview import Model, as_new, preview
from paas.application.records import Application, Member
from paas.application.specification import Requirement, Role, Specification
from paas.gateway.messages import Route

ROUNDS_MAX = 2_000


def role(name: str, count: int = 1, version: int = 1, **more: Any) -> Role:
    return Role(name=name, type=f"{name}@{version}", count=count, **more)


def shop(*roles: Role, **more: Any) -> Specification:
    return Specification(name="shop", roles=roles, **more)


def finish(application: Application, present: Present | None = None) -> list[Step]:
    """All steps of a plan to its end."""
    return [step for some in preview(application, present or Present()) for step in some]


def deployed(specification: Specification, present: Present | None = None) -> Application:
    """Everything of it is there, and available."""
    application = as_new(specification)
    there = replace_routes(present or Present(), specification)
    list(preview(application, there))
    assert settled(application, there)
    return application


def replace_routes(present: Present, specification: Specification) -> Present:
    return Present(
        routes={route.name: route for route in specification.routes},
        groups=present.groups,
        volumes=present.volumes,
    )


def subjects(steps: list[Step], action: str = "") -> list[str]:
    return [s.subject for s in steps if action in ("", s.action)]


def ready(steps: list[Step]) -> list[str]:
    return [f"{s.action} {s.subject}" for s in steps if s.ready]


# -- births ----------------------------------------------------------------------------------------


def test_members_are_born_in_the_order_of_what_they_depend_on() -> None:
    application = as_new(
        shop(role("web", 2, depends=("store", "queue")), role("store"), role("queue", 2))
    )
    first = plan(application, Present())
    assert ready(first) == ["create shop-store-1", "create shop-queue-1", "create shop-queue-2"]
    waiting = {s.subject: s.waits for s in first if not s.ready}
    assert waiting == dict.fromkeys(
        ["shop-web-1", "shop-web-2"], "role store: 0 of 1 are available"
    )
    assert subjects(finish(application), "create")[-2:] == ["shop-web-1", "shop-web-2"]


def test_nothing_is_born_while_a_required_group_lacks_members() -> None:
    wanted = shop(role("web"), requires=(Requirement(name="mail", group="mail", count=2),))
    (step,) = plan(as_new(wanted), Present(groups={"mail": 1}))
    assert step.waits == "group mail: 1 of 2 members are available"
    assert ready(plan(as_new(wanted), Present(groups={"mail": 2}))) == ["create shop-web-1"]


def test_births_are_bounded() -> None:
    steps = plan(as_new(shop(role("web", 50))), Present())
    assert len(ready(steps)) == limits.BIRTHS_MAX
    assert {s.waits for s in steps if not s.ready} == {"others to be available"}


def test_one_that_ended_by_itself_is_not_born_again() -> None:
    application = deployed(shop(role("job", 3, restart="temporary")))
    del application.members[next(iter(application.members))]
    application.done["job"] = 1
    assert plan(application, Present()) == []
    assert settled(application, Present())


# -- shrinking -------------------------------------------------------------------------------------


def test_the_youngest_end_first() -> None:
    application = deployed(shop(role("web", 4)))
    application.specification = shop(role("web", 2))
    assert ready(plan(application, Present())) == ["end shop-web-4", "end shop-web-3"]


def test_with_volumes_those_with_the_highest_numbers_end_so_that_names_come_back() -> None:
    application = deployed(shop(role("store", 3, keeps_files=True)))
    oldest = next(iter(application.members.values()))
    oldest.birth = 99  # it was born anew since
    application.specification = shop(role("store", 2, keeps_files=True))
    assert subjects(finish(application)) == ["shop-store-3"]
    application.specification = shop(role("store", 3, keeps_files=True))
    assert subjects(finish(application)) == ["shop-store-3"]


# -- replacing -------------------------------------------------------------------------------------


def test_the_successor_is_born_before_the_outdated_one_ends() -> None:
    application = deployed(shop(role("web", 2)))
    application.specification = shop(role("web", 2, version=2))
    assert [f"{s.action} {s.subject}" for s in finish(application)] == [
        *("create shop-web-3", "end shop-web-2"),
        *("create shop-web-2", "end shop-web-1"),
    ]


def test_an_outdated_one_is_needed_until_its_successor_is_available() -> None:
    application = deployed(shop(role("web", 2)))
    application.specification = shop(role("web", 2, version=2))
    world = Model(application, Present())
    (step,) = plan(application, Present())
    application.members["new"] = born = world.born(step, "new", "preparing")
    (end,) = plan(application, Present())
    assert (end.action, end.waits) == ("end", "2 others to be available")
    born.state = "available"
    assert ready(plan(application, Present())) == ["end shop-web-2"]


@pytest.mark.parametrize("more", [{"keeps_files": True}, {"replace": "stop-first"}])
def test_what_belongs_to_a_name_ends_before_its_successor_is_born(more: Any) -> None:
    application = deployed(shop(role("store", 2, **more)))
    application.specification = shop(role("store", 2, version=2, **more))
    assert [f"{s.action} {s.subject}" for s in finish(application)] == [
        *("end shop-store-1", "create shop-store-1"),
        *("end shop-store-2", "create shop-store-2"),
    ]


def test_one_role_after_the_other_in_the_order_of_birth() -> None:
    before = shop(role("web", 2, depends=("store",)), role("store"))
    application = deployed(before)
    application.specification = shop(
        role("web", 2, version=2, depends=("store",)), role("store", version=2)
    )
    steps = subjects(finish(application))
    assert steps[:2] == ["shop-store-2", "shop-store-1"]
    assert all(name.startswith("shop-web") for name in steps[2:])


def test_a_place_that_was_given_up_is_filled_before_the_next_role_begins() -> None:
    before = [role("b", replace="stop-first"), role("a", replace="stop-first")]
    application = deployed(shop(*before))
    application.specification = shop(*(replace(one, type=f"{one.name}@2") for one in before))
    assert [f"{s.action} {s.subject}" for s in finish(application)] == [
        *("end shop-b-1", "create shop-b-1", "end shop-a-1", "create shop-a-1")
    ]


def test_a_role_that_is_down_because_of_an_outdated_one_does_not_hold_it_up() -> None:
    store, web = role("store"), role("web", replace="stop-first", depends=("store",))
    application = deployed(shop(store, web))
    for member in application.members.values():
        member.state = "preparing"
    application.specification = shop(replace(store, type="store@2"), web)
    assert ready(plan(application, Present())) == ["create shop-store-2"]


def test_a_version_that_fails_stops_at_its_first_member() -> None:
    application = deployed(shop(role("web", 3), role("other", 1)))
    application.specification = shop(role("web", 3, version=2), role("other", 1, version=2))
    world = Model(application, Present())
    first = plan(application, Present())[0]
    application.members["new"] = world.born(first, "new", "failed")
    steps = plan(application, Present())
    assert ready(steps) == ["clear shop-web-4"]
    assert next(s for s in steps if s.action == "clear").patient
    assert "which has failed" in next(s.waits for s in steps if s.action == "create")
    assert sum(m.available for m in application.of_role("web")) == 3
    application.specification = shop(role("web", 3, version=3), role("other", 1))
    clear = next(s for s in plan(application, Present()) if s.action == "clear")
    assert not clear.patient


def test_with_the_old_version_broken_the_new_one_comes_all_the_same() -> None:
    application = deployed(shop(role("web", 2)))
    for member in application.members.values():
        member.state = "preparing"
    application.specification = shop(role("web", 2, version=2))
    assert ready(plan(application, Present())) == ["create shop-web-3"]


def test_other_numbers_and_orders_replace_nobody() -> None:
    application = deployed(shop(role("web", 2), role("store")))
    application.specification = shop(
        role("store", grace=1.0), role("web", 2, depends=("store",), grace=3.0)
    )
    assert plan(application, Present()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"type": "web@2"},
        {"configuration": {"a": 1}},
        {"groups": ("g",)},
        {"constraints": ("node=n1",)},
        {"restart": "transient"},
    ],
)
def test_what_a_member_is_born_with_makes_it_outdated(change: Any) -> None:
    application = deployed(shop(role("web")))
    application.specification = shop(replace(role("web"), **change))
    assert subjects(finish(application)) == ["shop-web-2", "shop-web-1"]


def test_members_of_a_role_that_is_gone_end_last() -> None:
    application = deployed(shop(role("web"), role("old", 2)))
    application.specification = shop(role("web"), role("new", 1))
    assert [f"{s.action} {s.subject}" for s in finish(application)] == [
        *("create shop-new-1", "end shop-old-2", "end shop-old-1")
    ]


# -- routes ----------------------------------------------------------------------------------------


def route(name: str, group: str = "shop.web", path: str = "/") -> Route:
    return Route(name=f"shop.{name}", application="shop", group=group, path=path)


def test_a_route_is_set_when_somebody_is_there_to_answer() -> None:
    application = as_new(shop(role("web"), routes=(route("front"), route("far", "others"))))
    steps = {s.subject: s.waits for s in plan(application, Present())}
    assert steps["shop.front"] == "role web: nobody is available yet"
    assert steps["shop.far"] == ""
    assert subjects(finish(application)) == ["shop-web-1", "shop.far", "shop.front"]


def test_new_routes_are_set_before_old_ones_go() -> None:
    old, new = route("old"), route("new")
    application = deployed(shop(role("web"), routes=(old,)))
    application.specification = shop(role("web"), routes=(new,))
    steps = finish(application, Present(routes={old.name: old}))
    assert [f"{s.action} {s.subject}" for s in steps] == [
        "set-route shop.new",
        "remove-route shop.old",
    ]


def test_a_route_that_somebody_changed_is_set_again() -> None:
    wanted = route("front")
    application = deployed(shop(role("web"), routes=(wanted,)))
    changed = replace(wanted, path="/elsewhere")
    assert subjects(plan(application, Present(routes={wanted.name: changed}))) == ["shop.front"]
    assert not settled(application, Present())


# -- ending ----------------------------------------------------------------------------------------


def test_stopping_goes_against_the_order_of_birth() -> None:
    application = deployed(shop(role("store"), role("web", 2, depends=("store",))))
    application.state = ApplicationState.STOPPING
    assert subjects(finish(application)) == ["shop-web-2", "shop-web-1", "shop-store-1"]
    assert settled(application, Present())


def test_destroying_takes_routes_members_and_files() -> None:
    front = route("front")
    application = deployed(shop(role("store", keeps_files=True), routes=(front,)))
    application.births = {"store/1": 2, "gone/1": 1}
    application.state = ApplicationState.DESTROYING
    application.remove_volumes = True
    present = Present(routes={front.name: front}, volumes=frozenset({"shop-store-1"}))
    assert [f"{s.action} {s.subject}" for s in finish(application, present)] == [
        *("remove-route shop.front", "end shop-store-1", "remove-volumes shop-store-1")
    ]


# -- from any state --------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


@st.composite
def specifications(draw: st.DrawFn) -> Specification:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    roles = []
    for place, name in enumerate(names):
        depends = draw(st.lists(st.sampled_from(names[:place] or ["-"]), max_size=2, unique=True))
        roles.append(
            Role(
                name=name,
                type=f"{name}@{draw(st.integers(1, 3))}",
                count=draw(st.integers(0, 5)),
                depends=tuple(d for d in depends if d != "-"),
                keeps_files=name == "c",
                replace=draw(st.sampled_from(["", "stop-first"])),  # type: ignore[arg-type]
            )
        )
    routed = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    return Specification(
        name="shop",
        roles=tuple(draw(st.permutations(roles))),
        routes=tuple(route(name, f"shop.{name}", f"/{name}") for name in routed),
    )


class World:
    """Steps take a while; `data` decides what happens next."""

    def __init__(self, application: Application, data: st.DataObject) -> None:
        self.model = Model(application, Present())
        self.application = application
        self.data = data
        self.mishaps = 6
        self.replaced_at_a_time = 0

    def begin(self, steps: list[Step]) -> None:
        for step in steps:
            if step.action == "create":
                self.model.do(step)
                list(self.application.members.values())[-1].state = "preparing"
            elif step.action == "end":
                self.application.members[step.component].ending = True
            else:
                self.model.do(step)
        names = [(m.role, m.slot) for m in self.application.members.values()]
        assert len(names) == len(set(names)), "two members of one name"

    def go_on(self) -> bool:
        """One thing that is under way comes to its end, or something happens to a member."""
        members = list(self.application.members.values())
        busy = [m for m in members if m.ending or m.state in ("preparing", "unavailable")]
        if self.mishaps and members and self.data.draw(st.integers(0, 4)) == 0:
            self.mishaps -= 1
            self._mishap(self.data.draw(st.sampled_from(members)))
            return True
        if not busy:
            return False
        member = self.data.draw(st.sampled_from(busy))
        if member.ending:
            del self.application.members[member.component]
        else:
            member.state = "available"
        return True

    def _mishap(self, member: Member) -> None:
        what = self.data.draw(st.sampled_from(["failed", "preparing", "unavailable", "destroyed"]))
        if what == "destroyed":
            del self.application.members[member.component]
        elif not member.ending:
            member.state = what

    def run(self) -> None:
        """Until nothing is to be done and nothing is under way."""
        for _ in range(ROUNDS_MAX):
            steps = [s for s in plan(self.application, self.model.present) if s.ready]
            some = steps and self.data.draw(st.integers(1, len(steps)))
            self.begin(steps[: int(some or 0)])
            self.check()
            if not self.go_on() and not steps:
                return
        raise AssertionError("it does not come to an end")

    def check(self) -> None:
        """What must hold at every moment; overridden where nothing goes wrong."""


@settings(max_examples=120, deadline=None)
@given(st.lists(specifications(), min_size=1, max_size=3), st.data())
def test_every_application_becomes_what_it_is_wanted_to_be(
    wanted: list[Specification], data: st.DataObject
) -> None:
    """From one to the next, also in the middle of it, whatever happens to members."""
    application = as_new(wanted[0])
    world = World(application, data)
    for specification in wanted:
        application.specification = specification
        for _ in range(data.draw(st.integers(0, 6))):
            world.begin([s for s in plan(application, world.model.present) if s.ready])
            world.go_on()
    world.mishaps += 3
    world.run()
    assert plan(application, world.model.present) == []
    assert settled(application, world.model.present)
    counts = {r.name: r.count for r in application.specification.roles}
    assert {n: len(application.of_role(n)) for n in counts} == counts
    assert len(application.members) == sum(counts.values())
    for one in application.specification.roles:
        assert all(m.digest == one.digest for m in application.of_role(one.name))
    assert set(world.model.present.routes) == {r.name for r in application.specification.routes}
    application.state = ApplicationState.STOPPING
    world.mishaps = 0
    world.run()
    assert not application.members


class Careful(World):
    """Nothing goes wrong: then replacing never takes more than one at a time."""

    def __init__(
        self, application: Application, data: st.DataObject, before: Specification
    ) -> None:
        super().__init__(application, data)
        self.mishaps = 0
        self.before = before

    def check(self) -> None:
        application = self.application
        missing = 0
        for one in application.specification.roles:
            was = self.before.role(one.name)
            least = min(one.count, was.count if was else 0)
            serving = sum(m.available for m in application.of_role(one.name))
            # Its members at the beginning that are still wanted serve, but for one at most.
            lacking = max(0, least - serving)
            assert lacking == 0 or one.stops_first, f"{one.name}: {serving} of {least}"
            missing += lacking
            extra = len(application.of_role(one.name)) - max(one.count, was.count if was else 0)
            assert extra <= 1
        assert missing <= 1, "two members are replaced at the same time"


@settings(max_examples=120, deadline=None)
@given(specifications(), specifications(), st.data())
def test_never_more_than_one_is_replaced_at_a_time(
    before: Specification, after: Specification, data: st.DataObject
) -> None:
    application = deployed(before)
    application.specification = after
    world = Careful(application, data, before)
    world.model.present = replace_routes(Present(), before)
    world.run()
    assert settled(application, world.model.present)


@settings(max_examples=40, deadline=None)
@given(specifications(), specifications())
def test_the_same_state_gives_the_same_steps_and_planning_changes_nothing(
    before: Specification, after: Specification
) -> None:
    application = deployed(before)
    application.specification = after
    members = {c: replace(m) for c, m in application.members.items()}
    assert plan(application, Present()) == plan(application, Present())
    assert members == application.members
