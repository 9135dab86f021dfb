"""What goes wrong: classes of faults, drawn in swarm style, each undone in its time.

Every seed switches a part of the classes off (Groce and others, "Swarm testing", 2012): a run in
which everything happens all the time hides what needs a quiet spell.  The rest strike at random
times.  A class counts as fired when it had something to strike at; one that never fired in a whole
run of seeds fails that run (runner.py).

This file holds network, time and processes; disks and operators' orders are in mischief.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import Machine
from paas.sim.platform.mischief import DiskFaults
from paas.sim.platform.network import Pair
from paas.sim.platform.world import World

ENABLED_CHANCE = 0.55

DRAWN = (
    *("delay-uniform", "delay-heavy-tail", "delay-asymmetric", "late-message", "clock-drift"),
    *("snapshots-often",),
)
"""Classes that are drawn once for a seed, or follow from others."""


class Faults:
    """The storm of one seed."""

    def __init__(self, cluster: Cluster, *, end_s: float) -> None:
        self._cluster = cluster
        self._world: World = cluster.world
        self._chance = cluster.world.random
        self._end_s = end_s
        self._undo: dict[int, Callable[[], None]] = {}
        self._number = 0
        self.disks = DiskFaults(cluster)
        self._every_s = self._chance.choice((1.5, 3.0, 6.0, 12.0))
        self._restart_s = self._chance.choice((0.3, 1.0, 8.0))
        self._classes = self.classes()
        self._on = [n for n in self._classes if self._chance.random() < ENABLED_CHANCE]

    def classes(self) -> dict[str, Callable[[], bool]]:
        """Name -> strike; false when there was nothing to strike at."""
        return {
            "partition-halves": self._halves,
            "partition-bridge": self._bridge,
            "partition-one": self._one_alone,
            "partition-leader": self._leader_alone,
            "one-way-cut": self._one_way,
            "single-link": self._single_link,
            "flapping-link": self._flapping,
            "reset": self._reset,
            "pause": self._pause,
            "pause-leader": self._pause_leader,
            "clock-set": self._clock_set,
            "power-cut": self._power_cut,
            "power-cut-all": self._power_cut_all,
            "hub-crash": self._hub_crash,
            "leader-crash": self._leader_crash,
            "containers-crash": self._containers_crash,
            "start-fault": self._start_fault,
            **self.disks.classes(),
        }

    @property
    def sets_clocks(self) -> bool:
        return "clock-set" in self._on

    # -- the course of the storm -----------------------------------------------------------------

    def begin(self) -> None:
        self._draw_delay()
        if self._chance.random() < 0.5:
            self._cluster.network.late_chance = 0.5
        for machine in self._cluster.machines.values():
            self.prepare(machine)
        self._next()

    def prepare(self, machine: Machine) -> None:
        """A machine that is new: so long its agents take to be started again."""
        machine.restart_s = lambda: 0.1 + self._chance.expovariate(1 / self._restart_s)
        if machine.clock.rate != 1.0:
            self._world.count("clock-drift")

    def _next(self) -> None:
        self._world.after(self._chance.expovariate(1 / self._every_s), self._strike)

    def _strike(self) -> None:
        if self._world.now_s >= self._end_s:
            return
        if self._on:
            name = self._chance.choice(self._on)
            if self._classes[name]():
                self._world.count(name)
                self._world.record(f"fault {name}")
        self._next()

    def end(self) -> None:
        """Everybody is well again."""
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()
        self._cluster.network.late_chance = 0.0
        self._cluster.network.delay_s = lambda source, target: 0.0003
        self.disks.end()
        for machine in self._cluster.machines.values():
            machine.hasten()

    def _lasting(self, undo: Callable[[], None], mean_s: float) -> None:
        """Undo it after a while, at the latest at the end of the storm."""
        self._number += 1
        number = self._number
        self._undo[number] = undo
        delay_s = 0.1 + self._chance.expovariate(1 / mean_s)
        self._world.after(delay_s, self._over, number)

    def _over(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    # -- network ---------------------------------------------------------------------------------

    def _draw_delay(self) -> None:
        chance = self._chance
        mean_s = chance.choice((0.0003, 0.0003, 0.002, 0.02))
        kind = chance.choice(DRAWN[:3])
        self._world.count(kind)
        factors: dict[Pair, float] = {}

        def uniform(source: str, target: str) -> float:
            return mean_s * chance.random() * 2

        def heavy(source: str, target: str) -> float:
            if chance.random() < 0.98:
                return mean_s
            return min(1.5, mean_s * chance.expovariate(1 / 20))

        def asymmetric(source: str, target: str) -> float:
            factor = factors.get((source, target))
            if factor is None:
                factor = factors[source, target] = chance.choice((0.1, 1.0, 5.0))
            return mean_s * factor

        shapes = dict(zip(DRAWN[:3], (uniform, heavy, asymmetric), strict=True))
        self._cluster.network.delay_s = shapes[kind]

    def _names(self) -> list[str]:
        return [m.name for m in self._cluster.machines.values() if m.belongs]

    def _cut(self, directions: Iterable[Pair], mean_s: float = 6.0) -> bool:
        pairs = list(directions)
        if pairs:
            self._lasting(self._cluster.network.cut(pairs), mean_s)
        return bool(pairs)

    def _halves(self) -> bool:
        names = self._names()
        if len(names) < 2:
            return False
        side = self._chance.sample(names, self._chance.randrange(1, len(names)))
        return self._cut(_both(side, [n for n in names if n not in side]), 10.0)

    def _bridge(self) -> bool:
        """Two sides that only one node reaches both of."""
        names = self._names()
        if len(names) < 3:
            return False
        self._chance.shuffle(names)
        _, *rest = names
        half = max(1, len(rest) // 2)
        return self._cut(_both(rest[:half], rest[half:]))

    def _alone(self, name: str) -> bool:
        return self._cut(_both([name], [n for n in self._names() if n != name]), 8.0)

    def _one_alone(self) -> bool:
        return self._alone(self._chance.choice(self._names()))

    def _leader_alone(self) -> bool:
        leader = self._cluster.leader()
        return leader is not None and self._alone(leader.name)

    def _one_way(self) -> bool:
        names = self._names()
        source = self._chance.choice(names)
        others = [n for n in names if n != source]
        if not others:
            return False
        targets = self._chance.sample(others, self._chance.randint(1, len(others)))
        pairs = [(source, n) for n in targets]
        return self._cut(pairs if self._chance.random() < 0.5 else [(b, a) for a, b in pairs])

    def _single_link(self) -> bool:
        names = self._names()
        if len(names) < 2:
            return False
        a, b = self._chance.sample(names, 2)
        return self._cut([(a, b), (b, a)], 10.0)

    def _flapping(self) -> bool:
        """On and off every 200 ms for some seconds."""
        names = self._names()
        if len(names) < 2:
            return False
        a, b = self._chance.sample(names, 2)
        for turn in range(self._chance.randrange(5, 20)):
            self._world.after(turn * 0.4, self._blink, a, b)
        return True

    def _blink(self, a: str, b: str) -> None:
        if self._world.now_s < self._end_s - 1.0:
            self._cluster.network.reset_pair(a, b)
            self._world.after(0.2, self._cluster.network.cut([(a, b), (b, a)]))

    def _reset(self) -> bool:
        names = self._names()
        if len(names) < 2:
            return False
        return self._cluster.network.reset_pair(*self._chance.sample(names, 2))

    # -- processes -------------------------------------------------------------------------------

    def _running(self) -> Machine | None:
        found = [m for m in self._cluster.machines.values() if m.kernel.powered]
        return self._chance.choice(found) if found else None

    def _pause(self) -> bool:
        machine = self._running()
        return machine is not None and self._hold(machine)

    def _pause_leader(self) -> bool:
        machine = self._cluster.leader()
        return machine is not None and self._hold(machine)

    def _hold(self, machine: Machine) -> bool:
        """Its agents, or one of them, do not run for 0.1 to 20 s."""
        processes = machine.processes()
        if len(processes) > 1 and self._chance.random() < 0.4:
            processes = [self._chance.choice(processes)]
        for process in processes:
            process.pause()

        def resume() -> None:
            for process in processes:
                process.resume()
            machine.resumed()

        if processes:
            length_s = self._chance.choice((0.1, 0.5, 2.0, 5.0, 20.0))
            self._lasting(resume, length_s * 0.6)
        return bool(processes)

    def _clock_set(self) -> bool:
        """Somebody sets the wall clock of a node."""
        machine = self._running()
        if machine is None:
            return False
        machine.clock.wall_offset_ms = self._chance.randint(-3_600_000, 3_600_000)
        return True

    def _power_cut(self) -> bool:
        machine = self._running()
        if machine is None:
            return False
        machine.power_off()
        self._lasting(machine.power_on, self._chance.choice((0.5, 4.0, 15.0)))
        return True

    def _power_cut_all(self) -> bool:
        """The whole site."""
        running = [m for m in self._cluster.machines.values() if m.kernel.powered]
        for machine in running:
            machine.power_off()
            self._lasting(machine.power_on, self._chance.choice((0.5, 4.0)))
        return bool(running)

    def _hub_crash(self) -> bool:
        machine = self._running()
        return machine is not None and machine.crash_hub()

    def _leader_crash(self) -> bool:
        machine = self._cluster.leader()
        return machine is not None and machine.crash_hub()

    def _containers_crash(self) -> bool:
        machine = self._running()
        return machine is not None and machine.crash_containers()

    def _start_fault(self) -> bool:
        """A container controller cannot start containers for a while."""
        machine = self._running()
        if machine is None or machine.containers is None:
            return False
        code = self._chance.choice(("storage-full", "limit-exceeded", "corrupt", "internal"))
        machine.start_fault = code

        def well() -> None:
            machine.start_fault = ""

        self._lasting(well, 4.0)
        return True


def _both(side: list[str], others: list[str]) -> list[Pair]:
    return [(a, b) for a in side for b in others] + [(b, a) for a in side for b in others]
