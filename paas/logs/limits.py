"""Bounds of the log store: what is kept, in memory and on disk."""

from paas.base.limits import FRAME_BYTES_MAX

RING_RECORDS_MAX = 1_000
"""Records of one component kept in memory, where queries find them."""

RING_BYTES_MAX = 256 << 10
"""Bytes of one component's records in memory."""

SEGMENT_BYTES_MAX = 1 << 20
"""A component's file is rotated at this size; one older file is kept beside it."""

COMPONENTS_MAX = 500
"""Components whose records are kept; the one silent for longest is forgotten first."""

BATCHES_WAITING_MAX = 1_024
"""Batches in the mailbox before harnesses wait for room."""

QUERY_RECORDS_MAX = 10_000
QUERY_BYTES_MAX = 2 << 20
"""Bytes of the records in one answer; the newest of those that match."""

MESSAGE_BYTES_MAX = 64 << 10
"""A longer message is cut, with a mark."""

FIELDS_BYTES_MAX = 64 << 10
"""Larger fields are left out, with a mark."""

assert MESSAGE_BYTES_MAX + FIELDS_BYTES_MAX < RING_BYTES_MAX, "every record can be kept"
assert RING_BYTES_MAX < QUERY_BYTES_MAX < FRAME_BYTES_MAX, "every answer can be sent"
assert SEGMENT_BYTES_MAX >= RING_BYTES_MAX, "a restart reads back at least what memory held"

FAR_TIMEOUT_S = 3.0
"""How long another node may take to say what it has; then the answer goes without."""
