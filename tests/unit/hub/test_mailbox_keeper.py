"""Delivery on virtual time: members answer, are slow, fail, reject, die."""

from __future__ import annotations

from itertools import pairwise

import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.mailbox_commands import (
    RedeliverMessages,
)
from paas.hub.messages import Forward
from tests.unit.hub.mailbox_world import (
    GROUP,
    OK,
    answers,
    obedient,
    world_of,
)

# -- one node ----


async def test_messages_wait_until_there_is_a_member(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.put("x", "y")
        await trio.sleep(100)
        assert world.members.seen == []
        world.members.add("m")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert world.box.counts.acknowledged == 2


async def test_what_is_acknowledged_never_comes_again(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.put("x")
        await world.empty()
        world.kill("n1")
        await world.start("n1")
        await trio.sleep(100)
        assert world.members.seen == [("m", "x", 1)]


async def test_messages_of_one_sender_come_in_order_and_senders_side_by_side(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        running: dict[str, int] = {"most": 0, "now": 0}

        async def count(_message: Forward) -> bytes:
            running["now"] += 1
            running["most"] = max(running["most"], running["now"])
            await trio.sleep(1.0)
            running["now"] -= 1
            return OK

        world.members.add("m", count)
        world.put("a1", "a2", "a3", sender="a")
        world.put("b1", "b2", sender="b")
        await world.empty()
        assert [one for one in world.members.done if one[0] == "a"] == ["a1", "a2", "a3"]
        assert [one for one in world.members.done if one[0] == "b"] == ["b1", "b2"]
        assert running["most"] == 2


async def test_a_receiver_that_dies_before_it_answers_is_followed_by_another(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:

        async def hang(_message: Forward) -> bytes:
            await trio.sleep(10)
            return OK

        world.members.add("m1", hang)
        world.put("x")
        await trio.sleep(1)
        world.members.add("m2")
        world.members.die("m1")
        begin_s = trio.current_time()
        await world.empty()
        assert world.members.seen == [("m1", "x", 1), ("m2", "x", 2)]
        assert world.members.times_s[1] - begin_s < 0.5  # at once: the message is not to blame


async def test_a_message_that_kills_every_receiver_dies_at_last(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=3) as world:

        async def poisoned(_message: Forward) -> PlatformError:
            return PlatformError("unknown-outcome")

        world.members.add("m1", poisoned)
        world.members.add("m2", poisoned)
        world.put("poison", "next")
        world.members.add("m3", poisoned)
        await trio.sleep(2.9)
        for name in ("m1", "m2", "m3"):
            world.members.behaviours[name] = obedient
        await trio.sleep(100)
        assert [letter.id for letter in world.box.dead.values()] == ["poison"]
        assert world.members.done == ["next"]


async def test_a_slow_member_costs_an_attempt_and_the_message_goes_elsewhere(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", timeout_s=2.0) as world:

        async def sleepy(_message: Forward) -> bytes:
            await trio.sleep(5)
            return OK

        world.members.add("slow", sleepy)
        world.put("x")
        await trio.sleep(0.5)
        world.members.add("fast")
        await world.empty()
        assert world.members.seen == [("slow", "x", 1), ("fast", "x", 2)]


async def test_failures_back_off_and_end_as_a_dead_letter(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=4, backoff_s=1.0) as world:
        failed = PlatformError("failed", "no idea")
        world.members.add("m", answers(failed, failed, failed, failed))
        world.put("x", "y")
        await world.empty()
        times = world.members.times_s[:4]
        gaps = [round(b - a) for a, b in pairwise(times)]
        assert gaps == [1, 2, 4]
        (letter,) = world.box.dead.values()
        assert (letter.id, letter.attempts, letter.reason) == ("x", 4, "failed: no idea")
        assert world.members.seen[4:] == [("m", "y", 1)]


async def test_a_rejected_message_is_dead_at_once_and_the_next_one_comes(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m", answers(PlatformError("reject", "never")))
        world.put("x", "y")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert [letter.reason for letter in world.box.dead.values()] == ["reject: never"]


async def test_a_message_that_did_not_arrive_costs_no_attempt(autojump_clock: MockClock) -> None:
    async with world_of("n1", attempts=1) as world:
        away = PlatformError("not-available")
        world.members.add("m", answers(away, away, away))
        world.put("x")
        await world.empty()
        assert [attempt for _, _, attempt in world.members.seen] == [1, 1, 1, 1]
        assert world.box.dead == {}


async def test_a_message_that_may_not_be_given_dies_and_one_that_cannot_be_sent_waits(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", attempts=2) as world:
        world.members.refusals += [PlatformError("limit-exceeded"), PlatformError("denied", "no")]
        world.members.refusals += [PlatformError("not-available"), PlatformError("denied", "no")]
        world.members.add("m")
        world.put("x", "y")
        await world.empty()
        assert [(m.id, m.attempts, m.reason) for m in world.box.dead.values()] == [
            ("x", 2, "denied: no")
        ]
        assert world.members.done == ["y"]


async def test_acknowledgements_share_commands(autojump_clock: MockClock) -> None:
    async with world_of("n1", ordered=False, in_flight=100) as world:
        world.members.add("m")
        world.put(*(f"x{number}" for number in range(100)))
        await world.empty()
        assert len(world.members.seen) == 100
        assert world.log.count("AckMessages") < 10


async def test_a_log_without_leader_delays_acknowledgements_and_loses_none(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable"), PlatformError("unknown-outcome")]
        world.put("x", "y")
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "y", 1)]
        assert world.troubles == ["unavailable", "unknown-outcome"]


async def test_acknowledgements_that_cannot_be_committed_stop_delivery_at_a_bound(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", ordered=False, in_flight=256) as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable")] * 20
        for part in range(10):
            world.put(*(f"x{part}-{number}" for number in range(200)))
        await trio.sleep(20)
        bound = limits.DURABLE_ACKS_UNCOMMITTED_MAX + limits.DURABLE_IN_FLIGHT_MAX
        assert len(world.members.seen) <= bound
        await world.empty()
        assert len(world.members.seen) == 2_000


async def test_dead_letters_come_again_when_they_are_redelivered(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m", answers(PlatformError("reject")))
        world.put("x")
        await world.empty()
        world.log.apply(RedeliverMessages(group=GROUP, ids=None))
        await world.empty()
        assert world.members.seen == [("m", "x", 1), ("m", "x", 1)]
        assert world.members.done == ["x"]


async def test_more_in_flight_counts_at_once(autojump_clock: MockClock) -> None:
    async with world_of("n1", ordered=False, in_flight=1) as world:

        async def long(_message: Forward) -> bytes:
            await trio.sleep(10)
            return OK

        world.members.add("m", long)
        world.put("x", "y", "z")
        await trio.sleep(1)
        assert len(world.members.seen) == 1
        world.configure(ordered=False, in_flight=3)
        await trio.sleep(1)
        assert len(world.members.seen) == 3


# -- the hub dies, the primary changes ----


async def test_a_hub_that_dies_before_the_acknowledgement_is_committed_delivers_again(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("unavailable")]
        world.put("x", "y")
        await trio.sleep(0.2)
        assert world.members.done == ["x", "y"]
        assert world.box.counts.acknowledged == 0
        world.kill("n1")
        await world.start("n1")
        await world.empty()
        assert world.members.done == ["x", "y", "x", "y"]  # at least once, and in order again
