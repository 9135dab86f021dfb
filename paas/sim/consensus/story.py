"""One seed from beginning to end: draw the world, let it storm, heal it, judge it."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from paas.raft.settings import RaftSettings
from paas.sim.consensus import limits
from paas.sim.consensus.arena import Arena
from paas.sim.consensus.clients import MODELS, Client, Prober
from paas.sim.consensus.faults import Faults
from paas.sim.history import History
from paas.sim.replicas import Broken


@dataclass(slots=True)
class Outcome:
    """What became of a seed.  `broken` is empty when everything held."""

    seed: int
    trace: str = ""
    broken: str = ""
    fired: Counter[str] = field(default_factory=Counter)
    evaluated: dict[str, int] = field(default_factory=dict)
    simulated_s: float = 0.0


class Story:
    """See the module's text."""

    def __init__(self, seed: int) -> None:
        arena = self.arena = Arena(seed)
        chance = arena.random
        self.history = History()
        names = tuple("abcde"[: chance.choice((3, 3, 5))])
        arena.fixed_tick = chance.random() < 0.1
        drift = chance.choice((0.0, 0.0, 0.02, 0.2))
        if drift:
            arena.count("clock-rate")
        heartbeat_s = chance.choice((0.1, 0.2, 0.2, 0.2))
        for name in names:
            rate = 1 + drift * (chance.random() * 2 - 1)
            settings = self._settings(heartbeat_s)
            arena.add(name, rate=rate, settings=settings, voters=names)
        self.faults = Faults(arena, end_s=limits.FAULTS_S)
        for member in list(arena.members.values()):
            arena.boot(member)
            member.disk_s = self.faults.disks.draw_sync_s()
        think_s = chance.choice((0.4, 0.8, 1.5))
        self.clients = [
            Client(arena, f"c{number}-", self.history, think_s)
            for number in range(chance.choice((3, 4, 5)))
        ]
        Prober(arena)

    def _settings(self, heartbeat_s: float) -> RaftSettings:
        chance = self.arena.random
        return RaftSettings(
            heartbeat_s=heartbeat_s,
            election_min_s=4 * heartbeat_s,
            election_max_s=4 * heartbeat_s + 1.0,
            append_bytes=chance.choice((700, 3_000, 65_536)),
            snapshot_chunk_bytes=chance.choice((300, 3_000, 65_536)),
            leader_fallback_s=chance.choice((1.0, 1.5, 5.0)),
            compaction_entries=chance.choice((40, 200, 20_000)),
        )

    def run(self) -> None:
        """Raises Broken."""
        arena, faults = self.arena, self.faults
        faults.begin()
        arena.run_until(limits.FAULTS_S)
        arena.record("the storm is over")
        faults.end()
        arena.run_until(limits.FAULTS_S + limits.LEADER_WITHIN_S)
        leader = arena.leader()
        arena.invariants.require("converged", leader is not None, "no leader 5 s after the storm")
        arena.run_until(limits.FAULTS_S + limits.DRAIN_S)
        for client in self.clients:
            client.stopped = True
        self._disturb()
        arena.run_until(limits.FAULTS_S + limits.HEALED_S)
        self._judge()

    def _disturb(self) -> None:
        """A follower of a healthy cluster is deaf for a while; the leader must not notice."""
        arena = self.arena
        arena.run_until(arena.now_s + 2.0)
        leader = arena.leader()
        if leader is None:
            return
        names = leader.replica.configuration.members
        if len(leader.replica.voters) < 3:  # the others would be no majority without a voter
            names = leader.replica.configuration.observers
        others = [name for name in names if name != leader.name]
        if not others:
            return
        term, deaf = leader.replica.term, arena.random.choice(others)
        towards = [(name, deaf) for name in sorted(arena.members) if name != deaf]
        undo = arena.links.block(towards, silent=True)
        arena.run_until(arena.now_s + limits.DEAF_S)
        undo()
        arena.run_until(arena.now_s + 3.0)
        now = arena.leader()
        kept = now is leader and leader.replica.term == term
        text = f"{leader.name} led term {term}, now {now and (now.name, now.replica.term)}"
        arena.invariants.require("leader-kept", kept, text)

    def _judge(self) -> None:
        arena, invariants = self.arena, self.arena.invariants
        living = [m for m in arena.members.values() if not m.gone]
        alive = [m.name for m in living if m.alive]
        invariants.require("converged", len(alive) == len(living), f"only {alive} live")
        content = self.faults.operators.content
        invariants.require("converged", content, "a change of members is still under way")
        leaders = [m.name for m in living if m.replica.is_leader]
        invariants.require("converged", len(leaders) == 1, f"leaders {leaders}")
        states = {m.replica.machine.snapshot_bytes() for m in living}
        places = {m.name: m.replica.applied_index for m in living}
        invariants.require("converged", len(states) == 1, f"states differ, applied {places}")
        for member in living:
            for client in self.clients:
                missing = [i for i in client.acknowledged if i not in member.objects.applied]
                text = f"{member.name} has not {missing}"
                invariants.require("acknowledged-kept", not missing, text)
        verdict = self.history.check(MODELS, budget_s=20.0)
        text = f"{verdict.answer} for {verdict.key}: {list(verdict.longest)}"
        invariants.require("linearizable", verdict.ok, text)


def run_seed(seed: int) -> Outcome:
    """Tell the story of a seed."""
    story = Story(seed)
    outcome = Outcome(seed)
    try:
        story.run()
    except Broken as broken:
        outcome.broken = str(broken)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error}"
        outcome.broken = f"error: {text}, {place.filename.split('/')[-1]} line {place.lineno}"
    outcome.trace = story.arena.trace()
    outcome.fired = story.arena.fired
    outcome.evaluated = story.arena.invariants.evaluated
    outcome.simulated_s = story.arena.now_s
    return outcome
