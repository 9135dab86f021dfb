"""What must hold after every event, over all replicas and all their lives.

  one-leader            one leader in a term
  log-matching          an index and a term name one entry with one predecessor, in every log
  committed-fixed       at a committed index always the same entry, on every replica, for ever
  indices-monotonic     applied <= commit <= last; within one life neither goes back
  leader-complete       a new leader has every entry that was committed in an earlier term
  term-vote-kept        term and vote never go back, not even over a restart
  one-configuration     at most one configuration of a log is not committed yet
  state-equal           equal applied index, equal state
  applied-once          no command is applied twice
  acknowledged-kept     what a client was told is committed, and in the state of whoever applied it
  linearizable          what clients saw has an explanation (history.py), at the end
  confirmed-leads       who is confirmed as leader was not succeeded before it asked
  leader-kept           when all is well but one follower, that one does not depose the leader
  converged             all agree within a time after the faults end; a leader sooner

Each evaluation is counted: an invariant that a run never evaluated fails the run.  `Broken` names
the one that does not hold.

The checks look at the replica through its public face and its journal; they change nothing.
Raft thesis §3.5-3.7 (figure 3.2), §4.1.
"""

from __future__ import annotations

from typing import Protocol

from paas.raft.configuration import CONFIGURATION
from paas.raft.journal import Entry
from paas.raft.syncobj import Replica
from paas.sim.consensus.objects import Objects
from paas.sim.replicas import Broken

NAMES = (
    *("one-leader", "log-matching", "committed-fixed", "indices-monotonic", "leader-complete"),
    *("term-vote-kept", "one-configuration", "state-equal", "applied-once", "acknowledged-kept"),
    *("confirmed-leads", "linearizable", "leader-kept", "converged"),
)


class Watched(Protocol):
    """A replica under watch, in one of its lives."""

    name: str
    replica: Replica
    objects: Objects
    appended: list[Entry]
    """Entries that came into its log since the last look."""


Place = tuple[int, int, int, int]
"""How far a replica is: its term, and the indices of commit, state and log."""


class _Life:
    """What was seen of one life."""

    __slots__ = ("applied", "checked", "commit", "leads")

    def __init__(self) -> None:
        self.commit = self.applied = self.leads = 0
        self.checked = 1


class Invariants:
    """See the module's text."""

    def __init__(self) -> None:
        self.evaluated = dict.fromkeys(NAMES, 0)
        self.committed: dict[int, Entry] = {}
        self.committed_max = 0
        self._committed_in: dict[int, int] = {}
        """The term in which an entry was committed, often a later one than its own.  Votes may be
        long under way: who gets a majority of an old term late need not have what a leader of a
        later term has committed since.
        """
        self._leaders: dict[int, str] = {}
        self._elected_s: dict[int, float] = {}
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._digests: dict[int, int] = {}
        self._votes: dict[str, tuple[int, str | None]] = {}
        self._lives: dict[str, _Life] = {}

    # -- events ------------------------------------------------------------------------------------

    def booted(self, name: str, replica: Replica, *, empty: bool = False) -> None:
        """A replica starts from its disk; `empty`: from a new one."""
        self.evaluated["term-vote-kept"] += 1
        if empty:
            self._votes.pop(name, None)
        term, vote = self._votes.get(name, (0, None))
        if replica.term < term:
            raise Broken(f"term-vote-kept: {name} forgot term {term}, is in {replica.term}")
        if replica.term == term and vote is not None and replica.journal.voted_for != vote:
            raise Broken(f"term-vote-kept: {name} forgot its vote for {vote} in term {term}")
        self._lives[name] = _Life()

    def check(self, member: Watched, place: Place, now_s: float) -> None:
        """After a step: everything about one replica."""
        replica, evaluated = member.replica, self.evaluated
        term, commit, applied, last = place
        journal = replica.journal
        evaluated["term-vote-kept"] += 1
        if not journal.dirty:  # else it is not promised to anybody yet
            vote = term, journal.voted_for
            if self._votes.get(member.name) != vote:
                self._check_vote(member.name, *vote)
        if member.appended:
            self._check_appended(member)
        life = self._lives[member.name]
        evaluated["indices-monotonic"] += 1
        if commit < life.commit or applied < life.applied:
            raise Broken(
                f"indices-monotonic: {member.name} went back from {life.commit}, {life.applied}"
                f" to {commit}, {applied}"
            )
        if not applied <= commit <= last:
            text = f"applied {applied}, commit {commit}, last {last}"
            raise Broken(f"indices-monotonic: {member.name}: {text}")
        if commit > life.commit:
            life.commit = commit
            self._check_committed(member.name, replica, life)
        if applied > life.applied:
            life.applied = applied
            self._check_state(member, applied)
        if replica.is_leader:
            evaluated["one-leader"] += 1
            if self._leaders.setdefault(term, member.name) != member.name:
                leaders = f"{member.name} and {self._leaders[term]}"
                raise Broken(f"one-leader: {leaders} lead in term {term}")
            if life.leads != term:
                life.leads = term
                self._elected_s[term] = now_s
                self._check_complete(member.name, replica, term)

    def _check_vote(self, name: str, term: int, vote: str | None) -> None:
        was_term, was_vote = self._votes.get(name, (0, None))
        if term == was_term and vote == was_vote:
            return
        if term < was_term or (term == was_term and was_vote is not None):
            raise Broken(
                f"term-vote-kept: {name} went from {was_term}, {was_vote} to {term}, {vote}"
            )
        self._votes[name] = (term, vote)

    def _check_appended(self, member: Watched) -> None:
        """Log matching: by induction, if (index, term) names entry and predecessor everywhere."""
        replica = member.replica
        for entry in member.appended:
            payload, index, term = entry
            before = replica.term_at(index - 1)
            if replica.term_at(index) != term or before is None:
                continue  # dropped again in the same step, or the first after a snapshot
            self.evaluated["log-matching"] += 1
            first = self._entries.setdefault((index, term), (payload, before))
            if first != (payload, before):
                raise Broken(
                    f"log-matching: {member.name} has another entry at {index}, term {term}"
                )
            if payload[0] == CONFIGURATION:
                self._check_configurations(member.name, replica)
        member.appended.clear()

    def _check_configurations(self, name: str, replica: Replica) -> None:
        self.evaluated["one-configuration"] += 1
        known = max(self.committed_max, replica.commit_index)
        skip = max(0, known + 1 - replica.first_index)
        waiting = [e[1] for e in replica.journal.entries[skip:] if e[0][0] == CONFIGURATION]
        if len(waiting) > 1:
            raise Broken(f"one-configuration: {name} has uncommitted ones at {waiting}")

    def _check_committed(self, name: str, replica: Replica, life: _Life) -> None:
        first = replica.first_index
        begin = max(first, life.checked)
        for entry in replica.journal.entries[begin - first : life.commit + 1 - first]:
            self.evaluated["committed-fixed"] += 1
            if self.committed.setdefault(entry[1], entry) != entry:
                raise Broken(f"committed-fixed: {name} has another entry at index {entry[1]}")
            self._committed_in.setdefault(entry[1], replica.term)
        life.checked = life.commit + 1
        self.committed_max = max(self.committed_max, life.commit)

    def _check_state(self, member: Watched, applied: int) -> None:
        objects = member.objects
        self.evaluated["state-equal"] += 1
        if self._digests.setdefault(applied, objects.digest) != objects.digest:
            raise Broken(f"state-equal: {member.name} differs at {applied}")
        self.evaluated["applied-once"] += 1
        if objects.repeated:
            raise Broken(f"applied-once: {member.name} applied a command twice")

    def _check_complete(self, name: str, replica: Replica, term: int) -> None:
        first = replica.first_index
        for index in range(self.committed_max, first - 1, -1):
            entry = self.committed.get(index)
            if entry is None or self._committed_in[index] >= term:
                continue
            self.evaluated["leader-complete"] += 1
            if replica.term_at(index) != entry[2]:
                raise Broken(f"leader-complete: {name} leads term {term} without entry {index}")

    def acknowledged(self, member: Watched, identity: str) -> None:
        """A client is told that its command is done."""
        self.evaluated["acknowledged-kept"] += 1
        if identity not in member.objects.applied:
            raise Broken(f"acknowledged-kept: {member.name} tells of {identity}, and has it not")

    def confirmed(self, name: str, term: int, asked_s: float) -> None:
        """A majority confirmed, after this moment, that it follows the leader of this term."""
        self.evaluated["confirmed-leads"] += 1
        for later, elected_s in self._elected_s.items():
            if later > term and elected_s < asked_s:
                text = f"{name} asked at {asked_s:.3f}, term {later} began at {elected_s:.3f}"
                raise Broken(f"confirmed-leads: {text}")

    # -- the end -----------------------------------------------------------------------------------

    def require(self, name: str, holds: bool, text: str) -> None:
        self.evaluated[name] += 1
        if not holds:
            raise Broken(f"{name}: {text}")
