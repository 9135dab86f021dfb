"""Leases against a hostile world: at no real time may a node run what the others count as ended.

The world has real time, which nobody knows; two hubs that lead in turn, sometimes without knowing
that they do no more; one node with a fence; clocks that run at different rates; messages that are
late, lost, repeated and overtake each other; commands that are applied late, or never, or by a
later leader.  After each event: if the state says `lost`, the deadline of the fence has passed,
with time to kill.  The same world with one rule switched off must show the harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.node import limits
from paas.node.leases import NEVER_S, Grantor, Holder
from paas.node.limits import LEASE_S, MARGIN_S, RENEW_S, RETRY_S

DRIFT = limits.CLOCK_DRIFT_MAX


@dataclass
class State:
    """The node in the cluster state, as state.py has it."""

    present: bool = True
    leased: bool = False
    epoch: int = 1


@dataclass
class Entry:
    """A command on its way into the state."""

    kind: str
    term: int = 0
    epoch: int = 0


@dataclass
class Hub:
    """One that leads at times; `state` is what its replica has applied."""

    offset_s: float
    rate: float
    grantor: Grantor
    believes: int | None = None
    """The term in which it takes itself for the leader."""

    state: State = field(default_factory=State)


class Rules:
    """What may be switched off, to see that the world notices."""

    holder: type[Holder] = Holder
    grantor: type[Grantor] = Grantor
    confirms = True
    confirms_after_receipt = True
    own_term_applied = True
    only_term = True
    arms_before = True
    kill_s = limits.FENCE_KILL_S


class World:
    def __init__(self, rng: Random, rules: Rules | type[Rules] = Rules) -> None:
        self.rng, self.rules = rng, rules
        self.now_s = 0.0
        self.index = 1
        self.state = State()
        self.term, self.leader = 0, 0
        self.led_by: dict[int, int] = {}
        self.applied_term = 0  # of the last leader's entry that was applied
        self.pending: list[Entry] = []
        self.inherited: list[Entry] = []
        self.hubs = [Hub(rng.uniform(0, 99), self._rate(), rules.grantor()) for _ in range(2)]
        self.offset_s, self.rate = rng.uniform(0, 99), self._rate()
        self.holder = rules.holder()
        self.fence_s = NEVER_S
        self.fence_none = True  # alone until now: no deadline
        self.runs = True  # something was started and not killed, but perhaps by the fence
        self.history = [State()]
        self.seen = 0  # how much of it the node's own replica has applied
        self.wire: list[tuple[Any, ...]] = []
        self.losses = self.grants = 0
        self.calm = rng.random() < 0.5
        self.elect()

    def _rate(self) -> float:
        return self.rng.choice([1 - DRIFT, 1 + DRIFT, self.rng.uniform(1 - DRIFT, 1 + DRIFT)])

    def clock(self) -> float:
        return self.offset_s + self.rate * self.now_s

    # -- the log ---------------------------------------------------------------------------------

    def elect(self) -> None:
        """Some hub wins a new term; the other may not know for long."""
        old = self.hubs[self.leader]
        old.state = State(**vars(self.state))
        self.term += 1
        self.leader = self.led_by[self.term] = self.rng.randrange(2)
        alive = [e for e in self.pending if e.kind == "lose" and e.term >= self.applied_term]
        self.inherited = [e for e in alive if self.rng.random() < 0.5]

    def own_entry(self) -> None:
        """The leader's first entry of its term is applied, and what it has inherited before it."""
        if self.applied_term == self.term:
            return
        for entry in self.inherited:
            self.apply(entry)
        self.pending = [e for e in self.pending if e.kind != "lose" or e.term == self.term]
        self.inherited = []
        self.applied_term = self.term

    def commit(self) -> None:
        """Some command is applied: of the node at any time, of a leader only in its term."""
        ready = [
            e
            for e in self.pending
            if e.kind != "lose"
            or (e.term == self.term == self.applied_term)
            or not self.rules.only_term
        ]
        if ready:
            self.apply(self.rng.choice(ready))

    def apply(self, entry: Entry) -> None:
        if entry in self.pending:
            self.pending.remove(entry)
        self.index += 1
        state = self.state
        if entry.kind == "lose":
            if state.present and state.leased and state.epoch == entry.epoch:
                state.present, state.leased = False, False
                self.losses += 1
        elif entry.kind == "lease":
            if state.present:
                state.leased, state.epoch = True, self.index
        elif state.present or entry.kind == "join-cleared":
            state.leased = entry.kind == "join-cleared" or state.leased
            state.present, state.epoch = True, self.index
        self.history.append(State(**vars(state)))

    def confirm(self, hub: int, begun_term: int) -> bool:
        """Did a majority acknowledge this hub's term after the round began?"""
        term = self.hubs[hub].believes
        if term is None or not self.rules.confirms:
            return term is not None
        applied = self.applied_term >= begun_term or not self.rules.own_term_applied
        return term == begun_term and self.led_by[begun_term] == hub and applied

    # -- what hubs do ----------------------------------------------------------------------------

    def refresh(self, index: int) -> None:
        """A hub learns who leads; the leader's replica has all that it has committed."""
        hub = self.hubs[index]
        if self.leader == index:
            hub.believes = self.term
            hub.grantor.led(self.term, hub.offset_s + hub.rate * self.now_s)
        elif self.rng.random() < 0.1:
            hub.believes = None
            hub.grantor.stopped()

    def seen_by(self, index: int) -> State:
        hub = self.hubs[index]
        if self.leader == index and self.applied_term == self.term:
            hub.state = State(**vars(self.state))
        return hub.state

    def look(self, index: int) -> None:
        """The leader's task: who is overdue?"""
        hub = self.hubs[index]
        if hub.believes is None:
            return
        hub.grantor.led(hub.believes, self.hub_clock(index))
        state = self.seen_by(index)
        nodes = [("n", state.epoch)] if state.present and state.leased else []
        for _, epoch in hub.grantor.overdue(self.hub_clock(index), nodes):
            entry = Entry("lose", hub.believes, epoch)
            late = hub.believes < self.applied_term and self.rules.only_term
            if entry not in self.pending and not late:
                self.pending.append(entry)

    def hub_clock(self, index: int) -> float:
        hub = self.hubs[index]
        return hub.offset_s + hub.rate * self.now_s

    # -- what the node does ----------------------------------------------------------------------

    def send(self) -> None:
        """Renew, of either hub; more often than is due, which must not matter."""
        if self.view.present:
            number = self.holder.sent(self.clock())
            hub = self.rng.randrange(2)
            self.wire.append(("renew", hub, self.view.epoch, number, self.holder))

    def restart(self) -> None:
        """The node's hub starts anew; the fence lives on."""
        self.holder = self.rules.holder()

    @property
    def view(self) -> State:
        return self.history[self.seen]

    def catch_up(self) -> None:
        """The node's replica applies some more; where it is present something is started."""
        self.seen = self.rng.randint(self.seen, len(self.history) - 1)
        self.runs = self.runs or self.view.present

    def come_under_lease(self) -> None:
        """A barrier; if it shows no lease, the fence gets one from before it; then the command."""
        before_s = self.clock()
        self.wire.append(("barrier", before_s))

    def barrier_done(self, before_s: float) -> None:
        self.seen = len(self.history) - 1
        lost = not self.view.present
        if self.view.leased:
            return
        if lost:
            self.holder.drop()
            self.fence_s, self.fence_none, self.runs = NEVER_S, False, False
        if self.rules.arms_before:
            self.arm(before_s + LEASE_S)
        else:
            self.wire.append(("arm",))
        self.pending.append(Entry("join-cleared" if lost else "lease"))

    def arm(self, deadline_s: float) -> None:
        self.fence_s = deadline_s if self.fence_none else max(self.fence_s, deadline_s)
        self.fence_none = False

    def rejoin(self) -> None:
        """Lost, as its replica says: the same with a cleared fence.  Else its hub began anew."""
        if not self.view.present:
            self.come_under_lease()
        elif self.rng.random() < 0.2:
            self.pending.append(Entry("join"))

    # -- messages --------------------------------------------------------------------------------

    def deliver(self) -> None:
        if not self.wire:
            return
        place = 0 if self.calm else self.rng.randrange(len(self.wire))
        message = self.wire[place]
        if self.calm or self.rng.random() < 0.8:
            del self.wire[place]  # else it comes again
        match message:
            case ("renew", hub, epoch, number, holder):
                believes = self.hubs[hub].believes
                begun = self.term if self.rules.confirms_after_receipt else believes
                if believes is not None:
                    self.wire.append(("confirming", hub, epoch, number, begun, holder))
            case ("confirming", hub, epoch, number, begun, holder):
                self.answer(hub, epoch, number, begun, holder)
            case ("granted", number, holder):
                deadline_s = holder.granted(number)
                if deadline_s is not None and holder is self.holder:
                    self.arm(deadline_s)
            case ("refused", number, holder):
                holder.refused(number, self.clock())
            case ("barrier", before_s):
                self.barrier_done(before_s)
            case ("arm",):
                self.arm(self.clock() + LEASE_S)

    def answer(self, hub: int, epoch: int, number: int, begun: int, holder: Holder) -> None:
        granted = False
        if self.confirm(hub, begun):
            state = self.seen_by(hub)
            term = self.hubs[hub].believes
            assert term is not None
            if state.present and state.epoch == epoch:
                now_s = self.hub_clock(hub)
                granted = self.hubs[hub].grantor.grant(term, "n", epoch, now_s)
        self.grants += granted
        self.wire.append(("granted" if granted else "refused", number, holder))

    # -- time ------------------------------------------------------------------------------------

    def check(self) -> None:
        """The promise: nothing may run where the state says that nothing runs."""
        if self.state.present or not self.runs:
            return
        left_s = (self.fence_s - self.clock()) / self.rate + self.rules.kill_s
        assert not self.fence_none, "lost without a deadline"
        assert left_s <= 0, f"lost, but it may run for {left_s:.3f} s more"

    def step(self) -> None:
        rng = self.rng
        self.now_s += rng.choice([0.0] * 9 + [0.01, 0.1, 0.25, 0.5, rng.uniform(0, 4)])
        self.check()
        busy = [self.deliver] * 6 + [self.send] * 3 + [self.commit] * 2 + [self.own_entry]
        busy += [lambda: self.look(0), lambda: self.look(1)] * 2
        busy += [lambda: self.refresh(0), lambda: self.refresh(1), self.catch_up]
        if not self.state.leased and self.state.present:
            busy += [self.come_under_lease]
        if rng.random() < (0.1 if self.calm else 0.6):
            busy += [self.elect, self.restart, self.rejoin, self.rejoin]
        rng.choice(busy)()
        self.check()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


# -- rules switched off --------------------------------------------------------------------------


class CountsFromTheAnswer(Holder):
    """The lease begins when the answer comes."""

    def granted(self, number: int) -> float | None:
        if super().granted(number) is None:
            return None
        self.deadline_s = self.next_s - RENEW_S + LEASE_S + 0.9
        return self.deadline_s


class NoWaitOfANewLeader(Grantor):
    """Whoever leads since a moment ago takes silence for loss."""

    def overdue(self, now_s: float, nodes: Any) -> list[tuple[str, int]]:
        nodes = list(nodes)
        for name, epoch in nodes:
            self._epochs.setdefault(name, epoch)
        self._led_s = NEVER_S if self._term is None else self._led_s - LEASE_S - MARGIN_S
        return super().overdue(now_s, nodes)


class NoMargin(Grantor):
    """The margin is not waited for."""

    def overdue(self, now_s: float, nodes: Any) -> list[tuple[str, int]]:
        return super().overdue(now_s + MARGIN_S, nodes)


class GrantsWhileClosing(Grantor):
    """Grants to whom it has begun to declare lost."""

    def grant(self, term: int, node: str, epoch: int, now_s: float) -> bool:
        self._closing.pop(node, None)
        return super().grant(term, node, epoch, now_s)


class ForgetsGrants(Grantor):
    """Counts only from the beginning of its leadership."""

    def grant(self, term: int, node: str, epoch: int, now_s: float) -> bool:
        granted = super().grant(term, node, epoch, now_s)
        self._heard.pop(node, None)
        return granted


class NewEpochsAreNotCounted(Grantor):
    """Counts from the last grant even for a life that began later."""

    def overdue(self, now_s: float, nodes: Any) -> list[tuple[str, int]]:
        nodes = list(nodes)
        for name, epoch in nodes:
            self._epochs[name] = epoch
        return super().overdue(now_s, nodes)


def rules(**changes: Any) -> type[Rules]:
    return type("Changed", (Rules,), changes)


MUTANTS = {
    "the lease begins with the answer": rules(holder=CountsFromTheAnswer),
    "a new leader does not wait": rules(grantor=NoWaitOfANewLeader),
    "no margin": rules(grantor=NoMargin),
    "grants while closing": rules(grantor=GrantsWhileClosing),
    "grants are not noted": rules(grantor=ForgetsGrants),
    "new epochs are not counted": rules(grantor=NewEpochsAreNotCounted),
    "leadership is not confirmed": rules(confirms=False),
    "confirmed once in the term": rules(confirms_after_receipt=False),
    "confirmed before an own entry is applied": rules(own_term_applied=False),
    "lost in any term": rules(only_term=False),
    "the fence is armed late": rules(arms_before=False),
}


# -- one side alone ------------------------------------------------------------------------------


def test_a_renewal_is_due_at_once_then_soon_until_granted_then_in_the_usual_rhythm() -> None:
    holder = Holder()
    assert holder.due(-5.0)
    first = holder.sent(100.0)
    assert not holder.due(100.0 + RETRY_S / 2)
    assert holder.due(100.0 + RETRY_S)
    assert holder.granted(first) == 100.0 + LEASE_S
    assert holder.next_s == 100.0 + RENEW_S
    second = holder.sent(100.5)
    holder.refused(second, 100.6)
    assert holder.next_s == 100.6 + RETRY_S
    holder.hurry()
    assert holder.due(100.6)


@pytest.mark.parametrize(
    ("wanted_s", "next_s"),
    [(100.5, 100.5), (100.0, 100.0 + RETRY_S), (-7.0, 100.0 + RETRY_S), (999.0, 100.0 + RENEW_S)],
)
def test_a_leader_may_ask_for_the_next_renewal_sooner_but_not_at_once_and_never_later(
    wanted_s: float, next_s: float
) -> None:
    holder = Holder()
    assert holder.granted(holder.sent(100.0), wanted_s) == 100.0 + LEASE_S
    assert holder.next_s == next_s


def test_a_lease_ends_at_its_deadline_and_not_later() -> None:
    holder = Holder()
    assert not holder.valid(0.0)
    holder.granted(holder.sent(100.0))
    assert holder.valid(100.0 + LEASE_S - 0.001)
    assert not holder.valid(100.0 + LEASE_S)


def test_answers_that_are_late_repeated_or_out_of_order_never_shorten_or_stretch_a_lease() -> None:
    holder = Holder()
    old, new = holder.sent(100.0), holder.sent(100.4)
    assert holder.granted(new) == 100.4 + LEASE_S
    assert holder.granted(old) is None
    assert holder.granted(new) is None
    assert holder.granted(77) is None
    late = holder.sent(101.0)
    holder.sent(101.0 + limits.RENEW_TIMEOUT_S + 0.1)
    assert holder.granted(late) is None
    assert holder.deadline_s == 100.4 + LEASE_S


def test_a_refusal_leaves_what_was_granted_and_giving_up_does_not() -> None:
    holder = Holder()
    holder.granted(holder.sent(100.0))
    holder.refused(holder.sent(100.5), 100.6)
    assert holder.valid(102.0)
    waiting = holder.sent(100.7)
    holder.drop()
    assert not holder.valid(100.7)
    assert holder.granted(waiting) is None


def test_nobody_is_overdue_before_a_leadership_has_lasted_a_lease_and_its_margin() -> None:
    grantor = Grantor()
    assert grantor.overdue(0.0, [("n1", 5)]) == []
    grantor.led(7, 100.0)
    grantor.overdue(100.0, [("n1", 5)])
    assert grantor.overdue(100.0 + LEASE_S + MARGIN_S, [("n1", 5)]) == []
    assert grantor.overdue(100.1 + LEASE_S + MARGIN_S, [("n1", 5)]) == [("n1", 5)]


def test_who_is_overdue_is_granted_nothing_more_until_it_lives_anew() -> None:
    grantor = Grantor()
    grantor.led(7, 100.0)
    grantor.overdue(100.0, [("n1", 5), ("n2", 6)])
    assert grantor.grant(7, "n2", 6, 103.0)
    assert grantor.overdue(103.1, [("n1", 5), ("n2", 6)]) == [("n1", 5)]
    assert not grantor.grant(7, "n1", 5, 103.2)
    assert grantor.overdue(103.3, [("n1", 5), ("n2", 6)]) == [("n1", 5)]
    assert grantor.grant(7, "n1", 9, 103.4)
    assert grantor.overdue(103.5, [("n1", 9), ("n2", 6)]) == []
    assert grantor.age_s("n1", 104.0) == pytest.approx(0.5)


def test_a_term_begins_with_nothing_of_the_one_before() -> None:
    grantor = Grantor()
    assert grantor.grant(7, "n1", 5, 100.0)
    grantor.led(8, 101.0)
    assert grantor.age_s("n1", 102.0) is None
    assert grantor.overdue(103.9, [("n1", 5)]) == []
    assert grantor.overdue(107.0, [("n1", 5)]) == [("n1", 5)]
    grantor.led(9, 108.0)
    assert grantor.grant(9, "n1", 5, 108.0)
    grantor.stopped()
    assert grantor.overdue(200.0, [("n1", 5)]) == []


def test_a_node_that_is_gone_is_forgotten() -> None:
    grantor = Grantor()
    grantor.led(7, 100.0)
    grantor.overdue(100.0, [("n1", 5)])
    grantor.grant(7, "n1", 5, 101.0)
    grantor.overdue(101.0, [])
    assert grantor.age_s("n1", 102.0) is None


# -- both, in the world --------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_at_no_time_is_a_lease_valid_that_somebody_counted_as_ended(rng: Random) -> None:
    World(rng).run(120)


def test_the_same_for_many_long_histories_in_which_both_losses_and_grants_happen() -> None:
    losses = grants = 0
    for seed in range(800):
        world = World(Random(seed))
        world.run(500)
        losses += world.losses
        grants += world.grants
    assert losses > 1_000
    assert grants > 2_000


@pytest.mark.parametrize("name", MUTANTS)
def test_each_rule_is_needed(name: str) -> None:
    """With the rule switched off some history shows a node that runs and is taken for lost."""
    for seed in range(3_000):
        world = World(Random(seed), MUTANTS[name])
        try:
            world.run(500)
        except AssertionError:
            return
    raise AssertionError(f"{name}: not noticed")
