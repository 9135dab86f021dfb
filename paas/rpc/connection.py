"""One connection as a sans-IO core: bytes in, events out; messages in, bytes out.

    bytes ──> receive() ──> Request | Reply | Failure         for the shell to act on
    request() / reply() / fail() ──> bytes                    for the shell to send

It keeps the two tables a peer needs: requests of ours that wait for their answer (`Pending`), and
how many of theirs wait for ours.  A late or unknown answer is dropped and counted, a second answer
to the same request too (feature M01).  Requests above the limit are answered `limit-exceeded` at
once and never seen by the shell; malformed ones are answered as JSON-RPC 2.0 §5.1 asks.  Only input
after which the next message cannot be found (an oversized frame) ends the connection: RemoteError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import FRAME_BYTES_MAX, OUTSTANDING_REQUESTS_MAX
from paas.rpc import envelope
from paas.rpc.envelope import Batch, Failure, Fault, Form, Reply, Request, RequestId
from paas.wire import codec
from paas.wire.frame import FrameParser, LineParser, frame, looks_like_json

Answer = Callable[[bytes | PlatformError], None]
"""What to do with the answer: the result's msgpack body, or the error."""


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
            self._outbox.append(self._emit(envelope.failure_value, event, event.error))
        else:
            self._answer(event)

    def _answer(self, event: Reply | Failure) -> None:
        waiting = self._pending.pop(event.id, None) if isinstance(event.id, int) else None
        if waiting is None:
            self.dropped_answers += 1
            return
        waiting[1](event.result if isinstance(event, Reply) else event.error)

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
        """A request of ours: its id and its bytes.  `deadline_s` on the clock given to `expire`."""
        self._last_id += 1
        identity = self._last_id
        self._pending[identity] = (deadline_s, answer)
        return identity, self._request_bytes(identity, method, params)

    def notify(self, method: str, params: bytes) -> bytes:
        return self._request_bytes(None, method, params)

    def _request_bytes(self, identity: int | None, method: str, params: bytes) -> bytes:
        if self.form is Form.COMPACT:
            return envelope.encode_compact_request(identity, method, params)
        return self._frame(envelope.request_value(identity, method, params))

    def reply(self, request: Request, result: bytes) -> bytes:
        """The answer to `request`; empty when it was answered already or its batch still waits."""
        if request.notification or request.answered:
            return b""
        request.answered = True
        self.outstanding -= 1
        if self.form is Form.COMPACT:
            return envelope.encode_compact_reply(request.id, result)
        return self._emit(envelope.reply_value, request, result)

    def fail(self, request: Request, error: PlatformError) -> bytes:
        """The error answer to `request`; empty in the same cases as `reply`."""
        if request.notification or request.answered:
            return b""
        request.answered = True
        self.outstanding -= 1
        if self.form is Form.COMPACT:
            return envelope.encode_compact_failure(request.id, error)
        return self._emit(envelope.failure_value, request, error)

    def _emit(
        self,
        value: Callable[[RequestId, Any], dict[str, Any]],
        to: Request | Fault,
        content: bytes | PlatformError,
    ) -> bytes:
        if self.form is Form.COMPACT:
            assert isinstance(content, PlatformError)
            return envelope.encode_compact_failure(to.id, content) if to.id is not None else b""
        made = value(to.id, content)
        batch: Batch | None = to.batch
        if batch is None:
            return self._frame(made)
        batch.answers.append(made)
        batch.waiting -= 1
        return self._frame(batch.answers) if batch.waiting == 0 else b""

    def _frame(self, value: Any) -> bytes:
        if self.form is Form.JSON or self.form is None:
            return codec.to_json(value) + b"\n"
        return frame(codec.pack(value))

    # -- time and end ----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests of ours without an answer."""
        return len(self._pending)

    def expire(self, now_s: float) -> None:
        """Answer `timeout` to the requests whose deadline has passed."""
        late = [i for i, (deadline, _) in self._pending.items() if deadline <= now_s]
        for identity in late:
            self._pending.pop(identity)[1](PlatformError("timeout"))

    def forget(self, identity: int) -> None:
        """The answer to this request of ours is no longer wanted."""
        self._pending.pop(identity, None)

    def end(self, error: PlatformError) -> None:
        """The connection is gone: nobody will answer, so everybody who waits is told."""
        waiting, self._pending = self._pending, {}
        for _, answer in waiting.values():
            answer(error)
