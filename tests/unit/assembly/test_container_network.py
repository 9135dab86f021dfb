"""Containers get addresses that nothing else on the machine has."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from paas.assembly.container_network import choose_network, taken_networks

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def route(link: str, network: str) -> str:
    destination = ipaddress.IPv4Network(network)
    words = [int.from_bytes(a.packed, "little") for a in (destination[0], destination.netmask)]
    return f"{link}\t{words[0]:08X}\t00000000\t0001\t0\t0\t0\t{words[1]:08X}\t0\t0\t0\n"


DEFAULT = route("eth0", "0.0.0.0/0")


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "routes"
    path.write_text(HEADER + DEFAULT)
    return path


def choose(tmp_path: Path, routes: Path, name: str = "05aaaaaa") -> str:
    directory = tmp_path / "containers"
    directory.mkdir(exist_ok=True)
    return choose_network(str(directory), "pb05aaaaaa", name, routes)


def test_the_name_points_at_a_network(tmp_path: Path, routes: Path) -> None:
    assert choose(tmp_path, routes) == "10.69.168.0/21"


def test_a_network_that_is_in_use_is_passed_over(tmp_path: Path, routes: Path) -> None:
    in_use = route("pbother", "10.69.168.0/21") + route("vpn", "10.69.178.0/24")
    routes.write_text(HEADER + DEFAULT + in_use)
    assert choose(tmp_path, routes) == "10.69.184.0/21"


def test_the_search_goes_round(tmp_path: Path, routes: Path) -> None:
    routes.write_text(HEADER + route("x", "10.127.0.0/16"))
    assert choose(tmp_path, routes, "3fffbbbb") == "10.64.0.0/21"


def test_without_a_free_one_the_name_decides(tmp_path: Path, routes: Path) -> None:
    routes.write_text(HEADER + route("vpn", "10.0.0.0/8"))
    assert choose(tmp_path, routes) == "10.69.168.0/21"


def test_the_choice_is_kept_while_our_own_bridge_uses_it(tmp_path: Path, routes: Path) -> None:
    routes.write_text(HEADER + route("other", "10.69.168.0/21"))
    assert choose(tmp_path, routes) == "10.69.176.0/21"
    routes.write_text(HEADER + route("pb05aaaaaa", "10.69.176.0/21"))
    assert choose(tmp_path, routes) == "10.69.176.0/21"


def test_a_kept_choice_that_another_uses_is_given_up_without_containers(
    tmp_path: Path, routes: Path
) -> None:
    assert choose(tmp_path, routes) == "10.69.168.0/21"
    routes.write_text(HEADER + route("other", "10.69.168.0/21"))
    (tmp_path / "containers" / "journal").mkdir()
    record = tmp_path / "containers" / "journal" / "record"
    record.touch()
    assert choose(tmp_path, routes) == "10.69.168.0/21"
    record.unlink()
    assert choose(tmp_path, routes) == "10.69.176.0/21"


def test_what_was_kept_and_is_unreadable_is_chosen_anew(tmp_path: Path, routes: Path) -> None:
    choose(tmp_path, routes)
    (tmp_path / "containers" / "network").write_text("nonsense")
    assert choose(tmp_path, routes) == "10.69.168.0/21"


def test_the_default_route_takes_nothing() -> None:
    assert taken_networks(HEADER + DEFAULT, but="") == []
