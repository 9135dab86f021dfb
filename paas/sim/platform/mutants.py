"""The rules switched off, one at a time: the proof that the simulation would notice.

Each mutant patches the real classes for as long as its `with` block lasts; the state machine, the
leases, the controller or the router do then what they promise not to do.  Which seed finds it is
named in `tests/simulation/test_platform_mutants.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from paas.base.errors import PlatformError
from paas.container.fence import Fence
from paas.controller import admission, adoption, restarts
from paas.controller.agent import Controller
from paas.controller.ends import Ends
from paas.controller.restarts import Policy
from paas.harness.messages import Event
from paas.harness.watches import WatchBook
from paas.hub.mailbox_box import Box
from paas.hub.mailbox_courier import Courier
from paas.hub.mailbox_keeper import MailboxKeeper
from paas.hub.routes import Far
from paas.hub.state import GroupState
from paas.node import leases
from paas.node.granting import Granting
from paas.node.leases import Grantor, Holder
from paas.node.limits import LEASE_S
from paas.node.messages import Renewed
from paas.raft.dedup import Results
from paas.sim.platform.kernel import Kernel

Patch = tuple[Any, str, Any]
"""Where, what, and what it becomes."""

_overdue = Grantor.overdue
_granted = Holder.granted
_join = GroupState._join
_tell = Far.tell
_compare = adoption.compare
_decide = restarts.decide
_event = WatchBook.event
_arrived = Courier.arrived
_answer = MailboxKeeper._answer
_fail = Box.fail


def _nothing(*_arguments: Any, **_fields: Any) -> None:
    return None


def _impatient(self: Grantor, now_s: float, nodes: Any) -> Any:
    """The leader waits for half a second instead of a lease and its margin."""
    module: Any = leases
    module.LEASE_S = 0.0
    try:
        return _overdue(self, now_s, nodes)
    finally:
        module.LEASE_S = LEASE_S


def _leads_at_once(self: Grantor, now_s: float, nodes: Any) -> Any:
    """A new leader takes every node for one that was silent since ever."""
    leased = list(nodes)
    for name, epoch in leased:
        self._epochs.setdefault(name, epoch)
    if self._term is not None:
        self._led_s = leases.NEVER_S
    return _overdue(self, now_s, leased)


def _long_lease(self: Holder, *answer: Any) -> float | None:
    """The node takes its lease for twice as long as it was granted."""
    deadline_s = _granted(self, *answer)
    if deadline_s is not None:
        self.deadline_s = deadline_s = deadline_s + LEASE_S
    return deadline_s


async def _granted_unasked(self: Granting, params: Any) -> Renewed:
    """Whoever believes to lead grants, without a round."""
    leadership = self._log.leadership
    node = self._register.get(params.node)
    if leadership is None:
        return self._refusal(params, "not-leader")
    if node is None or node.epoch != params.epoch or not (node.present and node.leased):
        return self._refusal(params, "lost")
    self._grantor.grant(leadership.term, params.node, params.epoch, self._clock.monotonic_s())
    return Renewed(number=params.number, granted=True)


def _never(_self: Any) -> bool:
    return False


def _first_of_all(self: GroupState, cmd: Any, ctx: Any) -> Any:
    """Everybody is told to be the first."""
    result = _join(self, cmd, ctx)
    return {**result, "positions": dict.fromkeys(result["positions"], 1)}


def _shared_claims(self: GroupState, cmd: Any, ctx: Any) -> Any:
    return _join(self, type(cmd)(component=cmd.component, groups=cmd.groups), ctx)


def _told_twice(self: Far, message: Any, clock: Any) -> None:
    _tell(self, message, clock)
    _tell(self, message, clock)


def _keeps_orphans(*arguments: Any) -> Any:
    return [v for v in _compare(*arguments) if not isinstance(v, adoption.Remove)]


def _patient(policy: Policy, *arguments: Any, **fields: Any) -> Any:
    return _decide(replace(policy, max_restarts=policy.max_restarts + 3), *arguments, **fields)


def _emit_again(
    self: Controller,
    peer: Any,
    number: int,
    *,
    component: str,
    name: str,
    reason: str,
    index: int,
    time_ms: int,
) -> None:
    """The watch stays, and is told of the next end as well."""
    event = Event(watch=number, index=index, event="down", component=component, reason=reason)
    try:
        self.watches.emit(peer, number, event)
        self.watches.emit(peer, number, event)
    except PlatformError:
        return


def _keeps_watch(self: WatchBook, params: bytes) -> Any:
    """The harness does not notice that a monitor fires a second time."""
    known = self._watches.copy(), self._by_hub_number.copy()
    found = _event(self, params)
    self._watches, self._by_hub_number = known
    return found


def _no_lanes(self: Courier, number: int, sender: str, **fields: Any) -> None:
    """The order of senders is not kept."""
    self._ordered = False
    _arrived(self, number, sender, **fields)


def _any_answer_will_do(self: MailboxKeeper, stored: Any, member: str, value: Any) -> None:
    """An error of the receiver counts as done."""
    failed = isinstance(value, PlatformError) and value.code == "failed"
    _answer(self, stored, member, b"\x80" if failed else value)


def _no_dead_letters(self: Box, cmd: Any, time_ms: int) -> Any:
    """Who dies is forgotten."""
    result = _fail(self, cmd, time_ms)
    self.dead.clear()
    return result


MUTANTS: dict[str, tuple[str, list[Patch]]] = {
    "lease-not-waited-for": (
        "a node is declared lost before its lease is over",
        [(Grantor, "overdue", _impatient)],
    ),
    "new-leader-at-once": (
        "a new leader does not wait for leases of the one before",
        [(Grantor, "overdue", _leads_at_once)],
    ),
    "lease-too-long": (
        "a node counts its lease for too long",
        [(Holder, "granted", _long_lease)],
    ),
    "stale-leader-grants": (
        "a leader grants leases without making sure that it leads",
        [(Granting, "answer", _granted_unasked)],
    ),
    "fence-ignored": (
        "nothing is killed when a lease ends",
        [(Kernel, "_watchdog", _nothing), (Fence, "ended", property(_never))],
    ),
    "ring-epoch-ignored": (
        "whoever believes to be primary places components",
        [(admission, "check_primary", _nothing)],
    ),
    "capacity-off": (
        "plans that were overtaken overfill nodes",
        [(admission, "check_room", _nothing)],
    ),
    "names-not-unique": (
        "a name is given away twice",
        [(admission, "check_names", _nothing)],
    ),
    "join-position-wrong": (
        "the position in a group is not that of the log",
        [(GroupState, "_join", _first_of_all)],
    ),
    "claims-shared": (
        "a unique place in a group is given to several",
        [(GroupState, "_join", _shared_claims)],
    ),
    "monitor-twice": (
        "a monitor fires and stays",
        [(Controller, "emit_down", _emit_again), (WatchBook, "event", _keeps_watch)],
    ),
    "orphan-not-removed": (
        "containers that nobody wants are left",
        [(adoption, "compare", _keeps_orphans)],
    ),
    "dedup-off": (
        "a repeated command is applied again",
        [(Results, "find", _nothing)],
    ),
    "restarts-unbounded": (
        "components are started more often than their policy allows",
        [(restarts, "decide", _patient)],
    ),
    "node-loss-forgotten": (
        "the components of a lost node are not placed again",
        [(Ends, "node_lost", _nothing)],
    ),
    "cast-sent-twice": (
        "a message between nodes is sent twice",
        [(Far, "tell", _told_twice)],
    ),
    "mailbox-unordered": (
        "messages of one sender are delivered side by side",
        [(Courier, "arrived", _no_lanes)],
    ),
    "mailbox-failure-is-done": (
        "a failed attempt is acknowledged",
        [(MailboxKeeper, "_answer", _any_answer_will_do)],
    ),
    "mailbox-dead-forgotten": (
        "messages that nobody could do are dropped",
        [(Box, "fail", _no_dead_letters)],
    ),
}


@contextmanager
def switched_off(name: str) -> Iterator[None]:
    """One rule does not hold inside."""
    _, patches = MUTANTS[name]
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, replacement in patches:
            setattr(owner, attribute, replacement)
        yield
    finally:
        for owner, attribute, original in before:
            setattr(owner, attribute, original)
