"""The way out of a lost quorum: one replica is made the only voter, by hand, while it is stopped.

When a majority of the voters is gone for good, no change can be committed, not even the one that
would remove them.  `force_configuration` then adds to this replica's own journal, in a new term, an
entry that says: I alone vote.  At its next start the replica elects itself and commits what it has.

That breaks the promise of the log on purpose, so what may be lost is told:

  - commands that the lost majority had acknowledged and this replica never received;
  - nothing that this replica has: entries that were never acknowledged become part of the log.

The other replicas must not come back with their old journals: they may have other entries at the
same places, or believe that they are a majority.  They join anew, with empty directories.  Of
several survivors the one with the largest last term and index (`Recovered`) loses least.

Runs offline and blocks on the disk.  Whether to do it is asked outside of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Entropy, Files
from paas.raft import configuration, snapshot
from paas.raft.configuration import NOBODY, Configuration, History
from paas.raft.journal import SALT_BYTES, Journal
from paas.raft.syncobj import Replica

T = TypeVar("T")


@runtime_checkable
class _Lockable(Protocol):
    """A directory on a real machine, which one process at a time uses."""

    def lock(self) -> None: ...

    def unlock(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Survivor:
    """What one stopped replica has."""

    last_index: int
    last_term: int
    commit_index: int
    """At least so much was committed; commands behind it may be lost, or may come to be."""

    members: Configuration


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was there before, and where the forced configuration stands."""

    before: Survivor
    index: int
    term: int


def examine(files: Files, *, entropy: Entropy) -> Survivor:
    """What this replica has; changes nothing but the tail that a crash tore.

    Raises `conflict` when a process uses the directory, `corrupt`, `no-such-target`.
    """
    return _with_journal(files, entropy, _survivor)


def force_configuration(files: Files, *, node: str, entropy: Entropy) -> Recovered:
    """Make `node` the only voter of the log in this directory; it must be stopped.

    Raises `conflict` when a process uses the directory, or when the log does not know `node`;
    `corrupt`; `no-such-target` when there is no log; `invalid` for a name that cannot be.
    """
    if not node:
        raise invalid("node", "the name of this node")
    return _with_journal(files, entropy, lambda journal, known: _force(journal, known, node))


def _with_journal(files: Files, entropy: Entropy, work: Callable[[Journal, History], T]) -> T:
    lock = files if isinstance(files, _Lockable) else None
    if lock is not None:
        lock.lock()
    try:
        if not files.exists("journal"):
            raise PlatformError("no-such-target", "there is no log in this directory")
        journal = Journal.open(files, salt=entropy.bytes(SALT_BYTES))
        try:
            return work(journal, _history(files, journal))
        finally:
            journal.close()
    finally:
        if lock is not None:
            lock.unlock()


def _history(files: Files, journal: Journal) -> History:
    """Which configurations the snapshot and the journal name."""
    data = snapshot.SnapshotFile(files).read()
    made = None if data is None else snapshot.decode(data)
    snapshot.align(journal, made)
    history = History(NOBODY if made is None else made.configuration)
    history.read(journal.entries)
    return history


def _survivor(journal: Journal, history: History) -> Survivor:
    term = journal.entries[-1][2] if journal.entries else 0
    return Survivor(journal.last_index, term, journal.commit_index, history.latest)


def _force(journal: Journal, history: History, node: str) -> Recovered:
    before = _survivor(journal, history)
    if journal.last_index < 2:
        raise PlatformError("no-such-target", "the log in this directory is empty")
    if before.members.members and node not in before.members.members:
        text = f"this log is not of {node}"
        raise PlatformError("conflict", text, members=list(before.members.members))
    term, index = journal.term + 1, journal.last_index + 1
    payload = configuration.encode(configuration.make([node], index=index))
    if not journal.reserve(Replica.needs_bytes(payload)):
        raise PlatformError("storage-full")
    journal.set_term(term, node)
    journal.append(payload, index, term)
    journal.sync()
    return Recovered(before, index, term)
