"""One connection as a sans-IO core: bytes in, events out; messages in, bytes out.

    bytes ──> receive() ──> Request | Reply | Failure         for the shell to act on
    request() / reply() / fail() ──> bytes                    for the shell to send

It keeps the two tables a peer needs: requests of ours that wait for their answer (`Pending`), and
how many of theirs wait for ours.  A late or unknown answer is dropped and counted, a second answer
to the same request too (feature M01).  Requests above the limit are answered `limit-exceeded` at
once and never seen by the shell; malformed ones are answered as JSON-RPC 2.0 §5.1 asks.  Only input
after which the next message cannot be found (an oversized frame) ends the connection: RemoteError.

What we send must not harm its receiver either.  A value that a third party gave us may be too large
for one frame, or have no form in this peer's codec (a map with a null key, in JSON): a request of
ours then raises PlatformError instead of leaving, an answer of ours becomes an error.

A request that nobody waits for any more is cancelled by the notification `rpc.cancel`.  Ours:
`abandon` and `expire` send it.  Theirs: the request is marked, its `on_cancel` called, and whatever
is answered to it is not sent; it counts as outstanding until then, so that cancelling does not buy
anybody more work at a time.  One that was cancelled before the shell saw it never gets there.  The
end of the connection cancels all of theirs.

Every `Answer` is called exactly once, unless forgotten.  One that raises is our bug: it is logged,
and neither the connection that the answer came on nor the other waiters hear of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import FRAME_BYTES_MAX, OUTSTANDING_REQUESTS_MAX
from paas.rpc import envelope
from paas.rpc.envelope import Batch, Failure, Fault, Form, Reply, Request, RequestId
from paas.rpc.messages import CANCEL, Cancel
from paas.wire import codec
from paas.wire.frame import HEADER_BYTES, FrameParser, LineParser, frame, looks_like_json
from paas.wire.registry import decode

logger = logging.getLogger(__name__)

Answer = Callable[[bytes | PlatformError], None]
"""What to do with the answer: the result's msgpack body, or the error."""

NOT_EXPRESSIBLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoders raise for a value that their format does not know."""

_SHORTENED = 1_000
"""Characters of the message that are left of an error that cannot be sent whole."""


class Connection:
    """`form` None: the first byte that the peer sends decides between JSON lines and frames.

    The tables are cleared when they get empty: they would keep their memory otherwise, which is
    much of what an idle connection takes.
    """

    __slots__ = (
        "_cancelled_early",
        "_frame_bytes_max",
        "_last_id",
        "_outbox",
        "_outstanding_max",
        "_parser",
        "_pending",
        "_theirs",
        "dropped_answers",
        "ended",
        "form",
        "ignored_cancels",
        "outstanding",
        "refused_requests",
    )

    cancel_method = CANCEL.name
    """How this peer is told that a request of ours is no longer wanted."""

    def __init__(
        self,
        form: Form | None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        outstanding_max: int = OUTSTANDING_REQUESTS_MAX,
    ) -> None:
        self.form = form
        self.outstanding = 0
        self.ended = False
        self.dropped_answers = 0
        self.ignored_cancels = 0
        self.refused_requests = 0
        self._frame_bytes_max = frame_bytes_max
        self._outstanding_max = outstanding_max
        self._parser: FrameParser | LineParser | None = None
        self._pending: dict[int, tuple[float, Answer]] = {}
        self._theirs: dict[object, Request] = {}
        """Their requests that wait: by id, or by itself if the id is ambiguous or cancelled."""

        self._cancelled_early = False
        self._last_id = 0
        self._outbox: list[bytes] = []

    # -- what the peer sent ----------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Request]:
        """Digest bytes of the peer.  Answers are delivered to their `Answer`, requests returned.

        Bytes that must go back at once (errors) are put in the outbox: `take_outbox()`.
        Raises RemoteError when the stream can no longer be understood.
        """
        if self._parser is None:
            if self.form is None:
                self.form = Form.JSON if looks_like_json(data) else Form.MSGPACK
            limit = self._frame_bytes_max
            self._parser = LineParser(limit) if self.form is Form.JSON else FrameParser(limit)
        requests: list[Request] = []
        for body in self._parser.feed(data):
            if self.form is Form.COMPACT:
                self._event(envelope.decode_compact(body), requests)
                continue
            for event in self._decode(body):
                self._event(event, requests)
        return self._still_wanted(requests) if self._cancelled_early else requests

    def _decode(self, body: bytes) -> list[envelope.Event]:
        try:
            value = codec.from_json(body) if self.form is Form.JSON else codec.unpack(body)
        except RemoteError as exc:
            return [Fault(None, PlatformError("parse-error", str(exc)))]
        return envelope.decode_value(value)

    def _event(self, event: envelope.Event, requests: list[Request]) -> None:
        if isinstance(event, Request):
            if event.notification:
                if event.method == CANCEL.name:
                    self._cancelled(event)
                else:
                    requests.append(event)
                return
            self.outstanding += 1
            if self.outstanding > self._outstanding_max:
                self.refused_requests += 1
                error = PlatformError(
                    "limit-exceeded",
                    f"{self._outstanding_max} requests of this connection wait already",
                )
                self._outbox.append(self.fail(event, error))
                return
            theirs = self._theirs
            theirs[event if event.id in theirs else event.id] = event
            requests.append(event)
        elif isinstance(event, Fault):
            self._outbox.append(self._failure(event, event.error))
        else:
            self._answer(event)

    def _answer(self, event: Reply | Failure) -> None:
        pending = self._pending
        waiting = pending.pop(event.id, None) if isinstance(event.id, int) else None
        if waiting is None:
            self.dropped_answers += 1
            return
        if not pending:
            pending.clear()
        _deliver(waiting[1], event.result if isinstance(event, Reply) else event.error)

    def take_outbox(self) -> bytes:
        """Bytes that the core itself wants sent."""
        if not self._outbox:
            return b""
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data

    # -- what we send ----------------------------------------------------------------------------

    def request(
        self, method: str, params: bytes, answer: Answer, deadline_s: float
    ) -> tuple[int, bytes]:
        """A request of ours: its id and its bytes.  `deadline_s` on the clock given to `expire`.

        Raises `limit-exceeded` or `invalid` for params that the peer could not take.
        """
        identity = self._last_id + 1
        data = self._sendable(identity, method, params)
        self._last_id = identity
        self._pending[identity] = (deadline_s, answer)
        return identity, data

    def notify(self, method: str, params: bytes) -> bytes:
        """A notification of ours; raises like `request`."""
        return self._sendable(None, method, params)

    def _sendable(self, identity: int | None, method: str, params: bytes) -> bytes:
        try:
            data = self._request_bytes(identity, method, params)
        except NOT_EXPRESSIBLE as exc:
            text = f"params: the receiver's codec has no form for them: {exc}"
            raise PlatformError("invalid", text, field="params", param="params") from None
        self._check_size(data, "a request")
        return data

    def _check_size(self, data: bytes, what: str) -> None:
        if len(data) > self._frame_bytes_max + HEADER_BYTES:
            raise PlatformError(
                "limit-exceeded",
                f"{what} has {len(data)} bytes; {self._frame_bytes_max} fit in a frame",
                hint="store large values as blobs and send their digests",
            )

    def _request_bytes(self, identity: int | None, method: str, params: bytes) -> bytes:
        if self.form is Form.COMPACT:
            return envelope.encode_compact_request(identity, method, params)
        return self._frame(self._encode(envelope.request_value(identity, method, params)))

    def reply(self, request: Request, result: bytes) -> bytes:
        """The answer to `request`; empty when it was answered already or its batch still waits."""
        if not self._settle(request):
            return self._unsent(request)
        try:
            if self.form is Form.COMPACT:
                data = envelope.encode_compact_reply(request.id, result)
            else:
                data = self._encode(envelope.reply_value(request.id, result))
            self._check_size(data, "the answer")
            return self._finish(request, data)
        except PlatformError as exc:
            return self._failure(request, exc)
        except NOT_EXPRESSIBLE as exc:
            text = f"the answer has no form in the caller's codec: {exc}"
            return self._failure(request, PlatformError("failed", text))

    def fail(self, request: Request, error: PlatformError) -> bytes:
        """The error answer to `request`; empty in the same cases as `reply`."""
        if not self._settle(request):
            return self._unsent(request)
        return self._failure(request, error)

    def _failure(self, to: Request | Fault, error: PlatformError) -> bytes:
        try:
            data = self._failure_bytes(to.id, error)
            self._check_size(data, "the error")
        except (PlatformError, *NOT_EXPRESSIBLE):
            plain = error.message[:_SHORTENED].encode("utf-8", "replace").decode()
            data = self._failure_bytes(to.id, PlatformError(error.code, plain))
        return self._finish(to, data)

    def _failure_bytes(self, identity: RequestId, error: PlatformError) -> bytes:
        if self.form is not Form.COMPACT:
            return self._encode(envelope.failure_value(identity, error))
        if identity is None:  # a notification cannot be answered
            return b""
        return envelope.encode_compact_failure(identity, error)

    def _finish(self, to: Request | Fault, data: bytes) -> bytes:
        """An encoded answer leaves framed, alone or with the others of its batch."""
        batch = to.batch
        if self.form is Form.COMPACT:
            return data
        if batch is None:
            return self._frame(data)
        batch.bytes += len(data)
        if batch.bytes > self._frame_bytes_max * 3 // 4 and len(data) > _SHORTENED:
            batch.bytes -= len(data)
            text = "the answers of this batch do not fit in a frame"
            data = self._failure_bytes(to.id, PlatformError("limit-exceeded", text))
        batch.answers.append(msgspec.Raw(data))
        batch.waiting -= 1
        return self._batch_bytes(batch)

    def _batch_bytes(self, batch: Batch) -> bytes:
        if batch.waiting or not batch.answers:
            return b""
        return self._frame(self._encode(batch.answers))

    def _encode(self, value: Any) -> bytes:
        if self.form is Form.JSON or self.form is None:
            return codec.to_json(value)
        return codec.pack(value)

    def _frame(self, body: bytes) -> bytes:
        return frame(body) if self.form is Form.MSGPACK else body + b"\n"

    # -- requests of theirs that are over --------------------------------------------------------

    def _settle(self, request: Request) -> bool:
        """Their request is answered; false when nothing is to be sent for it."""
        if request.answered or request.notification:
            return False
        request.answered = True
        self.outstanding -= 1
        theirs = self._theirs
        if theirs.get(request.id) is request:
            del theirs[request.id]
        else:
            theirs.pop(request, None)
        if not theirs:
            theirs.clear()
        return not request.cancelled

    def _unsent(self, request: Request) -> bytes:
        """Instead of an answer that is not wanted: what its batch has waited for, perhaps."""
        batch = request.batch
        if batch is None or not request.cancelled:
            return b""
        request.batch = None
        batch.waiting -= 1
        return self._batch_bytes(batch)

    def _cancelled(self, notice: Request) -> None:
        """They no longer want one of their requests."""
        try:
            request = self._theirs.get(decode(notice.params, Cancel).id)
        except PlatformError:
            request = None
        if request is None:
            self.ignored_cancels += 1
            return
        del self._theirs[request.id]  # so that its id may be used again
        self._theirs[request] = request
        self._cancelled_early = self._cancelled_early or request.on_cancel is None
        _cancel(request)

    def _still_wanted(self, requests: list[Request]) -> list[Request]:
        """Without those that were cancelled in what came together with them."""
        self._cancelled_early = False
        wanted = []
        for request in requests:
            if request.cancelled:
                self._outbox.append(self.fail(request, PlatformError("cancelled")))
            else:
                wanted.append(request)
        return wanted

    # -- time and end ----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests of ours without an answer."""
        return len(self._pending)

    def expire(self, now_s: float) -> None:
        """Answer `timeout` to the requests whose deadline has passed."""
        late = [i for i, (deadline, _) in self._pending.items() if deadline <= now_s]
        for identity in late:
            waiting = self._pending.pop(identity, None)
            if waiting is not None:  # the answer to one may have made another be forgotten
                self._outbox.append(self._cancel_bytes(identity))
                _deliver(waiting[1], PlatformError("timeout"))

    def abandon(self, identity: int) -> bytes:
        """Nobody wants the answer to this request of ours: it is answered `cancelled` here, and
        the bytes tell the peer.  Empty when it was answered before.
        """
        waiting = self._pending.pop(identity, None)
        if waiting is None:
            return b""
        _deliver(waiting[1], PlatformError("cancelled"))
        return self._cancel_bytes(identity)

    def _cancel_bytes(self, identity: int) -> bytes:
        body = codec.pack(Cancel(id=identity))
        return self._request_bytes(None, self.cancel_method, body)

    def forget(self, identity: int) -> None:
        """The answer to this request of ours is no longer wanted."""
        self._pending.pop(identity, None)

    def end(self, error: PlatformError) -> None:
        """The connection is gone: nobody will answer, so everybody who waits is told; and nobody
        waits for our answers, so who works on them is told.
        """
        self.ended = True
        waiting, self._pending = self._pending, {}
        for _, answer in waiting.values():
            _deliver(answer, error)
        for request in list(self._theirs.values()):
            if not request.cancelled:
                _cancel(request)


def _cancel(request: Request) -> None:
    request.cancelled = True
    if request.on_cancel is None:
        return
    try:
        request.on_cancel()
    except Exception:
        logger.exception("what worked on %s failed at its cancellation", request.method[:64])


def _deliver(answer: Answer, value: bytes | PlatformError) -> None:
    try:
        answer(value)
    except Exception:
        logger.exception("what waited for an answer failed at it")
