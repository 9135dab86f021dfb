"""The application without a platform, and somebody who uses it."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import CloseConnection, RejectConnection, Request, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "feeds"
PATIENCE_S = 30.0
SILENCE_S_MAX = 6.0
"""As the page, which is more patient: who does not even answer is gone."""

QUICK = {
    "interval_min_s": 0.5,
    "interval_max_s": 2,
    "interval_first_s": 1,
    "interval_fail_max_s": 4,
}


def load_stage() -> ModuleType:
    name = "feeds_stage"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLE / "stage.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The condition's value, once it is true."""
    end_s = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.05)
    return value


class Person:
    """Somebody with a name, at the JSON interface and on a live connection."""

    def __init__(self, address: str, name: str, host: str = "") -> None:
        self.address = address
        self.host = host or address
        self.name = name
        self.told: list[dict[str, Any]] = []
        self._end = False
        self.seq = 0

    def ask(self, method: str, path: str, body: Any = None, status: int = 0) -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            headers = {"cookie": f"feeds_user={self.name}", "content-type": "application/json"}
            headers["host"] = self.host
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == status if status else answer.status < 300, text
            return json.loads(text)
        finally:
            connection.close()

    def follow(self, url: str, alert: str = "none") -> int:
        found = self.ask("POST", "/api/sources", {"url": url, "alert": alert})
        return int(found["source"])

    def source(self, source: int) -> dict[str, Any]:
        """What one sees of a source that one follows."""
        found = self.ask("GET", "/api/sources")["sources"]
        return next((s for s in found if s["source"] == source), {})

    def titles(self, limit: int = 100, **more: Any) -> list[str]:
        query = "&".join(f"{k}={v}" for k, v in {"limit": limit, **more}.items())
        return [i["title"] for i in self.ask("GET", f"/api/timeline?{query}")["items"]]

    # -- live --

    def listen(self) -> None:
        """Connect, and again whenever the connection ends, as the page does."""
        self._connected = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._connected.wait(PATIENCE_S)

    def close(self) -> None:
        self._end = True

    def _listen(self) -> None:
        while not self._end:
            self._text = ""
            with suppress(OSError, LocalProtocolError, RemoteProtocolError):
                self._listen_once()
            time.sleep(0.1)

    def _listen_once(self) -> None:
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            ws = WSConnection(ConnectionType.CLIENT)
            cookie = [(b"cookie", f"feeds_user={self.name}".encode())]
            target = f"/live?since={self.seq}" if self.seq else "/live"
            sock.sendall(ws.send(Request(host=self.host, target=target, extra_headers=cookie)))
            sock.settimeout(0.5)
            heard_s = asked_s = time.monotonic()
            while not self._end and time.monotonic() - heard_s < SILENCE_S_MAX:
                if time.monotonic() - asked_s > SILENCE_S_MAX / 3:
                    asked_s = time.monotonic()
                    sock.sendall(ws.send(TextMessage(data='{"type":"ping"}')))
                try:
                    data = sock.recv(65_536)
                except TimeoutError:
                    continue
                heard_s = time.monotonic()
                if not data:
                    return
                ws.receive_data(data)
                for event in ws.events():
                    if isinstance(event, CloseConnection | RejectConnection):
                        return
                    if isinstance(event, TextMessage):
                        self._text += event.data
                        if event.message_finished:
                            self._heard(json.loads(self._text))
                            self._text = ""

    _text = ""

    def _heard(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        if message["type"] == "hello":
            self._connected.set()
            self.seq = self.seq or message["seq"]
        for item in message["items"] if message["type"] == "items" else []:
            self.seq = max(self.seq, item["seq"])

    def heard_titles(self) -> list[str]:
        """Titles of the items that came live, each once, as the page shows them."""
        found = {
            i["seq"]: i["title"] for m in self.told if m["type"] == "items" for i in m["items"]
        }
        return list(found.values())


@pytest.fixture(scope="module")
def stage() -> Iterator[Any]:
    """All roles; polls are quick, and nothing appears at the origin by itself."""
    with load_stage().Stage() as made:
        made.start_all(origin={"quakes_per_s": 0.001, "faster": 0}, scheduler=QUICK)
        yield made


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    """The configuration of schedulers here."""
    return QUICK


@pytest.fixture
def person(stage: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Person]]:
    made: list[Person] = []

    def make(name: str = "ada", address: str = "", host: str = "") -> Person:
        one = Person(address or stage.of("frontend")[0].address, name, host)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def publish(stage: Any) -> Callable[..., Any]:
    def run(title: str, path: str = "/desk.atom") -> Any:
        return stage.call("group:feeds.origins", "publish", title=title, path=path)

    return run


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return until
