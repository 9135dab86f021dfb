"""The fetcher: one URL asked for, with everything that can go wrong on the way.

    async with Fetcher() as fetcher:
        answer = await fetcher.fetch(Request(url="https://example.org/feed", etag=known))
        async with fetcher.open(Request(url=...)) as stream:      a body without end
            async for piece in stream: ...

    fetch ─> turn (throttle) ─> connection (transport) ─> exchange (http1) ─> head
               ^                                                              │
               ├── again (retrying) <─ error, 429, 503 … ────────────────────┤
               └── next step (redirects) <─ 301 … ───────────────────────────┤
                                                       body <─ decoding <─────┘

The decisions are in the files named; here they are carried out.  Everything has one deadline, the
request's `timeout_s`; a stream has it for its head only, then each piece must come within IDLE_S.
Answers with any status are answers; errors are PlatformError with a reason of trouble.py.  (io)
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType

import trio

from paas.base.errors import PlatformError
from paas.fetcher import limits
from paas.fetcher.credentials import Credential
from paas.fetcher.decoding import ACCEPTED, Decoder
from paas.fetcher.http1 import Exchange, ResponseHead, Sign
from paas.fetcher.redirects import (
    FOLLOWED,
    PRIVATE_HEADERS,
    Journey,
    Moved,
    Step,
)
from paas.fetcher.request import Answer, Head, Headers, Request
from paas.fetcher.retrying import IDEMPOTENT, Attempts, retry_after_s
from paas.fetcher.settings import Settings, settings_of
from paas.fetcher.throttle import Throttle
from paas.fetcher.transport import BROKEN, Resolver, Transport, Wire, system_resolver
from paas.fetcher.trouble import reason_of, trouble
from paas.fetcher.urls import Url, parse

__all__ = [
    "Answer",
    "Fetcher",
    "Head",
    "Request",
    "Settings",
    "Stream",
    "retry_after_s",
    "settings_of",
]

_BODILESS = frozenset({204, 304})


class Stream:
    """An answer whose body is still coming: its head, then pieces of the decoded body."""

    def __init__(self, head: Head, reply: _Reply, most: int | None, hurried: bool) -> None:
        self.head = head
        self._reply = reply
        self._hurried = hurried
        self._decoder: Decoder | None = None
        self._coding = "" if head.status in _BODILESS else head.header("content-encoding")
        self._most = most
        self._ready: list[bytes] = []
        self._raw = 0
        self._turns = 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.  Raises PlatformError."""
        if self._decoder is None:
            self._decoder = Decoder(self._coding, self._most)
        while not self._ready:
            piece = await self._reply.piece()
            if piece is None:
                self._decoder.end()
                raise StopAsyncIteration
            self._raw += len(piece)
            self._check_pace()
            self._ready = self._decoder.feed(piece)[::-1]
            self._turns += 1
            if not self._turns % 64:
                await trio.lowlevel.checkpoint()
        return self._ready.pop()

    def _check_pace(self) -> None:
        """A body that trickles in holds a turn that others wait for."""
        elapsed_s = trio.current_time() - self._reply.body_begun_s
        if not self._hurried or elapsed_s < limits.SLOW_AFTER_S:
            return
        if self._raw < limits.SLOW_BYTES_A_SECOND * elapsed_s:
            raise trouble("slow", f"the body has come at {self._raw / elapsed_s:.0f} bytes/s")


class _Reply:
    """One exchange under way."""

    def __init__(self, wire: Wire, turn: _Turn) -> None:
        self.wire = wire
        self.exchange = Exchange(wire.state)
        self.body_begun_s = 0.0
        self.over = False
        self._turn = turn

    async def ask(self, step: Step, headers: Headers) -> ResponseHead:
        """Send the request, read the head."""
        data = self.exchange.request(step.method, step.url.target, headers, step.body)
        with suppress(*BROKEN):  # it may have answered before it had read everything
            await self.wire.stream.send_all(data)
        while True:
            event = self.exchange.next()
            if isinstance(event, ResponseHead):
                self.body_begun_s = trio.current_time()
                return event
            await self._receive()

    async def piece(self) -> bytes | None:
        """The next piece of the body as it is coded; None at its end."""
        while not self.over:
            event = self.exchange.next(trio.current_time() - self.body_begun_s)
            if event is Sign.OVER:
                self.over = True
            elif isinstance(event, bytes):
                return event
            else:
                await self._receive()
        return None

    async def _receive(self) -> None:
        with trio.move_on_after(limits.IDLE_S) as scope:
            try:
                data = await self.wire.stream.receive_some(limits.PIECE_BYTES)
            except BROKEN:
                data = b""
        if scope.cancelled_caught:
            raise trouble("idle", f"nothing has come for {limits.IDLE_S:g} seconds")
        self.exchange.receive(bytes(data))

    def was_stale(self, error: BaseException) -> bool:
        """Had the server closed a kept connection before it saw the request?"""
        stale = isinstance(error, PlatformError) and reason_of(error) == "closed"
        return stale and self.wire.reused and not self.exchange.heard

    async def finish(self, transport: Transport) -> None:
        """Read a little of what nobody wants, and keep the connection if that was all."""
        rest = 0
        try:
            while not self.over and rest < limits.DRAIN_BYTES:
                with trio.fail_after(1.0):
                    piece = await self.piece()
                rest += len(piece or b"")
        except (PlatformError, trio.TooSlowError):
            pass
        self.end(transport)

    def end(self, transport: Transport) -> None:
        """Give back turn and connection."""
        transport.keep(self.wire, self.exchange.reusable() if self.over else None)
        self._turn.over()


class _Turn:
    """The right to have one request under way."""

    def __init__(self, limiters: tuple[trio.CapacityLimiter, ...]) -> None:
        self._held: list[trio.CapacityLimiter] = []
        self._limiters = limiters

    async def take(self) -> None:
        for limiter in self._limiters:
            await limiter.acquire_on_behalf_of(self)
            self._held.append(limiter)

    def over(self) -> None:
        while self._held:
            self._held.pop().release_on_behalf_of(self)


class _Travel:
    """One fetch: the journey, the attempts, what was learnt on the way."""

    def __init__(self, request: Request, first: Url, journey: Journey, deadline: float) -> None:
        self.request = request
        self.first = first
        self.journey = journey
        self.deadline = deadline
        self.attempts = Attempts(request.retries, deadline)
        self.requests = 0

    @property
    def idempotent(self) -> bool:
        return self.request.idempotent or self.journey.step.method in IDEMPOTENT


class Fetcher:
    """See the module's text.  One for a process: throttle, memory and connections are shared."""

    def __init__(
        self, settings: Settings | None = None, *, resolver: Resolver = system_resolver
    ) -> None:
        self.settings = settings or Settings()
        self._transport = Transport(self.settings, resolver)
        self._throttle = Throttle(self.settings.interval_s)
        self._moved = Moved()
        self._all = trio.CapacityLimiter(self.settings.concurrent)
        self._hosts: dict[str, trio.CapacityLimiter] = {}
        self.counts = {"requests": 0, "answers": 0, "errors": 0, "retries": 0, "redirects": 0}

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()

    def statistics(self) -> dict[str, int]:
        """Counts since the beginning."""
        return {
            **self.counts,
            "connections": self._transport.dialled,
            "reused": self._transport.reused,
            "moved": len(self._moved),
        }

    async def fetch(self, request: Request) -> Answer:
        """The whole answer.  Raises PlatformError with a reason of trouble.py."""
        begun_s = trio.current_time()
        answer: Answer | None = None
        try:
            with trio.move_on_after(request.timeout_s):
                answer = await self._whole(request, begun_s)
            if answer is None:
                raise trouble("deadline", f"no whole answer within {request.timeout_s:g} seconds")
        except PlatformError:
            self.counts["errors"] += 1
            raise
        self.counts["answers"] += 1
        return answer

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Stream]:
        """The head of the answer, and its body as it comes; `body_max` 0 is no bound.

        Raises PlatformError with a reason of trouble.py, while the head or the body is awaited.
        """
        travel = self._travel(request, trio.current_time())
        opened: tuple[Head, _Reply] | None = None
        with trio.move_on_after(request.timeout_s):
            opened = await self._head(travel)
        if opened is None:
            raise trouble("deadline", f"no answer within {request.timeout_s:g} seconds")
        head, reply = opened
        try:
            yield Stream(head, reply, request.body_max or None, hurried=False)
        finally:
            reply.end(self._transport)

    async def _whole(self, request: Request, begun_s: float) -> Answer:
        travel = self._travel(request, begun_s)
        while True:
            head, reply = await self._head(travel)
            try:
                stream = Stream(head, reply, request.body_max, hurried=True)
                body = b"".join([piece async for piece in stream])
            except PlatformError as exc:
                await self._again(travel, exc)
                continue
            finally:
                reply.end(self._transport)
            facts = {name: getattr(head, name) for name in head.__dataclass_fields__}
            return Answer(**facts, body=body, elapsed_s=trio.current_time() - begun_s)

    def _travel(self, request: Request, now: float) -> _Travel:
        first = parse(request.url)
        credential = self._credential(request)
        if credential is not None:
            credential.check(first)
        headers = request.headers
        place = self._moved.place(first, now) if request.method in ("GET", "HEAD") else first
        if place.origin != first.origin:
            headers = tuple(h for h in headers if h[0].lower() not in PRIVATE_HEADERS)
        step = Step(place, request.method, headers, request.body, place.origin != first.origin)
        journey = Journey(step, request.redirects)
        if place != first:
            journey.moved_to = str(place)
        return _Travel(request, first, journey, now + request.timeout_s)

    async def _head(self, travel: _Travel) -> tuple[Head, _Reply]:
        """The head of the last step's answer; its exchange is under way."""
        journey = travel.journey
        while True:
            step = journey.step
            try:
                head, reply = await self._ask(travel, step)
            except PlatformError as exc:
                self._moved.forget(travel.first)
                await self._again(travel, exc)
                continue
            now = trio.current_time()
            location = next((v for n, v in head.headers if n == "location"), None)
            if head.status in FOLLOWED and location is not None and travel.request.redirects:
                await reply.finish(self._transport)
                journey.follow(head.status, location)
                self.counts["redirects"] += 1
                continue
            wait_s = self._asked_wait_s(head)
            if wait_s:
                self._throttle.leave_alone(step.url.host, now + wait_s, now)
            when = travel.attempts.after_status(
                head.status, wait_s, travel.idempotent, now, random.random()
            )
            if when is not None:
                await reply.finish(self._transport)
                await self._sleep_until(when)
                continue
            self._learn(travel, head.status, now)
            return self._told(travel, head, wait_s), reply

    async def _again(self, travel: _Travel, exc: PlatformError) -> None:
        """Wait for the next attempt, or raise."""
        when = travel.attempts.after_error(
            exc, travel.idempotent, trio.current_time(), random.random()
        )
        if when is None:
            exc.data.setdefault("attempts", travel.requests)
            raise exc
        await self._sleep_until(when)

    async def _sleep_until(self, when: float) -> None:
        self.counts["retries"] += 1
        await trio.sleep_until(when)

    async def _ask(self, travel: _Travel, step: Step) -> tuple[ResponseHead, _Reply]:
        """One request: in its turn, on a connection, until its head is there."""
        headers = await self._headers(travel, step)
        turn = await self._turn(step.url.host, travel.deadline)
        fresh = not travel.idempotent or travel.attempts.repeated > 0
        while True:
            reply: _Reply | None = None
            try:
                wire = await self._transport.open(step.url, foreign=step.foreign, fresh=fresh)
                reply = _Reply(wire, turn)
                travel.requests += 1
                self.counts["requests"] += 1
                return await reply.ask(step, headers), reply
            except BaseException as exc:
                if reply is not None:
                    self._transport.drop(reply.wire)
                    if reply.was_stale(exc):
                        fresh = True
                        continue
                turn.over()
                raise

    async def _turn(self, host: str, deadline: float) -> _Turn:
        """Wait for one's turn at this host.  Raises PlatformError `throttled`."""
        limiter = self._hosts.get(host)
        if limiter is None:
            self._forget_hosts()
            limiter = self._hosts[host] = trio.CapacityLimiter(self.settings.per_host)
        if limiter.statistics().tasks_waiting >= limits.WAITING_PER_HOST_MAX:
            raise trouble("throttled", f"too many requests wait for {host}")
        now = trio.current_time()
        due = self._throttle.due(host, now)
        if due >= deadline:
            raise trouble(
                "throttled", f"{host} is to be left alone", retry_after_s=round(due - now, 3)
            )
        turn = _Turn((limiter, self._all))
        try:
            await turn.take()
            await trio.sleep_until(self._throttle.reserve(host, trio.current_time()))
        except BaseException:
            turn.over()
            raise
        return turn

    def _forget_hosts(self) -> None:
        if len(self._hosts) >= limits.HOSTS_MAX:
            self._hosts = {
                host: limiter
                for host, limiter in self._hosts.items()
                if limiter.borrowed_tokens or limiter.statistics().tasks_waiting
            }

    async def _headers(self, travel: _Travel, step: Step) -> Headers:
        request = travel.request
        credential = self._credential(request)
        value = ""
        if credential is not None and credential.is_for(step.url):
            value = credential.value(await _content(credential))
        own = [("host", step.url.authority)]
        given = {name.lower() for name, _ in step.headers}
        if "user-agent" not in given:
            own.append(("user-agent", self.settings.user_agent))
        if "accept" not in given:
            own.append(("accept", "*/*"))
        own.append(("accept-encoding", ACCEPTED))
        if step.method in ("GET", "HEAD"):
            # The validators are of the copy, wherever it was: RFC 9110 §13.1.2.
            own += [("if-none-match", request.etag)] if request.etag else []
            last = request.last_modified
            own += [("if-modified-since", last)] if last else []
        rest = step.headers
        if credential is not None and value:
            rest = tuple(h for h in rest if h[0].lower() != credential.header)
            own.append((credential.header, value))
        return (*own, *rest)

    def _credential(self, request: Request) -> Credential | None:
        if not request.credential:
            return None
        found = self.settings.credentials.get(request.credential)
        if found is None:
            raise trouble(
                "request",
                f"credential: the fetcher has none called {request.credential[:64]!r}",
                field="credential",
            )
        return found

    def _asked_wait_s(self, head: ResponseHead) -> float | None:
        value = next((v for n, v in head.headers if n == "retry-after"), "")
        if not value or head.status not in (429, 503):
            return None
        return retry_after_s(value, time.time())

    def _learn(self, travel: _Travel, status: int, now: float) -> None:
        """Remember where it moved; not what only a holder of credentials was told."""
        request = travel.request
        if status in (404, 410):
            self._moved.forget(travel.first)
        private = any(name.lower() in PRIVATE_HEADERS for name, _ in request.headers)
        if travel.journey.moved_to and status < 400 and not (private or request.credential):
            self._moved.remember(travel.first, parse(travel.journey.moved_to), now)

    def _told(self, travel: _Travel, head: ResponseHead, wait_s: float | None) -> Head:
        journey = travel.journey
        return Head(
            status=head.status,
            headers=head.headers,
            final_url=str(journey.step.url),
            moved_to=journey.moved_to,
            hops=tuple(journey.hops),
            attempts=travel.requests,
            retry_after_s=wait_s,
        )


async def _content(credential: Credential) -> bytes:
    try:
        async with await trio.open_file(credential.file, "rb") as file:
            return bytes(await file.read(limits.CREDENTIAL_BYTES_MAX * 2))
    except OSError:
        raise trouble(
            "credential",
            f"the file of the credential {credential.name!r} cannot be read",
            field="credential",
        ) from None


def reason(error: PlatformError) -> str:
    """The reason (trouble.py) of an error that a fetch raised."""
    return reason_of(error)
