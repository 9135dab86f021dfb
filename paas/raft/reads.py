"""Reads that see everything acknowledged before, without an entry of the log (ReadIndex, K7).

    asked here ──> leader: note the commit index, then a round of appends ──> a majority echoes it
                     ^                                                            │
    asked elsewhere ─┘ (ReadRequest)                            index, certainly current
                                                                                  │
                        answered once this replica has applied up to it <─────────┘

A leader may have been deposed without knowing, so its own state proves nothing.  An append that
was sent after the question came, and was echoed by a majority in the same term, does: nobody else
led before it was sent (Raft thesis §6.4).  The echo is that of rule T2.  Before the first entry of
its own term is committed a leader does not know the commit index, and its readers wait.

`confirm` is the leader's part alone: its answer is the term in which the round was made.

One round is under way at a time; who asks meanwhile shares the next, which begins at once.  A
replica that does not lead has one request under way, for all who wait; it is repeated when it is
refused or not answered, or another leader shows up.  Nobody waits in here: outcomes are taken.

Pure: times are given; messages go out through the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from paas.raft.limits import READ_REPEAT_S, READ_RETRY_S, READS_MAX
from paas.raft.messages import Message, ReadAnswer, ReadRequest


class Host(Protocol):
    """What reads must know of the replica, and what they have it do."""

    @property
    def node(self) -> str: ...

    @property
    def voters(self) -> tuple[str, ...]: ...

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader(self) -> str | None: ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def applied_index(self) -> int: ...

    @property
    def own_term_committed(self) -> bool: ...

    def begin_round(self) -> int:
        """Appends go out soon; their sequence numbers are this one or larger."""
        ...

    def post(self, peer: str, message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """`index` is applied here; None: this replica does not lead (only for `confirm`)."""

    number: int
    index: int | None
    term: int


@dataclass(slots=True)
class _Round:
    sequence: int
    term: int
    index: int
    local: list[tuple[int, bool]]
    remote: list[tuple[str, int]]


@dataclass(slots=True)
class _Request:
    number: int
    leader: str
    term: int
    sent_s: float
    local: list[tuple[int, bool]]


class Reads:
    """See the module's text."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asked: list[tuple[int, bool]] = []  # number, confirm only
        self._remote: list[tuple[str, int]] = []
        self._round: _Round | None = None
        self._request: _Request | None = None
        self._requests = 0
        self._retry_s = 0.0
        self._known: list[tuple[int, int, int]] = []  # number, index, term: to be applied
        self._outcomes: list[ReadOutcome] = []
        self._echoed: dict[str, int] = {}
        self._led_term = 0

    # -- in --------------------------------------------------------------------------------------

    def ask(self, number: int, *, confirm: bool = False) -> None:
        """`number` names the question in `take`."""
        self._asked.append((number, confirm))

    def forget(self, number: int) -> None:
        """Nobody waits for this one any more."""
        self._asked = [asked for asked in self._asked if asked[0] != number]
        self._known = [known for known in self._known if known[0] != number]

    def echoed(self, peer: str, sequence: int) -> None:
        """A peer answered this append, in our term.

        It is ours only while we lead: an append of an earlier life, in a term that goes on after
        it, had a number, too, and those of this life have not reached it yet.
        """
        if self._host.is_leader and sequence > self._echoed.get(peer, 0):
            self._echoed[peer] = sequence

    def linked(self, peer: str) -> None:
        """A new connection: it may be another life of the peer, without what it knew before."""
        self._echoed.pop(peer, None)

    def has_answered(self, peer: str) -> bool:
        """Has it answered any append of this leader's term, on its present connection?"""
        return self._led_term == self._host.term and peer in self._echoed

    def requested(self, peer: str, message: ReadRequest) -> None:
        if self._host.is_leader and len(self._remote) < READS_MAX:
            self._remote.append((peer, message.number))
        else:
            self._host.post(peer, ReadAnswer(message.number, None))

    def answered(self, peer: str, message: ReadAnswer, now_s: float) -> None:
        request = self._request
        if request is None or (request.leader, request.number) != (peer, message.number):
            return
        self._request = None
        if message.index is None:
            self._asked = request.local + self._asked
            self._retry_s = now_s + READ_RETRY_S
        else:
            self._known += [(number, message.index, request.term) for number, _ in request.local]

    @property
    def under_way(self) -> bool:
        """Does anybody wait for a round of this leader?"""
        return self._round is not None or bool(self._asked or self._remote)

    # -- the step --------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        if self._host.is_leader:
            self._lead()
        elif self._round or self._remote or self._asked or self._request:
            self._follow(now_s)
        if self._known:
            self._settle()

    def next_look_s(self) -> float | None:
        """When something is to be repeated; None when nothing is."""
        if self._request is not None:
            return self._request.sent_s + READ_REPEAT_S
        if self._asked and self._host.leader not in (None, self._host.node):
            return self._retry_s
        return None

    def take(self) -> list[ReadOutcome]:
        taken, self._outcomes = self._outcomes, []
        return taken

    def _settle(self) -> None:
        applied, waiting = self._host.applied_index, []
        for number, index, term in self._known:
            if index <= applied:
                self._outcomes.append(ReadOutcome(number, index, term))
            else:
                waiting.append((number, index, term))
        self._known = waiting

    def _lead(self) -> None:
        host = self._host
        term = host.term
        if self._led_term != term:
            self._led_term = term
            self._echoed.clear()
        if self._request is not None:
            self._asked = self._request.local + self._asked
            self._request = None
        if self._round is not None and self._round.term != term:
            self._abandon()
        while True:
            if self._round is None:
                if not (self._asked or self._remote) or not host.own_term_committed:
                    return
                sequence = host.begin_round()
                made = _Round(sequence, host.term, host.commit_index, self._asked, self._remote)
                self._round, self._asked, self._remote = made, [], []
            if not self._confirmed(self._round):
                return
            self._finish(self._round)
            self._round = None

    def _confirmed(self, made: _Round) -> bool:
        return self.is_echoed(made.sequence)

    def is_echoed(self, sequence: int) -> bool:
        """Has a majority answered an append of this number or a later one, in this term?"""
        host = self._host
        count = sum(
            name == host.node or self._echoed.get(name, 0) >= sequence for name in host.voters
        )
        return 2 * count > len(host.voters)

    def _finish(self, made: _Round) -> None:
        for number, confirm in made.local:
            if confirm:
                self._outcomes.append(ReadOutcome(number, made.index, made.term))
            else:
                self._known.append((number, made.index, made.term))
        for peer, number in made.remote:
            self._host.post(peer, ReadAnswer(number, made.index))

    def _abandon(self) -> None:
        """We led in a term that is over."""
        made, self._round = self._round, None
        if made is None:
            return
        for number, confirm in made.local:
            if confirm:
                self._outcomes.append(ReadOutcome(number, None, made.term))
            else:
                self._asked.append((number, confirm))
        for peer, number in made.remote:
            self._host.post(peer, ReadAnswer(number, None))

    def _follow(self, now_s: float) -> None:
        host = self._host
        self._abandon()
        for peer, number in self._remote:
            host.post(peer, ReadAnswer(number, None))
        self._remote = []
        for number, confirm in self._asked:
            if confirm:
                self._outcomes.append(ReadOutcome(number, None, host.term))
        self._asked = [asked for asked in self._asked if not asked[1]]
        leader, request = host.leader, self._request
        if request is not None:
            current = (request.leader, request.term) == (leader, host.term)
            if current and now_s - request.sent_s < READ_REPEAT_S:
                return
            self._asked, self._request = request.local + self._asked, None
        if self._asked and leader is not None and now_s >= self._retry_s:
            self._requests += 1
            sent = _Request(self._requests, leader, host.term, now_s, self._asked)
            self._request, self._asked = sent, []
            host.post(leader, ReadRequest(sent.number))
