"""Components of two applications: who may call whom, and what selectors make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

PROBE = Path(__file__).parent / "components" / "probe" / "probe.py"


def push(platform: Any, name: str, application: str, sections: str = "") -> str:
    """A probe under another name, in an application."""
    text = f'sdk = "python"\napplication = "{application}"\n[endpoints.http]\n{sections}'
    source = platform.source(
        name,
        ["python3", "probe.py"],
        protocol="json",
        text=text,
        files={"probe.py": PROBE.read_text()},
    )
    kind: str = platform.push(source)
    return kind


@pytest.fixture
def shop(platform: Any) -> dict[str, str]:
    """A web of the application `shop`, and three components of `storage` in the group `stores`."""
    needs = '[requires.store]\ngroup = "stores"\napplication = "storage"\n'
    offers = '[exposes.reading]\noperations = ["echo", "note"]\nto = ["shop"]\n'
    kinds = {
        "web": push(platform, "app-web", "shop", needs),
        "careless": push(platform, "app-careless", "shop"),
        "store": push(platform, "app-store", "storage", offers),
        "vault": push(platform, "app-vault", "storage"),
    }
    groups = {"store": ["stores"], "vault": ["stores"]}
    return {
        name: platform.create(kind, name=name, groups=groups.get(name, []))
        for name, kind in kinds.items()
    }


def ask(platform: Any, caller: str, target: str, operation: str = "echo", **more: Any) -> Any:
    return platform.call(caller, "ask", target=target, operation=operation, inputs={}, **more)


def refused(platform: Any, caller: str, target: str, operation: str = "echo", **more: Any) -> Any:
    with pytest.raises(PlatformError) as caught:
        ask(platform, caller, target, operation, **more)
    assert caught.value.code == "denied"
    return caught.value


def test_between_applications_only_what_both_manifests_say(
    platform: Any, shop: dict[str, str]
) -> None:
    assert ask(platform, shop["web"], "store")["from"] == shop["store"]
    error = refused(platform, shop["web"], "store", "facts")
    assert "app-store@1.0.0 does not expose it to the application shop" in error.message
    assert "app-store@1.0.0: [exposes.shop]" in error.hint
    refused(platform, shop["web"], "vault")
    error = refused(platform, shop["careless"], "store")
    assert "app-careless@1.0.0 does not require it" in error.message
    refused(platform, shop["store"], "web")
    assert ask(platform, shop["careless"], "web")["from"] == shop["web"]
    assert ask(platform, shop["vault"], "store", "facts")["uid"] > 0


def test_a_group_is_its_members_that_may_be_called(platform: Any, shop: dict[str, str]) -> None:
    for selector in ("any", "nearest", "least-loaded", "hash:a", "hash:b"):
        for _ in range(4):
            answer = ask(platform, shop["web"], "group:stores", selector=selector)
            assert answer["from"] == shop["store"]
    replies = platform.api("hub.call", target="group:stores", operation="echo", selector="all")
    assert {r["component"] for r in replies["replies"]} == {shop["store"], shop["vault"]}
    refused(platform, shop["careless"], "group:stores")
    refused(platform, shop["careless"], "group:stores", selector="all")


def test_casts_follow_the_same_rule(platform: Any, shop: dict[str, str], wait_until: Any) -> None:
    def cast(caller: str, **params: Any) -> Any:
        told = {"target": "group:stores", "operation": "note", "selector": "all", **params}
        return platform.call(caller, "request", method="hub.cast", params=told)

    assert cast(shop["web"])["accepted"] == 1
    with pytest.raises(PlatformError) as caught:
        cast(shop["careless"])
    assert caught.value.code == "denied"
    wait_until(lambda: platform.call(shop["store"], "notes"))
    (note,) = platform.call(shop["store"], "notes")
    assert note["sender"] == shop["web"]
    assert platform.call(shop["vault"], "notes") == []


def test_why_is_told_to_operators_and_to_the_caller_itself(
    platform: Any, shop: dict[str, str]
) -> None:
    done = platform.run("allow", "careless", "store", "echo")
    assert "denied" in done.out
    assert "[requires.storage]" in done.out
    assert "allowed" in platform.run("allow", "web", "group:stores", "echo").out
    request = {"method": "hub.allow", "params": {"target": "store", "operation": "echo"}}
    said = platform.call(shop["web"], "request", **request)
    assert (said["allowed"], said["from"]["application"]) == (True, "shop")
    request["params"] = {**request["params"], "from": shop["vault"]}
    with pytest.raises(PlatformError) as caught:
        platform.call(shop["web"], "request", **request)
    assert caught.value.code == "denied"


def test_a_network_path_between_applications_wants_endpoints_exposed(
    platform: Any, shop: dict[str, str]
) -> None:
    resolve = {"method": "resource.resolve", "params": {"name": "store"}}
    with pytest.raises(PlatformError) as caught:
        platform.call(shop["web"], "request", **resolve)
    assert caught.value.code == "denied"
    platform.destroy("store")
    offers = '[exposes.all]\noperations = ["*"]\nto = ["*"]\n'
    kind = push(platform, "app-open-store", "storage", offers)
    store = platform.create(kind, groups=["stores"])
    (endpoint,) = platform.call(shop["web"], "request", **resolve)["endpoints"]
    assert endpoint["component"] == store


def test_members_are_chosen_by_their_attributes(platform: Any) -> None:
    made = platform.api("controller.create", type="probe", count=3, groups=["zoned"])["components"]
    for component, zone in zip(made, ("east", "west", "east"), strict=True):
        params = {"attributes": {"zone": zone}}
        platform.call(component, "request", method="hub.set_attributes", params=params)
    chosen = [
        platform.api(
            "hub.call", target="group:zoned", operation="echo", selector='attribute:zone="east"'
        )["component"]
        for _ in range(6)
    ]
    assert sorted(chosen) == sorted([made[0], made[2]] * 3)


def test_top_shows_what_the_hub_does(platform: Any) -> None:
    component = platform.create("probe", name="busy")
    for _ in range(5):
        platform.call(component, "echo")
    with pytest.raises(PlatformError):
        platform.api("hub.call", target="nobody-at-all", operation="echo")
    shown = json.loads(platform.run("top", "--once", "-o", "json").out)
    (node,) = shown["nodes"]
    assert node["refused"]["no-such-target"] >= 1
    (mine,) = [c for c in shown["components"] if c["component"] == component]
    assert mine["delivered"] >= 5
    assert mine["waiting"] == 0
    assert "busy" in platform.run("top", "--once").out
