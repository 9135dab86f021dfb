"""Every error a user can meet, in one table: code, text for people, hint what to do, exit status.

An error is a value that travels: raised where it is found, carried over every channel as
`{code, message, hint, data}`, printed by the command line as message and hint.  The cause (a
traceback, an errno) stays in the log of the process that met it.

Exit statuses are those of `paas help exit-codes`; the JSON-RPC number is -32000 for all of ours,
with the code in `data.code` (component API, "Errors").
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Exit(enum.IntEnum):
    """Exit statuses of the command line (cli: rule 5)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    UNREACHABLE = 6
    DEADLINE = 7
    PENDING = 8
    INTERNAL = 10
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the catalogue."""

    code: str
    exit_status: Exit
    text: str
    hint: str = ""
    retryable: bool = False


_KINDS = (
    Kind(
        "no-such-target",
        Exit.NOT_FOUND,
        "no component or group has that name or identifier",
        "list them: paas ps",
    ),
    Kind(
        "no-such-type", Exit.NOT_FOUND, "no component type has that name", "list them: paas types"
    ),
    Kind(
        "no-such-operation",
        Exit.NOT_FOUND,
        "the component has no such operation",
        "see the component's documentation",
    ),
    Kind(
        "no-such-bundle",
        Exit.NOT_FOUND,
        "no bundle with that digest is stored",
        "upload it: paas push DIR",
    ),
    Kind(
        "not-available",
        Exit.FAILED,
        "the component is not available at the moment",
        "see: paas ps",
        retryable=True,
    ),
    Kind(
        "timeout",
        Exit.DEADLINE,
        "no answer before the deadline",
        "raise the timeout, or look at: paas logs TARGET",
        retryable=True,
    ),
    Kind(
        "refused", Exit.FAILED, "the component refused", "ask again later, or use: paas destroy ID"
    ),
    Kind(
        "reject",
        Exit.FAILED,
        "the receiver will never take this message",
        "look at: paas mailbox dead GROUP",
    ),
    Kind("denied", Exit.DENIED, "you are not allowed to do this", "ask an operator of the cluster"),
    Kind(
        "conflict",
        Exit.CONFLICT,
        "this contradicts what is already there",
        "look at what exists, then change the request",
    ),
    Kind("invalid", Exit.USAGE, "a value is not valid", "correct the named field"),
    Kind(
        "quota-exceeded",
        Exit.FAILED,
        "a quota would be exceeded",
        "destroy something, or ask for more",
    ),
    Kind(
        "limit-exceeded",
        Exit.FAILED,
        "a limit of the platform would be exceeded",
        "send less, or more slowly",
        retryable=True,
    ),
    Kind(
        "no-placement",
        Exit.PENDING,
        "no node can take this component",
        "see the reasons per node, and: paas nodes",
    ),
    Kind("failed", Exit.FAILED, "the component failed", "look at: paas logs TARGET"),
    Kind(
        "cancelled",
        Exit.FAILED,
        "the caller no longer wants the answer",
        "ask again, if it is wanted after all",
    ),
    Kind(
        "unknown-outcome",
        Exit.PENDING,
        "it is not known whether this was done",
        "look, then repeat with the same request id",
        retryable=True,
    ),
    Kind(
        "unavailable",
        Exit.UNREACHABLE,
        "the platform cannot be reached or has no leader",
        "start it: paas dev; look at it: paas status",
        retryable=True,
    ),
    Kind(
        "storage-full",
        Exit.FAILED,
        "the platform's disk is full: changes are refused, reads still work",
        "free space on the state directory's file system",
        retryable=True,
    ),
    Kind("unsupported", Exit.FAILED, "this machine cannot do this", "run: paas doctor"),
    Kind(
        "untrusted",
        Exit.DENIED,
        "the signature is missing, wrong, or of an unknown publisher",
        "push with a trusted key: paas push DIR",
    ),
    Kind(
        "corrupt",
        Exit.FAILED,
        "the content does not match its digest or checksum",
        "upload it again",
    ),
    Kind(
        "internal",
        Exit.INTERNAL,
        "the platform made an error",
        "report it with the lines around it in the agent's log",
    ),
    Kind(
        "parse-error",
        Exit.USAGE,
        "this is not valid JSON or msgpack",
        "send one value a line (JSON), or length-prefixed frames (msgpack)",
    ),
    Kind(
        "invalid-request",
        Exit.USAGE,
        "this is not a JSON-RPC 2.0 request",
        "see the component API, 'Transports'",
    ),
    Kind(
        "no-such-method", Exit.USAGE, "no method has that name", "list them: paas api rpc.discover"
    ),
)

CATALOGUE: dict[str, Kind] = {kind.code: kind for kind in _KINDS}

# JSON-RPC 2.0 §5.1 reserves these numbers for faults of the protocol; all else is -32000.
_RPC_NUMBERS = {
    "parse-error": -32700,
    "invalid-request": -32600,
    "no-such-method": -32601,
    "internal": -32603,
}
RPC_INVALID_PARAMS = -32602
RPC_OURS = -32000
_CODES_BY_NUMBER = {number: code for code, number in _RPC_NUMBERS.items()} | {
    RPC_INVALID_PARAMS: "invalid"
}


class PlatformError(Exception):
    """An error of the catalogue, with what is particular to this occurrence.

    `message` says what happened in terms the user knows; `data` holds plain values (field, reasons,
    last log lines); `hint` overrides the row's hint.  An unknown code is a bug and fails at once.
    """

    def __init__(self, code: str, message: str = "", *, hint: str = "", **data: Any) -> None:
        self.kind = CATALOGUE[code]
        self.code = code
        self.message = message or self.kind.text
        self.hint = hint or self.kind.hint
        self.data = data
        super().__init__(f"{self.message} [{code}]")

    def to_rpc(self) -> dict[str, Any]:
        """The error member of a JSON-RPC 2.0 response."""
        number = _RPC_NUMBERS.get(self.code, RPC_OURS)
        if self.code == "invalid" and "param" in self.data:
            number = RPC_INVALID_PARAMS
        data = {**self.data, "code": self.code, "hint": self.hint}
        return {"code": number, "message": self.message, "data": data}

    @classmethod
    def from_rpc(cls, error: Any) -> PlatformError:
        """Read an error member that a peer sent: nothing is trusted, unknown codes are `failed`."""
        if not isinstance(error, dict):
            return cls("failed", "the peer answered with a malformed error")
        raw = error.get("data")
        data = {str(k): v for k, v in raw.items()} if isinstance(raw, dict) else {}
        code = data.pop("code", None)
        if not isinstance(code, str) or code not in CATALOGUE:
            number = error.get("code")
            code = _CODES_BY_NUMBER.get(number, "failed") if isinstance(number, int) else "failed"
        hint = data.pop("hint", "")
        for reserved in ("message", "self"):
            data.pop(reserved, None)
        message = error.get("message")
        return cls(
            code,
            message if isinstance(message, str) else "",
            hint=hint if isinstance(hint, str) else "",
            **data,
        )


def invalid(field: str, expected: str, **data: Any) -> PlatformError:
    """The error for a bad value: names the field and what was expected."""
    return PlatformError("invalid", f"{field}: {expected}", field=field, **data)


class LocalError(Exception):
    """A core was used wrongly by our own code: a bug, never the peer's fault."""


class RemoteError(Exception):
    """The peer broke the protocol: its connection is closed, nobody else is disturbed."""
