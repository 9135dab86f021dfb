"""Bounds of log lines and metrics."""

LINE_BYTES_MAX = 16 << 10
"""Longest log line; what is longer is shortened field by field, and says so."""

VALUE_CHARACTERS_MAX = 8 << 10
"""Longest text in one field of an event."""

FIELDS_MAX = 64
"""Fields of one event; further ones are left out, and counted in the event."""

DEPTH_MAX = 4
"""Nesting of a field's value; deeper is shown as text."""

SERIES_MAX = 2_000
"""Series (name and labels) in one process; figures of further ones are dropped and counted."""

SPANS_MAX = 20_000
"""Spans that a hub keeps; the oldest go first.  One is some 600 bytes."""

SPANS_ANSWERED_MAX = 2_000
"""Spans of one trace in an answer, so that it fits in a frame; the first ones."""

SPANS_REPORTED_MAX = 64
"""Spans in one report of a harness; further ones of the report are dropped."""

SPAN_NAME_LENGTH_MAX = 128
"""Characters of a span's name; what is longer is cut."""

assert LINE_BYTES_MAX > VALUE_CHARACTERS_MAX, "one long text alone must fit, if it is plain"
