"""Random faults against the replicated log, from seeds: partitions, delay, resets, pauses, crashes,
power cuts in the middle of a write, compaction at any moment; then everything heals.

The invariants are those of paas.sim.replicas; at the end all replicas must agree and have
everything that was ever acknowledged.  A seed that fails is reproduced by running it alone:

    python -m pytest tests/simulation/test_raft_random.py -k "seed7-"
"""

from __future__ import annotations

import random

import pytest

from paas.raft.settings import RaftSettings
from paas.sim.replicas import Broken, Cluster, PowerCut

FAULTS_S = 40.0
HEALED_S = 30.0
PERIOD_S = 0.05


class World:
    """A cluster and the misfortunes that one seed has in store for it."""

    def __init__(self, seed: int, *, crashes: bool, bare: bool = False) -> None:
        self.random = random.Random(seed)
        self.crashes = crashes
        self.cluster = Cluster(
            "ABCDE"[: self.random.choice([3, 3, 5])], seed=seed, settings=self._settings, bare=bare
        )
        mean_s = self.random.choice([0.005, 0.03, 0.2])
        self.cluster.latency_s = lambda: mean_s * self.random.random() * 2
        self.paused: dict[str, float] = {}
        self.down: dict[str, float] = {}
        self.next_s = self.now_s + 1
        self.words = 0

    def _settings(self, name: str) -> RaftSettings:
        return RaftSettings(
            append_bytes=self.random.choice([200, 2_000, 65_536]),
            snapshot_chunk_bytes=self.random.choice([50, 500, 65_536]),
            leader_fallback_s=self.random.choice([1.0, 1.5, 5.0]),
        )

    @property
    def now_s(self) -> float:
        return self.cluster.clock.monotonic_s()

    def fault(self) -> None:
        cluster, names = self.cluster, self.cluster.names
        self.next_s = self.now_s + self.random.expovariate(0.5)
        kind = self.random.random()
        if kind < 0.25:
            cluster.heal()
            side = self.random.sample(names, self.random.randrange(1, len(names)))
            cluster.cut(side, [name for name in names if name not in side])
        elif kind < 0.35:
            cluster.cut(*([name] for name in self.random.sample(names, 2)))
        elif kind < 0.55:
            cluster.heal()
        elif kind < 0.65:
            self.paused[self.random.choice(names)] = self.now_s + self.random.expovariate(0.7)
        elif kind < 0.75:
            for name in sorted(cluster.replicas):
                if self.random.random() < 0.5:
                    cluster.compact(name)
        elif self.crashes and cluster.replicas:
            everybody = sorted(cluster.replicas)
            for name in everybody if kind > 0.95 else [self.random.choice(everybody)]:
                self.crash(name)

    def crash(self, name: str) -> None:
        self.cluster.kill(name, power=self.random.random() < 0.6)
        self.down[name] = self.now_s + self.random.expovariate(0.5)

    def arm(self, name: str) -> None:
        """Now and then the power fails in the middle of what the disk is doing."""
        countdown = self.random.randrange(8)

        def operation(_kind: str) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise PowerCut

        self.cluster.disks[name].on_operation = operation

    def turn(self, *, faults: bool) -> None:
        cluster = self.cluster
        cluster.clock.advance(PERIOD_S)
        for name, until_s in sorted(self.down.items()):
            if until_s < self.now_s or not faults:
                del self.down[name]
                cluster.boot(name)
        if faults and self.now_s > self.next_s:
            self.fault()
        cluster.connect()
        for name in sorted(cluster.replicas):
            if faults and self.paused.get(name, 0) > self.now_s:
                continue
            if faults and self.crashes and self.random.random() < 0.004:
                self.arm(name)
            try:
                cluster.turn(name)
            except PowerCut:
                self.crash(name)
        if faults and cluster.replicas and self.random.random() < 0.6:
            self.words += 1
            cluster.propose(self.random.choice(sorted(cluster.replicas)), f"w{self.words}")

    def run(self) -> None:
        for _ in range(int(FAULTS_S / PERIOD_S)):
            self.turn(faults=True)
        for disk in self.cluster.disks.values():
            disk.on_operation = None
        self.cluster.heal()
        self.cluster.latency_s = lambda: 0.0
        for _ in range(int(HEALED_S / PERIOD_S)):
            self.turn(faults=False)


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(1, 6), ids=lambda seed: f"seed{seed}-")
def test_nothing_acknowledged_is_lost_under_partitions_and_delay(seed: int) -> None:
    world = World(seed, crashes=False)
    world.run()
    assert world.cluster.converged()
    assert world.cluster.acknowledged


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(101, 109), ids=lambda seed: f"seed{seed}-")
def test_nothing_acknowledged_is_lost_when_power_fails_at_any_moment(seed: int) -> None:
    world = World(seed, crashes=True)
    world.run()
    assert world.cluster.converged()
    assert world.cluster.crashes > 0


def harmed(seed: int) -> bool:
    world = World(seed, crashes=False, bare=True)
    try:
        world.run()
    except Broken:
        return True
    return not world.cluster.converged()


@pytest.mark.simulation
def test_the_simulation_would_notice_if_the_rules_were_missing() -> None:
    assert any(harmed(seed) for seed in range(1, 13))
