"""Several replicas of the log in one process: virtual time, links with delay and loss, crashes.

Runs the real replica (paas.raft.syncobj) in the real order of a step, without an event loop, so
that a minute of a cluster takes a fraction of a second and the same seed gives the same run.

    turn(name) = deliver what is due ─> append ─> sync ─> tick ─> sync ─> queue the outbox

After every turn the invariants are checked, over all replicas and all their earlier lives; the
first one broken raises `Broken` with its name:

  - one leader in a term;
  - at a committed index always the same entry, on every replica;
  - applied <= commit <= last; within one life neither goes back;
  - term and vote never go back, not even over a restart;
  - equal applied index, equal state;
  - no command is applied twice.

Whoever runs a scenario checks at its end that everything acknowledged is in every state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from paas.raft.command import Stamp, command, encode
from paas.raft.machine import Applied, Context, Machine
from paas.raft.messages import Message
from paas.raft.messages import decode as decode_message
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.sim.clock import SimClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy


@command(9_900)
class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Write a word into the list that the simulated cluster keeps."""

    word: str
    filler: str = ""


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Event: the list has a word more."""

    word: str


class Words:
    """A section that remembers in which order the words came."""

    name = "words"

    def __init__(self) -> None:
        self.words: list[str] = []
        self.commands: dict[type[Any], Callable[..., Any]] = {Note: self._note}

    def _note(self, cmd: Note, ctx: Context) -> int:
        self.words.append(cmd.word)
        ctx.emit(Noted(word=cmd.word))
        return len(self.words)

    def react(self, event: object, ctx: Context) -> None:
        return None

    def snapshot(self) -> Any:
        return list(self.words)

    def restore(self, plain: Any) -> None:
        self.words = list(plain)


class Broken(AssertionError):
    """An invariant does not hold."""


class PowerCut(BaseException):
    """The machine loses power here.  No handler in between may go on."""


class Bare:
    """No rules: what the library does by itself.  For showing that a scenario is dangerous."""

    def outgoing(self, peer: str, message: Message) -> Message:
        return message

    def incoming(self, peer: str, message: Message) -> Any:
        return _Seen(message)

    def finished(self) -> None:
        return None


class _Seen:
    def __init__(self, message: Message) -> None:
        self.message = message
        self.replies: list[Message] = []


class Cluster:
    """See the module's text.  `replicas` holds the living ones, `disks` all."""

    def __init__(
        self,
        names: Iterable[str],
        *,
        seed: int = 0,
        settings: Callable[[str], RaftSettings] | None = None,
        bare: bool = False,
        membership_changes: bool = False,
    ) -> None:
        self.names = list(names)
        self.clock = SimClock()
        self.entropy = SimEntropy(seed)
        self.disks = {name: SimDisk() for name in self.names}
        self.replicas: dict[str, Replica] = {}
        self.words: dict[str, Words] = {}
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.crashes = 0
        self.hold: Callable[[str, str, Message], bool] | None = None
        """Messages for which this is true are taken off the wire into `held`."""

        self.held: list[tuple[str, str, Message]] = []
        self.latency_s: Callable[[], float] = lambda: 0.0
        self._settings = settings or (lambda name: RaftSettings())
        self._bare = bare
        self._membership_changes = membership_changes
        self._cut: set[frozenset[str]] = set()
        self._links: dict[tuple[str, str], list[tuple[float, bytes]]] = {}
        self._up: set[frozenset[str]] = set()
        self._epoch = 0
        self._sequence = 0
        self._proposed: dict[tuple[str, int], str] = {}
        self._history = _History()
        for name in self.names:
            self.boot(name)

    # -- lives -----------------------------------------------------------------------------------

    def replace(self, name: str) -> Replica:
        """Begin on an empty disk, as a node that is to become a member."""
        self.disks[name] = SimDisk()
        self._history.emptied(name)
        return self.boot(name, join=True)

    def boot(self, name: str, *, join: bool = False) -> Replica:
        words = self.words[name] = Words()
        replica = Replica(
            files=self.disks[name],
            clock=self.clock,
            entropy=self.entropy,
            machine=Machine([words]),
            node=name,
            voters=self.names,
            join=join,
            settings=self._settings(name),
            membership_changes=self._membership_changes,
        )
        if self._bare:
            replica.rules = Bare()  # type: ignore[assignment]
            replica.log.on_membership = None
        self.replicas[name] = replica
        self._history.booted(name, replica)
        return replica

    def kill(self, name: str, *, power: bool = False) -> None:
        """End a replica at once; with `power` its disk loses what was not synced."""
        self.replicas.pop(name, None)
        self.disks[name].on_operation = None
        self.crashes += 1
        if power:
            self.disks[name].power_cut(self.entropy.choose)
        for link in [link for link in self._up if name in link]:
            self._disconnect(link)

    # -- links -----------------------------------------------------------------------------------

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        rest = list(others)
        self._cut |= {frozenset((a, b)) for a in some for b in rest}

    def heal(self) -> None:
        self._cut.clear()

    def reset(self, a: str, b: str) -> None:
        """The connection breaks; what was under way is lost; it comes back at once."""
        if frozenset((a, b)) in self._up:
            self._disconnect(frozenset((a, b)))

    def _disconnect(self, link: frozenset[str]) -> None:
        self._up.discard(link)
        a, b = sorted(link)
        self._links.pop((a, b), None)
        self._links.pop((b, a), None)
        for name, peer in ((a, b), (b, a)):
            if name in self.replicas:
                self.replicas[name].disconnected(peer, self._epoch)

    def connect(self) -> None:
        """Bring the connections to what the cuts and the living say."""
        for link in sorted(self._up, key=sorted):
            if link in self._cut:
                self._disconnect(link)
        alive = sorted(self.replicas)
        for i, a in enumerate(alive):
            for b in alive[i + 1 :]:
                link = frozenset((a, b))
                if link in self._cut or link in self._up:
                    continue
                self._up.add(link)
                self._epoch += 1
                self.replicas[a].connected(b, self._epoch)
                self.replicas[b].connected(a, self._epoch)

    def messages(self, source: str, target: str) -> list[Message]:
        """What is under way on a link."""
        return [decode_message(data) for _, data in self._links.get((source, target), [])]

    def drop_messages(self) -> None:
        self._links.clear()

    # -- steps -----------------------------------------------------------------------------------

    def propose(self, name: str, word: str, *, filler: str = "") -> None:
        """Propose a word at a replica; `acknowledged` tells what became of it."""
        self._sequence += 1
        identity = ("client", self._sequence)
        stamp = Stamp(self.clock.now_ms(), self.entropy.bytes(16), *identity)
        self._proposed[identity] = word
        replica = self.replicas[name]
        data = encode(Note(word=word, filler=filler), stamp)
        if not replica.is_leader or replica.journal.reserve(replica.needs_bytes(data)):
            replica.submit(data, identity)

    def deliver(self, source: str, target: str, count: int | None = None) -> int:
        """Let due messages of one link arrive; how many did."""
        queue = self._links.get((source, target), [])
        replica = self.replicas[target]
        done = 0
        while queue and queue[0][0] <= self.clock.monotonic_s() and done != count:
            _, data = queue.pop(0)
            message = decode_message(data)
            if self.hold is not None and self.hold(source, target, message):
                self.held.append((source, target, message))
                continue
            replica.receive(source, message)
            done += 1
        return done

    def turn(self, name: str, *, deliver: bool = True) -> None:
        """One step of a replica."""
        replica = self.replicas[name]
        if deliver:
            for source in self.names:
                if source != name:
                    self.deliver(source, name)
        replica.append()
        replica.journal.sync()
        replica.tick()
        replica.journal.sync()
        self.post(name)
        job = replica.take_snapshot_job()
        if job is not None:
            job()
        self._collect(name)
        self._history.check(name, replica, self.words[name])

    def post(self, name: str) -> None:
        """Put the outbox of a replica on the wire."""
        for peer, data in self.replicas[name].take_outbox():
            if frozenset((name, peer)) in self._up:
                due = self.clock.monotonic_s() + self.latency_s()
                self._links.setdefault((name, peer), []).append((due, data))

    def _collect(self, name: str) -> None:
        replica = self.replicas[name]
        for _, applied in replica.take_applied():
            self._acknowledge(applied)
        for identity, definite in replica.take_failures():
            if definite:
                self.refused.add(self._proposed[identity])

    def _acknowledge(self, applied: Applied) -> None:
        """Some replica has applied it, so its proposer may have been told."""
        if applied.identity is not None and applied.identity in self._proposed:
            self.acknowledged.add(self._proposed[applied.identity])

    def run(self, seconds: float, *, period_s: float = 0.05, only: Sequence[str] = ()) -> None:
        """Everybody takes turns for a while."""
        for _ in range(round(seconds / period_s)):
            self.clock.advance(period_s)
            self.connect()
            for name in sorted(self.replicas):
                if not only or name in only:
                    self.turn(name)

    # -- looking and nudging ---------------------------------------------------------------------

    def leaders(self) -> list[str]:
        return [name for name in sorted(self.replicas) if self.replicas[name].is_leader]

    def leader(self) -> str:
        found = self.leaders()
        if len(found) != 1:
            raise Broken(f"expected one leader, found {found}")
        return found[0]

    def stand(self, name: str) -> None:
        """The replica stands for election at its next tick."""
        self.replicas[name]._set("raftElectionDeadline", 0)

    def calm(self) -> None:
        """Nobody stands for election by itself for a long time."""
        for replica in self.replicas.values():
            replica._set("raftElectionDeadline", self.clock.monotonic_s() + 1e6)

    def compact(self, name: str) -> None:
        self.replicas[name].request_snapshot()

    def converged(self) -> bool:
        """Everybody lives under one leader and has the same state, with all acknowledged words."""
        states = {tuple(self.words[name].words) for name in self.names}
        everybody = len(self.replicas) == len(self.names) and len(self.leaders()) == 1
        return everybody and len(states) == 1 and self.acknowledged <= set(states.pop())


class _History:
    """What was seen so far, over all lives, and the invariants over it."""

    def __init__(self) -> None:
        self._leaders: dict[int, str] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._states: dict[int, int] = {}
        self._indices: dict[str, tuple[int, int]] = {}
        self._terms: dict[str, tuple[int, str | None]] = {}
        self._checked: dict[str, int] = {}

    def emptied(self, name: str) -> None:
        self._terms.pop(name, None)

    def booted(self, name: str, replica: Replica) -> None:
        term, vote = self._terms.get(name, (0, None))
        if replica.term < term:
            raise Broken(f"{name} forgot its term")
        if replica.term == term and vote is not None and replica.journal.voted_for != vote:
            raise Broken(f"{name} forgot its vote")
        self._indices[name] = (0, 0)
        self._checked[name] = 1

    def check(self, name: str, replica: Replica, words: Words) -> None:
        self._terms[name] = (replica.term, replica.journal.voted_for)
        if replica.is_leader and self._leaders.setdefault(replica.term, name) != name:
            raise Broken(f"two leaders in term {replica.term}")
        commit, applied = replica.commit_index, replica.applied_index
        was_commit, was_applied = self._indices[name]
        if commit < was_commit or applied < was_applied:
            raise Broken(f"{name} went back from {was_commit}, {was_applied}")
        if not applied <= commit <= replica.last_index:
            raise Broken(f"{name}: applied {applied}, commit {commit}, last {replica.last_index}")
        if applied == was_applied:
            return
        self._indices[name] = (commit, applied)
        self._check_entries(name, replica, applied)
        if self._states.setdefault(applied, hash(tuple(words.words))) != hash(tuple(words.words)):
            raise Broken(f"{name} differs at {applied}")
        if len(words.words) != len(set(words.words)):
            raise Broken(f"{name} applied a command twice")

    def _check_entries(self, name: str, replica: Replica, applied: int) -> None:
        first = replica.first_index
        for index in range(max(first, self._checked[name]), applied + 1):
            payload, _, term = replica.journal.entries[index - first]
            if self._committed.setdefault(index, (term, payload)) != (term, payload):
                raise Broken(f"{name} has another entry at the committed index {index}")
        self._checked[name] = applied + 1
