"""What replicas say to each other: typed, bounded, checked before the library sees it (rule T0).

The library's own messages are dictionaries, pickled by its transport.  Here each of them is a
structure with a number, extended by what the rules need (rules.py): the sequence number of an
append and its echo, the term of an acknowledgement, the name of a snapshot.  Messages that we never
use (utility commands, commands in pieces, read-only followers) do not exist here, so a peer cannot
send them.

Bytes from a peer raise RemoteError when they are anything else: the connection ends, no one else is
disturbed.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

from paas.base.errors import LocalError, PlatformError, RemoteError
from paas.raft import configuration
from paas.raft.configuration import CONFIGURATION
from paas.raft.journal import Entry
from paas.raft.limits import COMMAND_BYTES_MAX, MESSAGE_BYTES_MAX
from paas.raft.snapshot import Chunk

REGULAR = 0
NO_OP = 1
MEMBERSHIP = 2
"""First byte of an entry: its kind, as the library numbers them; 3 (version) is not used.

Membership requests of the library are never made; they stay readable for the tests that show what
they do.  Our own kind is CONFIGURATION.
"""

_KINDS = {REGULAR, NO_OP, MEMBERSHIP, CONFIGURATION}

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    term: Count
    last_index: Count
    last_term: Count
    transfer: bool = False
    """The leader asked for this election."""


class ResponseVote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    term: Count


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=3):
    term: Count
    commit_index: Count
    previous_index: Count | None
    previous_term: Count | None
    entries: list[Entry]
    sequence: Count = 0


class AppendSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=4):
    term: Count
    commit_index: Count
    chunk: Chunk | None
    sequence: Count = 0


class NextIndex(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The answer to an append."""

    next_index: Count
    reset: bool
    success: bool
    term: Count = 0
    echo: Count | None = None


class ApplyCommand(msgspec.Struct, frozen=True, array_like=True, tag=6):
    command: bytes
    request: Count | None


class ApplyResponse(msgspec.Struct, frozen=True, array_like=True, tag=7):
    request: Count
    error: Count | None
    index: Count = 0
    term: Count = 0


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=8):
    term: Count


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Would you vote for me in this term?  Changes nothing."""

    round: Count
    term: Count
    last_index: Count
    last_term: Count


class PreVoteAnswer(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """`term` is that of who answers.  Round 0 answers a request for a vote that came too late."""

    round: Count
    term: Count
    granted: bool


class ReadRequest(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Which index must a reader have applied?"""

    number: Count


class ReadAnswer(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """None: ask somebody else, or later."""

    number: Count
    index: Count | None


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """My log is empty, and I know nothing of what I may have promised (returning.py)."""

    nonce: Count


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """You do not vote; follow the log from this term on, up to this entry at least."""

    nonce: Count
    term: Count
    index: Count
    index_term: Count


Message: TypeAlias = (
    RequestVote
    | ResponseVote
    | AppendEntries
    | AppendSnapshot
    | NextIndex
    | ApplyCommand
    | ApplyResponse
    | TimeoutNow
    | PreVote
    | PreVoteAnswer
    | ReadRequest
    | ReadAnswer
    | Returned
    | Welcome
)

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode(data: bytes) -> Message:
    """Raises RemoteError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise RemoteError("message too long")
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteError(f"not a message of the log: {exc}") from None
    if isinstance(message, AppendEntries):
        if message.entries:
            _check_entries(message)
    elif isinstance(message, ApplyCommand):
        _check_command(message.command)
    return message


def _check_command(command: bytes) -> None:
    if command[:1] != bytes([REGULAR]) or len(command) > COMMAND_BYTES_MAX + 1:
        raise RemoteError("only commands may be proposed from afar")


def _check_entries(message: AppendEntries) -> None:
    expected = None if message.previous_index is None else message.previous_index + 1
    if expected is None:
        raise RemoteError("entries without the place they belong to")
    for payload, index, term in message.entries:
        if index != expected or not 0 <= term <= message.term:
            raise RemoteError("entries out of order")
        if not payload or payload[0] not in _KINDS or len(payload) > COMMAND_BYTES_MAX + 1:
            raise RemoteError("an entry of a kind or length that does not exist")
        if payload[0] == CONFIGURATION:
            _check_configuration(payload, index)
        expected += 1


def _check_configuration(payload: bytes, index: int) -> None:
    try:
        configuration.decode(payload, index)
    except PlatformError as exc:
        raise RemoteError(f"an impossible configuration: {exc.message}") from None


# -- the library's dictionaries --------------------------------------------------------------------


def from_library(message: dict[str, Any]) -> Message:
    """The library sends this."""
    match message.get("type"):
        case "next_node_idx":
            return NextIndex(message["next_node_idx"], message["reset"], message["success"])
        case "append_entries" if "entries" in message:
            place = message["prevLogIdx"], message["prevLogTerm"]
            return AppendEntries(
                message["term"], message["commit_index"], *place, message["entries"]
            )
        case "append_entries" if "serialized" in message:
            return AppendSnapshot(message["term"], message["commit_index"], message["serialized"])
        case "request_vote":
            place = message["last_log_index"], message["last_log_term"]
            return RequestVote(message["term"], *place)
        case "response_vote":
            return ResponseVote(message["term"])
        case "apply_command":
            return ApplyCommand(message["command"], message.get("request_id"))
        case "apply_command_response":
            place = message.get("log_idx", 0), message.get("log_term", 0)
            return ApplyResponse(message["request_id"], message.get("error"), *place)
        case "timeout_now":
            return TimeoutNow(message["term"])
    raise LocalError(f"the library sends an unknown message: {sorted(message)}")


def to_library(message: Message) -> dict[str, Any]:
    """The library understands this."""
    match message:
        case AppendEntries():
            return {
                "type": "append_entries",
                "term": message.term,
                "commit_index": message.commit_index,
                "prevLogIdx": message.previous_index,
                "prevLogTerm": message.previous_term,
                "entries": message.entries,
            }
        case AppendSnapshot(term, commit_index, chunk):
            plain = {"type": "append_entries", "term": term, "commit_index": commit_index}
            return {**plain, "serialized": chunk}
        case NextIndex(next_index, reset, success):
            plain = {"type": "next_node_idx", "next_node_idx": next_index}
            return {**plain, "reset": reset, "success": success}
        case RequestVote(term, last_index, last_term):
            plain = {"type": "request_vote", "term": term}
            return {**plain, "last_log_index": last_index, "last_log_term": last_term}
        case ResponseVote(term):
            return {"type": "response_vote", "term": term}
        case ApplyCommand(command, request):
            forwarded: dict[str, Any] = {"type": "apply_command", "command": command}
            return forwarded if request is None else {**forwarded, "request_id": request}
        case ApplyResponse(request, error, index, term):
            answer: dict[str, Any] = {"type": "apply_command_response", "request_id": request}
            if error is not None:
                return {**answer, "error": error}
            return {**answer, "log_idx": index, "log_term": term}
        case TimeoutNow(term):
            return {"type": "timeout_now", "term": term}
    raise LocalError(f"the library does not know {type(message).__name__}")
