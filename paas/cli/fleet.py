"""The machines of a development cluster of several nodes, together: made, started, ended (io).

    start   bridge ── machines of members ── ready ── tokens ── others join ── ready ── settled
    end     every machine is asked at once ── killed when its time is over ── bridge, links, rest

A node is a member when it has a node.json: the first one gets it here (it begins the cluster), the
others when they have joined, by the same program that `paas cluster join` runs.  So a start that
was interrupted goes on where it stopped, and a later start finds everybody a member.

Invariants: one command at a time changes the machines of a cluster (the lock); when a start fails
nothing runs; `end` may be repeated and does not care how the machines died.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from paas.base import locks
from paas.base.errors import PlatformError
from paas.cli import address_plan, joining, limits, machines, place, supervisor
from paas.cli.machine_record import Machine, read, write
from paas.cli.settling import settle

PREFIX_LENGTH = 24
CLUSTER_LOCK = "cluster.lock"

Report = Callable[[str], None]


def lay_out(state: Path, count: int | None) -> place.Cluster:
    """The cluster of this directory; made with `count` nodes when there is none yet.

    Raises `conflict` when what is there is another kind of cluster.
    """
    known = place.read_cluster(state)
    if known is not None:
        there = len(known.nodes) or 1
        if not known.nodes or count not in (None, there):
            raise PlatformError(
                "conflict",
                f"the cluster with its state in {state} has {there} node{'s' * (there > 1)}",
                hint="use another --state DIR, or remove it: paas down --purge",
            )
        return known
    assert count is not None, "a new cluster has a number of nodes"
    digits = supervisor.digits(state)
    taken = address_plan.routes(address_plan.ROUTES.read_text())
    plan = address_plan.plan(digits, count, taken)
    names = [f"n{number}" for number in range(1, count + 1)]
    facts: dict[str, Any] = {
        "name": f"dev-{digits}",
        "kind": "several",
        "network": plan.machines,
        "nodes": {
            name: {"address": plan.address(number), "containers": plan.containers[number - 1]}
            for number, name in enumerate(names, 1)
        },
    }
    supervisor.prepare(state)
    (state / place.NODES_DIRECTORY).mkdir(mode=0o711, exist_ok=True)
    supervisor.write_cluster(state, pid=None, node_pid=None, **facts)
    return place.require_cluster(state)


class Fleet:
    """The machines of one cluster."""

    def __init__(
        self,
        cluster: place.Cluster,
        *,
        command: machines.Command = machines.supervisor_command,
        report: Report = lambda _: None,
    ) -> None:
        self.cluster = cluster
        self._command = command
        self.report = report
        self._digits = supervisor.digits(cluster.state)

    @property
    def bridge(self) -> str:
        return f"pm{self._digits}"

    def fact(self, name: str, field: str) -> str:
        return str(self.cluster.facts["nodes"][name][field])

    def machine(self, name: str) -> Machine:
        """The machine with this name, as it was left.  Raises `invalid` if there is none."""
        if name not in self.cluster.nodes:
            raise PlatformError(
                "invalid",
                f"no node is called {name!r}",
                hint=f"nodes: {', '.join(self.cluster.nodes)}",
            )
        state = self.cluster.node_state(name)
        return read(state) or Machine(
            name,
            state,
            self.fact(name, "address"),
            PREFIX_LENGTH,
            self.bridge,
            f"pm{self._digits[:6]}{name}",
        )

    def all(self) -> list[Machine]:
        return [self.machine(name) for name in self.cluster.nodes]

    def networks(self, name: str) -> list[str]:
        """Where packets of this node come from: itself and its containers."""
        return [self.fact(name, "address"), self.fact(name, "containers")]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time; raises `conflict`."""
        path = self.cluster.state / CLUSTER_LOCK
        try:
            descriptor = locks.take(path)
        except BlockingIOError:
            text = f"another command changes the machines of {self.cluster.name}"
            raise PlatformError("conflict", text, hint="try again when it is done") from None
        try:
            yield
        finally:
            os.close(descriptor)

    # -- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when all nodes are available; when that fails, nothing runs."""
        with self.locked():
            running = [m.name for m in self.all() if m.condition != "off"]
            if running:
                raise PlatformError(
                    "conflict",
                    f"{self.cluster.name} runs already ({', '.join(running)})",
                    hint=f"end it: paas down --state {self.cluster.state}   or switch one node on: "
                    "paas nodes resume NAME",
                )
            try:
                self._start()
            except BaseException:
                self._end(orderly=False)
                raise

    def _start(self) -> None:
        begun, begun_wall = time.monotonic(), time.time()
        self._check_network()
        self._prepare_first(self.cluster.nodes[0])
        members = [name for name in self.cluster.nodes if self._is_member(name)]
        names = [*members, *(name for name in self.cluster.nodes if name not in members)]
        with contextlib.ExitStack() as stack:
            switch = self._open_switch(stack)
            booting: dict[str, machines.Booting] = {}
            for name in names:
                booting[name] = machines.boot(self.machine(name), switch, self._command)
                stack.callback(booting[name].close)
            for name in members:
                booting[name].go()
            # Those who join load their program while the first node becomes ready.
            joins: dict[str, joining.Join] = {}
            for name in names[len(members) :]:
                joins[name] = self._begin_join(booting[name].machine)
                stack.callback(joins[name].close)
            self._await_ready({name: booting[name] for name in members}, begun)
            for name, one in joins.items():
                one.send_token(joining.create_token(self._socket(members[0])))
                self.report(f"{name} joins")
            for name, one in joins.items():
                one.wait()
                booting[name].go()
            self._await_ready({name: booting[name] for name in joins}, begun)
        settle(self._socket(names[0]), names, begun_wall)

    def switch_on(self, name: str) -> bool:
        """Start a machine that is off, alone; is its node ready after a while?

        It may have to wait for others: without a majority no node becomes ready.
        """
        begun = time.monotonic()
        with contextlib.ExitStack() as stack:
            with self.locked():
                one = machines.boot(self.machine(name), self._open_switch(stack), self._command)
                stack.callback(one.close)
                one.go()
            found, _, _ = select.select([one.ready], [], [], limits.RESUME_PATIENCE_S)
            if found:
                self._await_ready({name: one}, begun)
            return bool(found)

    def _open_switch(self, stack: contextlib.ExitStack) -> Any:
        switch = machines.open_switch(self.bridge)
        stack.callback(switch.close)
        plan = address_plan.AddressPlan(str(self.cluster.facts["network"]), ())
        try:
            switch.open(plan.host, PREFIX_LENGTH)
        except OSError as exc:
            raise PlatformError("unsupported", f"no bridge can be made here: {exc}") from None
        return switch

    def _check_network(self) -> None:
        """The addresses of nodes are for life: nobody else may have taken them meanwhile."""
        own = str(self.cluster.facts["network"])
        taken = address_plan.routes(address_plan.ROUTES.read_text(), but=self.bridge)
        other = address_plan.overlapping(own, taken)
        if other is not None:
            raise PlatformError(
                "conflict",
                f"this machine has a route to {other}, which is the network of the nodes",
                hint="remove that route, or start a new cluster: paas down --purge",
            )

    def _prepare_first(self, name: str) -> None:
        """The first node begins the cluster."""
        if self._is_member(name):
            return
        state = self.cluster.node_state(name)
        supervisor.prepare(state)
        write(self.machine(name))
        supervisor.write_cluster(state, pid=None, node_pid=None, name=self.cluster.name)
        joining.write_node(
            state,
            cluster=self.cluster.name,
            node=name,
            listen=joining.Listen.of(self.fact(name, "address")),
            containers=self.fact(name, "containers"),
        )

    def _is_member(self, name: str) -> bool:
        return (self.cluster.node_state(name) / place.NODE_FILE).exists()

    def _begin_join(self, machine: Machine) -> joining.Join:
        first = joining.Listen.of(self.fact(self.cluster.nodes[0], "address"))
        return joining.Join(
            machine.state,
            node=machine.name,
            address=first.join,
            listen=joining.Listen.of(machine.address),
            containers=self.fact(machine.name, "containers"),
            spawn=lambda words: machines.start_inside(machine, words),
        )

    def _socket(self, name: str) -> str:
        directory = supervisor.runtime_directory(self.cluster.node_state(name))
        return f"{directory}/{place.SOCKET_NAME}"

    def _await_ready(self, booting: dict[str, machines.Booting], begun: float) -> None:
        """Until each has said that it is ready; raises what one says instead."""
        until = time.monotonic() + limits.READY_TIMEOUT_S + limits.STOP_TIMEOUT_S
        waiting = {one.ready: name for name, one in booting.items()}
        while waiting:
            found, _, _ = select.select(list(waiting), [], [], max(0.0, until - time.monotonic()))
            if not found:
                raise PlatformError("failed", f"{', '.join(waiting.values())}: not ready in time")
            for descriptor in found:
                name = waiting.pop(descriptor)
                self._check_answer(name, os.read(descriptor, 65_536))
                self.report(f"{name} ready in {time.monotonic() - begun:.1f} s")

    def _check_answer(self, name: str, said: bytes) -> None:
        answer: dict[str, Any] = json.loads(said) if said.endswith(b"\n") else {}
        if answer.get("ready"):
            return
        log = self.cluster.node_state(name) / place.LOG_FILE
        if not answer:
            raise PlatformError(
                "failed", f"machine {name} ended before it was ready", hint=f"see: {log}"
            )
        error = PlatformError.from_rpc(answer)
        raise PlatformError(error.code, f"{name}: {error.message}", hint=error.hint, **error.data)

    # -- faults by hand --------------------------------------------------------------------------

    def kill(self, name: str) -> bool:
        with self.locked():
            return machines.kill(self.machine(name))

    def pause(self, name: str) -> None:
        with self.locked():
            machines.pause(self.machine(name))

    def resume(self, name: str) -> bool:
        """Let a paused one go on, or switch one on that is off; does its node work?"""
        machine = self.machine(name)
        if machine.condition == "off":
            return self.switch_on(name)
        with self.locked():
            machines.resume(machine)
        return True

    def set_unheard(self, unheard: dict[str, list[str]]) -> None:
        """What each node does not hear from now on, instead of what it did not hear before."""
        with self.locked():
            for name, others in unheard.items():
                networks = [network for other in others for network in self.networks(other)]
                machine = self.machine(name)
                supervisor.prepare(machine.state)
                machines.set_unheard(machine, tuple(networks))

    # -- end -------------------------------------------------------------------------------------

    def end(self) -> None:
        """Nothing of the cluster runs any more; its state stays."""
        with self.locked():
            self._end(orderly=True)

    def _end(self, *, orderly: bool) -> None:
        on = [m for m in self.all() if m.condition != "off"]
        if orderly:
            for machine in on:
                machines.ask_to_end(machine)
            until = time.monotonic() + limits.STOP_TIMEOUT_S + limits.CLEANUP_TIMEOUT_S
            on = [m for m in on if not machines.wait_end(m, until - time.monotonic())]
        for machine in on:
            machines.kill(machine)
        self._remove_links()
        for name in self.cluster.nodes:
            self._clean(name)

    def _remove_links(self) -> None:
        with contextlib.closing(machines.open_switch(self.bridge)) as switch:
            for machine in self.all():
                switch.unplug(machine.link)
            switch.remove()

    def _clean(self, name: str) -> None:
        """What an orderly stop has removed itself, and a killed machine could not."""
        state = self.cluster.node_state(name)
        machine = read(state)
        if machine is None:
            return
        if machine.pid is not None:
            write(replace(machine, pid=None, ticks=None))
        if os.path.exists(supervisor.runtime_directory(state)):
            supervisor.cleanup(state)


def follow(fleet: Fleet) -> None:
    """Wait until no machine runs any more, or for what the caller's signal handlers raise."""
    poll = select.poll()
    waiting = {d: m.name for m in fleet.all() if (d := machines.descriptor(m)) is not None}
    try:
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        while waiting:
            for descriptor, _ in poll.poll():
                poll.unregister(descriptor)
                os.close(descriptor)
                fleet.report(f"{waiting.pop(descriptor)} has ended")
    finally:
        for descriptor in waiting:
            os.close(descriptor)
