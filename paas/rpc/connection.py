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
from paas.rpc.envelope import Failure, Fault, Form, Reply, Request, RequestId
from paas.wire import codec
from paas.wire.frame import HEADER_BYTES, FrameParser, LineParser, frame, looks_like_json

logger = logging.getLogger(__name__)

Answer = Callable[[bytes | PlatformError], None]
"""What to do with the answer: the result's msgpack body, or the error."""

NOT_EXPRESSIBLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoders raise for a value that their format does not know."""

_SHORTENED = 1_000
"""Characters of the message that are left of an error that cannot be sent whole."""


class Connection:
    """`form` None: the first byte that the peer sends decides between JSON lines and frames."""

    def __init__(
        self,
        form: Form | None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        outstanding_max: int = OUTSTANDING_REQUESTS_MAX,
    ) -> None:
        self.form = form
        self.outstanding = 0
        self.dropped_answers = 0
        self.refused_requests = 0
        self._frame_bytes_max = frame_bytes_max
        self._outstanding_max = outstanding_max
        self._parser: FrameParser | LineParser | None = None
        self._pending: dict[int, tuple[float, Answer]] = {}
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
        return requests

    def _decode(self, body: bytes) -> list[envelope.Event]:
        try:
            value = codec.from_json(body) if self.form is Form.JSON else codec.unpack(body)
        except RemoteError as exc:
            return [Fault(None, PlatformError("parse-error", str(exc)))]
        return envelope.decode_value(value)

    def _event(self, event: envelope.Event, requests: list[Request]) -> None:
        if isinstance(event, Request):
            if event.notification:
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
            requests.append(event)
        elif isinstance(event, Fault):
            self._outbox.append(self._failure(event, event.error))
        else:
            self._answer(event)

    def _answer(self, event: Reply | Failure) -> None:
        waiting = self._pending.pop(event.id, None) if isinstance(event.id, int) else None
        if waiting is None:
            self.dropped_answers += 1
            return
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
        if request.notification or request.answered:
            return b""
        request.answered = True
        self.outstanding -= 1
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
        if request.notification or request.answered:
            return b""
        request.answered = True
        self.outstanding -= 1
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
        return self._frame(self._encode(batch.answers)) if batch.waiting == 0 else b""

    def _encode(self, value: Any) -> bytes:
        if self.form is Form.JSON or self.form is None:
            return codec.to_json(value)
        return codec.pack(value)

    def _frame(self, body: bytes) -> bytes:
        return frame(body) if self.form is Form.MSGPACK else body + b"\n"

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
                _deliver(waiting[1], PlatformError("timeout"))

    def forget(self, identity: int) -> None:
        """The answer to this request of ours is no longer wanted."""
        self._pending.pop(identity, None)

    def end(self, error: PlatformError) -> None:
        """The connection is gone: nobody will answer, so everybody who waits is told."""
        waiting, self._pending = self._pending, {}
        for _, answer in waiting.values():
            _deliver(answer, error)


def _deliver(answer: Answer, value: bytes | PlatformError) -> None:
    try:
        answer(value)
    except Exception:
        logger.exception("what waited for an answer failed at it")
