"""From a web site to a person: polls, redirects, faults, streams, alerts."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller

DESK = "http://live.origin/desk.atom"
STREAM = "http://live.origin/live/desk"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_an_item_goes_all_the_way(person: Any, publish: Any, eventually: Any) -> None:
    ada = person()
    source = ada.follow(DESK)
    ada.listen()
    publish("The first <b>one</b>")
    eventually(lambda: "The first one" in ada.heard_titles())
    assert "The first one" in ada.titles()
    found = ada.source(source)
    assert (found["state"], found["title"]) == ("ok", "The desk")
    assert found["unread"] >= 1
    assert ada.ask("GET", "/api/search?text=first")["items"][0]["title"] == "The first one"


def test_what_did_not_change_is_not_sent_again(stage: Any, person: Any, eventually: Any) -> None:
    ada = person()
    source = ada.follow("http://reader-0.origin/feeds/reader/full.atom")
    eventually(lambda: ada.source(source)["unchanged"] >= 2)
    answers = stage.call("group:feeds.origins", "statistics")["answers"]
    assert answers["304"] >= 2
    assert ada.source(source)["items"] == 2


def test_a_source_is_polled_once_however_many_follow_it(
    stage: Any, person: Any, eventually: Any
) -> None:
    url, path = "http://rss-0.origin/feeds/rss/item_title.xml", "/feeds/rss/item_title.xml"
    people = [person(f"reader-{n}") for n in range(30)]
    sources = {one.follow(url) for one in people}
    assert len(sources) == 1
    (source,) = sources

    def polls() -> int:
        return int(stage.call("group:feeds.origins", "statistics", paths=[path])["paths"][path])

    eventually(lambda: polls() >= 3)
    shown = people[0].source(source)
    assert shown["subscribers"] == 30
    assert polls() - 1 <= people[0].source(source)["polls"] <= polls() + 1


def test_polls_asked_for_at_the_same_time_become_one(stage: Any) -> None:
    path = "/faults/slow/1/x"
    asked = {"source": 0, "url": f"http://slow.origin{path}", "etag": "", "modified": ""}
    found: list[Any] = []

    def ask() -> None:
        found.append(stage.call("group:feeds.fetchers", "fetch", **asked))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bool(one.get("merged")) for one in found) == 4
    assert stage.call("group:feeds.origins", "statistics", paths=[path])["paths"][path] == 1


@pytest.mark.parametrize(
    ("path", "state", "error"),
    [
        ("/faults/status/500/x", "failing", "answered 500"),
        ("/faults/gone", "gone", "answered 410"),
        ("/faults/loop", "failing", "in a circle"),
        ("/faults/chain/9/desk.atom", "failing", "more than 5 redirects"),
        ("/faults/bomb", "failing", "unpacked document"),
        ("/faults/huge", "failing", "at most"),
        ("/faults/entities", "failing", "entities"),
        ("/faults/cut/x", "failing", ""),
        ("/faults/garbage", "failing", ""),
        ("/faults/later", "failing", "answered 429"),
        ("/nowhere", "failing", "answered 404"),
    ],
)
def test_what_goes_wrong_is_said_and_hurts_nobody_else(
    person: Any, eventually: Any, path: str, state: str, error: str
) -> None:
    ada = person("faults")
    source = ada.follow(f"http://{path.split('/')[2] if path.count('/') > 1 else 'x'}.origin{path}")
    eventually(lambda: ada.source(source)["failures"] and ada.source(source)["error"])
    found = ada.source(source)
    assert found["state"] == state
    assert error in found["error"]
    assert found["interval_s"] > 0
    ada.ask("DELETE", f"/api/sources/{source}")


def test_hosts_that_are_not_there_are_said_so(person: Any, eventually: Any) -> None:
    ada = person("faults")
    source = ada.follow("http://127.0.0.1:1/feed")
    eventually(lambda: ada.source(source)["failures"])
    assert "refused" in ada.source(source)["error"].lower()
    ada.ask("DELETE", f"/api/sources/{source}")


def test_a_permanent_redirect_is_remembered(stage: Any, person: Any, eventually: Any) -> None:
    ada, bob = person("ada"), person("bob")
    new = "http://moved.origin/feeds/reader/relative.atom"
    known = bob.follow(new)
    ada.follow("http://moved.origin/faults/moved/feeds/reader/relative.atom")
    eventually(lambda: new in [s["url"] for s in ada.ask("GET", "/api/sources")["sources"]])
    path = "/faults/moved/feeds/reader/relative.atom"
    before = stage.call("group:feeds.origins", "statistics", paths=[path])["paths"][path]
    eventually(lambda: ada.source(known)["polls"] >= bob.source(known)["polls"] >= 3)
    after = stage.call("group:feeds.origins", "statistics", paths=[path])["paths"][path]
    assert after == before == 1
    assert ada.source(known)["subscribers"] == 2


def test_a_stream_is_followed(stage: Any, person: Any, publish: Any, eventually: Any) -> None:
    ada = person("streamer")
    source = ada.follow(STREAM)
    ada.listen()
    eventually(lambda: ada.source(source)["kind"] == "stream")
    streams = "all:group:feeds.fetchers"
    eventually(lambda: sum(r["outputs"]["streams"] for r in stage.call(streams, "statistics")))
    eventually(lambda: (publish("warm"), time.sleep(0.2), "warm" in ada.heard_titles())[-1])
    publish("Now")
    eventually(lambda: "Now" in ada.heard_titles())


def test_marks_are_seen_in_every_tab(person: Any, publish: Any, eventually: Any) -> None:
    one, two = person("marker"), person("marker")
    source = one.follow(DESK)
    two.listen()
    publish("To be read")
    eventually(lambda: "To be read" in two.heard_titles())
    item = one.ask("GET", "/api/timeline?limit=1")["items"][0]
    one.ask("POST", "/api/marks", {"items": [item["seq"]]})
    eventually(lambda: any(m["type"] == "marked" for m in two.told))
    one.ask("POST", "/api/marks", {"source": source, "up_to": 10**9})
    assert two.source(source)["unread"] == 0


def test_a_gateway_may_bring_requests_as_calls(stage: Any, person: Any, eventually: Any) -> None:
    frontends = "group:feeds.frontends"
    envelope = {"query": "", "host": "a", "scheme": "http", "connection": "c1"}
    page = stage.call(frontends, "http", method="GET", path="/", headers=[], **envelope)
    assert page["status"] == 200
    cookie = [["Cookie", "feeds_user=envelope"]]
    asked = {"method": "GET", "path": "/live", **envelope}
    assert stage.call(frontends, "http.open", headers=[], **asked)["status"] == 401
    before = stage.call(frontends, "statistics")["connections"]
    assert stage.call(frontends, "http.open", headers=cookie, **asked)["status"] == 101
    # Who opened it is no gateway, so nothing can be sent: the connection ends by itself.
    eventually(lambda: stage.call(frontends, "statistics")["connections"] == before)
    assert stage.call(frontends, "http.close", connection="c1") == {}


class Mailbox:
    """What a real SMTP server has taken; it refuses `nobody@…` for good, and at first `busy@…`."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.turned_away = 0

    async def handle_RCPT(  # noqa: N802  (the library's name)
        self, server: Any, session: Any, envelope: Any, to: str, options: Any
    ) -> str:
        if to.startswith("nobody@"):
            return "550 there is no such person"
        if to.startswith("busy@") and not self.turned_away:
            self.turned_away += 1
            return "451 come again later"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        message = message_from_bytes(envelope.content, policy=default)
        self.messages.append((envelope.rcpt_tos[0], message))
        await asyncio.sleep(0)
        return "250 kept"


@pytest.fixture
def mailbox(stage: Any) -> Iterator[Mailbox]:
    made = Mailbox()
    port = free_port()
    controller = Controller(made, hostname="127.0.0.1", port=port)
    controller.start()
    for alerter in stage.of("alerter"):
        stage.stop(alerter)
    stage.start("alerter", smtp=f"127.0.0.1:{port}", sender="feeds@example.org")
    yield made
    controller.stop()


def test_alerts_by_mail_and_in_the_browser(
    person: Any, publish: Callable[..., Any], eventually: Any, mailbox: Mailbox
) -> None:
    readers = {
        "mailer": "ada@example.org",
        "refused": "nobody@example.org",
        "later": "busy@example.org",
    }
    for name, email in readers.items():
        one = person(name)
        one.follow(STREAM, "mail")
        one.ask("PUT", "/api/account", {"email": email})
    pushed, silent = person("pushed"), person("silent")
    for one, alert in ((pushed, "push"), (silent, "none")):
        one.follow(STREAM, alert)
        one.listen()
    title = "Rain\u2028in Spain\u0000 & more"
    eventually(lambda: (publish(title), time.sleep(0.2), mailbox.messages)[-1])
    to, message = mailbox.messages[0]
    assert isinstance(message, EmailMessage)
    assert to == "ada@example.org"
    assert message["Subject"] in ("Rain in Spain & more", "2 new: The desk, live")
    assert "Rain in Spain" in message.get_content()
    eventually(lambda: "busy@example.org" in [to for to, _ in mailbox.messages])
    assert mailbox.turned_away == 1
    eventually(lambda: [m for m in pushed.told if m["type"] == "alert"])
    assert not [m for m in silent.told if m["type"] == "alert"]
    assert len({m["Message-ID"] for _, m in mailbox.messages}) == len(mailbox.messages)
