"""What the operators of the consensus simulation never do, since nobody would."""

from __future__ import annotations

import pytest

from paas.raft.settings import RaftSettings
from paas.sim.consensus.arena import Arena
from paas.sim.consensus.disks import DiskFaults
from paas.sim.consensus.members import Member
from paas.sim.consensus.operators import Operators

ELECTED_S = 5.0


def cluster(seed: int, names: str) -> tuple[Arena, Operators]:
    """Voters with a leader, and their operators."""
    arena = Arena(seed)
    arena.links.delay_s = lambda source, target: 0.001
    settings = RaftSettings()
    for name in names:
        arena.add(name, rate=1.0, settings=settings, voters=tuple(names))
    for member in list(arena.members.values()):
        arena.boot(member)
    arena.run_until(ELECTED_S)
    return arena, Operators(arena, DiskFaults(arena))


def leader(arena: Arena) -> Member:
    found = arena.leader()
    assert found is not None
    return found


@pytest.mark.parametrize(("names", "demoted"), [("abc", 0), ("abcde", 2)])
@pytest.mark.parametrize("seed", range(6))
def test_no_voter_goes_that_a_majority_needs_beside_a_lost_disk(
    seed: int, names: str, demoted: int
) -> None:
    arena, operators = cluster(seed, names)
    classes = operators.classes()
    assert classes["disk-replaced"]()  # that one stays away
    done = 0
    for _ in range(20):
        done += classes["demote-voter"]()
        arena.run_until(arena.now_s + 0.25)
    assert done == demoted
    first = leader(arena)
    arena.kill(first, power=True)
    assert arena.boot(first)
    arena.run_until(arena.now_s + ELECTED_S)
    assert leader(arena).replica.own_term_committed


def test_without_a_lost_disk_two_voters_may_be_left() -> None:
    arena, operators = cluster(1, "abc")
    assert operators.classes()["demote-voter"]()
    arena.run_until(arena.now_s + ELECTED_S)
    now = leader(arena).replica.configuration
    assert (len(now.voters), now.committed) == (2, True)
    assert not operators.classes()["demote-voter"]()
