"""Bounds of HTTP and WebSocket servers and how they relate."""

from dataclasses import dataclass

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX, OUTSTANDING_REQUESTS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one server grants its callers.  Times in seconds."""

    connections_max: int = 1_000
    """Open connections; later callers are hung up on."""

    header_bytes_max: int = 32 << 10
    """Request line and headers together.  Beyond: 431."""

    headers_max: int = 100
    """Header fields of one request.  Beyond: 431."""

    target_bytes_max: int = 8 << 10
    """Path and query.  Beyond: 414."""

    body_bytes_max: int = FRAME_BYTES_MAX
    """One body.  Beyond: 413."""

    bodies_bytes_max: int = 64 << 20
    """Bodies and unfinished WebSocket messages of all connections together.  Beyond: 503."""

    first_s: float = 10.0
    """From the handshake to the end of the first request's headers: strangers do not linger."""

    header_s: float = 10.0
    """From the first byte of a later request to the end of its headers."""

    idle_s: float = 60.0
    """Between requests, for one who was answered before."""

    body_s: float = 10.0
    """For a body, beside what its size allows (`body_bytes_per_s`)."""

    body_bytes_per_s: int = 16 << 10
    """The slowest sender of a body that is put up with."""

    write_s: float = 10.0
    """For the receiver to take one piece (`PIECE_BYTES`) of an answer."""

    linger_s: float = 1.0
    """How long a refused sender is listened to, so that the refusal reaches it."""

    drain_s: float = 5.0
    """How long requests under way may take when the server ends."""


PIECE_BYTES = 64 << 10
"""Bytes read or written at once."""

LINGER_BYTES = 1 << 20
"""Bytes of a refused sender that are thrown away, at most."""

HANDSHAKE_S = 10.0
"""For the TLS handshake."""

FRAGMENTS_MAX = 4_096
"""Frames of one WebSocket message.  Beyond: close code 1009."""

MESSAGE_S = 30.0
"""From the first to the last frame of one WebSocket message.  Beyond: close code 1008."""

PING_S = 20.0
"""A WebSocket that said nothing for so long is asked whether it is there."""

SILENCE_S = 60.0
"""A WebSocket that said nothing for so long is closed."""

CLOSE_S = 2.0
"""How long the last words on a WebSocket may take to leave."""

_DEFAULT = HttpLimits()

assert PING_S * 2 < SILENCE_S, "one lost ping does not end a connection"
assert _DEFAULT.body_bytes_max * 4 <= _DEFAULT.bodies_bytes_max, "a few large bodies fit at once"
assert _DEFAULT.body_bytes_max < OUTBOX_BYTES_MAX, "an answer as large as a request can be queued"
assert _DEFAULT.connections_max <= OUTSTANDING_REQUESTS_MAX, "one request a connection is no flood"
