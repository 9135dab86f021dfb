"""Who sees what really happens: on kernels, and at the components' end of the platform.

    Kernel ──started, ended──> Witness <──invoked, down, answers── Component
                                  │
                                  └── judged against each other and against the Oracle

It also has components do things by themselves: call, cast, join, leave, claim, monitor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from paas.base.errors import PlatformError
from paas.controller.ports import StartOrder
from paas.harness.messages import Event, Invoke
from paas.sim.history import History, Operation
from paas.sim.platform.components import Component
from paas.sim.platform.invariants import Invariants
from paas.sim.platform.kernel import Container
from paas.sim.platform.letters import Letters
from paas.sim.platform.oracle import Oracle
from paas.sim.platform.volume_files import VolumeJudge
from paas.sim.platform.world import World
from paas.wire import codec

GROUPS = ("workers", "readers")
CLAIMS = ("primary", "writer")


class MonitorRecord:
    """One monitor of one component's incarnation."""

    __slots__ = ("fired", "incarnation", "opened", "target", "watcher")

    def __init__(self, watcher: Component, target: str) -> None:
        self.watcher = watcher
        self.target = target
        self.incarnation = 0
        self.opened = False
        self.fired = 0


class Witness:
    """See the module's text.  Implements `kernel.Truth` and `components.Observer`."""

    def __init__(self, world: World, invariants: Invariants, oracle: Oracle) -> None:
        self.world = world
        self.oracle = oracle
        self.history = History()
        self.volumes = VolumeJudge(invariants)
        self.monitors: list[MonitorRecord] = []
        self.running: dict[str, tuple[str, Container]] = {}
        self.components: dict[str, Component] = {}
        """Running ones, by id."""
        self.room: dict[str, int] = {}
        self.waiting: dict[int, tuple[Component, str, float]] = {}
        """Requests of components without an outcome, and until when one is due."""
        self.letters: Letters | None = None
        self.calm = False
        self.rests = False
        """Components do nothing by themselves any more."""
        self._invariants = invariants
        self._newest: dict[str, tuple[int, str]] = {}
        self._heard: dict[tuple[str, str, str], int] = {}
        self._used: dict[str, int] = {}
        self._numbers = 0
        oracle.on_member = self._member_changed
        oracle.on_offline = self._node_offline
        self._ticks = 0

    # -- kernels ---------------------------------------------------------------------------------

    def started(self, node: str, container: Container) -> None:
        component, incarnation = container.component, container.incarnation
        self.world.record(f"{node} starts {component[:10]}/{incarnation}")
        require = self._invariants.require
        other = self.running.get(component)
        if other is not None:
            text = f"{component[:8]}/{incarnation} starts on {node}, while"
            require("runs-once", False, f"{text} {other[1].incarnation} runs on {other[0]}")
        self._invariants.seen("runs-once")
        newest, where = self._newest.get(component, (0, ""))
        grows = incarnation > newest or (incarnation == newest and node == where)
        text = f"{component[:8]}/{incarnation} starts on {node} after {newest} on {where}"
        require("incarnations-grow", grows, text)
        self._newest[component] = (incarnation, node)
        self.running[component] = (node, container)
        used = self._used[node] = self._used.get(node, 0) + container.order.limits.memory_bytes
        fits = used <= self.room[node]
        require("within-capacity", fits, f"{node} runs {used} of {self.room[node]} bytes")

    def attached(
        self, node: str, order: StartOrder, volume: str, found: bytes, *, fresh: bool
    ) -> bytes:
        others = [(where, c.order) for where, c in self.running.values()]
        return self.volumes.attached(node, order, volume, found, fresh=fresh, running=others)

    def ended(self, node: str, container: Container, reason: str) -> None:
        self.world.record(
            f"{node} ends {container.component[:10]}/{container.incarnation} {reason}"
        )
        if reason != "power":
            self.world.count(f"exit-{reason.split(':')[0]}")
        del self.running[container.component]
        self.components.pop(container.component, None)
        self._used[node] -= container.order.limits.memory_bytes

    def _node_offline(self, node: str) -> None:
        left = [c for c, (where, _) in self.running.items() if where == node]
        text = f"{node} is declared lost while {len(left)} components run there"
        self._invariants.require("lost-is-empty", not left, text)

    # -- messages --------------------------------------------------------------------------------

    def invoked(self, me: Component, sender: str, target: str, number: int) -> None:
        if not sender:
            return  # an operator
        key = (sender, target, me.id)
        last = self._heard.get(key, 0)
        if number <= last:
            text = f"{me.id[:8]} gets {number} of {sender[:8]} after {last}"
            self._invariants.require("pair-order", False, text)
        self._invariants.seen("pair-order")
        self._heard[key] = number
        if me.node != self._node_of(sender):
            self.world.count("seen-far-message")

    def letter(
        self, me: Component, invoke: Invoke, answer: Callable[[bytes | PlatformError], None]
    ) -> None:
        assert self.letters is not None
        self.letters.delivered(me, invoke, answer)

    def _node_of(self, sender: str) -> str:
        found = self.running.get(sender.partition("/")[0])
        return "" if found is None else found[0]

    def once(self, me: Component, what: str, due_s: float, then: Callable[[Any], None]) -> Any:
        """A callback that may be called once, and has to be, while `me` lives."""
        self._numbers += 1
        number = self._numbers
        self.waiting[number] = (me, what, self.world.now_s + due_s)

        def answer(value: Any) -> None:
            first = self.waiting.pop(number, None) is not None
            if not first:
                self._invariants.require("one-outcome", False, f"{what} of {me.key} has two")
            self._invariants.seen("one-outcome")
            code = value.code if isinstance(value, PlatformError) else "ok"
            self.world.count(f"outcome-{code}")
            then(value)

        return answer

    # -- monitors --------------------------------------------------------------------------------

    def down(self, me: Component, key: int, event: Event) -> None:
        monitor = self.monitors[key]
        monitor.fired += 1
        require = self._invariants.require
        text = f"{me.key} is told of the end of {monitor.target[:8]}"
        require("monitor-once", monitor.fired == 1, f"{text} {monitor.fired} times")
        life = self.oracle.lives.get(monitor.target)
        if life is None or (life.ended and not monitor.incarnation):
            over = True  # forgotten, or the hub did not know it yet: any end is the one
        else:
            over = life.is_over(monitor.incarnation)
        text = f"{text}/{monitor.incarnation}, which has not ended: {event.reason}"
        require("monitor-once", over, text)

    def _monitor(self, me: Component, target: str) -> None:
        record = MonitorRecord(me, target)
        key = len(self.monitors)
        self.monitors.append(record)

        def opened(value: Any) -> None:
            if not isinstance(value, PlatformError):
                record.opened = True
                record.incarnation = codec.unpack(value).get("incarnation", 0)

        me.monitor(target, key, self.once(me, "monitor", 40.0, opened))

    # -- what components do by themselves ---------------------------------------------------------

    def act(self, me: Component) -> None:
        if self.rests:
            return
        chance = self.world.random
        kind = chance.random()
        others = [c for c in self.components if c != me.id]
        if kind < 0.45 and others:
            self._talk(me, chance.choice(others))
        elif kind < 0.49 and self.letters is not None:
            self.letters.write(me, partial(self.once, me, "letter", 5.0))
        elif kind < 0.55:
            target = f"group:{chance.choice(GROUPS)}"
            me.call(target, 5.0, self.once(me, "group call", 5.0, _nothing))
        elif kind < 0.72:
            self._join(me, chance.choice(GROUPS))
        elif kind < 0.86:
            self._claim(me, chance.choice(CLAIMS))
        elif others:
            self._monitor(me, chance.choice(others))

    def _talk(self, me: Component, target: str) -> None:
        """A burst, so that order matters."""
        chance = self.world.random
        for _ in range(chance.randrange(1, 4)):
            if chance.random() < 0.5:
                me.cast(target, self.once(me, "cast", 5.0, _nothing))
            else:
                timeout_s = chance.choice((1.0, 5.0))
                me.call(target, timeout_s, self.once(me, "call", timeout_s, _nothing))

    def _join(self, me: Component, group: str) -> None:
        """In it: leave; else: join.  What is said of it is part of the history."""
        kind = "leave" if group in me.groups else "join"
        operation = self._begin(me, kind, f"group/{group}")

        def done(value: Any) -> None:
            if self._settle(operation, value):
                return
            if kind == "join":
                told = codec.unpack(value)
                me.groups[group] = None
                answer = (told["positions"][group], told["members"][group], told["token"][group])
                self._acknowledge(me, group, answer[2])
                self._finish(operation, answer)
            else:
                me.groups.pop(group, None)
                self._finish(operation, None)

        ask = me.leave if kind == "leave" else me.join
        ask([group], self.once(me, kind, 6.0, done))

    def _claim(self, me: Component, name: str) -> None:
        """A group that only one is in."""
        group = f"claim-{name}"
        kind = "release" if group in me.groups else "claim"
        operation = self._begin(me, kind, f"claim/{group}")

        def done(value: Any) -> None:
            if isinstance(value, PlatformError) and value.code == "conflict" and kind == "claim":
                self._finish(operation, False)
                return
            if self._settle(operation, value):
                return
            if kind == "claim":
                me.groups[group] = None
                self._acknowledge(me, group, codec.unpack(value)["token"][group])
                self._finish(operation, True)
            else:
                me.groups.pop(group, None)
                self._finish(operation, None)

        answer = self.once(me, kind, 6.0, done)
        if kind == "release":
            me.leave([group], answer)
        else:
            me.join([group], answer, unique=True)

    def _acknowledge(self, me: Component, group: str, token: int) -> None:
        known = self.oracle.indices.get(token)
        text = f"{me.key} was told that it is in {group} with {token}, which the log does not know"
        self._invariants.require("acknowledged", known is not None, text)

    # -- the history -----------------------------------------------------------------------------

    def _now(self) -> float:
        """Every moment is another one."""
        self._ticks += 1
        return self.world.now_s + self._ticks * 1e-9

    def _begin(self, me: Component, kind: str, key: str) -> Operation:
        return self.history.begin(me.id, kind, key, me.id, now_s=self._now())

    def _finish(self, operation: Operation, result: Any) -> None:
        self.history.finish(operation, result, now_s=self._now())

    def _settle(self, operation: Operation, value: Any) -> bool:
        """An error: was anything done?"""
        if not isinstance(value, PlatformError):
            return False
        if value.code in ("not-available", "unavailable", "limit-exceeded", "storage-full"):
            self.history.withdraw(operation)
        return True

    def _member_changed(self, group: str, component: str, token: int | None) -> None:
        """Who ended leaves its groups without being asked, at this very moment."""
        if token is not None:
            return
        claim = group.startswith("claim-")
        key = f"claim/{group}" if claim else f"group/{group}"
        kind = "release" if claim else "leave"
        operation = self.history.begin("log", kind, key, component, now_s=self._now())
        self.history.finish(operation, None, now_s=self._now())


def _nothing(_value: Any) -> None:
    return None
