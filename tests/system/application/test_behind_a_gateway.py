"""An application behind a gateway, which is an application too: whatever changes, all are answered.

Not one request fails while members are replaced, while a role grows and while it shrinks: a member
ends only after the gateway has let go of it.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import time
from pathlib import Path

import pytest

from paas.cli.demo import own_address
from paas.testing.gateway_world import MEMBER, load
from tests.system.application.conftest import Shop
from tests.system.platform.conftest import Platform, until

pytestmark = pytest.mark.timeout(600)

EDGE = """\
[application]
name = "gateway"
[roles.edge]
source = "gateway"
"""

SHOP = """\
[application]
name = "shop"
version = "{version}"
[roles.web]
source = "member"
count = 2
grace = "2s"
[routes.front]
group = "web"
path = "/shop"
strip_prefix = true
drain_s = 10
[routes.calls]
group = "web"
kind = "operation"
path = "/calls"
strip_prefix = true
drain_s = 10
[requires.gateway]
group = "gateways"
"""


@pytest.fixture(scope="module")
def address(cluster: Platform, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """Where the gateway listens."""
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
    edge = Shop(cluster, tmp_path_factory.mktemp("edge"))
    cluster.run("gateway", "build", str(edge.folder / "gateway"), "--publish", str(port))
    edge.write(EDGE)
    edge.deploy()
    return own_address(), port  # a published port leads from everywhere but loopback


@pytest.fixture(scope="module")
def shop(cluster: Platform, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(cluster, tmp_path_factory.mktemp("behind"))


def write(folder: Path, version: str) -> None:
    member = folder / "member"
    shutil.copytree(MEMBER, member, dirs_exist_ok=True)
    text = (MEMBER / "component.toml").read_text()
    (member / "component.toml").write_text(text.replace("1.0.0", version))
    (folder / "application.toml").write_text(SHOP.format(version=version))


def ask(address: tuple[str, int], path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answered_by(address: tuple[str, int], path: str, count: int) -> set[str]:
    """The members that answer, once there are so many."""
    found: set[str] = set()

    def enough() -> bool:
        status, said = ask(address, path)
        if status == 200:
            found.add(said)
        return len(found) >= count

    until(enough)
    return found


def test_all_are_answered_while_members_are_replaced_and_scaled(
    shop: Shop, address: tuple[str, int]
) -> None:
    write(shop.folder, "1.0.0")
    shop.deploy()
    first = answered_by(address, "/shop/who", 2)
    assert first == answered_by(address, "/calls/who", 2)
    with (
        load(address, "POST", "/shop/slow?0.05", 4) as endpoints,
        load(address, "POST", "/calls/slow?0.05", 4) as operations,
    ):
        time.sleep(0.3)
        write(shop.folder, "1.1.0")
        shop.deploy()
        shop.app("scale", "shop", "web=4")
        answered_by(address, "/shop/who", 4)
        shop.app("scale", "shop", "web=1")
        time.sleep(0.3)
    wrong = [text for one in (*endpoints, *operations) for text in one.wrong]
    assert wrong == []
    assert {m["type"] for m in shop.members("web")} == {"member@1.1.0"}
    assert sum(one.answers.get(c, 0) for one in endpoints for c in first) > 0


def test_its_routes_go_with_it(shop: Shop, address: tuple[str, int]) -> None:
    shop.app("destroy", "shop", "--yes")
    until(lambda: ask(address, "/shop/who")[0] == 404)
    assert ask(address, "/calls/who")[0] == 404
    shop.app("destroy", "gateway", "--yes")
    assert shop.components() == []
