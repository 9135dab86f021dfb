"""The mailbox of the log store: kept when answered, in order, and bounded."""

from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.harness.messages import LogRecord, Records
from paas.logs.mailbox import LogMailbox


class Kept:
    """Stands for the log store's face: notes what it is given."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []

    def receive(self, component: str, batch: Records) -> None:
        if component == "bad":
            raise PlatformError("invalid", "no such component")
        self.batches.append((component, batch.records[0].sequence))


def batch(sequence: int) -> Records:
    record = LogRecord(sequence=sequence, time_ms=0, stream="stdout", level="info", message="m")
    return Records(records=[record])


async def test_a_batch_is_kept_when_its_delivery_returns() -> None:
    kept: Any = Kept()
    mailbox = LogMailbox(kept)
    async with trio.open_nursery() as nursery:
        await nursery.start(mailbox.actor.run)
        for number in range(50):
            await mailbox.deliver("a", batch(number))
            assert kept.batches[-1] == ("a", number)
        nursery.cancel_scope.cancel()


async def test_an_error_is_the_senders_and_the_actor_lives_on() -> None:
    kept: Any = Kept()
    mailbox = LogMailbox(kept)
    async with trio.open_nursery() as nursery:
        await nursery.start(mailbox.actor.run)
        with pytest.raises(PlatformError):
            await mailbox.deliver("bad", batch(1))
        await mailbox.deliver("a", batch(2))
        nursery.cancel_scope.cancel()
    assert kept.batches == [("a", 2)]


async def test_without_the_actor_nothing_is_accepted() -> None:
    kept: Any = Kept()
    with pytest.raises(PlatformError):
        await LogMailbox(kept).deliver("a", batch(1))
