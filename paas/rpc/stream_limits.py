"""Bounds of byte streams and how they relate."""

from paas.base.limits import FRAME_BYTES_MAX, OUTBOX_BYTES_MAX

WINDOW_BYTES = 256 << 10
"""Bytes of one direction of a stream that its receiver takes before it gives more credit."""

CREDIT_BYTES_MAX = 4 << 20
"""More credit than this is not remembered, whatever the receiver says."""

PIECE_BYTES = 48 << 10
"""Bytes of one message; a multiple of three, which base64 carries without filling."""

CHANNELS = 3
"""Channels of one direction: 0 is the stream itself, or 1 and 2 are output and errors."""

STREAMS_MAX = 64
"""Streams of one connection of a person or program outside."""

STREAMS_OF_AGENT_MAX = 256
"""Streams of one connection between agents of the platform."""

QUEUED_BYTES_MAX = 256 << 10
"""Streams wait while a connection has so much that the kernel did not take: other messages on it
do not wait behind more, and no stream can fill an outbox."""

QUEUE_PAUSE_S = 0.005
"""How long a stream waits before it looks again."""

RESULT_BYTES_MAX = 64 << 10
"""What an end may say."""

assert PIECE_BYTES % 3 == 0
assert PIECE_BYTES < WINDOW_BYTES < CREDIT_BYTES_MAX
assert PIECE_BYTES * 4 // 3 + 1_024 < FRAME_BYTES_MAX
assert QUEUED_BYTES_MAX + STREAMS_OF_AGENT_MAX * PIECE_BYTES <= OUTBOX_BYTES_MAX
