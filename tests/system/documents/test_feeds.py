"""The demonstration on a real cluster: it answers, asks politely, and recovers from deaths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

ITEMS = 22
"""Items of the six documents that have something to show."""

PATIENCE_S = 120.0


class Reader:
    """Somebody at a terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def paas(self, *words: str) -> Any:
        done = subprocess.run(
            ["paas", *words], env=self._environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def ask(self, operation: str, **inputs: Any) -> Any:
        return self.paas("call", "feeds-frontend", operation, json.dumps(inputs))

    def eventually(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        last = ""
        while time.monotonic() < until:
            try:
                if condition():
                    return
            except subprocess.CalledProcessError as exc:
                last = exc.stderr
            time.sleep(0.3)
        raise AssertionError(f"it never happened; the last error: {last}")


@pytest.mark.system
@pytest.mark.timeout(400)
def test_the_demonstration_answers_and_recovers(environment: dict[str, str]) -> None:
    reader = Reader(environment)
    done = subprocess.run(
        ["paas", "dev", "--detach", "--demo", "feeds"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first, _, answer = done.stdout.partition("\n")
    assert first == "ready"
    assert len(json.loads(answer)["items"]) == 5
    reader.eventually(lambda: bool(reader.ask("latest", limit=1)["total"] == ITEMS))
    dates = [item["date"] for item in reader.ask("latest", limit=10)["items"]]
    assert dates == sorted(dates, reverse=True)
    assert reader.ask("search", query="robots")["total"] == 2

    # What has not changed is not sent again.
    statistics = ("call", "feeds-source", "statistics")
    reader.eventually(lambda: bool(reader.paas(*statistics)["not_modified"] > 0))

    # What is lost with a process is offered again by the others.
    for name in ("feeds-timeline", "feeds-indexer", "feeds-fetcher"):
        pid = int(reader.paas("show", name, "--query", "pid"))
        os.kill(pid, signal.SIGKILL)
        reader.eventually(
            lambda name=name: bool(reader.paas("show", name, "-o", "json")["restarts"] == 1)
        )
    reader.eventually(lambda: bool(reader.ask("latest", limit=1)["total"] == ITEMS))
    reader.eventually(lambda: bool(reader.ask("search", query="robots")["total"] == 2))
