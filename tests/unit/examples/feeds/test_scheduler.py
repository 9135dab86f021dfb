"""When a source is looked at again."""

from __future__ import annotations

import queue
import sys
from pathlib import Path
from typing import Any

import pytest

from paas.cli.sdk_files import sdk_files
from paas.sdk.paas_testing import Harness

NOW_S = 1_000_000.0


def row(**more: Any) -> dict[str, Any]:
    made = {"source": 7, "interval_s": 60.0, "gap_s": 600.0, "failures": 0, "polls": 5}
    return {**made, "subscribers": 1, "new_ms": (NOW_S - 600) * 1000, **more}


@pytest.fixture
def after(part: Any) -> Any:
    intervals = part("scheduler").intervals
    bounds = intervals.Bounds(min_s=10, max_s=900, first_s=30)

    def run(result: dict[str, Any], **more: Any) -> Any:
        return intervals.next_poll(row(**more), result, NOW_S, bounds)

    return run


def test_a_source_is_asked_twice_as_often_as_it_changes(after: Any) -> None:
    found = after({"outcome": "changed", "new": 1})
    assert found["gap_s"] == pytest.approx(600.0)
    assert found["interval_s"] == pytest.approx(300.0)
    assert 300.0 <= found["due_s"] <= 330.0


def test_many_items_at_once_mean_a_shorter_gap(after: Any) -> None:
    assert after({"outcome": "changed", "new": 10})["gap_s"] < 600.0


def test_silence_makes_intervals_longer_up_to_a_bound(after: Any) -> None:
    found = after({"outcome": "unchanged"}, new_ms=(NOW_S - 90_000) * 1000)
    assert found["interval_s"] == 900.0


def test_what_many_follow_is_asked_more_often_but_not_per_reader(after: Any) -> None:
    one = after({"outcome": "unchanged"})["interval_s"]
    thousand = after({"outcome": "unchanged"}, subscribers=1_000)["interval_s"]
    million = after({"outcome": "unchanged"}, subscribers=1_000_000)["interval_s"]
    assert one / 4 <= thousand < one
    assert million == thousand == 75.0


def test_a_source_that_says_for_how_long_is_believed(after: Any) -> None:
    assert after({"outcome": "changed", "new": 9, "max_age_s": 800.0})["interval_s"] == 800.0
    assert after({"outcome": "changed", "new": 9, "max_age_s": 86_400.0})["interval_s"] == 900.0


def test_failures_double_the_time_up_to_a_bound(after: Any) -> None:
    times = [after({"outcome": "failed"}, failures=n)["due_s"] for n in range(12)]
    assert 60.0 <= times[0] < 67.0
    assert 120.0 <= times[1] < 133.0
    assert times[-1] <= 3_600.0 * 1.1
    assert after({"outcome": "failed"}, failures=3)["failures"] == 4
    assert after({"outcome": "failed", "retry_after_s": 5_000.0})["due_s"] >= 5_000.0


def test_our_own_trouble_is_not_the_sources(after: Any) -> None:
    found = after({"outcome": "failed", "ours": True}, failures=3)
    assert found["failures"] == 3
    assert found["due_s"] < 5.0
    assert after({"outcome": "later", "retry_after_s": 1.5}, failures=1)["due_s"] == 1.5


def test_success_forgives_and_what_is_gone_rests(after: Any) -> None:
    assert after({"outcome": "unchanged"}, failures=9)["failures"] == 0
    assert after({"outcome": "gone"})["due_s"] >= 86_400.0


def test_a_stream_is_renewed_well_before_its_lease_ends(after: Any) -> None:
    assert after({"outcome": "stream"})["due_s"] == 5.0


def test_the_first_poll_says_nothing_about_changes(after: Any) -> None:
    found = after({"outcome": "changed", "new": 50}, polls=0, gap_s=0.0, interval_s=0.0, new_ms=0)
    assert found["interval_s"] == 30.0


def test_sources_that_began_together_drift_apart(after: Any) -> None:
    times = {after({"outcome": "unchanged"}, source=n)["due_s"] for n in range(100)}
    assert len(times) > 90


def test_bounds_that_make_no_sense_are_refused(part: Any) -> None:
    with pytest.raises(ValueError, match="interval_min_s"):
        part("scheduler").intervals.Bounds(min_s=10, max_s=5)


def test_all_polls_of_a_host_go_to_one_fetcher(example: Path, tmp_path: Path) -> None:
    """The program itself; the test stands for timeline and fetchers."""
    for name, text in sdk_files("python").items():
        (tmp_path / name).write_text(text)
    urls = ["http://a.example/x", "http://b.example:8080/x", "http://a.example:8080/y?z"]
    known = {"etag": "", "modified": "", "digest": "", "kind": "feed", "claim": 1}
    due = [{**row(source=n), **known, "url": url} for n, url in enumerate(urls)]

    asked: queue.Queue[tuple[str, str]] = queue.Queue()

    def hub(params: dict[str, Any]) -> Any:
        if params["operation"] == "turn":
            taken, due[:] = list(due), []
            return {"outputs": {"due": taken, "next_ms": 60_000}}
        if params["operation"] == "fetch":
            asked.put((params["inputs"]["url"], params["selector"]))
        return {"outputs": {"outcome": "unchanged"}}

    harness = Harness(
        [sys.executable, str(example / "scheduler" / "main.py")],
        environment={"PYTHONPATH": str(tmp_path)},
    )
    harness.on("hub.call", hub)
    harness.start()
    try:
        found = dict(asked.get(timeout=20) for _ in urls)
    finally:
        harness.close()
    hosts = ("a.example", "b.example", "a.example")
    assert found == {url: f"hash:{host}" for url, host in zip(urls, hosts, strict=True)}
