"""Operators of a simulated cluster: sessions with any node's hub, and what they ask for.

    Operator.call ── session (compact form) ──> the hub of some node
    Client: create, destroy, terminate, link, look, call, register — what it is told is checked

A request whose outcome is unknown is repeated under the same request id; what a client was told is
done must be in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.hub.messages import CALL, Call
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.sim.platform import limits
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import Machine
from paas.wire import codec
from paas.wire.registry import Method, P, R, decode

PATIENCE_S = 2.0
"""The hub says `timeout` itself; a client that heard nothing so long after gives up."""


class _Session:
    """One connection to one hub."""

    def __init__(self, machine: Machine) -> None:
        self.connection = Connection(Form.COMPACT)
        self.send = machine.operator(self._receive, self.ended)

    def _receive(self, data: bytes) -> None:
        self.connection.receive(data)

    def ended(self) -> None:
        self.send = None
        self.connection.end(PlatformError("unknown-outcome", "the hub was lost"))


class Operator:
    """Sessions with all hubs, made when needed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sessions: dict[str, _Session] = {}

    async def call(
        self, machine: Machine, method: Method[P, R], params: P, *, timeout_s: float
    ) -> R:
        """Raises PlatformError: the hub's, or that it could not be asked."""
        session = self._sessions.get(machine.name)
        if session is None or session.send is None:
            session = self._sessions[machine.name] = _Session(machine)
        if session.send is None:
            raise PlatformError("not-available", f"no hub listens on {machine.name}")
        done, answers = trio.Event(), []
        world = self._cluster.world

        def answer(value: bytes | PlatformError) -> None:
            answers.append(value)
            done.set()

        deadline_s = world.now_s + timeout_s + PATIENCE_S
        identity, data = session.connection.request(
            method.name, codec.pack(params), answer, deadline_s
        )
        session.send(data)
        with trio.move_on_at(deadline_s):
            await done.wait()
        if not answers:
            session.connection.forget(identity)
            raise PlatformError("unknown-outcome", "the hub did not answer in time")
        if isinstance(answers[0], PlatformError):
            raise answers[0]
        return decode(answers[0], method.result)


class Client:
    """One who works with the cluster until `stopped`."""

    def __init__(self, cluster: Cluster, number: int, *, think_s: float, wanted: int) -> None:
        self.stopped = False
        self._cluster = cluster
        self._world = cluster.world
        self._operator = Operator(cluster)
        self._name = f"client{number}"
        self._think_s = think_s
        self._wanted = wanted
        self._requests = 0

    async def run(self) -> None:
        while True:
            await trio.sleep(self._world.random.expovariate(1 / self._think_s))
            if self.stopped:
                return
            try:
                await self._something()
            except PlatformError as exc:
                self._world.count(f"client-{exc.code}")
            else:
                self._world.count("client-ok")

    async def ask(self, method: Method[P, R], params: P, timeout_s: float = 8.0) -> R:
        """Ask some node; raises PlatformError."""
        machines = [m for m in self._cluster.machines.values() if m.belongs]
        machine = self._world.random.choice(machines)
        return await self._operator.call(machine, method, params, timeout_s=timeout_s)

    async def _something(self) -> None:
        chance, living = self._world.random, self._living()
        room = self._cluster.filled() < limits.FILLED_MAX
        if room and len(living) < self._wanted * chance.uniform(0.6, 1.2):
            await self._create()
            return
        act: Callable[[str], Any] = chance.choices(
            (self._destroy, self._terminate, self._link, self._look, self._call, self._types),
            (0.3, 0.1, 0.15, 0.1, 0.2, 0.15),
        )[0]
        await act(chance.choice(living) if living else "nobody")

    def _living(self) -> list[str]:
        return [c for c, life in self._cluster.oracle.lives.items() if not life.over]

    async def _create(self) -> None:
        chance = self._world.random
        self._requests += 1
        living = self._living()
        kinds = list(self._cluster.types)
        params = messages.Create(
            type=chance.choice(kinds),
            count=chance.choice((1, 1, 1, 2)),
            name=f"app-{chance.randrange(8)}" if chance.random() < 0.4 else "",
            groups=[chance.choice(("web", "batch"))] if chance.random() < 0.5 else [],
            links=[chance.choice(living)] if living and chance.random() < 0.15 else [],
            wait=chance.choice(("available", "accepted")),
            request_id=f"{self._name}-{self._requests}",
            timeout=8.0,
        )
        for _attempt in range(3):
            try:
                created = await self.ask(messages.CREATE, params)
            except PlatformError as exc:
                if exc.code not in ("unknown-outcome", "unavailable", "not-available"):
                    raise
                await trio.sleep(1.0)
                continue
            self._created(params, created.components)
            return

    def _created(self, params: messages.Create, components: list[str]) -> None:
        lives = self._cluster.oracle.lives
        missing = [c for c in components if c not in lives]
        text = f"{self._name} was told of {missing}, which the log does not know"
        self._cluster.invariants.require("acknowledged", not missing, text)
        if params.wait == "available":
            never = [c for c in components if not lives[c].was_available]
            text = f"{self._name} was told that {never} became available"
            self._cluster.invariants.require("acknowledged", not never, text)

    async def _destroy(self, component: str) -> None:
        grace_s = self._world.random.choice((0.0, 0.5, 3.0))
        params = messages.Destroy(component=component, grace=grace_s, timeout=10.0)
        await self.ask(messages.DESTROY, params, 10.0)
        over = self._cluster.oracle.lives[component].over
        text = f"{self._name} was told that {component[:8]} is destroyed"
        self._cluster.invariants.require("acknowledged", over, text)

    async def _terminate(self, component: str) -> None:
        params = messages.TerminateComponent(component=component, timeout=5.0)
        await self.ask(messages.TERMINATE, params)

    async def _link(self, component: str) -> None:
        other = self._world.random.choice(self._living())
        kind = messages.LINK if self._world.random.random() < 0.6 else messages.UNLINK
        if kind is messages.LINK:
            await self.ask(messages.LINK, messages.Link(a=component, b=other, timeout=5.0))
        else:
            await self.ask(messages.UNLINK, messages.Unlink(a=component, b=other, timeout=5.0))

    async def _look(self, component: str) -> None:
        if self._world.random.random() < 0.5:
            await self.ask(messages.COMPONENTS, messages.ListComponents(timeout=5.0))
        else:
            await self.ask(messages.STATUS, messages.Status(timeout=5.0))

    async def _call(self, component: str) -> None:
        inputs = msgspec.Raw(codec.pack({"from": "", "to": "", "n": 0}))
        params = Call(target=component, operation="note", inputs=inputs, timeout=5.0)
        await self.ask(CALL, params)

    async def _types(self, _component: str) -> None:
        """Another version comes, or one goes that nobody uses."""
        types, chance = self._cluster.types, self._world.random
        known = chance.choice(list(types))
        if chance.random() < 0.3 and len(types) > 6:
            await self.ask(messages.UNREGISTER_TYPE, messages.UnregisterType(type=known))
            return
        name = self._cluster.new_version(known.partition("@")[0])
        await self.register(name)
        self._world.count("type-registered")

    async def register(self, name: str) -> None:
        manifest = self._cluster.types[name]
        params = messages.RegisterType(bundle=name, manifest=manifest, timeout=5.0)
        await self.ask(messages.REGISTER_TYPE, params)
