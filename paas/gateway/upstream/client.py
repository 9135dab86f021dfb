"""Connections to members: one request at a time on each, kept a moment for the next.

    take ─> a kept one that is still open, else a new one ─> send, answer, pieces ─> give_back

A kept connection is looked at before it is used (the member may have closed it meanwhile), and is
kept for less long than members keep theirs.  What is left of the race, a member that closes while
the request is on its way, shows as `MemberFailed`; retry.py decides.

Source: RFC 9112 §6.3, §9.3, §9.6.
"""

from __future__ import annotations

import errno

import trio

from paas.gateway.backends import Member
from paas.gateway.http.answer import UNTIL_CLOSE, AnswerHead, read
from paas.gateway.http.chunked import Chunks
from paas.gateway.http.head import UNKNOWN, Refused
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.transport import ENDS, Wire, connect

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What connecting may fail with that says nothing about the member."""


class MemberFailed(Exception):
    """A member did not do its part; `detail` says which, for people.

    `silent`: it ended the connection without a byte of an answer.
    """

    def __init__(self, detail: str, *, silent: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.silent = silent


Whose = tuple[str, int, str, int]
"""Component, incarnation, host and port: the next incarnation may have the address of the last."""


class Link:
    """One connection to a member, and the answer that is read from it."""

    __slots__ = (
        *("_chunks", "_hung_up", "_left"),
        *("answer", "done", "kept_since", "used", "whose", "wire"),
    )

    def __init__(self, wire: Wire, whose: Whose) -> None:
        self.wire = wire
        self.whose = whose
        self.used = False
        """Has it carried a request before?"""
        self.kept_since = 0.0
        self.answer: AnswerHead | None = None
        self.done = False
        self._left = 0
        self._chunks: Chunks | None = None
        self._hung_up = False

    def hang_up(self) -> None:
        """The member has ended: what it said before still counts, and nothing is waited for."""
        self._hung_up = self.wire.hang_up() or self._hung_up

    async def read_answer(self, method: str, limits: EdgeLimits) -> AnswerHead:
        """The head of the final answer.  Raises MemberFailed."""
        wire = self.wire
        self.done = False
        while True:
            data = wire.pending
            at = data.find(b"\r\n\r\n")
            while at < 0:
                if len(data) > limits.head_bytes_max:
                    raise MemberFailed("the member's answer has too long a head")
                try:
                    more = await wire.receive_answer()
                except ENDS as exc:
                    raise broke(exc, silent=not data) from None
                if not more and data:
                    raise MemberFailed("the member closed the connection within its answer's head")
                if not more:
                    text = "the member closed the connection without an answer"
                    raise MemberFailed(text, silent=True)
                looked = max(len(data) - 3, 0)
                data += more
                at = data.find(b"\r\n\r\n", looked)
            wire.pending = data[at + 4 :]
            if at > limits.head_bytes_max:
                raise MemberFailed("the member's answer has too long a head")
            try:
                answer = read(data[:at], method)
            except Refused as exc:
                raise MemberFailed(exc.detail) from None
            if len(answer.headers) > limits.headers_max:
                raise MemberFailed(
                    f"the member's answer has more than {limits.headers_max} headers"
                )
            if answer.status >= 200 or answer.status == 101:
                break
        self.answer = answer
        self._left = answer.length
        self._chunks = Chunks() if answer.length == UNKNOWN else None
        self.done = answer.length == 0
        return answer

    @property
    def ready(self) -> bool:
        """Is a piece of the body there already?"""
        return bool(self.wire.pending)

    async def piece(self) -> bytes:
        """The next piece of the answer's body, nothing at its end.  Raises MemberFailed."""
        wire = self.wire
        while not self.done:
            data, wire.pending = wire.pending, b""
            if not data:
                try:
                    data = await wire.receive()
                except ENDS as exc:
                    raise MemberFailed(
                        f"the connection to the member broke: {words(exc)}"
                    ) from None
                if not data:
                    self.done = True
                    if self._left == UNTIL_CLOSE and not self._hung_up:
                        return b""
                    raise MemberFailed("the member closed the connection within its answer")
            if self._chunks is not None:
                try:
                    data = b"".join(self._chunks.feed(data))
                except Refused as exc:
                    raise MemberFailed(f"the member's answer: {exc.detail}") from None
                self.done = self._chunks.done
                wire.pending = self._chunks.rest
            elif self._left >= 0:
                if len(data) >= self._left:
                    self.done = True
                    data, wire.pending = data[: self._left], data[self._left :]
                self._left -= len(data)
            if data:
                return data
        return b""

    @property
    def reusable(self) -> bool:
        """Can another request follow?  Not after anything that was not asked for."""
        answer = self.answer
        return answer is not None and answer.keep_alive and self.done and not self.wire.pending


class Pool:
    """The connections that wait for their next request."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._limits = limits
        self._kept: dict[Whose, list[Link]] = {}
        self.opened = 0
        self.reused = 0

    async def take(self, member: Member, *, new: bool = False) -> Link:
        """A connection to a member; `new`: none that was used before.

        Raises MemberFailed; Problem (503) when it is this machine that has no room.
        """
        whose = (member.component, member.incarnation, member.host, member.port)
        kept = self._kept.get(whose)
        while kept and not new:
            link = kept.pop()
            if link.wire.fresh():
                self.reused += 1
                return link
            link.wire.close()
        self.opened += 1
        try:
            with trio.move_on_after(self._limits.connect_s):
                wire = await connect(member.host, member.port, self._limits.unheard_s)
                return Link(wire, whose)
        except OSError as exc:
            if exc.errno in _OURS:
                told = "the gateway has no room for another connection"
                raise Problem(503, told, [("retry-after", "1")]) from None
            raise MemberFailed(f"no connection to the member: {words(exc)}") from None
        raise MemberFailed(f"no connection to the member within {self._limits.connect_s:g} seconds")

    def give_back(self, link: Link) -> None:
        """Keep it for the next request, if that may follow; else close it."""
        kept = self._kept.setdefault(link.whose, [])
        if not link.reusable or len(kept) >= self._limits.kept_max:
            link.wire.close()
            return
        link.used = True
        link.kept_since = trio.current_time()
        kept.append(link)

    def drop_old(self, now: float) -> None:
        """Close what nobody wanted for a while; called by the clock."""
        oldest = now - self._limits.kept_s
        for whose, kept in list(self._kept.items()):
            stale = 0
            while stale < len(kept) and kept[stale].kept_since < oldest:
                kept[stale].wire.close()
                stale += 1
            del kept[:stale]
            if not kept:
                del self._kept[whose]

    def close(self) -> None:
        for links in self._kept.values():
            for link in links:
                link.wire.close()
        self._kept.clear()


def broke(exc: BaseException, *, silent: bool = False) -> MemberFailed:
    """The network's word for it."""
    return MemberFailed(f"the connection to the member broke: {words(exc)}", silent=silent)


def words(exc: BaseException) -> str:
    """What the system says, without numbers and addresses."""
    return (exc.strerror or type(exc).__name__) if isinstance(exc, OSError) else "it was closed"
