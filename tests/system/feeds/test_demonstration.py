"""The application on a real cluster, behind a gateway: deployed, looked at, scaled, killed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.testing.browser import Browser

ROOT = Path(__file__).resolve().parents[3]
ROLES = ("fetcher", "indexer", "scheduler", "alerter", "frontend", "timeline", "origin")
STREAM = "http://live.origin/live/desk"
PAUSE_S = 0.25


class Cluster:
    """A development cluster of one node with the demonstration."""

    def __init__(self, folder: Path) -> None:
        self.printed = ""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAAS_", "XDG_"))}
        self._environment = {
            **kept,
            "HOME": str(folder),
            "PAAS_STATE": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def paas(self, *words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "paas.cli", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def publish(self, title: str) -> None:
        inputs = json.dumps({"title": title})
        self.paas("call", "group:feeds.origins", "publish", inputs)

    def member(self, role: str) -> dict[str, Any]:
        """One that is available."""
        shown = self.paas("ps", "-o", "json")["components"]
        kind = f"feeds-{role}@"
        mine = [c for c in shown if c["type"].startswith(kind) and c["state"] == "available"]
        return dict(mine[0])

    def kill(self, name: str) -> str:
        """This member, with everything in it."""
        os.kill(int(self.paas("show", name, "--query", "pid")), signal.SIGKILL)
        return name

    def is_back(self, name: str, restarts: int) -> bool:
        shown = self.paas("show", name, "-o", "json")
        return bool(shown["restarts"] > restarts and shown["state"] == "available")


def what_make_runs() -> list[str]:
    """The words after `paas` of what `make run` does when everything is installed."""
    said = subprocess.run(
        ["make", "--dry-run", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = [one for one in said.stdout.splitlines() if one.startswith(".venv/bin/paas ")]
    return line.split()[1:]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = Cluster(tmp_path_factory.mktemp("feeds"))
    try:
        made.printed = str(made.paas(*what_make_runs()))
        yield made
    finally:
        made.paas("down", "--purge", "--yes")


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> str:
    shown = cluster.paas("-o", "json", "demo", "feeds")  # once more: nothing changes
    assert shown["items"] >= 5
    assert shown["address"] in cluster.printed
    return str(shown["address"]).removeprefix("http://").rstrip("/")


class Publisher(threading.Thread):
    """An item on the stream and in the feed of the desk, again and again."""

    def __init__(self, cluster: Cluster, word: str) -> None:
        super().__init__(daemon=True)
        self.titles: list[str] = []
        self._cluster, self._word = cluster, word
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(PAUSE_S):
            title = f"{self._word} {len(self.titles)}"
            self._cluster.publish(title)
            self.titles.append(title)

    def finish(self) -> list[str]:
        self._end.set()
        self.join()
        return self.titles


@pytest.mark.system
@pytest.mark.timeout(300)
def test_make_run_prints_the_address_of_a_page_that_answers(cluster: Cluster) -> None:
    found = re.search(r"http://[\d.]+:\d+/", cluster.printed)
    assert found is not None, cluster.printed
    with urllib.request.urlopen(found[0], timeout=20) as answer:
        assert b"<!doctype html>" in answer.read().lower()


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_page_behind_the_gateway(cluster: Cluster, address: str, person: Any) -> None:
    reader = person("you", address)
    reader.follow(STREAM)
    with Browser() as browser:
        page = browser.open(f"http://{address}/", width=1180, height=740)
        page.until("document.querySelector('#welcome').open")
        page.type("#name", "you")
        page.press("Enter")
        page.until("document.querySelector('#state-text').textContent === 'live'")
        page.until("document.querySelectorAll('.item').length > 5")
        cluster.publish("Said behind the gateway")
        page.until("document.querySelector('#items').textContent.includes('behind the gateway')")
        assert page.complaints == []


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_same_by_an_operation_route(
    cluster: Cluster, address: str, person: Any, eventually: Any
) -> None:
    route = (
        "--group",
        "feeds.frontends",
        "--kind",
        "operation",
        "--websocket",
        "--host",
        "localhost",
    )
    cluster.paas("gateway", "set", "calls", *route)
    reader = person("caller", address, host="localhost")
    eventually(lambda: reader.ask("GET", "/api/health"))
    source = reader.follow(STREAM)
    reader.listen()
    eventually(lambda: reader.source(source)["kind"] == "stream")
    number = 0

    def comes() -> bool:
        nonlocal number
        number += 1
        cluster.publish(f"called {number}")
        time.sleep(0.5)
        return any(title.startswith("called") for title in reader.heard_titles())

    eventually(comes)
    cluster.paas("gateway", "remove", "calls", "--yes")


def bundle_of_the_relay(folder: Path) -> Path:
    """An SMTP server with all that it is made of."""
    shutil.copytree(Path(__file__).parent / "relay", folder)
    for name in ("aiosmtpd", "attr", "attrs", "public"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, folder / name)
    return folder


@pytest.mark.system
@pytest.mark.timeout(300)
def test_mail_leaves_a_container_by_a_relay_that_is_another(
    cluster: Cluster, address: str, person: Any, eventually: Any, tmp_path: Path
) -> None:
    cluster.paas("push", str(bundle_of_the_relay(tmp_path / "relay")))
    cluster.paas("create", "feeds-relay", "--name", "relay")
    reader = person("mailed", address)
    source = reader.follow(STREAM, "mail")
    reader.ask("PUT", "/api/account", {"email": "ada@example.org"})
    eventually(lambda: reader.source(source)["kind"] == "stream")

    def comes() -> bool:
        cluster.publish("Said by mail")
        mails = cluster.paas("call", "relay", "mails", "-o", "json")["mails"]
        return any(m["to"] == "ada@example.org" and "Said by mail" in m["subject"] for m in mails)

    eventually(comes)
    reader.follow(STREAM)  # no more mail
    cluster.paas("destroy", "relay", "--yes")


@pytest.mark.system
@pytest.mark.timeout(300)
def test_layers_are_scaled_and_killed_under_load(
    cluster: Cluster, address: str, person: Any, eventually: Any
) -> None:
    reader = person("judge", address)
    source = reader.follow(STREAM)
    reader.follow("http://live.origin/desk.atom")
    reader.listen()
    eventually(lambda: reader.source(source)["kind"] == "stream")
    publisher = Publisher(cluster, "under load")
    publisher.start()
    more = [
        f"{role}={3 if role in ('fetcher', 'indexer', 'frontend') else 2}" for role in ROLES[:5]
    ]
    cluster.paas("app", "scale", "feeds", *more)
    cluster.paas("app", "scale", "feeds", *(f"{role}=1" for role in ROLES[:5]))
    for role in ROLES[:-1]:
        member = cluster.member(role)
        before, name = member["restarts"], cluster.kill(member["name"])
        eventually(lambda name=name, before=before: cluster.is_back(name, before), 60)
    time.sleep(1.0)
    wanted = set(publisher.finish())
    assert len(wanted) > 5

    def all_of_it() -> bool:
        found = [
            i["title"]
            for i in reader.ask("GET", "/api/search?text=under%20load&limit=100")["items"]
        ]
        return wanted <= set(found) and wanted <= set(reader.heard_titles())

    eventually(all_of_it, 90)
