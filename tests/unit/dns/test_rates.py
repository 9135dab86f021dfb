"""How many answers a network gets, and that what is kept for it is bounded."""

from __future__ import annotations

from paas.dns import limits
from paas.dns.rates import Rates, Verdict, network_of


def test_beyond_the_rate_each_second_answer_slips_and_the_rest_is_dropped() -> None:
    rates = Rates(10)
    found = [rates.judge(f"192.0.2.{i % 250}", 5.0) for i in range(30)]
    assert found[:10] == [Verdict.SEND] * 10
    assert found[10:].count(Verdict.SLIP) == found[10:].count(Verdict.DROP) == 10
    assert (rates.slipped, rates.dropped) == (10, 10)


def test_a_new_second_and_another_network_begin_anew() -> None:
    rates = Rates(1)
    assert rates.judge("192.0.2.1", 5.0) is Verdict.SEND
    assert rates.judge("192.0.2.1", 5.9) is not Verdict.SEND
    assert rates.judge("192.0.3.1", 5.9) is Verdict.SEND
    assert rates.judge("192.0.2.1", 6.0) is Verdict.SEND


def test_networks_are_24_and_56_bits() -> None:
    assert network_of("192.0.2.1") == network_of("192.0.2.200")
    assert network_of("2001:db8:1:200::1") == network_of("2001:db8:1:2ff::9")
    assert network_of("2001:db8:1:300::1") != network_of("2001:db8:1:2ff::9")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")


def test_a_flood_of_invented_addresses_takes_no_memory_and_hurts_nobody_known() -> None:
    rates = Rates(2)
    assert rates.judge("198.51.100.1", 1.0) is Verdict.SEND
    count = limits.RATE_NETWORKS_MAX + 5_000
    found = [rates.judge(f"{10 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.1", 1.0) for n in range(count)]
    assert len(rates._counts) <= limits.RATE_NETWORKS_MAX + 1
    assert found[-1] is not Verdict.SEND
    assert rates.judge("198.51.100.1", 1.0) is Verdict.SEND


def test_without_a_rate_everything_is_sent() -> None:
    rates = Rates(0)
    assert {rates.judge("192.0.2.1", 1.0) for _ in range(5_000)} == {Verdict.SEND}
