"""Bounds of the log store: what is kept, in memory and on disk."""

RING_RECORDS_MAX = 1_000
"""Records of one component kept in memory, where queries find them."""

RING_BYTES_MAX = 256 << 10
"""Bytes of one component's records in memory."""

SEGMENT_BYTES_MAX = 1 << 20
"""A component's file is rotated at this size; one older file is kept beside it."""

COMPONENTS_MAX = 500
"""Components whose records are kept; the one silent for longest is forgotten first."""

QUERY_RECORDS_MAX = 10_000
MESSAGE_BYTES_MAX = 64 << 10
"""A longer message is cut, with a mark."""

assert SEGMENT_BYTES_MAX >= RING_BYTES_MAX, "a restart reads back at least what memory held"
