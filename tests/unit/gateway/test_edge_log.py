"""The access log, the budget of bodies, the configuration's refusals."""

from __future__ import annotations

import json

import pytest

from paas.base.errors import PlatformError
from paas.gateway.access_log import ERRORS_PER_S_MAX, EVENTS_PER_S_MAX, WRITE_BYTES, AccessLog, Mode
from paas.gateway.config import EdgeConfig, host_and_port, read_file
from paas.gateway.http.budget import Budget
from paas.gateway.http.exchange import Exchange
from paas.gateway.http.head import judge
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import Problem


def exchange(status: int, path: str = "/a?secret=1") -> Exchange:
    made = Exchange(judge("GET", path, [("host", "x")]), EdgeLimits(), "10.0.0.1", "http", "r1")
    made.status = status
    return made


class Reader:
    """Takes so many writes, then none."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.writes.append(data)
        return True

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.writes).splitlines()]


def test_an_answer_is_a_line_without_its_query() -> None:
    reader = Reader()
    log = AccessLog("all", reader.write)
    log.add(exchange(200), 1.5)
    log.flush()
    (line,) = reader.lines
    assert line["event"] == "http.request"
    assert (line["message"], line["level"]) == ("GET /a 200", "info")
    assert (line["remote"], line["request_id"]) == ("10.0.0.1", "r1")
    assert "secret" not in str(line)


@pytest.mark.parametrize(("mode", "count"), [("all", 2), ("errors", 1), ("none", 0)])
def test_what_is_wanted(mode: Mode, count: int) -> None:
    log = AccessLog(mode, Reader().write)
    assert sum(log.wants(exchange(status)) for status in (200, 502)) == count


def test_a_flood_is_bounded_and_counted_and_errors_have_their_own_bound() -> None:
    reader = Reader()
    log = AccessLog("all", reader.write)
    for _ in range(EVENTS_PER_S_MAX + 500):
        log.add(exchange(200), 1.0)
    log.add(exchange(502), 1.0)
    log.flush()
    assert len(reader.lines) == EVENTS_PER_S_MAX + 2 <= EVENTS_PER_S_MAX + ERRORS_PER_S_MAX
    assert reader.lines[-2]["status"] == 502
    assert (reader.lines[-1]["event"], reader.lines[-1]["count"]) == ("http.unlogged", 500)
    assert max(map(len, reader.writes)) <= WRITE_BYTES


def test_a_reader_that_is_slow_is_not_waited_for_and_gets_the_rest_later() -> None:
    reader = Reader(room=1)
    log = AccessLog("all", reader.write)
    for _ in range(100):
        log.add(exchange(200), 1.0)
    log.flush()
    taken = len(reader.lines)
    assert 0 < taken < 100
    reader.room = 1 << 30
    log.flush()
    assert len(reader.lines) == 100


def test_bodies_are_held_up_to_a_number() -> None:
    budget = Budget(10)
    budget.take(8)
    with pytest.raises(Problem) as caught:
        budget.take(3)
    assert (caught.value.status, caught.value.headers) == (503, [("retry-after", "1")])
    budget.give_back(8)
    budget.take(10)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gateway]\nlisten = 5\n", "$.gateway.listen"),
        ("[gateway]\nnonsense = 5\n", "nonsense"),
        ("[gateway\n", "line 1"),
        ("", "gateway"),
        ("[gateway]\n[[route]]\npath = 5\n", "$.route[0]"),
        ("[gateway]\n[[member]]\ngroup = 'a'\n", "$.member[0]"),
    ],
)
def test_a_wrong_file_is_refused_with_its_field(text: str, told: str) -> None:
    with pytest.raises(PlatformError) as caught:
        read_file(text, "gateway.toml")
    assert told in caught.value.message


def test_limits_and_networks_and_addresses_are_checked() -> None:
    assert EdgeConfig(limits={"streams_max": 5.0}).edge_limits().streams_max == 5
    for config in (EdgeConfig(limits={"no": 1}), EdgeConfig(limits={"head_s": -1})):
        with pytest.raises(PlatformError, match="limits"):
            config.edge_limits()
    with pytest.raises(PlatformError, match="trusted_proxies"):
        EdgeConfig(trusted_proxies=["x"]).proxies()
    assert host_and_port("[::1]:80", "f") == ("::1", 80)
    assert host_and_port(":80", "f") == ("", 80)
    for wrong in ("80", "x", "x:", "x:99999", "x:a"):
        with pytest.raises(PlatformError):
            host_and_port(wrong, "f")
