"""Bounds of the command line and of a development cluster's supervisor, and how they relate."""

from __future__ import annotations

READY_TIMEOUT_S = 60.0
"""Time that a node gets to say that components can be created."""

STOP_TIMEOUT_S = 30.0
"""Time that a node gets to end its components and agents when asked, before it is killed."""

CLEANUP_TIMEOUT_S = 60.0
"""Time for removing what a killed node left in the kernel."""

REAP_PERIOD_S = 0.05
"""How often orphans are reaped while something else is waited for."""

DOWN_TIMEOUT_S = 120.0
"""Time that `paas down` gives a supervisor in all."""

RESTARTS_MAX = 5
RESTARTS_WITHIN_S = 60.0
"""A node controller that dies more often than this is not started again."""

RESTART_DELAY_S_FIRST = 0.1
RESTART_DELAY_S_MAX = 5.0

LOG_TAIL_BYTES = 2_000
"""How much of a log an error message quotes at most."""

LOG_BYTES_MAX = 4 << 20
"""A log above this becomes the old one when its process is started; one old one is kept."""

COMPLETION_CACHE_S = 60.0
COMPLETION_TIMEOUT_S = 0.15
"""Live names for completion are asked for at most this long, and kept for that long."""

UPLOAD_PIECE_BYTES = 1 << 20
"""Bytes of a bundle in one request; below the largest frame with room for the envelope."""

assert DOWN_TIMEOUT_S >= STOP_TIMEOUT_S + CLEANUP_TIMEOUT_S, "down waits for an orderly stop"
assert UPLOAD_PIECE_BYTES * 4 // 3 < 4 << 20, "a piece fits in a frame in either codec"
