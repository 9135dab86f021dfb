"""Who may stand for election, and who is listened to: pre-vote and the sticky leader (keeper K5).

The bare library stands as soon as its timer ends and it reaches anybody, and follows any larger
term: a replica that was cut off or paused deposes a healthy leader when it comes back (hole P25).
Here a replica first asks, without raising its term:

    timer ends ──> PreVote to all voters ──> a majority grants ──> the library stands
                        │ refused, or a leader is heard: nothing has happened

A voter grants when it would vote, too (the log is up to date, the term not older) and has heard
from no leader within the shortest election time; a leader that has a majority grants nothing.
For the same reason a request for a vote is not even looked at while a leader lives, unless the
leader itself asked for the election (`transfer`).  Every answer carries the term, so that a stale
side learns it (hole P27).

Rounds are repeated with growing pauses until a leader is heard.  A round counts only for the term
and the log with which it began.  A voter that is alone needs none; whoever does not vote never
stands.

Raft thesis §4.2.3 and §9.6.  Pure: times are given; messages go out through the host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from paas.raft.messages import Message, PreVote, PreVoteAnswer, RequestVote


class Host(Protocol):
    """What elections must know of the replica, and what they have it do."""

    @property
    def node(self) -> str: ...

    @property
    def voters(self) -> tuple[str, ...]: ...

    @property
    def knows_members(self) -> bool:
        """Does it know any configuration?"""
        ...

    @property
    def is_leader(self) -> bool: ...

    @property
    def term(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    @property
    def last_term(self) -> int: ...

    def quorum_heard_s(self) -> float:
        """On a leader: when it last had heard of a majority."""
        ...

    def post(self, peer: str, message: Message) -> None: ...

    def learn_term(self, term: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Leadership:
    """This replica leads in `term`, since `since_s` of the monotonic clock."""

    term: int
    since_s: float


@dataclass(slots=True)
class _Round:
    number: int
    position: tuple[int, int, int]
    began_s: float
    granted: dict[str, None] = field(default_factory=dict)


class Elections:
    """See the module's text."""

    def __init__(self, host: Host, *, shortest_s: float, longest_s: float, retry_s: float) -> None:
        self._host = host
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._retry_s = self._pause_s = retry_s
        self._number = 0
        self._round: _Round | None = None
        self.heard_s: float | None = None
        """When a leader was heard last, in this life."""

    # -- the leader ------------------------------------------------------------------------------

    def heard(self, now_s: float) -> None:
        """A leader of our term has spoken."""
        self.heard_s = now_s
        self._round = None
        self._pause_s = self._retry_s

    def leader_lives(self, now_s: float) -> bool:
        heard_s = self._host.quorum_heard_s() if self._host.is_leader else self.heard_s
        return heard_s is not None and now_s - heard_s < self._shortest_s

    def admits(self, message: RequestVote, now_s: float) -> bool:
        """May the library see this request for a vote?"""
        if not self._host.knows_members:
            return False
        return message.transfer or not self.leader_lives(now_s)

    # -- standing --------------------------------------------------------------------------------

    def may_stand(self, now_s: float) -> bool:
        """Asked when the election timer has ended; begins a round when there is none."""
        host = self._host
        if host.node not in host.voters:
            return False
        if len(host.voters) == 1:
            return True
        running = self._round
        if running is not None and running.position == self._position():
            if 2 * (len(running.granted) + 1) > len(host.voters):
                self._round = None
                return True
            if now_s - running.began_s < self._pause_s:
                return False
            self._pause_s = min(2 * self._pause_s, self._longest_s)
        self._begin(now_s)
        return False

    def next_look_s(self) -> float | None:
        """When the round is to be looked at again; None when there is none."""
        return None if self._round is None else self._round.began_s + self._pause_s

    @property
    def granted(self) -> bool:
        running = self._round
        return running is not None and 2 * (len(running.granted) + 1) > len(self._host.voters)

    def _position(self) -> tuple[int, int, int]:
        return self._host.term, self._host.last_index, self._host.last_term

    def _begin(self, now_s: float) -> None:
        host = self._host
        self._number += 1
        self._round = _Round(self._number, self._position(), now_s)
        for peer in host.voters:
            if peer != host.node:
                question = PreVote(self._number, host.term + 1, host.last_index, host.last_term)
                host.post(peer, question)

    # -- messages --------------------------------------------------------------------------------

    def asked(self, peer: str, message: PreVote, now_s: float) -> None:
        host = self._host
        granted = (
            host.knows_members
            and message.term >= host.term
            and (message.last_term, message.last_index) >= (host.last_term, host.last_index)
            and not self.leader_lives(now_s)
        )
        host.post(peer, PreVoteAnswer(message.round, host.term, granted))

    def answered(self, peer: str, message: PreVoteAnswer) -> None:
        host, running = self._host, self._round
        if peer not in host.voters:
            return
        if message.term > host.term:
            host.learn_term(message.term)
        elif message.granted and running is not None and message.round == running.number:
            running.granted[peer] = None
