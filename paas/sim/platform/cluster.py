"""A simulated cluster: machines on a network, what they run, and who watches them."""

from __future__ import annotations

import random
from typing import Any

import trio

from paas.assembly.hub_core import HEARTBEAT_S, States
from paas.raft.machine import Applied
from paas.raft.settings import RaftSettings
from paas.scheduler.limits import MEMORY_OVERCOMMIT
from paas.sim.entropy import SimEntropy
from paas.sim.platform.clocks import NodeClock
from paas.sim.platform.components import Behaviour, Component
from paas.sim.platform.invariants import Broken, Invariants
from paas.sim.platform.kernel import Container, Kernel, Program
from paas.sim.platform.limits import MEMORY_BYTES
from paas.sim.platform.machine import HubLife, Machine
from paas.sim.platform.network import Network
from paas.sim.platform.oracle import Oracle
from paas.sim.platform.witness import Witness
from paas.sim.platform.world import World

DRIFT_MAX = 0.0095
"""Below `node.limits.CLOCK_DRIFT_MAX`."""


def types() -> dict[str, dict[str, Any]]:
    """Manifests of the component types, by full name."""
    made: dict[str, dict[str, Any]] = {}
    for name, mib, supervision in (
        ("steady", 64, {}),
        ("worker", 96, {"restart": "transient", "max_restarts": 4, "within": 30.0}),
        ("crasher", 64, {"max_restarts": 3, "within": 20.0}),
        ("slow", 64, {"ready_timeout": 2.0}),
        ("stubborn", 128, {"stop_timeout": 1.0}),
        ("job", 64, {"restart": "temporary"}),
    ):
        made[f"{name}@1.0.0"] = {
            "component": {"name": name, "version": "1.0.0", "command": ["./run"]},
            "limits": {"memory": mib << 20, "cpu": 0.1},
            "supervision": supervision,
        }
    return made


def behaviour(chance: random.Random, type_name: str, *, calm: bool) -> Behaviour:
    """Of one incarnation; when all is `calm` it does what it should."""
    if calm:
        return Behaviour(ready_s=chance.uniform(0.01, 0.3), act_s=8.0)
    name = type_name.partition("@")[0]
    reason = chance.choice(("normal", "exit:1", "exit:3", "signal:SIGSEGV", "out-of-memory"))
    pause_s = chance.uniform(1, 60) if chance.random() < 0.1 else None
    ready_s: float | None = chance.uniform(0.01, 0.3)
    exit_s: float | None = None
    if name == "worker":
        exit_s = chance.expovariate(1 / 60)
    elif name == "crasher":
        exit_s = chance.expovariate(1 / 8)
    elif name == "slow":
        ready_s = chance.choice((0.5, 1.5, 1.9, None))
    elif name == "job":
        exit_s, reason = chance.expovariate(1 / 20), chance.choice(("normal", reason))
    stubborn = name == "stubborn"
    return Behaviour(
        ready_s=ready_s,
        exit_s=exit_s,
        exit_reason=reason,
        stop_s=chance.choice((0.01, 0.5, 3.0)) if stubborn else chance.uniform(0.005, 0.05),
        hangs=stubborn and chance.random() < 0.4,
        refuses=stubborn and chance.random() < 0.5,
        act_s=4.0,
        pause_s=pause_s,
    )


class Cluster:
    """See the module's text.  Implements `machine.Watcher`."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.invariants = Invariants()
        self.oracle = Oracle(world, self.invariants)
        self.witness = Witness(world, self.invariants, self.oracle)
        self.network = Network(world)
        self.machines: dict[str, Machine] = {}
        self.types = types()
        self.oracle.memory_of = self._memory_of
        self.heartbeat_s = world.random.choice((0.1, HEARTBEAT_S, HEARTBEAT_S, 0.2))
        self.memory_bytes = world.random.choice(MEMORY_BYTES)
        self.compaction = world.random.choice((60, 300, 20_000))
        self.calm = False
        """Components do what they should."""

    def _memory_of(self, type_name: str) -> int:
        memory: int = self.types[type_name]["limits"]["memory"]
        return memory

    def new_version(self, name: str) -> str:
        """Another version of a type; it is only known here so far."""
        number = sum(1 for known in self.types if known.startswith(f"{name}@"))
        known = self.types[f"{name}@1.0.0"]
        full = f"{name}@1.0.{number}"
        component = {**known["component"], "version": f"1.0.{number}"}
        self.types[full] = {**known, "component": component}
        return full

    # -- machines --------------------------------------------------------------------------------

    def add(self, name: str, *, first: bool) -> Machine:
        """A machine that is off."""
        chance = self.world.random
        told = {n: m.address for n, m in self.machines.items() if m.belongs}
        if first:
            told = {}
        drift = chance.choice((0.0, DRIFT_MAX * 0.3, DRIFT_MAX))
        clock = NodeClock(
            self.world,
            rate=1 + drift * (2 * chance.random() - 1),
            origin_s=1_000 + chance.random() * 100_000,
        )
        machine = Machine(
            self.world,
            self.network,
            self,
            self.nursery,
            name=name,
            clock=clock,
            settings=self._settings(),
            told=told,
            joins=not first,
            memory_bytes=self.memory_bytes,
            kernel=self._kernel,
        )
        self.witness.room[name] = int(self.memory_bytes * MEMORY_OVERCOMMIT)
        self.machines[name] = machine
        return machine

    def _settings(self) -> RaftSettings:
        heartbeat_s = self.heartbeat_s
        return RaftSettings(
            heartbeat_s=heartbeat_s,
            election_min_s=max(0.4, 3.2 * heartbeat_s),
            election_max_s=max(0.8, 6.0 * heartbeat_s),
            compaction_entries=self.compaction,
            sync_in_thread=False,
        )

    def _kernel(self, machine: Machine) -> Kernel:
        def program(container: Container) -> Program:
            command = container.order.bundle
            made = behaviour(self.world.random, command, calm=self.calm)
            component = Component(self.world, kernel, container, machine, self.witness, made)
            self.witness.components[component.id] = component
            return component

        kernel = Kernel(self.world, machine.name, machine.clock, self.witness, program)
        return kernel

    # -- what is watched -------------------------------------------------------------------------

    def booting(self, machine: Machine, states: States, entropy: SimEntropy) -> Any:
        made = states.machine()
        apply, oracle, name = made.apply, self.oracle, machine.name

        def applied(index: int, data: bytes) -> Applied:
            outcome = apply(index, data)
            try:
                oracle.applied(name, index, data, outcome, states)
            except BaseException as exc:  # raft would take it for its own failure
                self.world.fail(exc)
            return outcome

        made.apply = applied  # type: ignore[method-assign]
        return made

    def booted(self, machine: Machine, life: HubLife) -> None:
        replicated, oracle, name = life.replicated, self.oracle, machine.name
        replica = replicated._replica
        journal = replica.journal
        append, send = journal.append, replicated._send

        def appended(payload: bytes, index: int, term: int) -> None:
            append(payload, index, term)
            oracle.appended(name, payload, index, term)

        noted: Any = None

        def sending(messages: Any) -> None:
            nonlocal noted
            leadership = replica.leadership
            if leadership is not noted and life.process.alive:
                noted = leadership
                if leadership is not None:
                    oracle.leads(name, leadership.term)
            send(messages)

        journal.append = appended  # type: ignore[method-assign]
        replicated._send = sending  # type: ignore[method-assign]

    def bug(self, where: str, error: BaseException) -> None:
        if isinstance(error, Broken):
            self.world.fail(error)
            return
        broken = Broken("no-bug", f"{where}: {type(error).__name__}: {error}")
        broken.__cause__ = error
        self.world.fail(broken)

    def filled(self) -> float:
        """Which part of what three nodes could take is taken, or asked for."""
        lives = self.oracle.lives.values()
        used = sum(self._memory_of(life.type) for life in lives if not life.over)
        return used / (3 * self.memory_bytes * MEMORY_OVERCOMMIT)

    # -- looking ---------------------------------------------------------------------------------

    def hubs(self) -> list[HubLife]:
        """Hubs that listen, by node."""
        found = (m.hub for m in self.machines.values())
        return [hub for hub in found if hub is not None and hub.listening and hub.process.alive]

    def leader(self) -> Machine | None:
        """Who leads in the newest term."""
        best: tuple[int, Machine] | None = None
        for hub in self.hubs():
            leadership = hub.replicated.leadership
            if leadership is not None and (best is None or leadership.term > best[0]):
                best = (leadership.term, hub.machine)
        return None if best is None else best[1]
