"""The rules switched off, one at a time: the proof that the simulation would notice.

Each mutant patches the real classes for as long as its `with` block lasts.  What the simulation
finds under it is named in `tests/simulation/test_raft_mutants.py`, with the seed that finds it; a
rule whose absence is too rare for random search is caught by its scenario there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from paas.raft import configuration, snapshot
from paas.raft.dedup import Results
from paas.raft.elections import Elections
from paas.raft.journal import Journal
from paas.raft.messages import AppendSnapshot, Message, NextIndex
from paas.raft.reads import Reads
from paas.raft.rules import Rules, Verdict
from paas.raft.syncobj import Replica
from paas.sim.consensus.members import Member

Patch = tuple[Any, str, Any]
"""Where, what, and what it becomes."""

_acknowledged = Rules._acknowledged
_outgoing = Rules.outgoing
_answer = Rules._answer


def _any_term(self: Rules, peer: str, message: NextIndex) -> NextIndex | None:
    return _acknowledged(self, peer, replace(message, term=self._log.term))


def _every_rejection(self: Rules, peer: str, message: NextIndex) -> NextIndex | None:
    self._floor.clear()
    return _acknowledged(self, peer, message)


def _step_by_step(self: Rules, message: NextIndex) -> NextIndex:
    answer = _answer(self, message)
    back = message.reset and not message.success
    return replace(answer, next_index=message.next_index) if back else answer


def _committing_snapshots(self: Rules, peer: str, message: Message) -> Message:
    sent = _outgoing(self, peer, message)
    if isinstance(sent, AppendSnapshot) and isinstance(message, AppendSnapshot):
        return replace(sent, commit_index=message.commit_index)
    return sent


def _synced_now_and_then(self: Member) -> None:
    """The step, with the journal made durable every half second, whatever was sent meanwhile."""
    replica = self.replica
    half_second = int(self._arena.now_s * 2)
    if replica.journal.dirty and self.__dict__.get("_synced") != half_second:
        self.__dict__["_synced"] = half_second
        replica.journal.sync()
    self._receive()
    self._submit()
    replica.append()
    replica.tick()
    self._send(replica.take_outbox())
    self._answer()
    job = replica.take_snapshot_job()
    if job is not None:
        self._arena.snapshot_begins(self, job)


def _unaligned(journal: Journal, made: snapshot.Snapshot | None) -> None:
    """As the library does: a journal that does not begin with the snapshot is cleared."""
    if made is None or journal.entries[:2] == [made.previous, made.last]:
        return
    journal.clear()
    for payload, index, term in (made.previous, made.last):
        journal.append(payload, index, term)
    journal.commit_index = made.index


def _any_change(self: Replica, voters: Any, observers: Any) -> int:
    with self._entered():
        return self._append(configuration.encode(configuration.make(voters, observers)))


def _always(*_arguments: Any) -> bool:
    return True


def _fresh_if_voting(self: Elections, now_s: float) -> bool:
    return self._host.node in self._host.voters


MUTANTS: dict[str, tuple[str, list[Patch]]] = {
    "T1": ("acknowledgements of any term count", [(Rules, "_acknowledged", _any_term)]),
    "T2": ("every rejection moves", [(Rules, "_acknowledged", _every_rejection)]),
    "T3": ("a rejection goes back one entry", [(Rules, "_answer", _step_by_step)]),
    "T4": (
        "an append cuts what it does not name",
        [(Rules, "_appended", lambda self, message: message)],
    ),
    "T5": ("a snapshot commits", [(Rules, "outgoing", _committing_snapshots)]),
    "T6": (
        "any snapshot is installed",
        [(Rules, "_offered", lambda self, message: Verdict(message))],
    ),
    "T7": ("every vote counts", [(Rules, "_voted", lambda self, peer, message: message)]),
    "K1": (
        "messages leave before the journal is durable",
        [(Member, "step", _synced_now_and_then)],
    ),
    "K2": ("journal and snapshot are not aligned", [(snapshot, "align", _unaligned)]),
    "K4": ("several changes of members at once", [(Replica, "change_configuration", _any_change)]),
    "K5": (
        "no pre-vote, no sticky leader",
        [
            (Elections, "may_stand", _fresh_if_voting),
            (Elections, "admits", _always),
        ],
    ),
    "K7": ("reads without a round", [(Reads, "_confirmed", _always)]),
    "K8": ("a repeated command is applied again", [(Results, "find", lambda *_arguments: None)]),
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
