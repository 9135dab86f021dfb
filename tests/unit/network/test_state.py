"""Networks in the cluster state: the first claim stands, no two overlap, removal frees."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.network import limits
from paas.network.messages import NetworkChanged
from paas.network.state import ClaimNetwork, NetworkState, choose, parse_network
from paas.node.state import AddNode, NodeRegister, RemoveNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Applied, Machine


class Cluster:
    def __init__(self, *nodes: str) -> None:
        self.state, self.register = NetworkState(), NodeRegister()
        self.machine = Machine([self.register, self.state])
        self.index = 0
        for node in nodes:
            assert self.apply(AddNode(node=node, address="192.0.2.1:1")).error is None

    def apply(self, command: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        return self.machine.apply(self.index, encode(command, stamp))

    def claim(self, node: str, network: str) -> str:
        applied = self.apply(ClaimNetwork(node=node, network=network))
        assert applied.error is None, applied.error
        return str(applied.result["network"])


def test_a_claim_is_granted_as_it_is_when_nobody_has_the_addresses() -> None:
    cluster = Cluster("n1", "n2")
    assert cluster.claim("n1", "10.64.0.0/21") == "10.64.0.0/21"
    assert cluster.claim("n2", "192.168.7.0/24") == "192.168.7.0/24"
    assert cluster.claim("n1", "10.64.0.0/21") == "10.64.0.0/21", "repeating it changes nothing"
    assert cluster.state.networks() == {"n1": "10.64.0.0/21", "n2": "192.168.7.0/24"}
    assert cluster.state.network("n3") == ""


def test_the_second_claim_of_the_same_addresses_gets_the_next_free_ones() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.claim("n1", "10.64.8.0/21")
    assert cluster.claim("n2", "10.64.8.0/21") == "10.64.16.0/21"
    assert cluster.claim("n3", "10.64.0.0/20") == "10.64.0.0/21"


def test_a_change_is_told_once() -> None:
    cluster = Cluster("n1")
    first = cluster.apply(ClaimNetwork(node="n1", network="10.64.8.0/21"))
    again = cluster.apply(ClaimNetwork(node="n1", network="10.64.8.0/21"))
    assert first.events == (NetworkChanged(node="n1", network="10.64.8.0/21"),)
    assert again.events == ()


def test_addresses_of_a_removed_node_are_free_again() -> None:
    cluster = Cluster("n1", "n2")
    cluster.claim("n1", "10.64.8.0/21")
    removed = cluster.apply(RemoveNode(node="n1", force=True))
    assert removed.error is None
    assert NetworkChanged(node="n1", network="") in removed.events
    assert cluster.claim("n2", "10.64.8.0/21") == "10.64.8.0/21"


def test_only_nodes_of_the_cluster_claim() -> None:
    error = Cluster("n1").apply(ClaimNetwork(node="n9", network="10.64.8.0/21")).error
    assert error is not None
    assert error.code == "no-such-target"


@pytest.mark.parametrize("text", ["", "10.64.8.1/21", "8.8.8.0/24", "10.0.0.0/31", "fd00::/64"])
def test_what_is_no_private_network_is_refused(text: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse_network(text)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "network")


def test_when_all_networks_are_taken_the_claim_is_refused() -> None:
    whole = ipaddress.IPv4Network(limits.CLUSTER_NETWORK)
    with pytest.raises(PlatformError) as caught:
        choose(ipaddress.IPv4Network("10.64.8.0/21"), [whole])
    assert caught.value.code == "limit-exceeded"


_NETWORKS = st.builds(
    lambda length, bits: ipaddress.IPv4Network(
        (0x0A000000 | (bits & (0xFFFFFF << (32 - length)) & 0xFFFFFF), length), strict=False
    ),
    st.integers(16, 28),
    st.integers(0, (1 << 24) - 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), _NETWORKS), max_size=30))
def test_no_two_networks_ever_overlap(claims: list[tuple[int, Any]]) -> None:
    names = [f"n{number}" for number in range(8)]
    cluster = Cluster(*names)
    for number, network in claims:
        cluster.claim(names[number], str(network))
    found = sorted(ipaddress.IPv4Network(n) for n in cluster.state.networks().values())
    assert not any(one.overlaps(other) for one, other in pairwise(found))


def test_a_snapshot_has_it_all_and_one_from_before_has_nothing() -> None:
    cluster = Cluster("n1")
    cluster.claim("n1", "10.64.8.0/21")
    other = NetworkState()
    other.restore(cluster.state.snapshot())
    assert other.networks() == cluster.state.networks()
    whole = Machine([NodeRegister(), NetworkState()])
    whole.restore_bytes(Machine([NodeRegister()]).snapshot_bytes())
    assert whole.sections["network"].networks() == {}
