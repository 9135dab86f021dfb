"""The rules T1-T7: what has to be put right in messages so that the library keeps to Raft.

The library decides; these rules stand between it and the network, in both directions.  Each
closes a hole by which an acknowledged write was lost or a replica left behind for good, shown by
scripts on the bare library (docs/internals/raft.md tells the stories,
tests/unit/raft/test_scenarios.py runs them):

  T1  An acknowledgement carries the term of its sender; one of another term is dropped.  (P04)
  T2  An append carries a number that its answer echoes; a rejection of an append that was sent
      before the last accepted rejection moves nothing.  (P12, livelock)
  T3  A rejection inside our log asks for what follows our commit index: safe, since every leader
      has all committed entries, and one round trip instead of one for each entry.  (P13)
  T4  Entries that we hold are taken off an append before the library sees it, which would cut
      our log behind them, even for a heartbeat.  What is left conflicts, or is new, or is
      nothing: then the append becomes a heartbeat at our own end that confirms no more than was
      compared.  A conflict at or below the commit index ends the process.  (P03)
  T5  A snapshot's messages carry no commit index: their log position was not compared.  (P02)
  T6  A snapshot names its last entry; who holds that entry, or has applied past it, keeps its
      log and says where to continue.  (P07)
  T7  One vote for each member and term.  (P14)

T0 (identity, schema, one live connection per peer) is in messages.py and transport.py.  Pure: one
object per replica, no input or output; `incoming` and `finished` bracket the library's handling of
one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from paas.raft.messages import (
    AppendEntries,
    AppendSnapshot,
    Message,
    NextIndex,
    ResponseVote,
)


class SafetyViolation(Exception):
    """Going on would contradict a committed entry: the process must end."""


class LogView(Protocol):
    """What the rules must know about the log of this replica."""

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def applied_index(self) -> int: ...

    @property
    def first_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    def term_at(self, index: int) -> int | None:
        """The term of the entry at this index; None if we do not hold it."""
        ...

    def is_member(self, peer: str) -> bool:
        """Does the log go to this peer?  Voters and observers."""
        ...

    def is_voter(self, peer: str) -> bool: ...


class Verdict(msgspec.Struct, frozen=True):
    """What the library gets to see of a message, and what is answered in its place."""

    message: Message | None
    replies: Sequence[Message] = ()


class Rules:
    """See the module's text."""

    def __init__(self, log: LogView) -> None:
        self._log = log
        self._sequence = 0
        self._floor: dict[str, int] = {}  # peer -> rejections of older appends move nothing (T2)
        self._votes: set[tuple[int, str]] = set()
        self._echo: int | None = None
        self._confirmed: int | None = None  # an acknowledgement confirms at most this index (T4)

    # -- to the network --------------------------------------------------------------------------

    def outgoing(self, peer: str, message: Message) -> Message:
        match message:
            case NextIndex():
                return self._answer(message)
            case AppendEntries():
                self._sequence += 1
                return replace(message, sequence=self._sequence)
            case AppendSnapshot():
                self._sequence += 1
                return replace(message, sequence=self._sequence, commit_index=0)
        return message

    def _answer(self, message: NextIndex) -> NextIndex:
        log, next_index = self._log, message.next_index
        if message.success and self._confirmed is not None:
            next_index = self._confirmed + 1
        if message.reset and not message.success and next_index <= log.last_index:
            next_index = min(next_index, max(log.commit_index, log.first_index) + 1)
        return NextIndex(next_index, message.reset, message.success, log.term, self._echo)

    # -- from the network ------------------------------------------------------------------------

    def incoming(self, peer: str, message: Message) -> Verdict:
        match message:
            case NextIndex():
                return Verdict(self._acknowledged(peer, message))
            case ResponseVote():
                return Verdict(self._voted(peer, message))
            case AppendEntries() if message.term >= self._log.term:
                self._echo = message.sequence
                return Verdict(self._appended(message))
            case AppendSnapshot() if message.term >= self._log.term:
                self._echo = message.sequence
                return self._offered(message)
            case AppendEntries() | AppendSnapshot():
                return Verdict(None, [self._heard(message)])
        return Verdict(message)

    def finished(self) -> None:
        """The library has handled the message of the last `incoming`."""
        self._echo = self._confirmed = None

    def _acknowledged(self, peer: str, message: NextIndex) -> NextIndex | None:
        if message.term != self._log.term or not self._log.is_member(peer):
            return None
        if message.reset:
            if (message.echo or 0) < self._floor.get(peer, 0):
                return replace(message, reset=False)
            self._floor[peer] = self._sequence + 1
        return message

    def _voted(self, peer: str, message: ResponseVote) -> ResponseVote | None:
        vote = (message.term, peer)
        if vote in self._votes or not self._log.is_voter(peer):
            return None
        self._votes = {v for v in self._votes if v[0] >= message.term} | {vote}
        return message

    def _appended(self, message: AppendEntries) -> AppendEntries:
        log = self._log
        index, term = message.previous_index, message.previous_term
        if index is None or term is None or log.term_at(index) != term:
            return message  # the library rejects it
        entries = message.entries
        held = 0
        while held < len(entries) and log.term_at(entries[held][1]) == entries[held][2]:
            index, term = entries[held][1], entries[held][2]
            held += 1
        rest = entries[held:]
        if rest and rest[0][1] <= log.commit_index:
            raise SafetyViolation(f"a leader contradicts the committed entry {rest[0][1]}")
        if not rest and log.last_index > index:
            self._confirmed = index
            return replace(
                message,
                previous_index=log.last_index,
                previous_term=log.term_at(log.last_index),
                entries=[],
                commit_index=min(message.commit_index, index),
            )
        if not held:
            return message
        return replace(message, previous_index=index, previous_term=term, entries=rest)

    def _heard(self, message: AppendEntries | AppendSnapshot) -> NextIndex:
        """An answer that confirms nothing: we live, and this is our term (P27)."""
        next_index = self._log.last_index + 1
        term = max(self._log.term, message.term)
        return NextIndex(next_index, False, False, term, message.sequence)

    def _offered(self, message: AppendSnapshot) -> Verdict:
        chunk, log = message.chunk, self._log
        if chunk is None:
            return Verdict(message)
        heard: list[Message] = [] if chunk.is_last else [self._heard(message)]
        held = log.term_at(chunk.last_index) == chunk.last_term
        if not held and chunk.last_index > log.applied_index:
            return Verdict(message, heard)
        nothing = replace(message, chunk=None, commit_index=0)
        if not chunk.is_last:
            return Verdict(nothing, heard)
        answer = NextIndex(chunk.last_index + 1, True, True, message.term, message.sequence)
        return Verdict(nothing, [answer])
