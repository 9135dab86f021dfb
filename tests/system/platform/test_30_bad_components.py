"""Components that misbehave: each gets its reason, and nobody else is disturbed."""

from __future__ import annotations

import errno
import json
import os
import time
from itertools import pairwise
from typing import Any

import pytest

from paas.base.errors import PlatformError

from .conftest import below

pytestmark = pytest.mark.system

MIB = 1 << 20


def refused(platform: Any, kind: str, **params: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        platform.create(kind, **params)
    return caught.value


def said(error: PlatformError) -> str:
    """The last log lines that an error carries."""
    return str(error.data["log"])


# -- that do not start -----------------------------------------------------------------------------


def test_one_that_is_never_ready_times_out_with_its_last_words(platform: Any) -> None:
    source = platform.source(
        "dawdler",
        ["sh", "-c", "echo still looking for my keys; exec sleep 1000"],
        protocol="json",
        supervision='ready_timeout = "1s"\nrestart = "temporary"',
    )
    kind = platform.push(source)
    error = refused(platform, kind)
    assert error.code == "failed"
    assert error.data["reason"] == "not-ready"
    assert "still looking for my keys" in said(error)
    shown = platform.run("create", kind, status=1)
    assert "not-ready" in shown.err
    assert "still looking for my keys" in shown.err


def test_who_waits_less_long_hears_so_and_nothing_is_left(platform: Any, wait_until: Any) -> None:
    source = platform.source(
        "dawdler-two", ["sh", "-c", "echo on my way; exec sleep 1000"], protocol="json"
    )
    error = refused(platform, platform.push(source), timeout_s=2.0)
    assert error.code == "timeout"
    assert "on my way" in said(error)
    wait_until(lambda: platform.components() == [])


def test_one_that_exits_at_once_is_failed_with_its_reason_and_words(platform: Any) -> None:
    source = platform.source(
        "quitter",
        ["sh", "-c", "echo I quit >&2; exit 7"],
        protocol="json",
        supervision='restart = "temporary"',
    )
    error = refused(platform, platform.push(source))
    assert (error.code, error.data["reason"]) == ("failed", "exit:7")
    assert "I quit" in said(error)


def test_a_program_that_is_not_there_is_tried_once(platform: Any) -> None:
    error = refused(platform, platform.push(platform.source("absent", ["no-such-program"])))
    assert error.data["reason"].startswith("start-failed:")
    assert "no-such-program" in error.message
    assert error.data["restarts"] == 0


def test_a_crash_loop_ends_as_failed_with_the_reason(platform: Any) -> None:
    source = platform.source(
        "looper",
        ["sh", "-c", "echo round and round; exit 9"],
        protocol="json",
        supervision="max_restarts = 2\nwithin = 60",
    )
    error = refused(platform, platform.push(source), name="loop")
    assert (error.code, error.data["reason"]) == ("failed", "exit:9")
    assert error.data["restarts"] == 2
    failed = platform.in_state("loop", "failed")
    assert (failed["restarts"], failed["reason"]) == (2, "exit:9")
    assert "failed" in platform.run("ps").out
    words = platform.records(component="loop", grep="round and round")
    assert len(words) == 3
    platform.destroy("loop")
    assert platform.components() == []


def test_a_crash_loop_of_one_that_was_available_ends_too(platform: Any) -> None:
    source = platform.source(
        "relapser",
        ["sh", "-c", "sleep 0.2; exit 9"],
        supervision="max_restarts = 2\nwithin = 60",
    )
    component = platform.create(platform.push(source))
    failed = platform.in_state(component, "failed")
    assert (failed["restarts"], failed["reason"]) == (2, "exit:9")


# -- that break the protocol -----------------------------------------------------------------------


@pytest.fixture
def raw(platform: Any) -> str:
    component: str = platform.create("raw")
    return component


@pytest.fixture
def bystander(platform: Any) -> Any:
    """Another component; after the test it must still be the very same process."""
    component = platform.create("probe")
    pid = platform.call(component, "facts")["pid"]
    yield component
    assert platform.call(component, "facts")["pid"] == pid
    assert platform.component(component)["restarts"] == 0


def test_a_second_answer_is_dropped(platform: Any, raw: str, bystander: str) -> None:
    assert platform.call(raw, "twice") == {"answer": 1}
    assert platform.call(raw, "ordinary") == {"operation": "ordinary"}


def test_no_answer_is_a_timeout_of_that_call_only(platform: Any, raw: str, bystander: str) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.call(raw, "never", timeout_s=0.7)
    assert caught.value.code == "timeout"
    assert platform.call(raw, "ordinary") == {"operation": "ordinary"}


def test_garbage_is_answered_with_errors_and_the_channel_stays(
    platform: Any, raw: str, bystander: str
) -> None:
    assert platform.call(raw, "garbage") == {"sent": "garbage"}
    heard = platform.call(raw, "heard")
    assert heard, "nobody told it"
    assert {error["code"] for error in heard if error} <= {-32700, -32600}
    assert platform.component(raw)["restarts"] == 0


def test_answers_that_nobody_asked_for_are_dropped(platform: Any, raw: str, bystander: str) -> None:
    assert platform.call(raw, "stranger") == {"sent": "stranger"}
    assert platform.call(raw, "ordinary") == {"operation": "ordinary"}


def test_an_answer_without_outputs_does_not_confuse_the_caller(
    platform: Any, raw: str, bystander: str
) -> None:
    done = platform.run("call", raw, "shapeless", status=None)
    assert done.status in (0, 1)
    assert platform.call(raw, "ordinary") == {"operation": "ordinary"}


@pytest.mark.parametrize("how", ["half", "oversized", "deep"])
def test_a_stream_that_cannot_be_understood_ends_the_call_with_an_error(
    platform: Any, raw: str, bystander: str, how: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.call(raw, how, timeout_s=3.0)
    assert caught.value.code in ("unknown-outcome", "timeout", "failed", "not-available")
    assert platform.call(bystander, "echo")["from"] == bystander
    platform.destroy(raw)


@pytest.mark.parametrize("how", ["half", "oversized"])
def test_a_broken_msgpack_frame_ends_the_call_with_an_error(
    platform: Any, bystander: str, how: str
) -> None:
    packed = platform.create(platform.push("packed"))
    with pytest.raises(PlatformError) as caught:
        platform.call(packed, how, timeout_s=3.0)
    assert caught.value.code in ("unknown-outcome", "timeout", "failed", "not-available")
    assert platform.call(bystander, "echo")["from"] == bystander


def test_one_without_a_connection_is_not_available(
    platform: Any, raw: str, wait_until: Any
) -> None:
    with pytest.raises(PlatformError):
        platform.call(raw, "half", timeout_s=3.0)
    platform.in_state(raw, "unavailable")
    with pytest.raises(PlatformError) as caught:
        platform.call(raw, "ordinary")
    assert caught.value.code == "not-available"


def test_an_answer_that_fits_no_frame_is_an_error_of_that_component_only(
    platform: Any, bystander: str
) -> None:
    component = platform.create("probe")
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "large", timeout_s=10.0, bytes=5 * MIB)
    assert caught.value.code in ("limit-exceeded", "failed", "unknown-outcome", "timeout")
    assert len(platform.call(bystander, "large", bytes=3 * MIB)["data"]) == 3 * MIB


def test_calls_that_nobody_answers_fill_one_mailbox_and_no_other(
    platform: Any, raw: str, bystander: str
) -> None:
    count = 600
    codes: list[str] = []
    params = {"target": raw, "operation": "never", "timeout": 4}
    with platform.raw() as first, platform.raw() as second:
        for sock in (first, second):
            for number in range(count):
                message = {"jsonrpc": "2.0", "id": number, "method": "hub.call", "params": params}
                sock.sendall(json.dumps(message).encode() + b"\n")
        assert platform.call(bystander, "echo")["from"] == bystander
        for sock in (first, second):
            lines = sock.makefile("rb")
            answers = [json.loads(lines.readline()) for _ in range(count)]
            codes += [answer["error"]["data"]["code"] for answer in answers]
    assert codes.count("limit-exceeded") == 2 * count - 1_000
    assert codes.count("timeout") == 1_000
    assert platform.call(raw, "ordinary") == {"operation": "ordinary"}


# -- that take more than their share ---------------------------------------------------------------


def test_a_flood_of_output_is_counted_and_others_answer(
    platform: Any, bystander: str, wait_until: Any
) -> None:
    flooder = platform.create("probe")
    other = platform.connect()
    platform.api("hub.cast", target=flooder, operation="flood", inputs={"seconds": 3})
    times_s, end_s = [], time.monotonic() + 3
    while time.monotonic() < end_s:
        begun_s = time.monotonic()
        params = {"target": bystander, "operation": "echo", "inputs": {}}
        other.call("hub.call", params, timeout_s=20)
        times_s.append(time.monotonic() - begun_s)
    other.close()
    times_s.sort()
    print(f"a call beside a flood: p50 {times_s[len(times_s) // 2] * 1e3:.1f} ms")  # noqa: T201
    assert len(times_s) > 10
    assert platform.call(flooder, "echo")["from"] == flooder
    lost = wait_until(lambda: sum(r["dropped"] for r in platform.records(component=flooder)))
    records = platform.records(component=flooder)
    numbers = [r["sequence"] for r in records]
    assert numbers == sorted(set(numbers))
    assert lost > 0
    for before, after in pairwise(records):
        assert after["sequence"] - before["sequence"] - 1 == after["dropped"], "a gap is counted"


def test_a_fork_bomb_stays_in_its_container(platform: Any, bystander: str) -> None:
    bomber = platform.create("probe")
    answer = platform.call(bomber, "fork")
    assert answer["error"] == errno.EAGAIN
    assert 0 < answer["children"] < 64
    assert platform.call(bystander, "echo")["from"] == bystander
    pid = platform.component(bomber)["pid"]
    platform.destroy(bomber)
    assert not os.path.exists(f"/proc/{pid}")


def test_one_that_eats_memory_is_restarted_with_its_reason(
    platform: Any, bystander: str, wait_until: Any
) -> None:
    eater = platform.create("probe")
    with pytest.raises(PlatformError):
        platform.call(eater, "eat", timeout_s=20.0)
    wait_until(lambda: platform.component(eater)["restarts"] == 1)
    again = platform.in_state(eater, "available")
    assert again["reason"] == "out-of-memory"
    assert platform.call(eater, "echo")["from"] == eater


@pytest.mark.parametrize(("directory", "most"), [("/app", 16 * MIB), ("/tmp", 64 * MIB)])
def test_one_that_fills_its_disk_fills_only_its_own(
    platform: Any, bystander: str, directory: str, most: int
) -> None:
    filler = platform.create("probe")
    answer = platform.call(filler, "fill", directory=directory, timeout_s=40.0)
    assert answer["error"] == errno.ENOSPC
    assert MIB < answer["written"] <= most
    assert platform.call(filler, "echo")["from"] == filler
    assert platform.component(filler)["restarts"] == 0
    platform.push(platform.source(f"after{directory.strip('/')}", ["true"]))


def test_what_a_component_wrote_is_gone_with_it(platform: Any) -> None:
    component = platform.create("probe")
    platform.destroy(component)
    places = [p for p in below(platform.state) if component in p.name]
    assert [p for p in places if p.parent.name != "logs"] == []
