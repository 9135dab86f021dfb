"""The frontend: sessions, the JSON interface, who is told what, the files of the page."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def frontend(part: Any) -> Any:
    return part("frontend")


@pytest.mark.parametrize("name", ["ada", "Ada ", "a", "a.b-c_d", "a" * 32, "7"])
def test_names(frontend: Any, name: str) -> None:
    assert frontend.sessions.name_of(name) == name.strip().lower()


@pytest.mark.parametrize(
    "name", ["", " ", "-a", "a-", "a b", "a\r\nb", "ä", "a" * 33, "a;b", "<b>", "../x", "a\x00"]
)
def test_other_names_are_none(frontend: Any, name: str) -> None:
    assert frontend.sessions.name_of(name) == ""
    assert frontend.sessions.user_of({"cookie": f"feeds_user={name}"}) in ("", "a")


def test_cookies(frontend: Any) -> None:
    sessions = frontend.sessions
    assert sessions.user_of({"cookie": "x=y; feeds_user=ada; z=1"}) == "ada"
    assert sessions.user_of({}) == ""
    made = sessions.cookie("ada", secure=True)
    assert {"HttpOnly", "SameSite=Strict", "Secure"} <= set(made.split("; "))
    assert "Max-Age=0" in sessions.cookie("", secure=False)
    assert sessions.is_secure({"forwarded": "for=1;proto=https"})
    assert not sessions.is_secure({"x-forwarded-proto": "http"})


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"host": "a.example"}, True),
        ({"host": "a.example", "origin": "http://a.example"}, True),
        ({"host": "10.1.1.1:99", "x-forwarded-host": "a", "origin": "https://A"}, True),
        ({"host": "a.example", "origin": "http://b.example"}, False),
        ({"host": "a.example", "origin": "null"}, False),
        ({"host": "a.example", "origin": "http://a.example.evil"}, False),
    ],
)
def test_pages_of_other_sites_are_known(frontend: Any, headers: Any, fine: bool) -> None:
    assert frontend.sessions.is_same_site(headers) is fine


class Timeline:
    """What the interface asks, and what it is told."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, target: str, operation: str, inputs: dict[str, Any]) -> Any:
        self.asked.append((operation, inputs))
        return self.answers.get(operation, {})


@pytest.fixture
def ask(frontend: Any) -> Callable[..., Any]:
    """`ask("GET", "/api/x", body)` gives status, value and what was asked of the timeline."""

    def run(method: str, target: str, body: Any = None, **more: Any) -> Any:
        timeline = Timeline(more.pop("answers", {"account": {"name": "ada", "email": ""}}))
        headers = {"cookie": "feeds_user=ada", "content-type": "application/json"}
        headers |= {k.replace("_", "-"): v for k, v in more.items()}
        path, _, query = target.partition("?")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = frontend.exchange.Request(method, path, query, headers, data)
        try:
            reply = asyncio.run(frontend.api.Api(timeline.ask).answer(request))
        except frontend.exchange.Refusal as exc:
            reply = frontend.exchange.refusal_reply(exc)
        return reply.status, json.loads(reply.body), timeline.asked, dict(reply.headers)

    return run


def test_a_session_begins_and_ends(ask: Any) -> None:
    status, value, asked, headers = ask("POST", "/api/session", {"user": "Ada"}, cookie="")
    assert (status, value["user"]) == (200, "ada")
    assert asked == [("account", {"user": "ada"})]
    assert headers["set-cookie"].startswith("feeds_user=ada;")
    assert "Max-Age=0" in ask("DELETE", "/api/session")[3]["set-cookie"]
    assert ask("GET", "/api/session", cookie="")[1] == {"user": "", "email": ""}


@pytest.mark.parametrize(
    ("method", "target", "body", "asked"),
    [
        ("GET", "/api/timeline", None, ("timeline", {"user": "ada", "limit": 30})),
        (
            "GET",
            "/api/timeline?before=5,6&source=7&unread=1&limit=100",
            None,
            (
                "timeline",
                {"user": "ada", "limit": 100, "before": [5, 6], "source": 7, "unread": True},
            ),
        ),
        (
            "GET",
            "/api/search?text=a%20b&everywhere=1",
            None,
            ("search", {"user": "ada", "text": "a b", "everywhere": True, "limit": 30}),
        ),
        ("GET", "/api/sources", None, ("subscriptions", {"user": "ada"})),
        (
            "POST",
            "/api/sources",
            {"url": " Example.org/Feed "},
            ("subscribe", {"user": "ada", "url": "http://example.org/Feed", "alert": "none"}),
        ),
        (
            "PUT",
            "/api/sources/7",
            {"alert": "mail"},
            ("set_alert", {"user": "ada", "source": 7, "alert": "mail"}),
        ),
        ("DELETE", "/api/sources/7", None, ("unsubscribe", {"user": "ada", "source": 7})),
        ("POST", "/api/sources/7/poll", {}, ("poke", {"source": 7})),
        (
            "POST",
            "/api/marks",
            {"items": [1, 2], "unread": True},
            ("mark", {"user": "ada", "items": [1, 2], "unread": True}),
        ),
        ("POST", "/api/marks", {"up_to": 9}, ("mark", {"user": "ada", "up_to": 9})),
        (
            "PUT",
            "/api/account",
            {"email": " a@b "},
            ("set_account", {"user": "ada", "email": "a@b"}),
        ),
        ("GET", "/api/suggestions?offset=30", None, ("catalogue", {"offset": 30, "limit": 30})),
    ],
)
def test_requests_become_questions(
    ask: Any, method: str, target: str, body: Any, asked: tuple[str, Any]
) -> None:
    done = {"done": True}
    answers = {"set_alert": done, "unsubscribe": done}
    status, _, found, _ = ask(method, target, body, answers=answers)
    assert status < 300
    assert found == [asked]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "field"),
    [
        ("GET", "/api/nothing", None, 404, ""),
        ("PATCH", "/api/sources", None, 405, ""),
        ("GET", "/api/sources/x/poll", None, 404, ""),
        ("GET", "/api/timeline?limit=1000", None, 400, "limit"),
        ("GET", "/api/timeline?limit=-1", None, 400, "limit"),
        ("GET", "/api/timeline?source=1e9", None, 400, "source"),
        ("GET", "/api/timeline?before=1", None, 400, "before"),
        ("GET", "/api/timeline?before=%D9%A1,%D9%A1", None, 400, "before"),
        ("POST", "/api/sources", {"url": ""}, 400, "url"),
        ("POST", "/api/sources", {"url": "file:///etc/passwd"}, 400, "url"),
        ("POST", "/api/sources", {"url": "http://a/\r\nHost: b"}, 400, "url"),
        ("POST", "/api/sources", {"url": "javascript:alert(1)"}, 400, "url"),
        ("POST", "/api/sources", {"url": "http://a/" + "x" * 2000}, 400, "url"),
        ("POST", "/api/sources", {"url": "http://u:p@a/"}, 400, "url"),
        ("POST", "/api/sources", b"[1]", 400, "body"),
        ("POST", "/api/sources", b"{", 400, "body"),
        ("POST", "/api/sources", b"[" * 60_000, 400, "body"),
        ("POST", "/api/marks", {"items": ["1; DROP TABLE"]}, 400, "items"),
        ("POST", "/api/session", {"user": "<script>"}, 400, "user"),
        ("DELETE", "/api/sources/7", None, 404, "source"),
    ],
)
def test_what_is_wrong_is_named(
    ask: Any, method: str, target: str, body: Any, status: int, field: str
) -> None:
    found, value, _, _ = ask(method, target, body, answers={"unsubscribe": {"done": False}})
    assert (found, value["error"]["field"]) == (status, field)


def test_nobody_is_told_nothing(ask: Any) -> None:
    for target in ("/api/timeline", "/api/sources", "/api/suggestions", "/api/search?text=x"):
        status, _, asked, _ = ask("GET", target, cookie="")
        assert (status, asked) == (401, [])


def test_other_sites_change_nothing(ask: Any) -> None:
    evil = {"host": "a.example", "origin": "http://evil.example"}
    assert ask("POST", "/api/marks", {"up_to": 1}, **evil)[0] == 403
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert ask("POST", "/api/marks", {"up_to": 1}, **form)[0] == 415
    assert ask("POST", "/api/marks", {"up_to": 1}, content_type="text/plain")[0] == 415


def item(seq: int, source: int) -> dict[str, Any]:
    return {"seq": seq, "source": source, "title": f"t{seq}"}


class Tab:
    """One connection and what it was told."""

    def __init__(self, live: Any, hub: Any, user: str, *sources: int) -> None:
        self.told: list[dict[str, Any]] = []
        self.dropped = 0
        self.connection = live.Connection(user, self.deliver, self.drop)
        hub.open(self.connection, sources)

    def deliver(self, text: str) -> None:
        self.told.append(json.loads(text))

    def drop(self) -> None:
        self.dropped += 1

    @property
    def seqs(self) -> list[int]:
        return [i["seq"] for message in self.told for i in message.get("items", [])]


@pytest.fixture
def hub(frontend: Any) -> Any:
    return frontend.live.Live()


def published(*items: dict[str, Any], before: int) -> dict[str, Any]:
    return {"items": list(items), "before": before, "seq": max(i["seq"] for i in items)}


def test_items_go_to_who_follows_their_source(frontend: Any, hub: Any) -> None:
    ada, bob = Tab(frontend.live, hub, "ada", 1, 2), Tab(frontend.live, hub, "bob", 2)
    other = Tab(frontend.live, hub, "ada", 1, 2)
    assert not hub.published(published(item(1, 1), item(2, 2), item(3, 3), before=0))
    assert ada.seqs == other.seqs == [1, 2]
    assert bob.seqs == [2]
    assert len(ada.told) == 1
    hub.follow("bob", [3])
    hub.close(other.connection)
    hub.published(published(item(4, 2), item(5, 3), before=3))
    assert ada.seqs == [1, 2, 4]
    assert other.seqs == [1, 2]
    assert bob.seqs == [2, 5]


def test_a_lost_announcement_is_noticed(frontend: Any, hub: Any) -> None:
    tab = Tab(frontend.live, hub, "ada", 1)
    assert not hub.published(published(item(5, 1), before=4))
    assert hub.published(published(item(8, 1), before=7))
    assert tab.connection.seq == 5
    assert not hub.published(published(item(9, 1), before=8))


def test_who_does_not_read_is_dropped_and_the_others_are_not(frontend: Any, hub: Any) -> None:
    slow, quick = Tab(frontend.live, hub, "ada", 1), Tab(frontend.live, hub, "bob", 1)
    for seq in range(1, 400):
        hub.published(published(item(seq, 1), before=seq - 1))
        quick.connection.queued = 0
    assert slow.dropped == 1
    assert len(slow.told) == frontend.live.QUEUE_MESSAGES_MAX
    assert len(quick.told) == 399
    assert (len(hub), hub.dropped) == (1, 1)


def test_a_person_has_a_bounded_number_of_tabs(frontend: Any, hub: Any) -> None:
    tabs = [Tab(frontend.live, hub, "ada", 1) for _ in range(20)]
    assert not hub.may_open("ada")
    assert hub.may_open("bob")
    hub.close(tabs[0].connection)
    hub.close(tabs[0].connection)
    assert hub.may_open("ada")
    assert hub.tell("ada", '{"type":"x"}') == 19
    for tab in tabs:
        hub.close(tab.connection)
    assert (len(hub), hub.users(), hub._of_source) == (0, [], {})


def test_the_page_is_sent_with_a_strict_policy(frontend: Any) -> None:
    files = frontend.static.load()
    request = frontend.exchange.Request("GET", "/", headers={"accept-encoding": "gzip"})
    reply = frontend.static.reply(files, request)
    headers = dict(reply.headers)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert gzip.decompress(reply.body).startswith(b"<!doctype html>")
    known = frontend.exchange.Request("GET", "/", headers={"if-none-match": headers["etag"]})
    assert frontend.static.reply(files, known).status == 304
    for path in ("/../main.py", "/main.py", "//", "/index.html", "/app.js/"):
        assert frontend.static.reply(files, frontend.exchange.Request("GET", path)) is None


def test_the_page_is_three_files_that_need_nobody_else(example: Path) -> None:
    page = example / "frontend" / "page"
    html, script, style = (
        (page / name).read_text() for name in ("index.html", "app.js", "style.css")
    )
    assert not re.search(r"(src|href)=\"(https?:)?//", html)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert "import " not in script.replace("// ", "")
    assert "@import" not in style
    assert "url(" not in style
    buttons = re.findall(r"<button[^>]*>(.*?)</button>", html, re.DOTALL)
    named = re.findall(r"<button[^>]*aria-label", html)
    words = [b for b in buttons if re.sub(r"<[^>]+>", "", b).strip()]
    assert len(words) + len(named) >= len(buttons) - html.count('id="news"')
    ids = re.findall(r"\bid=\"([^\"]+)\"", html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"<label for=\"([^\"]+)\"", html)) <= set(ids)


def test_what_means_nothing_without_tls_is_sent_with_tls_only(frontend: Any) -> None:
    files, name = frontend.static.load(), "cross-origin-opener-policy"
    plain = frontend.exchange.Request("GET", "/")
    secure = frontend.exchange.Request("GET", "/", headers={"x-forwarded-proto": "https"})
    assert name not in dict(frontend.static.reply(files, plain).headers)
    assert name in dict(frontend.static.reply(files, secure).headers)


def test_a_gateways_envelope_is_a_request(frontend: Any) -> None:
    inputs = {
        "method": "POST",
        "path": "/api/marks",
        "query": "a=b",
        "headers": [["Cookie", "feeds_user=ada"], ["Content-Type", "application/json"]],
        "host": "feeds.example",
        "scheme": "https",
    }
    found = frontend.envelopes.request_of(inputs, b'{"up_to": 1}')
    assert frontend.sessions.user_of(found.headers) == "ada"
    assert frontend.sessions.is_secure(found.headers)
    assert found.json() == {"up_to": 1}
    reply = frontend.exchange.json_reply({"x": 1}, 201, (("set-cookie", "a=b"),))
    outputs, attachments = frontend.envelopes.outputs_of(reply)
    assert outputs["status"] == 201
    assert ["set-cookie", "a=b"] in outputs["headers"]
    assert attachments == [{"name": "body", "type": "application/json", "data": b'{"x":1}'}]
    assert frontend.envelopes.outputs_of(frontend.exchange.Reply(304))[1] == []
