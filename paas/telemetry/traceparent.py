"""The text that says which trace a request belongs to: `traceparent` of W3C Trace Context.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    version  trace: 16 bytes            span: 8 bytes    flags (bit 0: sampled)

Read by the rules of the recommendation (Level 1, 23 November 2021, §3.2 and §4.3): lower case only;
zeros are no identifier; version 00 has exactly these fields, a later one may have more after a
further dash, which are ignored; version ff does not exist.  What cannot be read is not repaired:
who gets it begins a trace of its own.  What we write is version 00, and of the flags only `sampled`
is kept, since the others mean nothing to us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = 1
TEXT_LENGTH_MAX = 256
"""A longer text of a later version is not looked at."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: which trace, under which span, and whether spans are recorded."""

    trace: str
    span: str
    sampled: bool

    def text(self) -> str:
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"

    def child(self, span: str) -> TraceContext:
        """The place below, in the same trace."""
        return TraceContext(self.trace, span, self.sampled)


def parse(text: str) -> TraceContext | None:
    """What the text says; None when it is not a traceparent."""
    if len(text) > TEXT_LENGTH_MAX:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & _SAMPLED))
