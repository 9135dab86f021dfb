"""What goes wrong: classes of faults, drawn in swarm style, each undone in its time.

Every seed switches a part of the classes off (Groce and others, "Swarm testing", 2012): a run in
which everything happens all the time hides what needs a quiet spell.  The rest strike at random
times.  A class counts as fired when it had something to strike at; one that never fired in a whole
run of seeds fails that run (runner.py), since a test that did not test must not look green.

This file holds the faults of network, time and processes; those of disks are in disks.py, changes
of membership in operators.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paas.sim.consensus.arena import Arena
from paas.sim.consensus.disks import DiskFaults
from paas.sim.consensus.links import Pair
from paas.sim.consensus.members import Member
from paas.sim.consensus.operators import Operators

ENABLED_CHANCE = 0.6

DELAY_CLASSES = ("delay-uniform", "delay-heavy-tail", "delay-asymmetric")
"""The shape of delay is drawn once for a seed."""


class Faults:
    """The storm of one seed."""

    def __init__(self, arena: Arena, *, end_s: float) -> None:
        self._arena = arena
        self._end_s = end_s
        self._undo: dict[int, Callable[[], None]] = {}
        self._undone = 0
        self.disks = DiskFaults(arena)
        self.operators = Operators(arena, self.disks)
        chance = arena.random
        self._every_s = chance.choice((0.7, 1.5, 3.0))
        classes = {**self._classes(), **self.disks.classes(), **self.operators.classes()}
        self._on = {n: c for n, c in classes.items() if chance.random() < ENABLED_CHANCE}
        self._restart_s = chance.choice((0.5, 2.0, 6.0))
        arena.on_death = self._died

    def _classes(self) -> dict[str, Callable[[], bool]]:
        return {
            "partition-halves": self._halves,
            "partition-ring": self._ring,
            "partition-bridge": self._bridge,
            "partition-leader": self._leader_alone,
            "one-way-cut": self._one_way,
            "single-link": self._single_link,
            "flapping-link": self._flapping,
            "reset": self._reset,
            "slow-reader": self._slow_reader,
            "pause": self._pause,
            "clock-set": self._clock_set,
            "crash-one": self._crash_one,
            "crash-leader": self._crash_leader,
            "crash-all": self._crash_all,
            "crash-while-sending": self._crash_while_sending,
            "compaction": self._compaction,
        }

    @staticmethod
    def names() -> list[str]:
        """Every class there is, for the report."""
        arena = Arena(0)
        faults = Faults(arena, end_s=0.0)
        drawn = {**faults._classes(), **faults.disks.classes(), **faults.operators.classes()}
        return sorted({*drawn, *DELAY_CLASSES, "clock-rate", "old-connection", "crash-in-recovery"})

    # -- the course of the storm -------------------------------------------------------------------

    def begin(self) -> None:
        self._draw_delay()
        arena = self._arena
        if arena.random.random() < 0.5:
            arena.links.late_chance = 0.5
        arena.links.drop_when_full = arena.random.random() < 0.5
        self.operators.begin()
        self._next()

    def _next(self) -> None:
        chance = self._arena.random
        self._arena.after(chance.expovariate(1 / self._every_s), self._strike)

    def _strike(self) -> None:
        arena = self._arena
        if arena.now_s >= self._end_s:
            return
        if self._on:
            name = arena.random.choice(list(self._on))
            if self._on[name]():
                arena.count(name)
                arena.record(f"fault {name}")
        self._next()

    def end(self) -> None:
        """Everybody is well again, as far as that can be."""
        arena = self._arena
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()
        arena.links.late_chance = 0.0
        arena.links.delay_s = lambda source, target: 0.0002 + arena.random.random() * 0.002
        self.disks.end()
        self.operators.end()
        for member in arena.members.values():
            member.slow_s = 0.0
            member.disk_s = 0.0
            member.send_budget = None
            member.paused_s = 0.0
            if member.alive and member.busy_disk:
                arena.disk_done(member, member.syncs)
            elif member.alive:
                arena.wake(member, 0.001)
            else:
                self._start(member)

    def _lasting(self, undo: Callable[[], None], mean_s: float) -> None:
        """Undo it after a while, at the latest at the end of the storm."""
        arena = self._arena
        self._undone += 1
        number = self._undone
        self._undo[number] = undo

        def over() -> None:
            if self._undo.pop(number, None) is not None:
                undo()

        arena.after(0.05 + arena.random.expovariate(1 / mean_s), over)

    def _died(self, member: Member) -> None:
        arena = self._arena
        delay_s = 0.02 + arena.random.expovariate(1 / self._restart_s)
        arena.after(delay_s, lambda: self._start(member))

    def _start(self, member: Member) -> None:
        arena = self._arena
        if member.alive or member.gone:
            return
        if arena.now_s < self._end_s and arena.random.random() < 0.1:
            arena.count("crash-in-recovery")
            self.disks.arm(member, arena.random.randrange(4))
        if arena.boot(member):
            member.disk_s = self.disks.draw_sync_s() if arena.now_s < self._end_s else 0.0

    # -- network -----------------------------------------------------------------------------------

    def _draw_delay(self) -> None:
        arena, chance = self._arena, self._arena.random
        mean_s = chance.choice((0.0005, 0.005, 0.03, 0.1))
        kind = chance.choice(DELAY_CLASSES)
        arena.count(kind)
        factors: dict[Pair, float] = {}

        def uniform(source: str, target: str) -> float:
            return mean_s * chance.random() * 2

        def heavy(source: str, target: str) -> float:
            factor = 1.0 if chance.random() < 0.97 else chance.expovariate(1 / 15)
            return min(3.0, mean_s * chance.random() * 2 * factor)

        def asymmetric(source: str, target: str) -> float:
            factor = factors.get((source, target))
            if factor is None:
                factor = factors[(source, target)] = chance.choice((0.1, 1.0, 5.0))
            return mean_s * factor * (0.5 + chance.random())

        shapes = dict(zip(DELAY_CLASSES, (uniform, heavy, asymmetric), strict=True))
        arena.links.delay_s = shapes[kind]

    def _names(self) -> list[str]:
        return sorted(self._arena.members)

    def _cut(self, directions: Iterable[Pair], mean_s: float = 4.0) -> bool:
        held = list(directions)
        if held:
            silent = self._arena.random.random() < 0.5
            self._lasting(self._arena.links.block(held, silent=silent), mean_s)
        return bool(held)

    def _halves(self) -> bool:
        names = self._names()
        if len(names) < 2:
            return False
        side = self._arena.random.sample(names, self._arena.random.randrange(1, len(names)))
        return self._cut(_both(side, [n for n in names if n not in side]))

    def _ring(self) -> bool:
        """Everybody reaches two neighbours only."""
        names = self._names()
        if len(names) < 4:
            return False
        self._arena.random.shuffle(names)
        far = [
            (a, b)
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if (i - j) % len(names) not in (0, 1, len(names) - 1)
        ]
        return self._cut(far)

    def _bridge(self) -> bool:
        """Two sides that only one node reaches both of."""
        names = self._names()
        if len(names) < 3:
            return False
        self._arena.random.shuffle(names)
        _, *rest = names
        half = max(1, len(rest) // 2)
        return self._cut(_both(rest[:half], rest[half:]))

    def _leader_alone(self) -> bool:
        leader = self._arena.leader()
        if leader is None:
            return False
        return self._cut(_both([leader.name], [n for n in self._names() if n != leader.name]))

    def _one_way(self) -> bool:
        names = self._names()
        source = self._arena.random.choice(names)
        others = [n for n in names if n != source]
        targets = self._arena.random.sample(others, self._arena.random.randint(1, len(others)))
        pairs = [(source, n) for n in targets]
        return self._cut(pairs if self._arena.random.random() < 0.5 else [(b, a) for a, b in pairs])

    def _single_link(self) -> bool:
        a, b = self._arena.random.sample(self._names(), 2)
        return self._cut([(a, b), (b, a)], 6.0)

    def _flapping(self) -> bool:
        """On and off every 200 ms for some seconds."""
        arena = self._arena
        a, b = arena.random.sample(self._names(), 2)
        for turn in range(arena.random.randrange(5, 20)):
            arena.after(turn * 0.4, lambda: self._blink(a, b))
        return True

    def _blink(self, a: str, b: str) -> None:
        if self._arena.now_s < self._end_s:
            undo = self._arena.links.block([(a, b), (b, a)], silent=False)
            self._arena.after(0.2, undo)

    def _reset(self) -> bool:
        names = self._names()
        if self._arena.random.random() < 0.3:
            results = [self._arena.links.reset(a, b) for a in names for b in names if a < b]
            return any(results)
        return self._arena.links.reset(*self._arena.random.sample(names, 2))

    def _slow_reader(self) -> bool:
        member = self._living()
        if member is None:
            return False
        member.slow_s = self._arena.random.choice((0.1, 0.5, 2.0))

        def faster() -> None:
            member.slow_s = 0.0

        self._lasting(faster, 5.0)
        return True

    # -- time and processes ------------------------------------------------------------------------

    def _living(self) -> Member | None:
        living = self._arena.living()
        return self._arena.random.choice(living) if living else None

    def _pause(self) -> bool:
        """The process stops for 0.1 to 30 s: it neither ticks nor reads."""
        member = self._living()
        if member is None:
            return False
        arena = self._arena
        length_s = arena.random.choice((0.1, 0.5, 1.0, 2.0, 5.0, 30.0)) * (
            0.5 + arena.random.random() / 2
        )
        member.paused_s = max(member.paused_s, arena.now_s + length_s)
        return True

    def _clock_set(self) -> bool:
        """Somebody sets the wall clock of a node."""
        member = self._living()
        if member is None:
            return False
        member.clock.wall_offset_ms = self._arena.random.randint(-3_600_000, 3_600_000)
        return True

    def _crash(self, member: Member | None) -> bool:
        if member is None:
            return False
        self._arena.kill(member, power=self._arena.random.random() < 0.6)
        return True

    def _crash_one(self) -> bool:
        return self._crash(self._living())

    def _crash_leader(self) -> bool:
        return self._crash(self._arena.leader())

    def _crash_all(self) -> bool:
        living = self._arena.living()
        for member in living:
            self._crash(member)
        return bool(living)

    def _crash_while_sending(self) -> bool:
        member = self._arena.leader() if self._arena.random.random() < 0.7 else self._living()
        if member is None:
            return False
        member.send_budget = self._arena.random.randrange(6)
        return True

    def _compaction(self) -> bool:
        chosen = [m for m in self._arena.living() if self._arena.random.random() < 0.5]
        for member in chosen:
            member.replica.request_snapshot()
        return bool(chosen)


def _both(side: list[str], others: list[str]) -> list[Pair]:
    return [(a, b) for a in side for b in others] + [(b, a) for a in side for b in others]
