"""Which message goes to which member: order of lanes, turns, load, attempts elsewhere."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from paas.hub.mailbox_courier import Courier


def courier(*, ordered: bool = True, most: int = 100) -> Courier:
    return Courier(ordered=ordered, in_flight_max=most)


def all_next(one: Courier, *members: str) -> list[tuple[int, str]]:
    found = []
    while (chosen := one.next(members)) is not None:
        found.append(chosen)
    return found


def test_of_one_sender_only_the_first_message_goes() -> None:
    one = courier()
    for number in (1, 2, 3):
        one.arrived(number, "a")
    assert [n for n, _ in all_next(one, "m")] == [1]
    one.delivered(1)
    assert [n for n, _ in all_next(one, "m")] == [2]


def test_of_several_senders_each_first_message_goes() -> None:
    one = courier()
    for number, sender in enumerate("aabbc", 1):
        one.arrived(number, sender)
    assert [n for n, _ in all_next(one, "m")] == [1, 3, 5]


def test_without_order_all_messages_of_a_sender_go() -> None:
    one = courier(ordered=False)
    for number in (1, 2, 3):
        one.arrived(number, "a")
    assert [n for n, _ in all_next(one, "m")] == [1, 2, 3]


def test_no_more_are_in_flight_than_allowed() -> None:
    one = courier(ordered=False, most=2)
    for number in range(5):
        one.arrived(number, "a")
    assert len(all_next(one, "m")) == 2
    assert not one.ready
    one.delivered(0)
    assert all_next(one, "m") == [(2, "m")]


def test_senders_take_turns() -> None:
    one = courier(most=1)
    for number, sender in enumerate("aaab", 1):
        one.arrived(number, sender)
    order = []
    while (chosen := one.next(["m"])) is not None:
        order.append(chosen[0])
        one.delivered(chosen[0])
    assert order == [1, 4, 2, 3]


def test_work_goes_to_who_has_least() -> None:
    one = courier(ordered=False)
    for number in range(6):
        one.arrived(number, "a")
    given_to = [member for _, member in all_next(one, "x", "y", "z")]
    assert sorted(given_to) == ["x", "x", "y", "y", "z", "z"]
    one.delivered(0)
    one.arrived(9, "a")
    assert all_next(one, "x", "y", "z") == [(9, given_to[0])]


def test_without_members_nothing_goes() -> None:
    one = courier()
    one.arrived(1, "a")
    assert one.next([]) is None
    assert one.next(["m"]) == (1, "m")


def test_a_failed_message_goes_first_later_and_elsewhere() -> None:
    one = courier()
    for number in (1, 2):
        one.arrived(number, "a")
    (_, first) = one.next(["x", "y"]) or (0, "")
    assert one.member_of(1) == first
    one.failed(1, 5.0)
    assert one.next(["x", "y"]) is None
    assert one.due_s() == 5.0
    one.wake(4.9)
    assert one.next(["x", "y"]) is None
    one.wake(5.0)
    assert one.due_s() == math.inf
    number, second = one.next(["x", "y"]) or (0, "")
    assert number == 1
    assert second != first


def test_who_is_alone_gets_it_again() -> None:
    one = courier()
    one.arrived(1, "a", failed_at="x")
    assert one.next(["x"]) == (1, "x")


def test_a_new_message_does_not_overtake_a_failed_one() -> None:
    one = courier()
    one.arrived(1, "a")
    one.next(["x"])
    one.failed(1, 5.0)
    one.arrived(2, "a")
    assert one.next(["x"]) is None


events = st.lists(
    st.tuples(st.sampled_from(["put", "next", "done", "fail", "time"]), st.integers(0, 3)),
    max_size=80,
)


@given(events, st.booleans(), st.integers(1, 4))
def test_in_any_history_nothing_is_lost_doubled_or_out_of_order(
    history: list[tuple[str, int]], ordered: bool, most: int
) -> None:
    one = courier(ordered=ordered, most=most)
    senders: dict[int, int] = {}
    flying: list[int] = []
    done: list[int] = []
    now_s = 0.0
    for what, which in history:
        if what == "put":
            senders[len(senders)] = which
            one.arrived(len(senders) - 1, str(which))
        elif what == "time":
            now_s += which
            one.wake(now_s)
        elif what == "next" and (chosen := one.next(["x", "y"])) is not None:
            flying.append(chosen[0])
        elif flying and what == "done":
            number = flying.pop(which % len(flying))
            one.delivered(number)
            done.append(number)
        elif flying and what == "fail":
            one.failed(flying.pop(which % len(flying)), now_s + which)
        assert len(flying) == one.in_flight <= most
        assert len(set(flying)) == len(flying)
        if ordered:
            assert len({senders[number] for number in flying}) == len(flying)
    for _ in range(2 * len(senders) + 1):
        one.wake(math.inf)
        flying += [number for number, _ in all_next(one, "x", "y")]
        for number in flying:
            one.delivered(number)
        done, flying = done + flying, []
    assert sorted(done) == sorted(senders)
    if ordered:
        for sender in set(senders.values()):
            numbers = [number for number in done if senders[number] == sender]
            assert numbers == sorted(numbers)
