"""What the hub's process adds: kept keys, ways that names open, who is asked, what is announced."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from paas.assembly.dns import DnsPart, GroupPaths, _address, _kept_key, _text
from paas.base.errors import PlatformError
from paas.dns import messages
from paas.dns.dnssec import key_data
from paas.dns.state import DnsState
from paas.node.settings import NodeSettings
from paas.node.state import NodeRegister
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.testing.controlled_node import ControlledCluster, ControlledNode


def test_the_key_is_made_once_and_nobody_else_reads_it(tmp_path: Path) -> None:
    files = SystemFiles(str(tmp_path))
    first, again = _kept_key(files), _kept_key(files)
    assert key_data(first) == key_data(again)
    (kept,) = list(tmp_path.iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert _text(files, "nothing") == ""


class Resources:
    def __init__(self) -> None:
        self.opened: list[str] = []

    def requirement(self, component: str, group: str) -> str:
        if component == "gone":
            raise PlatformError("no-such-type", "forgotten")
        return {"web": "front", "a.b": "dotted"}.get(group, "")

    async def open(self, component: str, name: str) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.opened.append(name)
        return []


async def test_a_way_is_opened_once_for_each_serial() -> None:
    instances = {"c1": SimpleNamespace(incarnation=1)}
    resources, dns = Resources(), DnsState()
    controller: Any = SimpleNamespace(instances=instances)
    paths = GroupPaths(controller, resources, dns)  # type: ignore[arg-type]
    for labels, name in (
        ((b"web", b"group"), "front"),
        ((b"_http", b"_tcp", b"web", b"group"), "front"),
        ((b"a", b"b", b"group"), "dotted"),
        ((b"other", b"group"), ""),
        ((b"web", b"component"), ""),
        ((b"group",), ""),
    ):
        assert paths.wanted("c1", labels) == name
    await paths.open("c1", "front")
    assert paths.wanted("c1", (b"web", b"group")) == ""
    dns.serial += 1  # members may have come
    assert paths.wanted("c1", (b"web", b"group")) == "front"
    await paths.open("c1", "front")
    instances["c1"].incarnation = 2
    assert paths.wanted("c1", (b"web", b"group")) == "front"
    assert paths.wanted("gone", (b"web", b"group")) == ""
    assert resources.opened == ["front", "front"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1:7420", ("192.0.2.1", 7420)),
        ("[2001:db8::1]:7420", ("2001:db8::1", 7420)),
        ("0.0.0.0:7420", None),
        ("[::]:7420", None),
        ("lab.example:7420", None),
        ("", None),
    ],
)
def test_only_addresses_that_others_can_use_are_announced(
    text: str, found: tuple[str, int] | None
) -> None:
    assert _address(text) == found


def part(tmp_path: Path, node: ControlledNode, register: NodeRegister, **dns: Any) -> DnsPart:
    """The part of a hub whose node listens on the loopback."""
    warnings: list[str] = []
    agent: Any = SimpleNamespace(
        clock=SystemClock(),
        entropy=SystemEntropy(),
        log=SimpleNamespace(warning=lambda key, **_: warnings.append(key), warnings=warnings),
        report_bug=lambda _where, exc: None,
    )
    settings = NodeSettings(state=str(tmp_path), cluster="lab", listen="127.0.0.1:7420", dns=dns)
    return DnsPart(
        agent,
        settings,
        controller=node.state,
        groups=node.groups,
        nodes=register,
        state=DnsState(),
        resources=Resources(),  # type: ignore[arg-type]
        log=node.log,
        files=SystemFiles(str(tmp_path)),
        url=lambda: "https://127.0.0.1:7443/rpc",
    )


async def test_who_asks_decides_what_is_seen_and_the_keys_are_shown(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    cluster = ControlledCluster(nursery)
    ours = part(tmp_path, cluster["n1"], cluster.common.register, sign=True, rate=7)
    here, elsewhere = ours._face_of("127.0.0.5"), ours._face_of("192.0.2.7")
    assert (here.recursion, here.rates) == (True, None)
    assert elsewhere.recursion is False
    assert elsewhere.rates is not None
    assert elsewhere.rates.rate_per_s == 7
    ours._state.keys["n1"] = ours.agent.key
    found: messages.Status = ours._status()
    assert found.address == ""
    assert found.keys[0].startswith("paas.internal. IN DS ")
    assert ours._agents() == {"hub": ("127.0.0.1", 7420), "api": ("127.0.0.1", 7443)}


async def test_this_server_is_not_asked_by_itself_and_bad_keys_are_told(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    (tmp_path / "dns.keys").write_text("no key\n")
    cluster = ControlledCluster(nursery)
    ours = part(
        tmp_path,
        cluster["n1"],
        cluster.common.register,
        forwarders=["127.0.0.1:5353", "127.0.0.1:5354", "192.0.2.1:5353"],
    )
    ours.agent.address = ("127.0.0.1", 5353)
    assert ours._servers() == [("127.0.0.1", 5354), ("192.0.2.1", 5353)]
    assert ours._log.warnings == ["dns.keys_not_read"]  # type: ignore[attr-defined]
