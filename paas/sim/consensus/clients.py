"""Clients of the simulated cluster: they do things to objects, wait, give up, ask again.

Each client has one operation under way and is at home at one node, mostly.  An operation whose
outcome is unknown is sometimes asked for again under the same identity, at another node: it must
not happen twice.  What each client saw goes into the history that is judged at the end.
"""

from __future__ import annotations

from typing import Any

from paas.raft.command import SEED_BYTES, Stamp
from paas.raft.machine import Applied
from paas.raft.reads import ReadOutcome
from paas.sim.consensus import limits
from paas.sim.consensus.arena import Arena
from paas.sim.consensus.members import Member, Ticket
from paas.sim.consensus.objects import Deed
from paas.sim.history import History, Operation
from paas.sim.models import Claim, Counter, Group, Model, Register

MODELS: dict[str, Model] = {
    "register": Register(),
    "group": Group(),
    "claim": Claim(),
    "counter": Counter(),
}

_DEEDS = (
    *("write", "write", "write", "cas", "read", "read"),
    *("join", "leave", "claim", "release", "add"),
)
_TRIES_MAX = 4


class Client:
    """See the module's text."""

    def __init__(self, arena: Arena, name: str, history: History, think_s: float) -> None:
        self.name = name
        self.stopped = False
        self.acknowledged: list[str] = []
        self._arena = arena
        self._history = history
        self._think_s = think_s
        self._sequence = 0
        self._home = ""
        self._operation: Operation | None = None
        self._tries = 0
        self.rest()

    def rest(self) -> None:
        self._operation = None
        if not self.stopped:
            self._arena.after(self._arena.random.expovariate(1 / self._think_s), self._begin)

    def _member(self) -> Member | None:
        """Home, or another living node: now and then, and when home is dead."""
        arena = self._arena
        if self._home and arena.alive(self._home) and arena.random.random() < 0.9:
            return arena.members[self._home]
        living = arena.living()
        if not living:
            return None
        member = arena.random.choice(living)
        self._home = member.name
        return member

    def _begin(self) -> None:
        arena, member = self._arena, self._member()
        if member is None or self.stopped:
            self.rest()
            return
        self._sequence += 1
        kind, key, argument = self._draw()
        if kind == "read" and arena.random.random() < 0.8:
            self._read(member, key)
            return
        operation = self._history.begin(self.name, kind, key, argument, now_s=arena.now_s)
        seed = arena.random.randbytes(SEED_BYTES)
        stamp = Stamp(member.clock.now_ms(), seed, self.name, self._sequence)
        filler = "." * arena.random.choice((0, 0, 0, 100, 300))
        deed = Deed(kind=kind, key=key, argument=argument, filler=filler)
        self._operation, self._tries = operation, 0
        self._ask(member, operation, deed, stamp)

    def _draw(self) -> tuple[str, str, Any]:
        chance = self._arena.random
        kind = chance.choice(_DEEDS)
        value = f"{self.name}{self._sequence}"
        match kind:
            case "write" | "cas" | "read":
                key = f"register/{chance.randrange(3)}"
                if kind == "cas":
                    return kind, key, (self._last_value(key), value)
                return kind, key, value if kind == "write" else None
            case "join" | "leave":
                return kind, "group/g", f"{self.name}{chance.randrange(2)}"
            case "claim" | "release":
                return kind, "claim/n", self.name
            case _:
                return kind, "counter/c", (value, chance.randrange(1, 4))

    def _last_value(self, key: str) -> Any:
        """What somebody wrote there lately, so that comparing hits now and then."""
        for operation in reversed(self._history.operations[-40:]):
            if operation.key == key and operation.kind == "write":
                return operation.argument
        return None

    # -- commands ----------------------------------------------------------------------------------

    def _ask(self, member: Member, operation: Operation, deed: Deed, stamp: Stamp) -> None:
        arena = self._arena
        self._tries += 1

        def done(ticket: Ticket, applied: Applied | None) -> None:
            self._done(member, operation, ticket, applied, deed, stamp)

        ticket = Ticket(deed, stamp, done)

        def late() -> None:
            if not ticket.over:
                member.forget(ticket)
                done(ticket, None)

        member.propose(ticket)
        arena.after(arena.random.uniform(*limits.OPERATION_TIMEOUT_S), late)
        arena.wake(member, limits.PROCESSING_S)

    def _done(
        self,
        member: Member,
        operation: Operation,
        ticket: Ticket,
        applied: Applied | None,
        deed: Deed,
        stamp: Stamp,
    ) -> None:
        arena = self._arena
        if applied is not None and applied.error is None:
            result = tuple(applied.result) if deed.kind == "join" else applied.result
            self._history.finish(operation, result, now_s=arena.now_s)
            identity = f"{stamp.proposer}:{stamp.sequence}"
            arena.invariants.acknowledged(member, identity)
            self.acknowledged.append(identity)
            arena.count("command-acknowledged")
            self.rest()
            return
        if not ticket.may_be_done and self._tries == 1:
            self._history.withdraw(operation)
            self.rest()
            return
        arena.count("outcome-unknown")
        another = self._member()
        if another is not None and self._tries < _TRIES_MAX and arena.random.random() < 0.7:
            arena.count("asked-again")
            self._ask(another, operation, deed, stamp)
        else:
            self.rest()

    # -- reads -------------------------------------------------------------------------------------

    def _read(self, member: Member, key: str) -> None:
        """Without an entry of the log: a confirmed read."""
        arena = self._arena
        operation = self._history.begin(self.name, "read", key, None, now_s=arena.now_s)

        def done(outcome: ReadOutcome | None) -> None:
            if outcome is None:
                arena.count("read-given-up")
                self._history.withdraw(operation)
            else:
                arena.count("read-confirmed")
                self._history.finish(operation, member.objects.read(key), now_s=arena.now_s)
            self.rest()

        member.read(done, arena.random.uniform(*limits.OPERATION_TIMEOUT_S))
        arena.wake(member, limits.PROCESSING_S)


class Prober:
    """Asks leaders, and who believes to be one, for a confirmation: leases rest on it."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._next()

    def _next(self) -> None:
        self._arena.after(self._arena.random.expovariate(1.0), self._ask)

    def _ask(self) -> None:
        arena = self._arena
        leaders = [member for member in arena.living() if member.replica.is_leader]
        if leaders:
            member, asked_s = arena.random.choice(leaders), arena.now_s

            def done(outcome: ReadOutcome | None) -> None:
                if outcome is not None and outcome.index is not None:
                    arena.invariants.confirmed(member.name, outcome.term, asked_s)

            member.read(done, 3.0, confirm=True)
            arena.wake(member, limits.PROCESSING_S)
        self._next()
