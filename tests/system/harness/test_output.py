"""What the component prints, from its pipes to the hub's records."""

from __future__ import annotations

import json
from typing import Any


def test_lines_of_both_streams_are_numbered_records(start: Any, hub: Any) -> None:
    start("sh", "-c", "echo one; echo two >&2; printf 'no end of line'").wait()
    hub.until(lambda: len(hub.records) == 3)
    by_message = {r.message: r for r in hub.records}
    assert (by_message["one"].stream, by_message["one"].level) == ("stdout", "info")
    assert (by_message["two"].stream, by_message["two"].level) == ("stderr", "warning")
    assert by_message["no end of line"].stream == "stdout"
    assert [r.sequence for r in hub.records] == [1, 2, 3]


def test_a_json_line_is_a_structured_record(start: Any, hub: Any) -> None:
    line = json.dumps({"level": "warn", "msg": "slow", "ms": 12, "deep": {"a": [1]}})
    start("echo", line).wait()
    record = hub.message("slow")
    assert (record.level, record.fields) == ("warning", {"ms": 12, "deep": {"a": [1]}})


def test_bytes_that_are_no_text_are_replaced(start: Any, hub: Any) -> None:
    start("printf", r"a\377b\n").wait()
    assert hub.message("a").message == "a\N{REPLACEMENT CHARACTER}b"


def test_a_flood_is_drained_bounded_and_counted(start: Any, hub: Any) -> None:
    """The hub reads nothing for as long as the flood lasts: the component ends all the same."""
    hub.acknowledge = False
    count = 200_000
    script = f"seq {count}; echo over >&2; exec sleep 1000"
    running = start("sh", "-c", script, protocol="none")
    before_kb = running.resident_kb()
    children = f"/proc/{running.pid}/task/{running.pid}/children"

    def sleeping() -> bool:
        """The pipe was read to its end, or the shell could not have come so far."""
        with open(children, encoding="ascii") as file:
            pids = file.read().split()
        if not pids:
            return False
        with open(f"/proc/{pids[0]}/cmdline", "rb") as command:
            return command.read().startswith(b"sleep")

    hub.until(sleeping)
    hub.acknowledge = True
    hub.close()
    hub.open()
    hub.until(lambda: any(r.message == "over" for r in hub.records))
    assert running.resident_kb() - before_kb < 32 << 10
    hub.call("harness.stop", {"grace_s": 5})
    running.wait()
    assert len(hub.records) < count / 2
    # Every line is either here or counted.
    assert hub.dropped + len(hub.records) == count + 1


def test_a_reader_that_keeps_up_loses_nothing(start: Any, hub: Any) -> None:
    start("sh", "-c", "seq 5000").wait()
    hub.until(lambda: any(r.message == "5000" for r in hub.records))
    assert [r.message for r in hub.records] == [str(n) for n in range(1, 5_001)]
    assert hub.dropped == 0


def test_the_next_incarnation_numbers_higher(start: Any, hub: Any) -> None:
    start("echo", "first").wait()
    start("echo", "second", incarnation=2).wait()
    assert hub.message("second").sequence > hub.message("first").sequence + (1 << 32)
