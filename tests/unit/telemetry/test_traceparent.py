"""`traceparent` by W3C Trace Context, with the cases of the recommendation's own test suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.telemetry.traceparent import TraceContext, parse

TRACE, SPAN = "12345678901234567890123456789012", "1234567890123456"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        # A version that is not known yet is read as far as it is known (§4.3).
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"01-{TRACE}-{SPAN}-00-", False),
    ],
)
def test_valid(text: str, sampled: bool) -> None:
    assert parse(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        f"00-{TRACE}-{SPAN}",
        # test_traceparent_version_0x00
        f"00-{TRACE}-{SPAN}-01.",
        f"00-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        # test_traceparent_version_0xcc, _0xff
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like",
        f"ff-{TRACE}-{SPAN}-01",
        # test_traceparent_version_illegal_characters, _too_long, _too_short
        f".0-{TRACE}-{SPAN}-01",
        f"0.-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"0000-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        # test_traceparent_trace_id_all_zero, _illegal_characters, _too_long, _too_short
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-.{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-{TRACE}3-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        # test_traceparent_parent_id_all_zero, _illegal_characters, _too_long, _too_short
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-.{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN[:-1]}.-01",
        f"00-{TRACE}-{SPAN}7-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        # test_traceparent_trace_flags_illegal_characters, _too_long, _too_short
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-0.",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-1",
        # Lower case only (§3.2.2); nothing around it.
        f"00-{'AB' * 16}-{SPAN}-01",
        f"00-{TRACE}-{'CD' * 8}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{'١' * 32}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 4_096,
    ],
)
def test_invalid(text: str) -> None:
    assert parse(text) is None


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = parse(text)
    assert found is None or parse(found.text()) == found


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_what_is_written_can_be_read(trace: bytes, span: bytes, sampled: bool) -> None:
    context = TraceContext(trace.hex(), span.hex(), sampled)
    valid = any(trace) and any(span)
    assert parse(context.text()) == (context if valid else None)


def test_a_child_is_in_the_same_trace_and_keeps_the_decision() -> None:
    context = TraceContext(TRACE, SPAN, True)
    assert context.child("ab" * 8) == TraceContext(TRACE, "ab" * 8, True)
