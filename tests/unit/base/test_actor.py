"""The actor: order, bounds, the outcome of every ask, crashes, deadlines."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.actor import Actor, Full
from paas.base.errors import LocalError, PlatformError


async def echo(message: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return message


class Gate:
    """A handler that waits until it is let go; remembers what it saw."""

    def __init__(self) -> None:
        self.open = trio.Event()
        self.seen: list[Any] = []

    async def handle(self, message: Any) -> Any:
        self.seen.append(message)
        await self.open.wait()
        return message


async def test_messages_are_handled_one_after_the_other_in_their_order() -> None:
    seen: list[int] = []
    inside = 0

    async def handle(message: int) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        assert actor.busy()
        await trio.testing.wait_all_tasks_blocked()
        seen.append(message)
        inside -= 1

    actor = Actor("a", handle)
    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        for number in range(5):
            await actor.tell(number)
            assert actor.busy()
        actor.close()
    assert not actor.busy()
    assert seen == [0, 1, 2, 3, 4]


async def test_an_ask_gets_the_handlers_answer(nursery: trio.Nursery) -> None:
    actor = Actor("a", echo)
    await nursery.start(actor.run)
    assert await actor.ask("hello") == "hello"
    assert actor.statistics().handled == 1


async def test_a_catalogue_error_is_the_answer_and_the_actor_goes_on(
    nursery: trio.Nursery,
) -> None:
    async def handle(message: str) -> str:
        if message == "bad":
            raise PlatformError("invalid", "bad message")
        return message

    actor = Actor("a", handle)
    await nursery.start(actor.run)
    with pytest.raises(PlatformError, match="bad message") as caught:
        await actor.ask("bad")
    assert caught.value.code == "invalid"
    assert await actor.ask("good") == "good"


async def test_an_unheard_catalogue_error_goes_to_on_unheard(nursery: trio.Nursery) -> None:
    unheard: list[tuple[str, str]] = []

    async def handle(message: str) -> None:
        raise PlatformError("refused")

    actor = Actor(
        "a", handle, on_unheard=lambda message, error: unheard.append((message, error.code))
    )
    await nursery.start(actor.run)
    await actor.tell("x")
    await trio.testing.wait_all_tasks_blocked()
    assert unheard == [("x", "refused")]
    assert actor.statistics().running


async def test_an_unheard_catalogue_error_without_listener_is_a_crash() -> None:
    async def handle(message: str) -> None:
        raise PlatformError("refused")

    actor = Actor("a", handle)
    with pytest.RaisesGroup(PlatformError):
        async with trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            await actor.tell("x")
    assert actor.statistics().crashes == 1


async def test_a_crash_ends_the_run_and_every_ask_has_an_outcome() -> None:
    outcomes: dict[str, str] = {}
    gate = trio.Event()

    async def handle(message: str) -> None:
        await gate.wait()
        raise ValueError("handler")

    actor = Actor("a", handle, mailbox_max=1)

    async def ask(message: str) -> None:
        try:
            await actor.ask(message)
        except PlatformError as error:
            outcomes[message] = error.code

    async def run_and_crash(*, task_status: Any) -> None:
        with pytest.raises(ValueError, match="handler"):
            await actor.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_and_crash)
        for message in ("in hand", "queued", "blocked"):
            nursery.start_soon(ask, message)
            await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert not actor.busy()
    assert outcomes == {
        "in hand": "unknown-outcome",
        "queued": "not-available",
        "blocked": "not-available",
    }


async def test_an_actor_that_does_not_run_is_not_available(nursery: trio.Nursery) -> None:
    actor = Actor("a", echo)
    with pytest.raises(PlatformError, match="not running"):
        await actor.tell("x")
    await nursery.start(actor.run)
    actor.close()
    with pytest.raises(PlatformError, match="not running"):
        await actor.ask("x")


async def test_close_handles_what_waits_and_then_ends() -> None:
    gate = Gate()
    actor = Actor("a", gate.handle)
    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        for number in range(3):
            await actor.tell(number)
        actor.close()
        gate.open.set()
    assert gate.seen == [0, 1, 2]
    assert not actor.statistics().running


async def test_block_makes_senders_wait_in_their_order(nursery: trio.Nursery) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle, mailbox_max=1)
    await nursery.start(actor.run)
    for number in range(5):
        nursery.start_soon(actor.tell, number)
        await trio.testing.wait_all_tasks_blocked()
    assert actor.statistics().waiting == 4
    gate.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert gate.seen == [0, 1, 2, 3, 4]


async def test_refuse_answers_limit_exceeded_and_counts(nursery: trio.Nursery) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle, mailbox_max=1, when_full=Full.REFUSE)
    await nursery.start(actor.run)
    await actor.tell("in hand")
    await trio.testing.wait_all_tasks_blocked()
    await actor.tell("queued")
    with pytest.raises(PlatformError) as caught:
        await actor.ask("too much")
    assert caught.value.code == "limit-exceeded"
    assert actor.statistics().refused == 1
    gate.open.set()


async def test_tell_nowait_of_a_blocking_mailbox_refuses_when_full(
    nursery: trio.Nursery,
) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle, mailbox_max=1)
    await nursery.start(actor.run)
    actor.tell_nowait("in hand")
    await trio.testing.wait_all_tasks_blocked()
    actor.tell_nowait("queued")
    with pytest.raises(PlatformError, match="wait for a already"):
        actor.tell_nowait("too much")
    gate.open.set()


async def test_drop_oldest_makes_room_counts_and_tells_who_asked(
    nursery: trio.Nursery,
) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle, mailbox_max=2, when_full=Full.DROP_OLDEST)
    await nursery.start(actor.run)
    await actor.tell("in hand")
    await trio.testing.wait_all_tasks_blocked()
    codes: list[str] = []

    async def ask() -> None:
        with pytest.raises(PlatformError) as caught:
            await actor.ask("oldest")
        codes.append(caught.value.code)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    await actor.tell("second")
    await actor.tell("third")
    await trio.testing.wait_all_tasks_blocked()
    gate.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert codes == ["limit-exceeded"]
    assert gate.seen == ["in hand", "second", "third"]
    assert actor.statistics().dropped == 1


async def test_an_expired_ask_is_dropped_unread(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[str] = []

    async def handle(message: str) -> str:
        seen.append(message)
        await trio.sleep(10)
        return message

    actor = Actor("a", handle)
    await nursery.start(actor.run)
    await actor.tell("slow")
    with pytest.raises(PlatformError) as caught:
        await actor.ask("late", timeout_s=5)
    assert caught.value.code == "timeout"
    assert await actor.ask("next") == "next"
    assert seen == ["slow", "next"]
    assert actor.statistics().expired == 1


async def test_an_ask_whose_sender_was_cancelled_is_dropped_unread(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle)
    await nursery.start(actor.run)
    await actor.tell("in hand")
    with trio.move_on_after(1):
        await actor.ask("given up")
    gate.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert gate.seen == ["in hand"]


async def test_the_deadline_covers_the_wait_for_room(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    gate = Gate()
    actor = Actor("a", gate.handle, mailbox_max=1)
    await nursery.start(actor.run)
    await actor.tell("in hand")
    await trio.testing.wait_all_tasks_blocked()
    await actor.tell("queued")
    with pytest.raises(PlatformError) as caught:
        await actor.ask("no room", timeout_s=3)
    assert caught.value.code == "timeout"
    assert actor.statistics().waiting == 1
    gate.open.set()


async def test_the_handler_sees_how_long_its_sender_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handle(message: str) -> float:
        await trio.sleep(1)
        return actor.remaining_s()

    actor: Actor[str] = Actor("a", handle)
    await nursery.start(actor.run)
    assert await actor.ask("x", timeout_s=4) == pytest.approx(3)
    assert actor.remaining_s() == math.inf


async def test_asking_oneself_is_an_error_and_not_a_deadlock(nursery: trio.Nursery) -> None:
    async def handle(message: int) -> None:
        with pytest.raises(LocalError, match="asks itself"):
            await actor.ask(message)

    actor: Actor[int] = Actor("a", handle)
    await nursery.start(actor.run)
    await actor.ask(1)


async def test_tasks_of_the_actors_nursery_end_with_it(nursery: trio.Nursery) -> None:
    ended = trio.Event()

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def handle(message: str) -> None:
        actor.nursery.start_soon(task)

    actor: Actor[str] = Actor("a", handle)
    await nursery.start(actor.run)
    await actor.ask("start")
    actor.close()
    await ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(LocalError, match="not running"):
        _ = actor.nursery


async def test_a_crash_of_a_task_is_a_crash_of_the_actor() -> None:
    async def task() -> None:
        raise KeyError("task")

    async def handle(message: str) -> None:
        actor.nursery.start_soon(task)

    actor: Actor[str] = Actor("a", handle)
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            await actor.tell("start")


async def test_every_run_begins_afresh_under_the_same_address() -> None:
    begun = 0

    async def begin() -> None:
        nonlocal begun
        begun += 1

    async def handle(message: str) -> int:
        if message == "crash":
            raise RuntimeError("crash")
        return begun

    actor = Actor("a", handle, begin=begin)
    for life in (1, 2):

        async def run_once(*, task_status: Any) -> None:
            with pytest.raises(RuntimeError, match="crash"):
                await actor.run(task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(run_once)
            assert await actor.ask("which life") == life
            await actor.tell("crash")
    assert actor.statistics().crashes == 2


async def test_an_actor_runs_once_at_a_time(nursery: trio.Nursery) -> None:
    actor = Actor("a", echo)
    await nursery.start(actor.run)
    with pytest.raises(LocalError, match="runs already"):
        await actor.run()


async def test_a_mailbox_holds_at_least_one_message() -> None:
    with pytest.raises(LocalError, match="at least one"):
        Actor("a", echo, mailbox_max=0)


async def test_cancelling_is_not_a_crash() -> None:
    actor = Actor("a", echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        nursery.cancel_scope.cancel()
    assert actor.statistics().crashes == 0
