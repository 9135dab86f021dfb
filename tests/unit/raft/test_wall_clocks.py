"""What a wall clock shows is written into commands, and decides nothing in the log."""

from __future__ import annotations

from typing import Any

import pytest

from paas.real.clock import SystemClock
from paas.sim.replicas import Note

TEN_MINUTES_MS = 600_000


class OddClock(SystemClock):
    """Minutes off, and set again all the time."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms
        self.asked = 0

    def now_ms(self) -> int:
        self.asked += 1
        self.ahead_ms = -self.ahead_ms
        return super().now_ms() + self.ahead_ms


@pytest.mark.parametrize("odd", ["leader", "follower"])
async def test_a_replica_whose_wall_clock_jumps_by_minutes_leads_votes_and_reads(
    logs: Any, odd: str
) -> None:
    clocks = {name: OddClock(TEN_MINUTES_MS) for name in "abc"}
    for name in "abc":
        await logs.boot(name, voters=["a", "b", "c"], clock=clocks[name])
    leader = await logs.leader()
    term = logs[leader].status()["term"]
    follower = next(name for name in "abc" if name != leader)
    chosen = leader if odd == "leader" else follower
    for name, clock in clocks.items():
        clock.ahead_ms = TEN_MINUTES_MS if name == chosen else 0
    words = []
    for number in range(20):
        words.append(f"w{number}")
        await logs[chosen].propose(Note(word=words[-1]))
        await logs[follower].read_index()
        assert logs.words[follower].words == words
    await logs.equal(words)
    assert clocks[chosen].asked >= 20  # it was looked at
    assert logs[leader].status()["term"] == term  # and nobody was deposed for it
    await logs.kill(leader)
    clocks.pop(leader)
    await logs.leader()
    await logs[follower].propose(Note(word="after"))
    await logs.equal([*words, "after"])
