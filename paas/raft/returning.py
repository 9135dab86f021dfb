"""A replica whose log is gone comes back by itself, without breaking a promise it has forgotten.

A voter that forgot what it acknowledged, and for whom it voted, is worse than a dead one: it could
help somebody into office who lacks committed entries.  So a replica that joins with an empty log,
or whose damaged log was put aside (recovery.py), begins **mute**, and is let in by the leader:

    mute ── Returned(nonce), again and again ──> leader: in followers() as `returned`
     │                                             │  the keeper of the members makes it no voter
     │                                             │  when that is committed: a round of appends
     │ <── Welcome(nonce, term, entry) ────────────┘
    follows ── its log holds the entry ──> settled

  mute     every message but Welcome is dropped: nothing acknowledged, no vote, as if it were off
  follows  takes the log from leaders of that term or later; votes for nobody, stands for nothing
  settled  a replica like any other

Why that is enough.  Let d be the last committed configuration when the leader says Welcome; it
names this replica no voter.  The leader had a majority of d's voters confirm its term *after* the
nonce reached it, so until then no later term had a leader: whatever was committed is in its log, up
to the entry it names, on a majority without this replica.  Of what this replica had acknowledged
nothing else can be committed any more.  A leader of an earlier term, with older ideas of who votes,
finds no majority: the replica starts from the leader's term and with a vote for this leader.
Candidates who lack d count voters as they were; only settled ones answer them, and who is settled
holds d, and compares logs truly.

What a replica knows of this is in the file `returned`, durable before anything follows from it: the
nonce, and after the Welcome the *floor*, the entry that its log must hold.  A replica without a
journal never trusts an old floor, but begins anew with another nonce.

If a majority is damaged at once, nobody is left who could let them in: they stay mute, which is as
safe as off, and recover.py on the best survivor is the way out.

Source: the nonce and the silence are those of Liskov and Cowling, "Viewstamped Replication
Revisited" (2012), §4.3; Raft thesis §4.1, §6.4.  Times are given; the file is written by the step
that hears the Welcome.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from dataclasses import dataclass
from typing import Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Entropy, Files
from paas.raft.configuration import Configuration
from paas.raft.journal import Journal, JournalFailed
from paas.raft.limits import RETURNED_FORGOTTEN_S, RETURNED_REPEAT_S
from paas.raft.messages import Message, Returned, Welcome
from paas.raft.reads import Reads
from paas.raft.snapshot import SnapshotFile

logger = logging.getLogger(__name__)

FILE = "returned"
_MAGIC = b"paasback\x01"
_HEAD_BYTES = len(_MAGIC) + hashlib.sha256().digest_size
_NONCE_BYTES = 7


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file.  `floor` (index, term) is None before the Welcome."""

    nonce: int
    floor: tuple[int, int] | None = None
    term: int = 0
    leader: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Mark)


def _write(files: Files, mark: Mark) -> Mark:
    body = _encoder.encode(mark)
    SnapshotFile(files, FILE).write(_MAGIC + hashlib.sha256(body).digest() + body)
    return mark


def _read(files: Files) -> Mark | None:
    """Raises `corrupt`."""
    data = SnapshotFile(files, FILE).read()
    if data is None:
        return None
    body = data[_HEAD_BYTES:]
    good = data[:_HEAD_BYTES] == _MAGIC + hashlib.sha256(body).digest()
    try:
        if good:
            return _decoder.decode(body)
    except msgspec.MsgspecError:
        pass
    raise PlatformError("corrupt", f"the file {FILE} of the log does not match its digest")


def begin(files: Files, entropy: Entropy) -> Mark:
    """From now on what is in this directory counts for nothing; durable.  Raises `storage-full`."""
    mark = Mark(nonce=int.from_bytes(entropy.bytes(_NONCE_BYTES), "big"))
    try:
        return _write(files, mark)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlatformError(
                "storage-full", f"no room to write the file {FILE} of the log"
            ) from exc
        raise


def recover(files: Files, entropy: Entropy, *, join: bool) -> Mark | None:
    """The mark of this replica before its journal is opened; None: it never returned.

    One that joins, or did return, and has no journal, begins anew.  Raises `corrupt`,
    `storage-full`.
    """
    SnapshotFile(files, FILE).clean()
    mark = _read(files)
    if not files.exists("journal") and (join or mark is not None):
        return begin(files, entropy)
    return mark


class Host(Protocol):
    """What the way back must know of the replica, and what it has it do."""

    reads: Reads
    journal: Journal

    @property
    def node(self) -> str: ...

    @property
    def is_leader(self) -> bool: ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def configuration(self) -> Configuration: ...

    @property
    def own_term_committed(self) -> bool: ...

    def term_at(self, index: int) -> int | None: ...

    def connected_peers(self) -> list[str]: ...

    def begin_round(self) -> int: ...

    def post(self, peer: str, message: Message) -> None: ...

    def adopt_term(self, term: int, voted_for: str) -> None: ...


@dataclass(slots=True)
class _Guest:
    """On the leader: somebody who asks to be let in."""

    nonce: int
    heard_s: float
    term: int = 0
    sequence: int | None = None


class Returning:
    """See the module's text: one for each replica, both sides."""

    def __init__(self, host: Host, files: Files, mark: Mark | None) -> None:
        self._host = host
        self._files = files
        self._take(mark)
        self._settled = mark is None
        self._next_s = 0.0
        self._guests: dict[str, _Guest] = {}

    # -- the one that returned -------------------------------------------------------------------

    def _take(self, mark: Mark | None) -> None:
        self._mark = mark
        self.mute = mark is not None and mark.floor is None

    @property
    def nonce(self) -> int | None:
        """By which it asks to be let in; None: it never had to."""
        return None if self._mark is None else self._mark.nonce

    @property
    def settled(self) -> bool:
        """Does its log hold everything that it may have promised in another life?"""
        if not self._settled and self._mark is not None and self._mark.floor is not None:
            index, term = self._mark.floor
            entries = self._host.journal.entries  # none while a snapshot is being taken over
            if entries:
                self._settled = entries[0][1] > index or self._host.term_at(index) == term
        return self._settled

    def started(self) -> None:
        """The journal is there: it must not know less than the Welcome said."""
        mark = self._mark
        if mark is not None and mark.floor is not None and self._host.term < mark.term:
            self._host.adopt_term(mark.term, mark.leader)

    def takes(self, peer: str, message: Message, now_s: float) -> bool:
        """Is this dealt with here?  All is, as long as it is mute.  Raises JournalFailed."""
        if isinstance(message, Welcome):
            self._welcomed(peer, message)
        elif isinstance(message, Returned) and not self.mute:
            self._announced(peer, message, now_s)
        else:
            return self.mute
        return True

    def _welcomed(self, peer: str, message: Welcome) -> None:
        mark = self._mark
        if mark is None or not self.mute or message.nonce != mark.nonce:
            return
        floor = (message.index, message.index_term)
        mark = msgspec.structs.replace(mark, floor=floor, term=message.term, leader=peer)
        try:
            self._take(_write(self._files, mark))
        except OSError as exc:
            raise JournalFailed(f"the file {FILE} of the log: {exc}") from exc
        self.started()
        logger.warning("%s may follow the log again, from entry %d on", self._host.node, floor[0])

    # -- both ------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Say again what is to be said."""
        if self.mute and now_s >= self._next_s and self._mark is not None:
            self._next_s = now_s + RETURNED_REPEAT_S
            for peer in self._host.connected_peers():
                self._host.post(peer, Returned(self._mark.nonce))
        if not self._guests:
            return
        if not self._host.is_leader:
            self._guests.clear()
        for name in list(self._guests):
            self._receive(name, self._guests[name], now_s)

    def next_look_s(self) -> float | None:
        return self._next_s if self.mute else None

    # -- the leader ------------------------------------------------------------------------------

    def _announced(self, peer: str, message: Returned, now_s: float) -> None:
        guest = self._guests.get(peer)
        if guest is not None and guest.nonce == message.nonce:
            guest.heard_s = now_s
        elif self._host.is_leader:
            self._guests[peer] = _Guest(message.nonce, now_s)

    @property
    def has_guests(self) -> bool:
        """Does anybody ask to be let in?"""
        return bool(self._guests)

    def has_returned(self, name: str) -> bool:
        """Does this one ask to be let in?"""
        return name in self._guests

    def _receive(self, name: str, guest: _Guest, now_s: float) -> None:
        host = self._host
        if now_s - guest.heard_s > RETURNED_FORGOTTEN_S:
            del self._guests[name]
            return
        now = host.configuration
        if name in now.voters or not now.committed or not host.own_term_committed:
            guest.sequence = None
            return
        if guest.sequence is None or guest.term != host.term:
            guest.sequence, guest.term = host.begin_round(), host.term
        if host.reads.is_echoed(guest.sequence):
            index = host.commit_index
            entry_term = host.term_at(index)
            assert entry_term is not None, "the last committed entry is always held"
            host.post(name, Welcome(guest.nonce, host.term, index, entry_term))
            del self._guests[name]
