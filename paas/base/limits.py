"""Platform-wide bounds and how they relate.  What an operator may change is a setting."""

FRAME_BYTES_MAX = 4 << 20
"""Largest frame, JSON line or HTTP body on any channel (component API, "Transports")."""

NESTING_MAX = 32
"""Deepest nesting of arrays and maps in a message."""

OUTSTANDING_REQUESTS_MAX = 1_000
"""Requests of one connection that may wait for their answer."""

WATCHES_MAX = 1_000
"""Watches of one connection."""

CALL_TIMEOUT_S_DEFAULT = 30.0
CALL_TIMEOUT_S_MAX = 3_600.0

OUTBOX_BYTES_MAX = 16 << 20
"""Bytes queued towards one connection before it counts as a slow consumer and is closed."""

MAILBOX_MESSAGES_MAX = 1_024
"""Events that an actor's mailbox holds before its senders wait."""

NAME_LENGTH_MAX = 128

CHILDREN_MAX = 10_000
"""Children of one supervisor; one more is refused."""

STOP_TIMEOUT_S_DEFAULT = 5.0
"""Time that a supervised child gets to end when asked, and again to clean up when cancelled."""

STOP_GRACE_S = 1.0
"""A child that still lives this long after its time to clean up is reported as hanging."""

assert OUTBOX_BYTES_MAX >= 2 * FRAME_BYTES_MAX, "one full frame must never close a connection"
