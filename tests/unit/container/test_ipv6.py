"""Addresses of version 6: worked out from those of version 4, wherever both are needed."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.assembly.container_network import local_prefix
from paas.base.dual_stack import twin
from paas.base.errors import PlatformError
from paas.bundle.egress import check as check_egress
from paas.bundle.egress import parse
from paas.container.addresses import Addresses
from paas.container.journal import Record
from paas.container.outside import outside_elements
from paas.container.settings import ContainerSettings, check
from paas.real.kernel_netns6 import lacking
from paas.real.kernel_tables import Names, table_document, with_twins

PREFIX = "fd12:3456:789a::/64"
SETTINGS = ContainerSettings(cluster="dev", state_dir="/s", bridge="pbdev", link_prefix="pvdev")


def test_the_prefix_is_the_clusters_own() -> None:
    one, other = local_prefix("one"), local_prefix("other")
    assert one == local_prefix("one")
    assert one != other
    for prefix in (one, other):
        network = ipaddress.IPv6Network(prefix)
        assert network.subnet_of(ipaddress.IPv6Network("fd00::/8"))
        assert network.prefixlen == 64
        check(ContainerSettings(**{**_plain(), "prefix6": prefix}))


def _plain() -> dict[str, str]:
    return {
        name: getattr(SETTINGS, name) for name in ("cluster", "state_dir", "bridge", "link_prefix")
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("ipv6", "on"), ("prefix6", "2001:db8::/64"), ("prefix6", "fd00::/48"), ("prefix6", "x")],
)
def test_other_settings_are_refused(field: str, value: str) -> None:
    with pytest.raises(PlatformError) as caught:
        check(ContainerSettings(**{**_plain(), field: value}))
    assert caught.value.data["field"] == field


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_different_addresses_have_different_twins(
    one: ipaddress.IPv4Address, other: ipaddress.IPv4Address
) -> None:
    twins = {twin(PREFIX, str(one)), twin(PREFIX, str(other))}
    assert len(twins) == len({one, other})
    network = ipaddress.IPv6Network(twin(PREFIX, "0.0.0.0/0"))
    assert all(ipaddress.IPv6Address(found) in network for found in twins)


def test_a_nodes_network_holds_the_twins_of_its_addresses_and_of_no_others() -> None:
    network = ipaddress.IPv6Network(twin(PREFIX, "10.64.8.0/21"))
    assert network.prefixlen == 117
    assert ipaddress.IPv6Address(twin(PREFIX, "10.64.15.254")) in network
    assert ipaddress.IPv6Address(twin(PREFIX, "10.64.16.1")) not in network
    assert Addresses("10.64.8.0/21").twin("10.64.8.2") == ""
    assert Addresses("10.64.8.0/21", PREFIX).twin("10.64.8.2") == f"{PREFIX[:-3]}a40:802"


def test_what_is_said_of_two_containers_holds_for_both_versions() -> None:
    path = ("10.64.0.2", "10.64.0.3", "tcp", 80)
    given_elements = {
        "grants": [path],
        "sources": [("v2", "10.64.0.2")],
        "outgoing": [("10.64.0.2",)],
    }
    assert with_twins(given_elements, "") == given_elements
    found = with_twins(given_elements, PREFIX)
    assert found["grants"] == [path]
    ends = (twin(PREFIX, "10.64.0.2"), twin(PREFIX, "10.64.0.3"))
    assert found["grants6"] == [(*ends, "tcp", 80)]
    assert found["sources6"] == [("v2", ends[0])]
    assert "outgoing6" not in found


def test_egress_of_networks_of_version_6() -> None:
    assert check_egress(["[2001:DB8::1/32]:443", "[2001:db8::7]:53/udp"]) == (
        "[2001:db8::/32]:443",
        "[2001:db8::7/128]:53/udp",
    )
    assert parse("[2001:db8::/32]:443").network == "2001:db8::/32"
    for wrong in (
        "2001:db8::/32:443",
        "[2001:db8::/200]:1",
        "[]:1",
        "[x]:1",
        "[::1",
        "[fe80::1%1]:1",
    ):
        with pytest.raises(ValueError):
            parse(wrong)


def test_a_container_without_ipv6_has_no_elements_of_it() -> None:
    record = Record(
        component="a" * 40,
        incarnation=1,
        phase="running",
        boot="b",
        since_ms=0,
        address="10.64.0.2",
        endpoints={"web": ("10.64.0.2", 20_000)},
        egress=("192.0.2.0/24:80", "[2001:db8::/32]:443"),
        published={"web": 8080},
    )
    sets = outside_elements([record])
    assert not [name for name, listed in sets.items() if name.endswith("6") and listed]
    address6 = twin(PREFIX, "10.64.0.2")
    sets = outside_elements([msgspec.structs.replace(record, address6=address6)])
    assert sets["outgoing6"] == [(address6,)]
    assert sets["egress6"] == [(address6, "2001:db8::/32", "tcp", 443)]
    assert ("tcp", 8080, address6) in sets["published6"]
    assert sets["egress"] == [("10.64.0.2", "192.0.2.0/24", "tcp", 80)]


def test_rules_about_the_world_are_made_only_where_there_is_a_prefix() -> None:
    common = {"table": "t", "bridge": "b", "link_prefix": "v", "reach": "10.64.0.0/10"}
    without, having = (str(table_document(Names(**common, prefix6=p))) for p in ("", PREFIX))
    for name in ("@egress6", "@grants6", "@sources6", "ip6"):
        assert name not in without, "and so everything of version 6 is dropped"
        assert name in having


def test_a_machine_says_what_it_lacks(tmp_path: Path) -> None:
    assert "no IPv6" in lacking(tmp_path / "none")
    (tmp_path / "all").mkdir()
    (tmp_path / "all/disable_ipv6").write_text("1\n")
    assert "switched off" in lacking(tmp_path)
    (tmp_path / "all/disable_ipv6").write_text("0\n")
    (tmp_path / "all/forwarding").write_text("0\n")
    assert "forward" in lacking(tmp_path)
    (tmp_path / "all/forwarding").write_text("1\n")
    assert lacking(tmp_path) == ""
    (tmp_path / "all/forwarding").write_text("0\n")
    (tmp_path / "all/force_forwarding").write_text("0\n")
    assert lacking(tmp_path) == ""
