"""Forwarding to members of a route of kind `endpoint`: choose, send, pass the answer on, retry.

    choose (balance) ─> take a connection ─> request ─> answer's head ─> body, piece by piece
        ^                      │                 │            │
        └──── again (retry) <──┴── MemberFailed ─┘            └── afterwards: cut off

A body that is short and of known length is read whole first, so that it can be sent again; every
other one goes on as it comes, beside the answer, which may begin before it ends.  Whoever is slow
slows the other down: a piece is read when the one before it was taken.

Source: RFC 9110 §9.2.2; RFC 9112 §7, §9.3, §9.5 (an early answer).
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from paas.gateway import balance
from paas.gateway.backends import Backends, Member
from paas.gateway.http.answer import UNTIL_CLOSE, AnswerHead
from paas.gateway.http.budget import Budget
from paas.gateway.http.chunked import LAST
from paas.gateway.http.connection import Abandoned
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.head import UNKNOWN, Headers
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.messages import Route
from paas.gateway.retry import may_retry, repeatable
from paas.gateway.router import member_target
from paas.gateway.transport import ENDS
from paas.gateway.upstream import heads
from paas.gateway.upstream.client import Link, MemberFailed, Pool, broke
from paas.gateway.websocket import handshake
from paas.gateway.websocket.client import Relay


class _Failure(Exception):
    """A member failed; `sent`: it may have seen some of the request."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


class Forwarder:
    """See the module's text."""

    def __init__(
        self,
        backends: Backends,
        pool: Pool,
        limits: EdgeLimits,
        draw: balance.Draw,
        budget: Budget,
    ) -> None:
        self._backends = backends
        self._pool = pool
        self._limits = limits
        self._draw = draw
        self._budget = budget
        self.relays: dict[Relay, Route] = {}
        """The WebSockets that are open."""
        self._links: dict[Link, Member] = {}
        """The connections that carry something now."""
        self.retried = 0
        self.failed = 0

    def cut_ended(self) -> None:
        """Whoever waits for a member that has ended is told by the end of the connection."""
        for link, member in self._links.items():
            if member.ended:
                link.hang_up()

    async def forward(self, exchange: Exchange, route: Route) -> None:
        """Answer the exchange by some member.  Raises Problem (502, 503, …), Abandoned."""
        if exchange.head.upgrade:
            handshake.check(exchange.head)
        exchange.check_body(route.body_max)
        streams = exchange.streams_body
        if not exchange.head.length or streams:
            return await self._ask_members(exchange, route, b"", streams)
        try:
            body = await exchange.whole_body(self._budget)
            await self._ask_members(exchange, route, body, streams)
        finally:
            exchange.let_go(self._budget)
        return None

    async def _ask_members(
        self, exchange: Exchange, route: Route, body: bytes, streams: bool
    ) -> None:
        tried: list[Member] = []
        last: MemberFailed | None = None
        while True:
            member = self.pick(exchange, route, tried)
            if member is None:
                raise self._nobody(route, last)
            exchange.tries += 1
            exchange.outcome = ""
            try:
                return await self._try(exchange, route, member, body, streams)
            except _Failure as exc:
                self.failed += 1
                exchange.outcome = exc.detail
                member.breaker.failed(trio.current_time())
                tried.append(member)
                passed_on = exchange.started and not exchange.unsay()
                again = may_retry(
                    route,
                    exchange.head.method,
                    sent=exc.sent,
                    passed_on=passed_on,
                    body_kept=not streams or not exchange.received,
                    tries=len(tried),
                )
                if passed_on:
                    raise Abandoned(exc.detail) from None
                last = MemberFailed(exc.detail)
                if not again:
                    raise Problem(502, _words(exc, route, exchange)) from None
                self.retried += 1

    def pick(self, exchange: Exchange, route: Route, tried: Sequence[Member]) -> Member | None:
        """The member that is asked next."""
        members = self._backends.members(route)
        if len(members) == 1 and not tried:
            only = members[0]
            if balance.well(only):
                return only
            return only if balance.usable(only, trio.current_time()) else None
        now = trio.current_time()
        if route.sticky and not tried:
            member = None
            if route.sticky == "address":
                member = balance.by_address(members, exchange.remote, now)
            elif cookies := exchange.head.header("cookie"):
                member = balance.by_cookie(members, route, cookies, now)
            if member is not None:
                return member
        return balance.choose(members, now, self._draw, tried)

    def _nobody(self, route: Route, last: MemberFailed | None) -> Problem:
        if last is not None:
            return Problem(502, f"{last.detail}; there is no other member to ask")
        members = self._backends.members(route)
        if any(m.state == "serving" for m in members):
            return Problem(503, "no member answers at the moment", [("retry-after", "1")])
        return Problem(503, "no member is there to answer", [("retry-after", "2")])

    async def _try(
        self, exchange: Exchange, route: Route, member: Member, body: bytes, streams: bool
    ) -> None:
        exchange.member = member.component
        member.in_flight += 1
        member.breaker.began()
        self._backends.begin(member)
        link: Link | None = None
        try:
            try:
                link = await self._pool.take(member)
            except MemberFailed as exc:
                raise _Failure(exc.detail, sent=False) from None
            try:
                await self._exchange(exchange, route, member, link, body, streams)
            except MemberFailed as exc:
                if not self._was_stale(exchange, route, member, link, exc):
                    raise _Failure(_detail(exc, member), sent=True) from None
                link.wire.close()
                link = await self._anew(exchange, route, member, body)
            if member.state == "serving":
                self._pool.give_back(link)
                link = None
        finally:
            if link is not None:
                link.wire.close()
            if exchange.reason == "member":
                member.breaker.failed(trio.current_time())
            else:
                member.breaker.given_up()
            member.in_flight -= 1
            self._backends.end(member)

    def _was_stale(
        self, exchange: Exchange, route: Route, member: Member, link: Link, failed: MemberFailed
    ) -> bool:
        """Did a kept connection end as the request came, as members' idle connections do?

        That tells nothing about the member; it is asked once more, if that is safe.
        """
        if not (link.used and failed.silent) or exchange.started or exchange.streams_body:
            return False
        if member.ended:
            return False
        return repeatable(route, exchange.head.method)

    async def _anew(self, exchange: Exchange, route: Route, member: Member, body: bytes) -> Link:
        """The same request on a new connection."""
        try:
            link = await self._pool.take(member, new=True)
        except MemberFailed as exc:
            raise _Failure(exc.detail, sent=True) from None
        try:
            await self._exchange(exchange, route, member, link, body, False)
        except BaseException as exc:
            link.wire.close()
            if isinstance(exc, MemberFailed):
                raise _Failure(_detail(exc, member), sent=True) from None
            raise
        return link

    async def _exchange(
        self,
        exchange: Exchange,
        route: Route,
        member: Member,
        link: Link,
        body: bytes,
        streams: bool,
    ) -> None:
        self._links[link] = member
        try:
            await self._send(exchange, route, member, link, body, streams)
        finally:
            del self._links[link]

    async def _send(
        self,
        exchange: Exchange,
        route: Route,
        member: Member,
        link: Link,
        body: bytes,
        streams: bool,
    ) -> None:
        head = exchange.head
        target = head.target
        if route.strip_prefix and target != "*":
            target = member_target(route, head.path, head.query)
        text = heads.request(exchange, target, head.upgrade).encode("latin-1")
        if streams:
            await self._both(exchange, route, member, link, text)
            return
        exchange.by_member = trio.current_time() + route.timeout_s
        try:
            await link.wire.send(text + body)
        except ENDS as exc:
            raise broke(exc, silent=True) from None
        await self._answer(exchange, route, member, link)

    async def _both(
        self, exchange: Exchange, route: Route, member: Member, link: Link, text: bytes
    ) -> None:
        """Body and answer side by side; an answer that ends first ends both."""
        faults: list[Exception] = []
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            nursery.start_soon(self._send_body, exchange, route, link, text, faults, scope)
            try:
                await self._answer(exchange, route, member, link)
            except (MemberFailed, Problem, Abandoned, *ENDS) as exc:
                faults.append(exc)
            scope.cancel()
        if faults:
            raise faults[0]
        if not exchange.body_done:
            link.answer = None  # the member waits for the rest: it is not used again

    async def _send_body(
        self,
        exchange: Exchange,
        route: Route,
        link: Link,
        text: bytes,
        faults: list[Exception],
        scope: trio.CancelScope,
    ) -> None:
        length = exchange.head.length
        data = text
        last = exchange.body_done
        try:
            while True:
                exchange.by_member = trio.current_time() + self._limits.write_s
                try:
                    await link.wire.send(data)
                except ENDS:
                    return  # it may have answered before; who reads the answer finds out
                finally:
                    exchange.by_member = NEVER
                if last:
                    break
                piece = await exchange.body()
                last = exchange.body_done
                data = heads.framed(piece, length) if piece else b""
                if last and length == UNKNOWN:
                    data += LAST
            if not exchange.started:
                exchange.by_member = trio.current_time() + route.timeout_s
        except (Problem, Abandoned, *ENDS) as exc:
            faults.append(exc)
            scope.cancel()

    async def _answer(self, exchange: Exchange, route: Route, member: Member, link: Link) -> None:
        answer = await link.read_answer(exchange.head.method, self._limits)
        exchange.by_member = NEVER
        if answer.status == 101:
            if not exchange.head.upgrade or answer.upgrade != "websocket":
                raise MemberFailed("the member changed the protocol without being asked")
            member.breaker.succeeded()
            await self._relay(exchange, route, member, link, answer)
            return
        member.breaker.succeeded()
        headers = heads.answer(answer, exchange, route)
        if route.sticky == "cookie":
            self._stick(exchange, route, member, headers)
        await exchange.start(answer.status, headers, _told_length(answer))
        while not link.done:
            if not link.ready:
                await exchange.flush()
                exchange.by_member = trio.current_time() + self._limits.quiet_s
            piece = await link.piece()
            exchange.by_member = NEVER
            if piece:
                await exchange.write(piece)
        await exchange.end()

    async def _relay(
        self, exchange: Exchange, route: Route, member: Member, link: Link, answer: AnswerHead
    ) -> None:
        """A WebSocket, until it ends.  The connection to the member is not used again."""
        link.answer = None
        headers = heads.answer(answer, exchange, route)
        if route.sticky == "cookie":
            self._stick(exchange, route, member, headers)
        headers += [("upgrade", "websocket"), ("connection", "Upgrade")]
        compressed = any(
            name == "sec-websocket-extensions" and "permessage-deflate" in value
            for name, value in answer.headers
        )
        wire = await exchange.upgrade(headers)
        relay = Relay(exchange, wire, member, link.wire, self._limits, compressed=compressed)
        self.relays[relay] = route
        try:
            await relay.run()
        finally:
            del self.relays[relay]

    def _stick(self, exchange: Exchange, route: Route, member: Member, headers: Headers) -> None:
        cookies = exchange.head.header("cookie") or ""
        if balance.token(route, member) not in cookies:
            secure = exchange.scheme == "https"
            headers.append(("set-cookie", balance.set_cookie(route, member, secure)))


def _detail(failed: MemberFailed, member: Member) -> str:
    return "the member ended while it worked" if member.ended else failed.detail


def _told_length(answer: AnswerHead) -> int:
    if answer.said is not None:
        return answer.said
    return UNKNOWN if answer.length in (UNKNOWN, UNTIL_CLOSE) or answer.headless else 0


def _words(exc: _Failure, route: Route, exchange: Exchange) -> str:
    """What happened, and why nobody else was asked."""
    if not exc.sent or exchange.tries > route.retries:
        return f"{exc.detail}; {exchange.tries} members were asked"
    if exchange.streams_body and exchange.received:
        return f"{exc.detail}; the request was sent and its body is not kept, so it is not repeated"
    method = exchange.head.method
    return f"{exc.detail}; it may have begun this {method}, which is not safe to repeat"
