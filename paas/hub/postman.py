"""Casts to groups with a durable mailbox: collected, committed in the log, then answered.

    hub.cast ──> queue ──all that waits in one command──> log ──> {accepted, message}

While one command is on its way, the next ones gather, so many senders share a commit, and a lone
one does not wait.  One at a time also keeps the order of a sender's messages.  The queue is
bounded in messages and bytes, and a message that its mailbox cannot take, as this replica sees it,
is refused before it costs the log anything; the log decides again when it is applied.

Accepted is what the log has; every other outcome is an error of the sender.  After
`unknown-outcome` it may cast again with the same `id`, which is accepted once.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError, invalid
from paas.hub import limits
from paas.hub.mailbox import MailboxState, generated_id, too_large
from paas.hub.mailbox_box import size_of
from paas.hub.mailbox_commands import NewMessage, PutMessages
from paas.hub.messages import Cast, CastResult
from paas.rpc.envelope import Request
from paas.rpc.link import corked
from paas.rpc.peer import Peer

GROUP_PREFIX = "group:"
PUT_TIMEOUT_S = 10.0
ID_BYTES = 64
"""What ids, names of fields and lengths take in a command."""

Waiting = tuple[NewMessage, int, Peer, Request]


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


class Postman:
    """See the module's text."""

    def __init__(self, state: MailboxState, log: Log) -> None:
        self._state = state
        self._log = log
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self.accepted = 0
        self.refused = 0

    def takes(self, target: str, selector: str) -> bool:
        """Is this a cast for a mailbox?  Only `any` is: one member will have done it."""
        if selector != "any" or not target.startswith(GROUP_PREFIX):
            return False
        return self._state.box(target.removeprefix(GROUP_PREFIX)) is not None

    def post(self, peer: Peer, request: Request, params: Cast) -> None:
        """Take a cast over; its answer comes when it is committed.  Raises what refuses it now."""
        try:
            message = self._checked(peer, params)
        except PlatformError:
            self.refused += 1
            raise
        cost = size_of(message) + 4 * len(message.group) + ID_BYTES
        self._queue.append((message, cost, peer, request))
        self._queued_bytes += cost
        self._wake.set()

    def _checked(self, peer: Peer, params: Cast) -> NewMessage:
        identity = params.id
        if len(identity) > limits.DURABLE_ID_LENGTH_MAX or not identity.isprintable():
            expected = f"expected at most {limits.DURABLE_ID_LENGTH_MAX} printable characters"
            raise invalid("id", expected, param="id")
        message = NewMessage(
            group=params.target.removeprefix(GROUP_PREFIX),
            operation=params.operation,
            object=params.object,
            inputs=bytes(params.inputs),
            attachments=bytes(params.attachments),
            from_=peer.info.get("component", ""),
            id=identity,
            trace=params.trace or "",
        )
        size = size_of(message)
        if size > limits.DURABLE_MESSAGE_BYTES_MAX + limits.DURABLE_OVERHEAD_BYTES:
            raise too_large(size)
        full = (
            len(self._queue) >= limits.DURABLE_PUTS_WAITING_MAX
            or self._queued_bytes + size > limits.DURABLE_PUTS_WAITING_BYTES_MAX
        )
        if full:
            text = f"{len(self._queue)} messages wait to be committed already"
            raise PlatformError("limit-exceeded", text)
        box = self._state.require(message.group)
        known = bool(identity) and box.knows(message.from_, identity)
        refusal = None if known else box.refusal(size)
        if refusal is not None:
            raise refusal
        return message

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            batch = self._take()
            try:
                command = PutMessages(messages=[message for message, _, _, _ in batch])
                result = await self._log.propose(command, timeout_s=PUT_TIMEOUT_S)
            except PlatformError as error:
                self._refuse(batch, error)
            else:
                self._answer(batch, result["index"], result["refused"])
            if not self._queue:
                self._wake = trio.Event()

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        left = limits.DURABLE_BATCH_BYTES_MAX
        while self._queue and len(batch) < limits.DURABLE_BATCH_MESSAGES_MAX:
            cost = self._queue[0][1]
            if batch and cost > left:
                break
            left -= cost
            self._queued_bytes -= cost
            batch.append(self._queue.popleft())
        return batch

    def _refuse(self, batch: list[Waiting], error: PlatformError) -> None:
        self.refused += len(batch)
        with corked():
            for _, _, peer, request in batch:
                peer.fail(request, error)

    def _answer(self, batch: list[Waiting], index: int, refused: list[list[Any]]) -> None:
        errors = {place: (code, text) for place, code, text in refused}
        self.refused += len(errors)
        self.accepted += len(batch) - len(errors)
        with corked():
            for place, (message, _, peer, request) in enumerate(batch):
                if place in errors:
                    code, text = errors[place]
                    peer.fail(request, PlatformError(code, text, group=message.group))
                else:
                    identity = message.id or generated_id(index, place)
                    peer.reply(request, CastResult(accepted=1, message=identity))

    def statistics(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "queued": len(self._queue),
            "queued_bytes": self._queued_bytes,
        }
