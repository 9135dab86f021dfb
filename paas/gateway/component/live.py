"""The data path's backends, as the platform tells them (io).

    gateway.follow ──> Book ──> members, router            data path ── begin, end ──> Book
                        └── idle, and leaving ──> gateway.acknowledge
    call, open, message, close ──> hub.call and hub.cast of one member, by its identifier

An operation's request goes to a member by the same rules as one of an endpoint (balance.py).  What
the platform answers says whether the member can have begun with it:

    not-available, no-such-target, denied, limit-exceeded   it has not: another member is asked
    unknown-outcome                                         it may have: only what may be done twice
    timeout, failed, anything else                          it has: 504, 502

A WebSocket belongs to the member that accepted it.  When that leaves, the browser gets the route's
notice, and at the end of `drain_s` the close 1001; when it dies, 1011.  A stream is cut off then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.gateway import balance, limits
from paas.gateway.backends import Member, OperationFailed
from paas.gateway.component.book import Book, Incarnation
from paas.gateway.component.channel import Attachment, CallAnswer, Channel, Invocation
from paas.gateway.messages import (
    BODY,
    DATA,
    SEND_OPERATION,
    Following,
    HttpAnswer,
    HttpClose,
    HttpMessage,
    HttpRequest,
    HttpSend,
    Route,
    RouteMember,
    TableChange,
)
from paas.gateway.retry import repeatable
from paas.gateway.router import Router

NOT_BEGUN = frozenset({"not-available", "no-such-target", "denied", "limit-exceeded"})
GONE_AWAY = 1001
INTERNAL_ERROR = 1011
FOLLOW_TIMEOUT_S = 15.0
FOLLOW_AGAIN_S = 0.5
ACKNOWLEDGE_AGAIN_S = 0.5
ACKNOWLEDGE_TRIES_MAX = 20
BLOB_PIECE_BYTES = 1 << 20
BLOB_BYTES_MAX = 64 << 20
"""Longest answer of an operation that comes as a blob."""

HUB_AWAY_S = 0.2
"""The platform cannot be reached: ask again after so long, while the request may wait."""


class _Call(msgspec.Struct, frozen=True):
    """Parameters of `hub.call` and `hub.cast`."""

    target: str
    operation: str
    inputs: Any
    attachments: list[Attachment]
    timeout: float


class _Event(msgspec.Struct, frozen=True):
    """An event of the watch."""

    watch: int
    event: str
    data: msgspec.Raw = msgspec.Raw(b"\xc0")
    reason: str = ""


class _Accepted(msgspec.Struct, frozen=True):
    accepted: int = 0


class _Nothing(msgspec.Struct, frozen=True):
    pass


class _Piece(msgspec.Struct, frozen=True):
    data: Any = b""
    eof: bool = False


class Deliveries(Protocol):
    """The data path, as far as pushing is concerned: `paas.gateway.edge.Edge`."""

    async def deliver(self, send: HttpSend, data: bytes, *, wait: bool) -> bool: ...

    def cut(self, connection: str) -> None: ...


class Carrier(Protocol):
    """Another data path beside the edge, which sends to members by itself: `Haproxy`."""

    def update(self, routes: Iterable[Route], members: Iterable[RouteMember]) -> None: ...

    async def left(self, component: str, incarnation: int) -> None: ...


@dataclass(slots=True)
class _Connection:
    """A WebSocket or stream of an operation route; or a request that may become one."""

    route: Route
    member: Member | None = None
    """Who has it; nobody while the answer is awaited, which pieces may overtake."""
    queue: list[tuple[Any, HttpSend, bytes]] = field(default_factory=list)
    working: bool = False


class LiveBackends:
    """See the module's text.  `draw` gives numbers in [0, 1); `run` it."""

    def __init__(self, channel: Channel, draw: Callable[[], float]) -> None:
        self._channel = channel
        self._draw = draw
        self._book = Book()
        self._connections: dict[str, _Connection] = {}
        self._acknowledging: set[Incarnation] = set()
        self._nursery: trio.Nursery | None = None
        self._watch = 0
        self._early: list[_Event] = []
        self._lost = trio.Event()
        self.edge: Deliveries | None = None
        self._carrier: Carrier | None = None
        self.followed = trio.Event()
        """The first table is here."""
        channel.on_event = self._heard

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the routes until cancelled; started with the first table."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                try:
                    self._watch = 0
                    answer = await self._channel.ask(
                        "gateway.follow",
                        {"timeout": FOLLOW_TIMEOUT_S},
                        Following,
                        timeout_s=FOLLOW_TIMEOUT_S,
                    )
                except PlatformError as error:
                    if error.code in ("denied", "no-such-method") or self._channel.closed.is_set():
                        raise
                    await trio.sleep(FOLLOW_AGAIN_S)
                    continue
                self._lost = trio.Event()
                self._begin(answer)
                if not self.followed.is_set():
                    self.followed.set()
                    task_status.started()
                await self._lost.wait()

    # -- what is told ----------------------------------------------------------------------------

    def carry(self, carrier: Carrier) -> None:
        """Tell this data path too, now and whenever something changes; and wait for it."""
        self._carrier = carrier
        self._tell_carrier()

    def _tell_carrier(self) -> None:
        if self._carrier is not None:
            self._carrier.update(self._book.router.routes.values(), self._book.table())

    def _begin(self, answer: Following) -> None:
        self._watch = answer.watch
        self._book.replace(answer.snapshot, trio.current_time())
        early, self._early = self._early, []
        for event in early:
            if event.watch == self._watch:
                self._apply(event)
        self._look()

    def _heard(self, params: msgspec.Raw) -> None:
        event = msgspec.msgpack.decode(params, type=_Event)
        if not self._watch:
            self._early.append(event)  # it has overtaken the answer that tells the number
        elif event.watch == self._watch:
            self._apply(event)
            self._look()

    def _apply(self, event: _Event) -> None:
        now = trio.current_time()
        if event.event == "changed":
            self._book.change(msgspec.msgpack.decode(event.data, type=TableChange), now)
        elif event.event == "resumed":
            told = msgspec.msgpack.decode(event.data, type=Following)
            self._book.replace(told.snapshot, now)
        elif event.event == "lost":
            self._lost.set()

    def _look(self) -> None:
        """Whoever leaves is let go of when nothing is under way; WebSockets are warned."""
        self._tell_carrier()
        for incarnation in self._book.leaving():
            if self._book.is_idle(incarnation):
                self._let_go(incarnation)
        for name, connection in list(self._connections.items()):
            member = connection.member
            if member is None or member.state == "serving" or connection.working:
                continue
            if self._nursery is not None:
                connection.working = True
                self._nursery.start_soon(self._end_connection, name, connection, member)

    def _let_go(self, incarnation: Incarnation) -> None:
        if incarnation not in self._acknowledging and self._nursery is not None:
            self._acknowledging.add(incarnation)
            self._nursery.start_soon(self._acknowledge, incarnation)

    async def _acknowledge(self, incarnation: Incarnation) -> None:
        params = {"component": incarnation.component, "incarnation": incarnation.number}
        try:
            if self._carrier is not None:
                await self._carrier.left(*incarnation)
            for _ in range(ACKNOWLEDGE_TRIES_MAX):
                if incarnation not in self._book.leaving():
                    return
                try:
                    await self._channel.ask(
                        "gateway.acknowledge",
                        {**params, "timeout": limits.PROPOSE_TIMEOUT_S},
                        _Nothing,
                        timeout_s=limits.PROPOSE_TIMEOUT_S,
                    )
                except PlatformError:
                    await trio.sleep(ACKNOWLEDGE_AGAIN_S)
                else:
                    return
        finally:
            self._acknowledging.discard(incarnation)

    # -- endpoints -------------------------------------------------------------------------------

    @property
    def router(self) -> Router:
        return self._book.router

    def members(self, route: Route) -> Sequence[Member]:
        return self._book.members(route)

    def begin(self, member: Member) -> None:
        return

    def end(self, member: Member) -> None:
        incarnation = self._book.ended(member)
        if incarnation is not None:
            self._let_go(incarnation)

    # -- operations ------------------------------------------------------------------------------

    async def call(
        self, route: Route, request: HttpRequest, body: bytes
    ) -> tuple[HttpAnswer, bytes]:
        """Ask some member, another one when that is safe.  Raises OperationFailed."""
        kept = False
        self._connections[request.connection] = _Connection(route)
        try:
            answered, content = await self._call(route, request, body)
            kept = answered.stream
        finally:
            if not kept:
                del self._connections[request.connection]
        return answered, content

    async def _call(
        self, route: Route, request: HttpRequest, body: bytes
    ) -> tuple[HttpAnswer, bytes]:
        member, answer = await self._ask(route, route.operation, request, body)
        try:
            answered = _answer_of(answer)
            if route.sticky == "cookie" and not _has_cookie(route, request, member):
                cookie = balance.set_cookie(route, member, request.scheme == "https")
                headers = [*answered.headers, ("set-cookie", cookie)]
                answered = msgspec.structs.replace(answered, headers=headers)
            content = await self._content(answer.attachments, BODY)
            if answered.stream:
                self._hold(request.connection, member)
        finally:
            self._over(member)
        return answered, content

    async def open(self, route: Route, request: HttpRequest) -> HttpAnswer:
        """Offer a WebSocket to some member (`<operation>.open`).  Raises OperationFailed."""
        kept = False
        self._connections[request.connection] = _Connection(route)
        try:
            member, answer = await self._ask(route, f"{route.operation}.open", request, b"")
            try:
                answered = _answer_of(answer)
                kept = answered.status == 101
                if kept:
                    self._hold(request.connection, member)
            finally:
                self._over(member)
        finally:
            if not kept:
                del self._connections[request.connection]
        return answered

    async def message(self, connection: str, kind: Literal["text", "binary"], data: bytes) -> None:
        """A WebSocket's message, to the member that accepted it, in order."""
        known = self._connections.get(connection)
        if known is None or known.member is None:
            return
        text = data.decode(errors="replace") if kind == "text" else ""
        attachments = [] if kind == "text" else [Attachment(DATA, data)]
        said = HttpMessage(connection=connection, kind=kind, text=text)
        try:
            await self._cast(known.route, known.member, "message", said, attachments)
        except PlatformError:
            await self._cut(connection, INTERNAL_ERROR, "the member is gone")

    async def close(self, connection: str, code: int, reason: str) -> None:
        """The WebSocket or stream is over; once for each that was opened."""
        known = self._connections.pop(connection, None)
        if known is None or known.member is None:
            return
        try:
            said = HttpClose(connection=connection, code=code, reason=reason)
            with trio.move_on_after(limits.PUSH_TIMEOUT_S):
                await self._cast(known.route, known.member, "close", said, [])
        except PlatformError:
            pass  # it is gone itself
        finally:
            self._over(known.member)

    def _hold(self, connection: str, member: Member) -> None:
        """The answer goes on, and is under way with the member until it is closed."""
        member.in_flight += 1
        self._connections[connection].member = member
        if member.state != "serving":
            self._look()

    def _over(self, member: Member) -> None:
        member.in_flight -= 1
        self.end(member)

    async def _cast(
        self, route: Route, member: Member, word: str, inputs: Any, attachments: list[Attachment]
    ) -> None:
        timeout_s, operation = route.timeout_s, f"{route.operation}.{word}"
        call = _Call(member.component, operation, inputs, attachments, timeout_s)
        await self._channel.ask("hub.cast", call, _Accepted, timeout_s=timeout_s)

    async def _ask(
        self, route: Route, operation: str, request: HttpRequest, body: bytes
    ) -> tuple[Member, CallAnswer]:
        """The answer, and who gave it, of whom `in_flight` is counted still."""
        until = trio.current_time() + route.timeout_s
        attachments = [Attachment(BODY, body, _content_type(request))] if body else []
        tried: list[Member] = []
        while True:
            now = trio.current_time()
            member = self._choose(route, request, tried, now)
            if member is None:
                raise OperationFailed(503 if not tried else 502, _nobody(tried))
            timeout_s = max(until - now, 0.001)
            member.in_flight += 1
            member.breaker.began()
            try:
                call = _Call(member.component, operation, request, attachments, timeout_s)
                answer = await self._channel.ask("hub.call", call, CallAnswer, timeout_s=timeout_s)
            except PlatformError as error:
                self._over(member)
                await self._failed(route, request, member, error, tried, until)
            except BaseException:
                member.breaker.given_up()
                self._over(member)
                raise
            else:
                member.breaker.succeeded()
                return member, answer

    def _choose(
        self, route: Route, request: HttpRequest, tried: list[Member], now: float
    ) -> Member | None:
        members = self._book.members(route)
        if route.sticky and not tried:
            chosen = None
            if route.sticky == "address":
                chosen = balance.by_address(members, request.remote, now)
            elif cookies := _cookies(request):
                chosen = balance.by_cookie(members, route, cookies, now)
            if chosen is not None:
                return chosen
        return balance.choose(members, now, self._draw, tried)

    async def _failed(
        self,
        route: Route,
        request: HttpRequest,
        member: Member,
        error: PlatformError,
        tried: list[Member],
        until: float,
    ) -> None:
        """Return to ask another member; raises OperationFailed when nobody else is to be asked."""
        code = error.code
        if code == "failed" or code not in NOT_BEGUN | {"unknown-outcome", "timeout"}:
            member.breaker.succeeded()  # it answers, if with an error
            raise OperationFailed(502, f"{code}: {error.message}") from None
        member.breaker.failed(trio.current_time())
        if code == "timeout":
            raise OperationFailed(504, "the member did not answer in time") from None
        if code == "unknown-outcome" and not repeatable(route, request.method):
            text = "the member was lost while it worked; it may have done it"
            raise OperationFailed(502, text) from None
        if error.data.get("where") == "hub" and trio.current_time() + HUB_AWAY_S < until:
            await trio.sleep(HUB_AWAY_S)  # the way to the platform, not the member: it comes back
            return
        tried.append(member)
        if len(tried) > route.retries:
            raise OperationFailed(502 if code == "unknown-outcome" else 503, error.message)

    async def _content(self, attachments: list[Attachment], name: str) -> bytes:
        """The data of an attachment, wherever it is.  Raises OperationFailed."""
        for attachment in attachments:
            if attachment.name == name:
                try:
                    return await self._read(attachment) if attachment.blob else attachment.content()
                except (PlatformError, ValueError) as exc:
                    raise OperationFailed(502, f"the body of the answer: {exc}") from None
        return b""

    async def _read(self, attachment: Attachment) -> bytes:
        if attachment.size > BLOB_BYTES_MAX:
            raise ValueError(f"{attachment.size} bytes are too much for one answer: stream it")
        place = {"blob": attachment.blob, "node": attachment.node, "key": attachment.key}
        params = {name: value for name, value in place.items() if value}
        found = bytearray()
        while True:
            piece = await self._channel.ask(
                "blob.read",
                {**params, "offset": len(found), "size": BLOB_PIECE_BYTES, "timeout": 30.0},
                _Piece,
                timeout_s=30.0,
            )
            data = Attachment(DATA, piece.data).content()
            found += data
            if piece.eof or not data or len(found) > BLOB_BYTES_MAX:
                return bytes(found)

    # -- pushing ---------------------------------------------------------------------------------

    def invoked(self, identity: Any, call: Invocation) -> None:
        """An invocation of this component: `gateway.send`, in order for each connection."""
        if call.operation != SEND_OPERATION or call.object:
            text = f"no operation {call.operation!r}; there is: {SEND_OPERATION}"
            self._channel.fail(identity, PlatformError("no-such-operation", text))
            return
        try:
            send = msgspec.msgpack.decode(call.inputs, type=HttpSend)
            data = send.text.encode()
            for attachment in call.attachments:
                if attachment.name == DATA:
                    data = attachment.content()
        except (msgspec.MsgspecError, ValueError) as exc:
            self._channel.fail(identity, PlatformError("invalid", f"inputs: {exc}"))
            return
        known = self._connections.get(send.connection)
        if known is None:
            self._channel.fail(identity, _no_connection())
        elif len(data) > limits.SEND_BYTES_MAX:
            text = f"one message has {limits.SEND_BYTES_MAX} bytes at most"
            self._channel.fail(identity, PlatformError("limit-exceeded", text))
        else:
            known.queue.append((identity, send, data))
            if len(known.queue) == 1 and self._nursery is not None:
                self._nursery.start_soon(self._deliver_all, known)

    async def _deliver_all(self, known: _Connection) -> None:
        """One after the other; who called hears of each when the browser has room for it."""
        while known.queue:
            identity, send, data = known.queue[0]
            delivered = False
            if self.edge is not None:
                with trio.move_on_after(limits.PUSH_TIMEOUT_S):
                    delivered = await self.edge.deliver(send, data, wait=identity is not None)
            if delivered:
                self._channel.answer(identity, {"delivered": True})
            else:
                self._channel.fail(identity, _no_connection())
            known.queue.pop(0)

    async def _end_connection(self, name: str, known: _Connection, member: Member) -> None:
        """Its member leaves, or is gone."""
        route = known.route
        if member.state == "leaving":
            if route.drain_notice and self.edge is not None:
                notice = HttpSend(connection=name, kind="text", text=route.drain_notice)
                with trio.move_on_after(limits.PUSH_TIMEOUT_S):
                    await self.edge.deliver(notice, route.drain_notice.encode(), wait=False)
            while member.state == "leaving" and name in self._connections:
                left_s = member.drain_until - trio.current_time()
                if left_s <= 0:
                    break
                await trio.sleep(min(left_s, 0.25))
        if member.state == "serving":
            known.working = False  # it was only asked whether it will end
        elif name in self._connections:
            died = member.ended and not member.drain_until
            code = INTERNAL_ERROR if died else GONE_AWAY
            await self._cut(name, code, "the member is gone" if died else "the member leaves")

    async def _cut(self, name: str, code: int, reason: str) -> None:
        """A WebSocket is told why; a stream, and who takes nothing, is cut off."""
        if self.edge is not None:
            close = HttpSend(connection=name, kind="close", code=code, reason=reason)
            told = False
            with trio.move_on_after(limits.PUSH_TIMEOUT_S):
                told = await self.edge.deliver(close, b"", wait=False)
            if not told:
                self.edge.cut(name)


def _answer_of(answer: CallAnswer) -> HttpAnswer:
    try:
        answered = msgspec.msgpack.decode(answer.outputs, type=HttpAnswer)
    except msgspec.MsgspecError as exc:
        raise OperationFailed(502, f"the answer of the operation: {exc}") from None
    if not 100 <= answered.status <= 599:
        raise OperationFailed(502, f"the answer of the operation: status {answered.status}")
    return answered


def _header(request: HttpRequest, name: str) -> str:
    return next((value for key, value in request.headers if key == name), "")


def _content_type(request: HttpRequest) -> str:
    return _header(request, "content-type") or "application/octet-stream"


def _cookies(request: HttpRequest) -> str:
    return "; ".join(value for key, value in request.headers if key == "cookie")


def _has_cookie(route: Route, request: HttpRequest, member: Member) -> bool:
    wanted = f"{balance.cookie_name(route)}={balance.token(route, member)}"
    return any(part.strip() == wanted for part in _cookies(request).split(";"))


def _nobody(tried: list[Member]) -> str:
    return "no other member is there to answer" if tried else "no member is there to answer"


def _no_connection() -> PlatformError:
    return PlatformError("no-such-target", "the connection is over, or was never there")
