"""Networks of a development cluster: apart from each other and from the host's routes."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import combinations

import pytest

from paas.base.errors import PlatformError
from paas.cli.address_plan import overlapping, plan, routes

TABLE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
pmabc\t0003820A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_routes_are_read_without_the_default_route_and_the_named_link():
    assert routes(TABLE) == [IPv4Network("192.0.2.0/24"), IPv4Network("10.130.3.0/24")]
    assert routes(TABLE, but="pmabc") == [IPv4Network("192.0.2.0/24")]


@pytest.mark.parametrize("short", ["00000000", "ffffffff", "0203abcd", "7f3a9c12"])
def test_no_two_networks_of_a_plan_overlap(short):
    made = plan(short, 9, [])
    networks = [IPv4Network(n) for n in (made.machines, *made.containers)]
    assert len(networks) == 10
    assert not any(a.overlaps(b) for a, b in combinations(networks, 2))


def test_networks_with_a_route_are_passed_over():
    free = plan("0203abcd", 3, [])
    taken = [IPv4Network(free.machines), IPv4Network(free.containers[1])]
    made = plan("0203abcd", 3, taken)
    assert made.machines != free.machines
    assert free.containers[1] not in made.containers
    assert len(set(made.containers)) == 3
    assert plan("0203abcd", 3, taken) == made


def test_addresses_follow_the_numbers_of_the_nodes():
    made = plan("0203abcd", 3, [])
    network = IPv4Network(made.machines)
    assert made.address(3) == str(network[3])
    assert made.host == str(network[254])


def test_a_host_with_routes_to_everywhere_is_refused():
    with pytest.raises(PlatformError) as caught:
        plan("00000000", 1, [IPv4Network("10.0.0.0/8")])
    assert caught.value.code == "unsupported"


def test_what_overlaps_is_named():
    taken = [IPv4Network("192.0.2.0/24"), IPv4Network("10.130.0.0/16")]
    assert overlapping("10.130.3.0/24", taken) == "10.130.0.0/16"
    assert overlapping("10.131.3.0/24", taken) is None
