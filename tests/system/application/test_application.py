"""Applications on a real cluster, from the first deploy to nothing left; in this order."""

from __future__ import annotations

import json
import threading

import pytest

from paas.base.errors import PlatformError
from tests.system.application.conftest import Shop

pytestmark = pytest.mark.timeout(600)

SHOP = """\
[application]
name = "shop"
version = "{version}"

[roles.web]
source = "web"
count = {web}
depends = ["store"]
configuration = {{ greeting = "{greeting}" }}
grace = "2s"

[roles.store]
source = "store"
volume = {{ path = "/data", size = "8M" }}
grace = "2s"

[routes.front]
group = "web"
path = "/shop"
"""


def write(shop: Shop, version: str = "1", web: int = 2, greeting: str = "hello") -> None:
    shop.write(SHOP.format(version=version, web=web, greeting=greeting))


def test_a_plan_is_told_before_anything_is_done(shop: Shop) -> None:
    shop.member("web")
    shop.member("store")
    write(shop)
    planned = shop.deploy("--plan", "-o", "json").json
    assert [f"{s['action']} {s['subject']}" for s in planned["steps"]] == [
        *("create shop-store-1", "create shop-web-1", "create shop-web-2", "set-route shop.front")
    ]
    assert (planned["revision"], planned["changed"]) == (0, True)
    assert shop.components() == []


def test_a_deploy_tells_its_steps_and_ends_when_all_is_there(shop: Shop) -> None:
    done = shop.deploy()
    assert "shop 1  revision 1  3/3 available in " in done.out
    told = done.err
    assert told.index("shop-store-1 shop-store@1.0.0") < told.index("shop-web-1 shop-web@1.0.0")
    assert "route shop.front set" in told
    status = shop.status()
    assert (status["state"], status["settled"], status["troubles"]) == ("available", True, [])
    outputs = shop.cluster.call("group:shop.web", "who")
    assert outputs["configuration"] == {"greeting": "hello"}
    (found,) = shop.cluster.api("gateway.routes", application="shop")["routes"]
    assert (found["route"]["path"], found["serving"]) == ("/shop", 2)
    kind = shop.cluster.api("controller.type", type="shop-web")
    assert kind["manifest"]["component"]["application"] == "shop"


def test_the_same_again_changes_nothing(shop: Shop) -> None:
    before = {m["component"] for m in shop.status()["members"]}
    done = shop.deploy("-o", "json")
    assert done.json["revision"] == 1
    assert "nothing is different" in done.err
    assert {m["component"] for m in shop.status()["members"]} == before
    assert shop.deploy("--plan", "-o", "json").json["steps"] == []


def test_it_is_listed_and_shown(shop: Shop) -> None:
    (listed,) = shop.app("list", "-o", "json").json["applications"]
    assert (listed["name"], listed["available"], listed["wanted"]) == ("shop", 3, 3)
    text = shop.app("status", "shop").out
    for words in ("shop-web-2", "shop-store@1.0.0", "/shop", "decided on "):
        assert words in text
    assert len(shop.app("status", "shop", "-o", "name").out.split()) == 3


def test_it_grows_and_shrinks_the_youngest_first(shop: Shop) -> None:
    first = [m["component"] for m in shop.members("web")]
    shop.app("scale", "shop", "web=4")
    assert len(shop.members("web")) == 4
    shop.app("scale", "shop", "web=2")
    assert [m["component"] for m in shop.members("web")] == first
    error = shop.app("scale", "shop", "wbe=1", "-o", "json", status=2)
    assert json.loads(error.err.splitlines()[-1])["error"]["data"]["field"] == "counts.wbe"


def test_another_version_replaces_members_one_at_a_time_and_nobody_is_turned_away(
    shop: Shop,
) -> None:
    shop.cluster.call("shop-store-1", "keep", word="before")
    shop.member("web", "1.1.0")
    shop.member("store", "1.1.0")
    write(shop, "2", greeting="good day")
    stop, failures, most = threading.Event(), list[str](), 0

    def ask() -> None:
        while not stop.is_set():
            try:
                shop.cluster.run("call", "group:shop.web", "who")
            except AssertionError as error:
                failures.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    deploying = shop.begin_deploy()
    while deploying.poll() is None:
        members = shop.members("web")
        serving = [m for m in members if m["state"] == "available" and not m["ending"]]
        most = max(most, len(members))
        assert len(serving) >= 2
    stop.set()
    asking.join()
    out, err = deploying.communicate()
    assert deploying.returncode == 0, err
    assert json.loads(out)["version"] == "2"
    assert (failures, most) == ([], 3)
    assert {m["type"] for m in shop.members("web")} == {"shop-web@1.1.0"}
    assert shop.cluster.call("shop-store-1", "keep", word="after") == {"kept": ["before", "after"]}


def test_its_hub_is_killed_in_the_middle_of_a_deploy(shop: Shop) -> None:
    write(shop, "3", web=6, greeting="evening")
    deploying = shop.begin_deploy()
    shop.until_members("web", 3)
    shop.kill_hub()
    out, err = deploying.communicate(timeout=120)
    assert deploying.returncode == 0, err
    assert json.loads(out)["state"] == "available"
    names = sorted(c["name"] for c in shop.components())
    assert names == sorted(m["name"] for m in shop.status()["members"])
    web = shop.members("web")
    assert len(web) == 6
    assert all(m["current"] for m in web)


def test_a_version_that_fails_stops_at_its_first_member(shop: Shop) -> None:
    shop.member("web", "9.0.0")
    write(shop, "4", web=2, greeting="evening")
    shop.app("scale", "shop", "web=2")
    done = shop.deploy(status=1)
    assert "[failed]" in done.err
    assert "exit:1" in done.err
    good = [m for m in shop.members("web") if m["state"] == "available"]
    assert [m["type"] for m in good] == ["shop-web@1.1.0"] * 2
    shop.member("web", "1.2.0")
    shop.deploy()
    assert {m["type"] for m in shop.members("web")} == {"shop-web@1.2.0"}
    assert shop.status()["troubles"] == []


def test_what_no_node_can_take_is_said(shop: Shop) -> None:
    write(shop, "5", greeting="evening")
    file = shop.file.read_text()
    shop.write(
        file.replace(
            "[roles.store]", '[roles.far]\nsource="web"\nconstraints=["node=n9"]\n[roles.store]'
        )
    )
    done = shop.deploy("--timeout", "20s", status=8)
    assert "no-placement" in done.err
    status = shop.status()
    assert [t["what"] for t in status["troubles"]] == ["far"]
    shop.write(file)
    shop.deploy()
    assert shop.status()["troubles"] == []


HOSTILE = {
    "not toml": ("[application", "application.toml:1"),
    "misspelt": ('[application]\nname="shop"\n[roles.web]\nsorce="web"', "roles.web.sorce"),
    "no such type": ('[application]\nname="shop"\n[roles.web]\ntype="nothing@1"', "roles.web.type"),
    "circle": (
        '[application]\nname="shop"\n[roles.a]\nsource="web"\ndepends=["a"]',
        "roles.a.depends",
    ),
    "no directory": ('[application]\nname="shop"\n[roles.a]\nsource="../no"', "roles.a.source"),
    "escape": ('[application]\nname="../shop"\n[roles.a]\nsource="web"', "application.name"),
    "bad path": (
        '[application]\nname="shop"\n[roles.web]\nsource="web"\n[routes.r]\ngroup="web"\n'
        'path="/../etc"',
        "routes.r.path",
    ),
    "somebody else's": (
        '[application]\nname="thief"\n[roles.a]\ntype="shop-web@1.2.0"\n[routes.r]\ngroup="a"',
        "routes.r.group",
    ),
    "enormous": ('[application]\nname="shop"\n' + "#" * 70_000, "65536"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_refused_by_name_and_changes_nothing(shop: Shop, name: str) -> None:
    text, words = HOSTILE[name]
    before = shop.status()["revision"]
    kept = shop.file.read_text()
    shop.write(text)
    done = shop.deploy(status=None)
    shop.write(kept)
    assert done.status in (1, 2, 3), done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert shop.status()["revision"] == before
    assert len(shop.cluster.api("application.list")["applications"]) == 1


def test_who_looked_at_another_revision_is_refused(shop: Shop) -> None:
    assert "conflict" in shop.deploy("--if-revision", "1", status=5).err
    shop.deploy("--if-revision", str(shop.status()["revision"]))


def test_a_client_that_sends_anything_is_refused_by_field(shop: Shop) -> None:
    for specification in ({}, {"application": 1}, {"application": {"name": "x"}, "roles": []}):
        with pytest.raises(PlatformError) as caught:
            shop.cluster.api("application.deploy", specification=specification)
        assert caught.value.code == "invalid"
        assert caught.value.data["field"]


def test_stopped_nothing_of_it_runs_and_its_files_are_there_again(shop: Shop) -> None:
    shop.app("stop", "shop")
    assert shop.components() == []
    assert shop.status()["state"] == "stopped"
    shop.app("start", "shop")
    kept = shop.cluster.call("shop-store-1", "keep", word="again")["kept"]
    assert kept == ["before", "after", "again"]


def test_destroyed_nothing_of_it_is_left(shop: Shop) -> None:
    shop.app("destroy", "shop", "--dry-run")
    done = shop.app("destroy", "shop", "--yes", "--volumes")
    assert "shop destroyed in" in done.out
    assert shop.components() == []
    assert shop.cluster.api("gateway.routes")["routes"] == []
    assert shop.cluster.api("volume.list")["volumes"] == []
    assert shop.cluster.api("application.list")["applications"] == []
    assert shop.app("status", "shop", status=3).out == ""
