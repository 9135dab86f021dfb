"""Commands: the only way to change the cluster state; typed, numbered, self-contained.

A command is a frozen `msgspec.Struct` with a number for life.  On its way into the log it gets a
`Stamp` with everything that applying may need and must not fetch itself: the time, random bytes,
who proposed it and under which sequence number.  Proposer and sequence are the command's
identity: the same identity is applied at most once, so a retry after an unknown outcome is safe
(architecture, rule 4).

    bytes in the log = msgpack [format, number, [time_ms, seed, proposer, sequence], {field: value}]

Fields travel by name and unknown ones are ignored, so a newer node may add optional fields.
Numbers are blocks of 100 a sub-system, like those of messages, and are never used again: a
retired one goes to RETIRED with the name it had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from paas.base.errors import LocalError, PlatformError
from paas.raft.limits import COMMAND_BYTES_MAX

FORMAT = 1
SEED_BYTES = 16

REGISTRY: dict[int, type[msgspec.Struct]] = {}
RETIRED: dict[int, str] = {}

_numbers: dict[type[msgspec.Struct], int] = {}
_decoders: dict[int, msgspec.msgpack.Decoder[msgspec.Struct]] = {}

C = TypeVar("C", bound=type[msgspec.Struct])


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What the proposer adds: applying is a function of the state, the command and this."""

    time_ms: int
    """Wall time of the proposer; not monotonic between commands."""

    seed: bytes
    """Random bytes to derive identifiers from."""

    proposer: str
    sequence: Annotated[int, msgspec.Meta(ge=0)]

    @property
    def identity(self) -> tuple[str, int]:
        return self.proposer, self.sequence


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    format: int
    number: int
    stamp: Stamp
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(_Envelope)


def command(number: int) -> Callable[[C], C]:
    """Declare a command; a number that is taken or retired is a bug and fails at import."""

    def register(kind: C) -> C:
        if number in REGISTRY or number in RETIRED:
            raise LocalError(f"command number {number} is taken")
        if not kind.__struct_config__.frozen:
            raise LocalError(f"command {kind.__name__} must be frozen")
        REGISTRY[number] = kind
        _numbers[kind] = number
        return kind

    return register


def encode(cmd: msgspec.Struct, stamp: Stamp) -> bytes:
    """The bytes that go into the log.  Raises `limit-exceeded`."""
    number = _numbers.get(type(cmd))
    if number is None:
        raise LocalError(f"{type(cmd).__name__} is not a command")
    data = _encoder.encode((FORMAT, number, stamp, cmd))
    if len(data) > COMMAND_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"a command may have {COMMAND_BYTES_MAX} bytes, this one has {len(data)}",
            hint="store large values as blobs and refer to them by digest",
        )
    return data


def decode(data: bytes) -> tuple[Stamp, msgspec.Struct]:
    """Read what `encode` wrote.  Raises PlatformError whatever the bytes are."""
    if len(data) > COMMAND_BYTES_MAX:
        raise PlatformError("limit-exceeded", f"a command may have {COMMAND_BYTES_MAX} bytes")
    try:
        envelope = _envelopes.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PlatformError("corrupt", "this is not a command") from exc
    if envelope.format != FORMAT:
        raise PlatformError("unsupported", f"command format {envelope.format} is not known here")
    if len(envelope.stamp.seed) != SEED_BYTES:
        raise PlatformError("invalid", f"seed: expected {SEED_BYTES} bytes", field="seed")
    return envelope.stamp, _decode_body(envelope)


def _decode_body(envelope: _Envelope) -> msgspec.Struct:
    kind = REGISTRY.get(envelope.number)
    if kind is None:
        known = f" ({RETIRED[envelope.number]})" if envelope.number in RETIRED else ""
        raise PlatformError(
            "unsupported",
            f"command number {envelope.number}{known} is not known here",
            hint="another node of the cluster runs a newer version: upgrade this one",
        )
    decoder = _decoders.get(envelope.number)
    if decoder is None:
        decoder = _decoders[envelope.number] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(envelope.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PlatformError("invalid", f"{kind.__name__}: {exc}", field=kind.__name__) from exc
