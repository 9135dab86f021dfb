"""Log events: their form, their bounds, their context; lines that cannot be written are counted."""

from __future__ import annotations

import enum
import fcntl
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.telemetry import log as log_module
from paas.telemetry.event import Event, Level, line, plain, timestamp
from paas.telemetry.limits import FIELDS_MAX, LINE_BYTES_MAX
from paas.telemetry.log import Logger, operation
from paas.telemetry.sink import DescriptorSink, wall_ms


class Page:
    """Collects lines; full, it drops them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.full = False

    def write(self, text: bytes) -> bool:
        if not self.full:
            self.lines.append(text)
        return not self.full

    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(text) for text in self.lines]


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def log(page: Page) -> Logger:
    return Logger("hub", "n1", write=page.write, now_ms=lambda: 1_795_237_326_301)


def test_an_event_is_one_line_of_json(log: Logger, page: Page) -> None:
    log.info("node.ready", state="/var/lib", count=3, text="two\nlines")
    assert page.lines[0].count(b"\n") == 1
    assert page.events() == [
        {
            "ts": "2026-11-21T05:02:06.301Z",
            "level": "info",
            "agent": "hub",
            "node": "n1",
            "event": "node.ready",
            "fields": {"state": "/var/lib", "count": 3, "text": "two\nlines"},
        }
    ]


def test_levels_below_the_loggers_are_left_out(page: Page) -> None:
    log = Logger("hub", write=page.write, level=Level.WARNING)
    log.debug("a.b")
    log.info("a.b")
    log.warning("a.b")
    log.error("a.b")
    assert [e["level"] for e in page.events()] == ["warning", "error"]


def test_a_key_without_the_form_of_a_key_is_a_bug(log: Logger) -> None:
    for key in ("ready", "Node.ready", "node ready", "node.", ""):
        with pytest.raises(LocalError, match="log key"):
            log.info(key)


async def test_the_operation_follows_the_task_and_those_it_starts(log: Logger, page: Page) -> None:
    async def work() -> None:
        log.info("a.inner")

    with operation(request="r1", trace="t1"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
        with operation(request="r2"):
            log.info("a.nested")
    log.info("a.outside")
    found = [(e["event"], e.get("request"), e.get("trace")) for e in page.events()]
    assert found == [("a.inner", "r1", "t1"), ("a.nested", "r2", "t1"), ("a.outside", None, None)]
    assert log_module.current().request == ""


def test_bound_fields_are_in_every_event(log: Logger, page: Page) -> None:
    log.bound(component="c1").bound(attempt=2).info("a.b", attempt=3)
    assert page.events()[0]["fields"] == {"component": "c1", "attempt": 3}


def test_dropped_lines_are_counted_and_reported_once(log: Logger, page: Page) -> None:
    page.full = True
    log.info("a.b")
    log.info("a.b")
    page.full = False
    log.info("a.c")
    log.info("a.d")
    assert [(e["event"], e.get("fields")) for e in page.events()] == [
        ("log.dropped", {"count": 2}),
        ("a.c", None),
        ("a.d", None),
    ]
    assert log.statistics() == {"written": 3, "dropped": 2}


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (PlatformError("conflict", "twice"), "PlatformError: twice [conflict]"),
        (b"\xff\x00x", "\ufffd\x00x"),
        (Colour.RED, "red"),
        (2**70, str(2**70)),
        (float("nan"), "nan"),
        ({"a": (1, {2})}, {"a": [1, [2]]}),
        ([[[[[1]]]]], [[[["[1]"]]]]),
        ("\udcff", "?"),
        (1.5, 1.5),
        (None, None),
        (True, True),
    ],
)
def test_values_of_every_kind_are_shown_plainly(value: object, shown: object) -> None:
    assert plain(value) == shown


def test_many_fields_are_cut_and_counted(log: Logger, page: Page) -> None:
    log.info("a.b", **{f"f{n}": n for n in range(FIELDS_MAX + 5)})
    assert page.events()[0]["fields"]["fields_left_out"] == 5


Anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), Anything))
def test_no_value_breaks_the_line_or_its_bound(fields: dict[str, Any]) -> None:
    made = line(Event(ts="t", level="info", agent="a", event="a.b", fields=fields))
    assert len(made) <= LINE_BYTES_MAX
    assert made.count(b"\n") == 1
    msgspec.json.decode(made)


@pytest.mark.parametrize("text", ["x" * 10**6, "\x01" * 10**5, "€" * 10**5])
@pytest.mark.parametrize("count", [1, 60])
def test_long_texts_are_shortened_to_the_bound(text: str, count: int) -> None:
    fields = {f"f{n}": [text] if n % 2 else text for n in range(count)}
    made = line(Event(ts="t", level="info", agent="a", event="a.b", fields=fields))
    assert len(made) <= LINE_BYTES_MAX
    assert "…" in made.decode()


def test_timestamps_are_rfc_3339_and_never_fail() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1) == "1970-01-01T00:00:00.001Z"
    assert timestamp(10**18).startswith("9999-")
    assert timestamp(-(10**18)).startswith("0001-")


def test_the_sink_writes_whole_lines_and_never_waits_for_a_slow_reader() -> None:
    reader, writer = os.pipe()
    try:
        size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
        sink = DescriptorSink(writer)
        text = b"x" * 1023 + b"\n"
        written = 0
        while sink.write(text):
            written += 1
        assert 0 < written <= size // len(text)
        assert os.read(reader, size) == text * written
        assert sink.write(text)
        os.close(reader)
        reader = -1
        assert not sink.write(text)
    finally:
        os.close(writer)
        if reader >= 0:
            os.close(reader)


def test_without_a_writer_lines_go_to_standard_error() -> None:
    code = "from paas.telemetry.log import Logger; Logger('hub').info('a.b')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    made = msgspec.json.decode(done.stderr)
    assert (made["agent"], made["event"]) == ("hub", "a.b")
    assert made["ts"] <= timestamp(wall_ms())


def test_importing_the_logger_pulls_in_little() -> None:
    code = "import sys, paas.telemetry.log, paas.telemetry.metrics; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"trio", "cryptography", "click", "asyncio", "logging"}
