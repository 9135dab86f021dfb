"""Nothing is given out twice; what was returned longest ago comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.container.addresses import Addresses, Pool, UserRanges


@given(st.lists(st.sampled_from(["take", "give"]), max_size=60))
def test_no_number_has_two_owners(steps: list[str]) -> None:
    pool, held = Pool("number", 1, 8), []
    for step in steps:
        if step == "give" and held:
            pool.give_back(held.pop(0))
        elif len(held) < 8:
            number = pool.take()
            assert number not in held
            assert 1 <= number <= 8
            held.append(number)
    assert pool.taken == frozenset(held)


def test_an_empty_pool_says_so() -> None:
    pool = Pool("address", 1, 1)
    pool.take()
    with pytest.raises(PlatformError) as caught:
        pool.take()
    assert caught.value.code == "limit-exceeded"


def test_the_longest_returned_comes_first() -> None:
    pool = Pool("number", 1, 3)
    for _ in range(3):
        pool.take()
    for number in (2, 3, 1):
        pool.give_back(number)
    assert [pool.take() for _ in range(3)] == [2, 3, 1]


def test_a_reserved_number_is_not_taken_and_not_reserved_twice() -> None:
    pool = Pool("number", 1, 3)
    pool.reserve(1)
    assert pool.take() == 2
    for number in (1, 9):
        with pytest.raises(LocalError):
            pool.reserve(number)
    pool.give_back(1)
    pool.reserve(1)
    assert pool.take() == 3


def test_returning_what_is_not_taken_changes_nothing() -> None:
    pool = Pool("number", 1, 1)
    pool.give_back(1)
    assert pool.take() == 1
    with pytest.raises(PlatformError):
        pool.take()


def test_addresses_leave_out_network_bridge_and_broadcast() -> None:
    addresses = Addresses("10.1.2.0/29")
    assert addresses.gateway == "10.1.2.1"
    assert [addresses.take() for _ in range(5)] == [f"10.1.2.{n}" for n in range(2, 7)]
    with pytest.raises(PlatformError):
        addresses.take()
    addresses.give_back("10.1.2.4")
    addresses.reserve("10.1.2.4")


def test_user_ranges_do_not_overlap() -> None:
    ranges = UserRanges(100_000)
    first, second = ranges.take(), ranges.take()
    assert (first, second) == (100_000, 165_536)
    ranges.give_back(first)
    ranges.reserve(first)
    with pytest.raises(LocalError):
        ranges.reserve(100_001)
