"""Who may publish where, and what is said against it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.dns import messages, records
from paas.dns.api import DnsApi
from paas.dns.state import DnsState, Entry, PublishRecord, WithdrawRecords
from tests.unit.dns.world import ORIGIN, zone


class Log:
    def __init__(self) -> None:
        self.proposed: list[Any] = []
        self.count = 1

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        self.proposed.append(command)
        return {"serial": 9, "count": self.count}


class Publishers:
    def application_of(self, component: str, /) -> str:
        return {"c1": "shop"}.get(component, "")

    def incarnation_of(self, component: str, /) -> int:
        return 3


class World:
    def __init__(self) -> None:
        self.log, self.state = Log(), DnsState()
        self.api = DnsApi(
            origin=ORIGIN,
            state=self.state,
            zone=zone(),
            log=self.log,
            publishers=Publishers(),
            status=lambda: messages.Status(zone="z", serial=1, address="", figures={}),
        )

    async def publish(self, owner: str = "", **facts: Any) -> messages.Published:
        told = {"name": "www.shop.app", "kind": "A", "data": "192.0.2.1", **facts}
        return await self.api._publish(messages.Publish(**told), self.context(owner))

    def context(self, owner: str) -> Any:
        info = {"component": owner} if owner else {}
        return SimpleNamespace(peer=SimpleNamespace(info=info), timeout_s=1.0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("www.shop.app", "www.shop.app"),
        ("WWW.Shop.App.paas.internal.", "www.shop.app"),
        ("@", ""),
        ("mail", "mail"),
        ("a_b.-c-", None),
        ("a..b", None),
        ("ä", None),
        ("x" * 64, None),
        ("www.example.com.", None),
        (".".join(["x" * 60] * 4), None),
        ("a b", None),
        ("*.shop.app", None),
    ],
)
async def test_names_are_host_names_within_the_zone(
    world: World, name: str, written: str | None
) -> None:
    if written is None:
        with pytest.raises(PlatformError, match="name"):
            await world.publish(name=name)
        return
    done = await world.publish(name=name)
    assert done.serial == 9
    assert world.log.proposed == [
        PublishRecord(name=written, kind=records.A, data=b"\xc0\0\2\1", ttl_s=5)
    ]


@pytest.mark.parametrize(
    ("kind", "data", "wire"),
    [
        ("a", "192.0.2.1", b"\xc0\0\2\1"),
        ("AAAA", "2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        ("SRV", "1 2 80 web.group", b"\0\1\0\2\0\x50\3web\5group\4paas\x08internal\0"),
        ("SRV", "1 2 80 example.com.", b"\0\1\0\2\0\x50\7example\3com\0"),
        ("CNAME", "web.group", b"\3web\5group\4paas\x08internal\0"),
        ("MX", "10 mx", b"\0\x0a\2mx\4paas\x08internal\0"),
        ("TXT", "v=1", b"\3v=1"),
        ("TXT", "x" * 300, b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45),
        ("A", "192.0.2", None),
        ("A", "::1", None),
        ("AAAA", "192.0.2.1", None),
        ("SRV", "1 2 web", None),
        ("SRV", "1 2 65536 web", None),
        ("SRV", "-1 2 80 web", None),
        ("CNAME", "a b", None),
        ("TXT", "x" * 1021, None),
        ("NS", "ns", None),
        ("SOA", "x", None),
        ("", "x", None),
    ],
)
async def test_data_is_as_in_a_zone_file(
    world: World, kind: str, data: str, wire: bytes | None
) -> None:
    if wire is None:
        with pytest.raises(PlatformError) as caught:
            await world.publish(kind=kind, data=data)
        assert caught.value.code == "invalid"
        assert caught.value.data["field"] in ("kind", "data")
        return
    await world.publish(kind=kind, data=data)
    assert world.log.proposed[0].data == wire
    number = records.KINDS[kind.upper()]
    assert not records.to_text(number, wire).startswith("\\#")


@pytest.mark.parametrize("ttl", [0, -1, 86_401])
async def test_a_ttl_has_bounds(world: World, ttl: int) -> None:
    with pytest.raises(PlatformError, match="ttl"):
        await world.publish(ttl=ttl)


@pytest.mark.parametrize("name", ["x.component", "web.group", "n1.node", "hub.agent", "group"])
async def test_nobody_publishes_what_follows_from_the_state(world: World, name: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await world.publish(name=name)
    assert caught.value.code == "denied"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("www.shop.app", True),
        ("a.b.shop.app.paas.internal", True),
        ("_acme-challenge.example.org.shop.app", True),
        ("shop.app", False),
        ("www.other.app", False),
        ("www", False),
        ("x.component", False),
        ("@", False),
        ("www.shop.app.other.app", False),
    ],
)
async def test_a_component_publishes_below_its_application_only(
    world: World, name: str, allowed: bool
) -> None:
    if allowed:
        await world.publish("c1", name=name)
        command = world.log.proposed[0]
        assert (command.owner, command.incarnation) == ("c1", 3)
        return
    with pytest.raises(PlatformError) as caught:
        await world.publish("c1", name=name)
    assert caught.value.code == "denied"
    assert world.log.proposed == []


async def test_a_component_withdraws_its_own_only(world: World) -> None:
    params = messages.Withdraw(name="www.shop.app", kind="a", data="192.0.2.1")
    await world.api._withdraw(params, world.context("c1"))
    assert world.log.proposed == [
        WithdrawRecords(name="www.shop.app", kind=records.A, data=b"\xc0\0\2\1", owner="c1")
    ]
    world.log.count = 0
    with pytest.raises(PlatformError) as caught:
        await world.api._withdraw(params, world.context(""))
    assert caught.value.code == "no-such-target"


async def test_the_zone_itself_has_no_cname(world: World) -> None:
    with pytest.raises(PlatformError, match="SOA"):
        await world.publish(name="@", kind="CNAME", data="www")


def test_lists_are_sorted_bounded_and_narrowed(world: World) -> None:
    world.state._entries = {
        name: [Entry(records.A, b"\xc0\0\2\1", 5)] for name in ("z", "a.shop.app", "b.shop.app")
    }

    def names(**facts: Any) -> list[str]:
        found = world.api._list(messages.ListRecords(**facts), world.context(""))
        return [record.name.removesuffix(".paas.internal.") for record in found.records]

    assert names() == ["a.shop.app", "b.shop.app", "z"]
    assert names(below="shop.app") == ["a.shop.app", "b.shop.app"]
    assert len(names(limit=1)) == 1
    assert "web.group" in names(all=True)
