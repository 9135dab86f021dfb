"""The section of the cluster state: revisions, members from birth to end, strays, snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from paas.application import commands, limits
from paas.application.lifecycle import APPLICATION, ApplicationEvent, ApplicationState
from paas.application.specification import Role
from paas.application.state import ApplicationsState, Birth, creator, read_creator
from paas.base.errors import PlatformError
from paas.controller.commands import EndInstance
from paas.gateway.messages import Route
from paas.raft.machine import Machine
from paas.wire import codec
from tests.unit.application.conftest import Cluster

WEB, STORE = Role(name="web", type="web@1", count=2), Role(name="store", type="store@1")
NEW_WEB = Role(name="web", type="web@2", count=2)
JOB = Role(name="job", type="job@1", count=2, restart="temporary")


def refused(cluster: Cluster, command: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        cluster.apply(command)
    return caught.value


def settle(cluster: Cluster) -> None:
    name, revision = "shop", cluster.shop.revision
    cluster.apply(commands.ApplicationSettled(application=name, revision=revision))


# -- what is wanted --------------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_one_is_a_revision(cluster: Cluster) -> None:
    assert cluster.deploy(WEB) == {"revision": 1, "changed": True}
    assert cluster.deploy(WEB) == {"revision": 1, "changed": False}
    assert cluster.deploy(NEW_WEB) == {"revision": 2, "changed": True}
    assert cluster.shop.state == "deploying"


def test_who_saw_another_revision_is_refused(cluster: Cluster) -> None:
    cluster.deploy(WEB, if_revision=0)
    with pytest.raises(PlatformError, match="revision 1, not 0") as caught:
        cluster.deploy(NEW_WEB, if_revision=0)
    assert (caught.value.code, caught.value.data["revision"]) == ("conflict", 1)
    assert cluster.deploy(NEW_WEB, if_revision=1)["revision"] == 2
    error = refused(
        cluster,
        commands.ScaleApplication(application="shop", counts={"web": 1}, if_revision=1),
    )
    assert error.code == "conflict"


def test_scaling_changes_numbers_only(cluster: Cluster) -> None:
    cluster.deploy(WEB, STORE)
    order = commands.ScaleApplication(application="shop", counts={"web": 5})
    assert cluster.apply(order) == {"revision": 2, "changed": True}
    assert cluster.apply(order) == {"revision": 2, "changed": False}
    assert [role.count for role in cluster.shop.specification.roles] == [5, 1]


@pytest.mark.parametrize(
    ("counts", "field"),
    [({"wbe": 1}, "counts.wbe"), ({"web": -1}, "counts.web"), ({"web": 201}, "counts.web")],
)
def test_what_cannot_be_scaled_is_refused(
    cluster: Cluster, counts: dict[str, int], field: str
) -> None:
    cluster.deploy(WEB)
    error = refused(cluster, commands.ScaleApplication(application="shop", counts=counts))
    assert (error.code, error.data["field"]) == ("invalid", field)
    assert cluster.shop.revision == 1


def test_stopped_it_keeps_what_was_wanted_and_starts_again(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    assert cluster.apply(commands.StopApplication(application="shop"))["changed"]
    assert not cluster.apply(commands.StopApplication(application="shop"))["changed"]
    cluster.apply(commands.ScaleApplication(application="shop", counts={"web": 1}))
    assert cluster.shop.state == "stopping"
    settle(cluster)
    assert cluster.shop.state == "stopped"
    assert cluster.apply(commands.StartApplication(application="shop"))["changed"]
    assert cluster.shop.state == "deploying"
    assert cluster.shop.specification.roles[0].count == 1


def test_a_deploy_starts_what_was_stopped(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    cluster.apply(commands.StopApplication(application="shop"))
    assert cluster.deploy(WEB)["changed"]
    assert cluster.shop.runs


def test_what_is_to_go_cannot_be_anything_else(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    cluster.apply(commands.DestroyApplication(application="shop"))
    for command in (
        commands.StopApplication(application="shop"),
        commands.StartApplication(application="shop"),
        commands.ScaleApplication(application="shop", counts={"web": 1}),
    ):
        assert refused(cluster, command).code == "conflict"
    with pytest.raises(PlatformError, match="cannot be deployed"):
        cluster.deploy(WEB)
    cluster.apply(commands.DestroyApplication(application="shop", volumes=True))
    assert cluster.shop.remove_volumes


def test_an_unknown_one_is_said_to_be_unknown(cluster: Cluster) -> None:
    error = refused(cluster, commands.StopApplication(application="nowhere"))
    assert error.code == "no-such-target"
    assert "nowhere" in error.message


def test_applications_are_bounded(cluster: Cluster) -> None:
    for number in range(limits.APPLICATIONS_MAX):
        cluster.applications.applications[f"a{number}"] = None  # type: ignore[assignment]
    with pytest.raises(PlatformError, match="at most"):
        cluster.deploy(WEB)


# -- members ---------------------------------------------------------------------------------------


def test_a_member_is_known_from_its_birth_to_its_end(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    component = cluster.born("web", 1, available=False)
    member = cluster.shop.members[component]
    assert (member.role, member.slot, member.state) == ("web", 1, "preparing")
    assert (member.node, member.type, member.available) == ("n1", "web@1", False)
    assert cluster.applications.application_of(component) == "shop"
    cluster.change(component, "ready")
    assert cluster.shop.members[component].available
    cluster.apply(EndInstance(component=component))
    member = cluster.shop.members[component]
    assert (member.ending, member.living, member.available) == (True, False, False)
    cluster.change(component, "exited")
    cluster.change(component, "cleared")
    assert cluster.shop.members == {}
    assert cluster.shop.births == {"web/1": 1}
    assert cluster.applications.application_of(component) == ""


def test_a_birth_that_is_asked_for_twice_happens_once(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    before = cluster.shop.birth_request("web", 1)
    component = cluster.born("web", 1)
    assert cluster.shop.birth_request("web", 1) != before
    cluster.end(component)
    again = cluster.born("web", 1)
    assert again != component


def test_the_same_name_after_a_destruction_is_another_birth(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    first = cluster.born("web", 1)
    cluster.apply(commands.DestroyApplication(application="shop"))
    cluster.end(first)
    cluster.apply(commands.ForgetApplication(application="shop", revision=2))
    assert cluster.applications.applications == {}
    cluster.deploy(WEB)
    assert cluster.born("web", 1) != first


def test_one_that_fails_stays_until_it_is_cleared_away(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    component = cluster.born("web", 1)
    cluster.change(component, "exited", "exit:1", fatal=True)
    cluster.change(component, "give_up")
    member = cluster.shop.members[component]
    assert (member.state, member.reason, member.living) == ("failed", "exit:1", False)
    cluster.apply(EndInstance(component=component))
    assert cluster.shop.members == {}
    assert cluster.shop.done == {}


def test_one_that_comes_to_its_end_by_itself_is_done_until_its_role_changes(
    cluster: Cluster,
) -> None:
    cluster.deploy(JOB)
    component = cluster.born("job", 1)
    cluster.change(component, "exited", "normal")
    cluster.change(component, "cleared")
    assert cluster.shop.done == {"job": 1}
    assert cluster.shop.target(JOB) == 1
    cluster.deploy(JOB, WEB)
    assert cluster.shop.done == {"job": 1}
    cluster.deploy(Role(name="job", type="job@2", count=2, restart="temporary"))
    assert cluster.shop.done == {}


def test_one_that_somebody_destroys_is_missing_and_not_done(cluster: Cluster) -> None:
    cluster.deploy(JOB)
    cluster.end(cluster.born("job", 1))
    assert cluster.shop.done == {}


def test_one_that_is_born_too_late_is_a_stray(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    gone = cluster.shop
    cluster.apply(commands.DestroyApplication(application="shop"))
    cluster.apply(commands.ForgetApplication(application="shop", revision=2))
    component = cluster.born("web", 1, application=gone)
    assert cluster.applications.strays == {component: "shop"}
    cluster.end(component)
    assert cluster.applications.strays == {}


def test_nothing_is_forgotten_that_has_members(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    cluster.born("web", 1)
    cluster.apply(commands.DestroyApplication(application="shop"))
    error = refused(cluster, commands.ForgetApplication(application="shop", revision=2))
    assert error.code == "conflict"


def test_who_creates_is_read_from_the_command_and_from_nothing_else() -> None:
    birth = Birth("shop", "web", 3, "0123456789abcdef")
    assert read_creator(creator(birth)) == birth
    assert read_creator("operator") is None
    assert read_creator("0" * 40) is None


# -- what was seen ---------------------------------------------------------------------------------


def test_what_was_seen_of_another_revision_counts_for_nothing(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    cluster.deploy(NEW_WEB)
    error = refused(cluster, commands.ApplicationSettled(application="shop", revision=1))
    assert error.code == "conflict"
    settle(cluster)
    assert cluster.shop.state == "available"
    cluster.apply(commands.ApplicationLost(application="shop", revision=2))
    assert cluster.shop.state == "degraded"
    settle(cluster)
    assert cluster.shop.state == "available"


def test_troubles_are_kept_with_their_beginning_and_taken_back(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    note = commands.NoteTrouble(application="shop", what="web", code="no-placement", text="full")
    cluster.apply(note)
    began = cluster.shop.troubles["web"].since_ms
    cluster.time_ms += 5_000
    index = cluster.shop.index
    cluster.apply(note)
    assert cluster.shop.index == index, "the same again is no change"
    cluster.apply(commands.NoteTrouble(application="shop", what="web", code="x", text="y" * 900))
    trouble = cluster.shop.troubles["web"]
    assert (trouble.since_ms, len(trouble.text)) == (began, limits.TROUBLE_LENGTH_MAX)
    cluster.apply(commands.NoteTrouble(application="shop", what="web"))
    assert cluster.shop.troubles == {}


def test_every_edge_of_the_life_cycle_is_walked_by_commands_or_refused() -> None:
    edges = {(s, e) for s, e, _ in APPLICATION.walk()}
    assert (ApplicationState.AVAILABLE, ApplicationEvent.LOST) in edges
    assert (ApplicationState.DESTROYING, ApplicationEvent.DEPLOY) not in edges
    assert APPLICATION.final(ApplicationState.DESTROYED)


# -- replicas --------------------------------------------------------------------------------------


def test_a_snapshot_is_the_whole_state_in_canonical_form(cluster: Cluster) -> None:
    front = Route(name="shop.front", application="shop", group="shop.web", weights={"1": 5})
    cluster.deploy(STORE, WEB, routes=(front,))
    components = [cluster.born("web", slot) for slot in (2, 1)]
    cluster.born("store", 1, available=False)
    cluster.apply(commands.NoteTrouble(application="shop", what="web", code="c", text="t"))
    data = cluster.machine.snapshot_bytes()
    other = Cluster()
    other.machine.restore_bytes(data)
    assert other.machine.snapshot_bytes() == data
    assert list(other.shop.members)[:2] == components, "in the order of their births"
    assert other.shop.specification == cluster.shop.specification
    assert [r.name for r in other.shop.specification.roles] == ["store", "web"]
    other.entries = list(cluster.entries)
    for one in (cluster, other):
        one.end(components[0])
    assert other.machine.snapshot_bytes() == cluster.machine.snapshot_bytes()


def test_an_older_snapshot_has_no_applications(cluster: Cluster) -> None:
    old = Machine([cluster.controller])
    cluster.deploy(WEB)
    cluster.machine.restore_bytes(old.snapshot_bytes())
    assert cluster.applications.applications == {}


def test_a_snapshot_is_plain_data(cluster: Cluster) -> None:
    cluster.deploy(WEB)
    cluster.born("web", 1)
    fresh = ApplicationsState()
    fresh.restore(codec.unpack(codec.pack(cluster.applications.snapshot())))
    assert fresh.applications["shop"].members == cluster.shop.members
