"""Bounds of the gateway's data path, and how they relate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """What the gateway grants to browsers and to members.  Times in seconds."""

    connections_max: int = 4_000
    """Open connections of browsers; later ones are hung up on."""

    connections_per_source_max: int = 1_024
    """Of one address, proxies that are trusted apart."""

    head_bytes_max: int = 32 << 10
    """Request line and headers together.  Beyond: 431 (from a member: 502)."""

    headers_max: int = 100
    """Header fields of one message.  Beyond: 431 (from a member: 502)."""

    target_bytes_max: int = 8 << 10
    """Path and query.  Beyond: 414."""

    first_s: float = 10.0
    """From a connection's beginning to the end of its first head; also for the handshake of TLS."""

    head_s: float = 10.0
    """From the first byte of a later request to the end of its head."""

    idle_s: float = 60.0
    """Between requests."""

    body_s: float = 15.0
    """For a request's body, beside what its size allows (`body_bytes_per_s`)."""

    body_bytes_per_s: int = 4 << 10
    """The slowest sender of a body that is put up with."""

    write_s: float = 30.0
    """For the receiver to take one piece of an answer."""

    quiet_s: float = 3_600.0
    """Between two pieces of a member's answer, once it has begun (streams may be silent)."""

    connect_s: float = 2.0
    """For a member to accept a connection."""

    unheard_s: float = 15.0
    """For a member's machine to acknowledge what was sent, or a question on an idle connection;
    also for a member to take anything in, when it has let its window fill up."""

    kept_s: float = 4.0
    """How long an unused connection to a member is kept: shorter than members keep theirs."""

    kept_max: int = 256
    """Unused connections kept for one member."""

    replay_bytes_max: int = 64 << 10
    """Bodies that are held so that an unanswered request can be sent again."""

    bodies_bytes_max: int = 128 << 20
    """Bodies that are held, of all browsers together.  Beyond: 503."""

    refused_linger_s: float = 1.0
    """How long a refused sender is listened to, so that the refusal reaches it."""

    closing_s: float = 5.0
    """For the sides of a WebSocket to end, after they were told to."""

    drain_s: float = 30.0
    """How long what is under way may take when the gateway ends."""

    streams_max: int = 100
    """Streams of one HTTP/2 connection at the same time (RFC 9113 §6.5.2)."""

    resets_max: int = 200
    """Streams that an HTTP/2 connection may abandon early in `resets_window_s`."""

    resets_window_s: float = 10.0

    controls_max: int = 1_000
    """HTTP/2 frames that carry no request (PING, SETTINGS, PRIORITY, …) in `resets_window_s`."""

    message_bytes_max: int = 1 << 20
    """One WebSocket message to an operation; one frame through the gateway has FRAME_BYTES_MAX."""

    socket_quiet_s: float = 120.0
    """A WebSocket on which nobody says a word so long is asked (ping), then given up."""


PIECE_BYTES = 64 << 10
"""Bytes read or written at once."""

LINGER_BYTES = 1 << 20
"""Bytes of a refused sender that are thrown away, at most."""

CHUNK_LINE_BYTES_MAX = 128
"""The size of a chunk with its extensions, which are read over and never passed on."""

CHUNK_SIZE_DIGITS_MAX = 8
"""Hexadecimal digits of a chunk's size: 4 GiB."""

TRAILER_BYTES_MAX = 8 << 10
"""Trailers of one body; they are checked and dropped."""

LENGTH_DIGITS_MAX = 15
"""Decimal digits of a Content-Length: less than 2**53, so that every program reads the same."""

FRAME_BYTES_MAX = 16 << 20
"""Payload of one WebSocket frame through an endpoint route."""

WATCH_PERIOD_S = 0.25
"""How often deadlines of connections and hang-ups of browsers are looked at."""

SOURCES_MAX = 50_000
"""Addresses whose rates are remembered."""

assert CHUNK_SIZE_DIGITS_MAX * 4 < 64
assert LENGTH_DIGITS_MAX < 16
