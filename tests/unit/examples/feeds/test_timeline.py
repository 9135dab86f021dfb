"""The built-in store, by its interface."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = 1_790_000_000_000


@pytest.fixture
def store(part: Any, tmp_path: Path) -> Any:
    made = part("timeline").sqlite_store.SqliteStore(tmp_path / "timeline.db")
    yield made
    made.close()


def item(key: str, title: str = "", date: float = 0, **more: Any) -> dict[str, Any]:
    return {"key": key, "title": title or f"title {key}", "date": date, **more}


def feed(*items: dict[str, Any], title: str = "A feed") -> dict[str, Any]:
    return {"title": title, "link": "", "format": "rss20", "items": list(items)}


def follow(store: Any, user: str = "ada", url: str = "http://a/", alert: str = "none") -> int:
    return int(store.subscribe(user, url, alert, NOW)["source"])


def result(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {"source": row["source"], "claim": row["claim"], "outcome": "unchanged", "due_s": 60}
    return {**made, "interval_s": 60, "gap_s": 120, "failures": 0, **more}


def due(store: Any, now: int = NOW, results: Any = ()) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.turn("me", list(results), 100, 30_000, now)["due"]
    return found


def titles(found: dict[str, Any]) -> list[str]:
    return [i["title"] for i in found["items"]]


def test_a_source_is_one_for_all_who_follow_it(store: Any) -> None:
    assert {follow(store, user) for user in ("ada", "bob", "eve")} == {1}
    (row,) = due(store)
    assert row["subscribers"] == 3
    assert due(store) == []


def test_a_poll_that_nobody_ends_is_given_to_somebody_else_after_its_lease(store: Any) -> None:
    follow(store)
    (first,) = due(store)
    assert due(store, NOW + 29_999) == []
    (second,) = due(store, NOW + 30_000)
    assert second["claim"] == first["claim"] + 1
    late = store.turn("me", [result(first, due_s=0)], 0, 1, NOW + 31_000)
    assert late["kept"] == 0
    assert store.turn("me", [result(second)], 0, 1, NOW + 31_000)["kept"] == 1
    assert store.subscriptions("ada")[0]["polls"] == 1


def test_many_schedulers_take_each_source_once(store: Any) -> None:
    for number in range(200):
        follow(store, url=f"http://a/{number}")
    taken: list[int] = []

    def work() -> None:
        for _ in range(40):
            taken.extend(row["source"] for row in store.turn("me", [], 7, 30_000, NOW)["due"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 201))


def test_what_nobody_follows_is_not_polled(store: Any) -> None:
    source = follow(store)
    store.unsubscribe("ada", source)
    assert due(store) == []
    assert store.turn("me", [], 1, 1, NOW)["next_ms"] == 60_000
    follow(store, "bob")
    assert len(due(store)) == 1


def test_validators_stay_when_a_poll_fails(store: Any) -> None:
    follow(store)
    (row,) = due(store)
    changed = result(row, outcome="changed", etag='"1"', digest="d", due_s=0, new=2)
    store.turn("me", [changed], 0, 1, NOW)
    (row,) = due(store, NOW + 1)
    assert (row["etag"], row["digest"]) == ('"1"', "d")
    failed = result(row, outcome="failed", error="it answered 500", due_s=0, failures=1)
    store.turn("me", [failed], 0, 1, NOW + 1)
    (row,) = due(store, NOW + 2)
    assert row["etag"] == '"1"'
    (shown,) = store.subscriptions("ada")
    assert (shown["state"], shown["error"], shown["failures"]) == ("failing", "it answered 500", 1)


def test_a_source_that_moved_is_found_by_both_addresses(store: Any) -> None:
    source = follow(store)
    (row,) = due(store)
    due(store, NOW, [result(row, url="http://b/")])
    assert store.subscriptions("ada")[0]["url"] == "http://b/"
    assert follow(store, "bob", "http://a/") == follow(store, "eve", "http://b/") == source


def test_a_source_that_moved_onto_another_becomes_one_with_it(store: Any) -> None:
    old = follow(store, "ada", "http://a/")
    follow(store, "bob", "http://a/")
    new = follow(store, "bob", "http://b/")
    rows = {row["url"]: row for row in due(store)}
    store.turn("me", [result(rows["http://a/"], url="http://b/")], 0, 1, NOW)
    assert [s["source"] for s in store.subscriptions("ada")] == [new]
    assert [s["source"] for s in store.subscriptions("bob")] == [new]
    assert store.subscriptions("ada")[0]["subscribers"] == 2
    assert follow(store, "eve", "http://a/") == new
    assert store.add(old, feed(item("1")), NOW)["added"] == 1
    assert titles(store.timeline("ada", {})) == ["title 1"]


def test_items_are_kept_once(store: Any) -> None:
    source = follow(store)
    first = store.add(source, feed(item("2"), item("1")), NOW)
    assert (first["added"], first["backlog"], first["before"], first["seq"]) == (2, True, 0, 2)
    assert [i["title"] for i in first["items"]] == ["title 1", "title 2"]
    again = store.add(source, feed(item("3"), item("2"), item("1")), NOW)
    assert (again["added"], again["backlog"]) == (1, False)
    assert titles(store.timeline("ada", {})) == ["title 3", "title 2", "title 1"]


def test_a_timeline_is_in_the_order_of_publication(store: Any) -> None:
    one, two = follow(store, url="http://a/"), follow(store, url="http://b/")
    store.add(one, feed(item("a", date=NOW / 1000 - 50), item("b", date=NOW / 1000 - 10)), NOW)
    store.add(two, feed(item("c", date=NOW / 1000 - 30), item("d", date=NOW / 1000 + 9e6)), NOW)
    found = store.timeline("ada", {"limit": 3})
    assert titles(found) == ["title d", "title b", "title c"]
    assert found["more"]
    last = found["items"][-1]
    rest = store.timeline("ada", {"before": [last["at_ms"], last["seq"]]})
    assert titles(rest) == ["title a"]
    assert not rest["more"]
    assert titles(store.timeline("ada", {"source": two})) == ["title d", "title c"]
    assert titles(store.timeline("bob", {})) == []


def test_a_timeline_of_very_many_sources_is_the_same(store: Any) -> None:
    sources = [follow(store, url=f"http://a/{n}") for n in range(70)]
    for number, source in enumerate(sources):
        store.add(source, feed(item("x", f"n{number}", date=1_000 + number)), NOW)
    assert titles(store.timeline("ada", {"limit": 2})) == ["n69", "n68"]


def test_unread_marks(store: Any) -> None:
    source = follow(store)
    store.add(source, feed(*(item(str(n)) for n in range(5))), NOW)
    assert store.subscriptions("ada")[0]["unread"] == 5
    store.mark("ada", {"items": [1, 2]})
    assert store.subscriptions("ada")[0]["unread"] == 3
    assert len(store.timeline("ada", {"unread": True})["items"]) == 3
    store.mark("ada", {"up_to": 4})
    assert store.subscriptions("ada")[0]["unread"] == 1
    store.mark("ada", {"items": [1], "unread": True})
    assert store.subscriptions("ada")[0]["unread"] == 2
    assert [i["seq"] for i in store.timeline("ada", {"unread": True})["items"]] == [5, 1]
    store.mark("ada", {"source": source})
    assert store.subscriptions("ada")[0]["unread"] == 0
    store.add(source, feed(item("new")), NOW)
    assert store.subscriptions("ada")[0]["unread"] == 1


def test_one_persons_marks_are_nobody_elses(store: Any) -> None:
    source = follow(store, "ada")
    follow(store, "bob")
    store.add(source, feed(item("1")), NOW)
    store.mark("ada", {"items": [1]})
    assert store.subscriptions("bob")[0]["unread"] == 1


def test_who_comes_late_has_few_unread_items(store: Any) -> None:
    source = follow(store, "ada")
    store.add(source, feed(*(item(str(n)) for n in range(50))), NOW)
    follow(store, "bob")
    assert store.subscriptions("bob")[0]["unread"] == 10


def test_what_was_missed_can_be_asked_for(store: Any) -> None:
    source = follow(store)
    store.add(source, feed(*(item(str(n)) for n in range(9, -1, -1))), NOW)
    found = store.after("ada", 4, 50)
    assert ([i["seq"] for i in found["items"]], found["gap"]) == ([5, 6, 7, 8, 9, 10], False)
    found = store.after("ada", 0, 3)
    assert ([i["seq"] for i in found["items"]], found["gap"]) == ([8, 9, 10], True)
    assert store.after("ada", 10, 3)["items"] == []
    assert store.last_seq() == 10


def test_old_items_go_and_their_words_with_them(store: Any) -> None:
    source = follow(store)
    store.add(source, feed(item("first", "needle", date=1)), NOW)
    for turn in range(3):
        store.add(source, feed(*(item(f"{turn}-{n}", date=100 + n) for n in range(90))), NOW)
    assert store.statistics()["items"] == 200
    assert store.search("ada", "needle", False, 10) == []
    assert store.last_seq() == 271


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("robots", {"1", "2"}),
        ("robot", {"1", "2"}),
        ("ROBOTS amok", {"1"}),
        ('"amok robots"', set()),
        ('"robots run"', {"1"}),
        ("robots -amok", {"2"}),
        ("uber", {"3"}),
        ("Über", {"3"}),
        ("новости", {"3"}),
        ("AND", set()),
        ("NOT OR NEAR(", set()),
        ('"', set()),
        ("-robots", set()),
        ("title:robots", set()),
        ("*", set()),
        ("", set()),
        ("x" * 500, set()),
    ],
)
def test_search(store: Any, text: str, found: set[str]) -> None:
    source = follow(store)
    items = [
        item("1", "Robots run amok"),
        item("2", "Other robots", summary="they sleep"),
        item("3", "Über alles", summary="свежие новости"),
    ]
    store.add(source, feed(*items), NOW)
    keys = {"Robots run amok": "1", "Other robots": "2", "Über alles": "3"}
    assert {keys[i["title"]] for i in store.search("ada", text, False, 10)} == found
    assert store.search("bob", text, False, 10) == []
    assert {keys[i["title"]] for i in store.search("bob", text, True, 10)} == found


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_question(part: Any, text: str) -> None:
    import sqlite3

    asked = part("timeline").query.question(text)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    if asked:
        db.execute("SELECT * FROM t WHERE t MATCH ?", (asked,)).fetchall()
    db.close()


def test_alerts_come_with_their_items_and_are_sent_once(store: Any) -> None:
    source = follow(store, "ada", alert="mail")
    follow(store, "bob", alert="push")
    follow(store, "eve")
    store.account("ada", NOW)
    store.set_account("ada", "ada@example.org")
    store.add(source, feed(item("old")), NOW)
    assert store.take_alerts(10, 1_000, NOW) == []
    store.add(source, feed(item("new")), NOW)
    taken = store.take_alerts(10, 1_000, NOW)
    assert [(a["user"], a["kind"], a["email"]) for a in taken] == [
        ("ada", "mail", "ada@example.org"),
        ("bob", "push", ""),
    ]
    assert store.take_alerts(10, 1_000, NOW) == []
    assert len(store.take_alerts(10, 1_000, NOW + 1_000)) == 2
    store.end_alerts([taken[0]["id"]], [{"id": taken[1]["id"], "attempts": 2}], NOW)
    assert store.take_alerts(10, 1_000, NOW + 9_000) == []
    (left,) = store.take_alerts(10, 1_000, NOW + 10_000)
    store.end_alerts([], [{"id": left["id"], "attempts": 3, "for_good": True}], NOW)
    assert store.statistics()["alerts"] == 0


def test_what_is_wrong_is_named(store: Any, part: Any) -> None:
    error = part("timeline").store.StoreError
    with pytest.raises(error, match="alert"):
        follow(store, alert="shout")
    with pytest.raises(error, match="email"):
        store.set_account("ada", "a@b\r\nBcc: c@d")
    with pytest.raises(error, match="source"):
        store.add(99, feed(item("1")), NOW)


def test_a_person_follows_a_bounded_number(store: Any, part: Any) -> None:
    people = part("timeline").people
    for number in range(people.SUBSCRIPTIONS_MAX):
        follow(store, url=f"http://a/{number}")
    with pytest.raises(part("timeline").store.StoreError, match="at most") as caught:
        follow(store, url="http://a/one-more")
    assert caught.value.code == "limit-exceeded"


def test_what_was_answered_is_there_after_a_crash(part: Any, tmp_path: Path) -> None:
    kind = part("timeline").sqlite_store.SqliteStore
    path = tmp_path / "t.db"
    first = kind(path)
    source = follow(first)
    first.add(source, feed(item("1")), NOW)
    copies = {p.name: p.read_bytes() for p in tmp_path.iterdir()}  # as it is on the disk, open
    first.close()
    for name, data in copies.items():
        (tmp_path / name).write_bytes(data)
    again = kind(path)
    assert titles(again.timeline("ada", {})) == ["title 1"]
    assert again.search("ada", "title", False, 5)
    again.close()


def test_a_poke_makes_a_source_due(store: Any) -> None:
    source = follow(store)
    (row,) = due(store)
    assert not store.poke(source, NOW + 1)
    due(store, NOW + 5, [result(row)])
    assert store.poke(source, NOW + 10)
    assert len(due(store, NOW + 10)) == 1


def test_another_version_of_the_file_is_refused(part: Any, tmp_path: Path) -> None:
    import sqlite3

    kind = part("timeline").sqlite_store.SqliteStore
    kind(tmp_path / "t.db").close()
    db = sqlite3.connect(tmp_path / "t.db")
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(RuntimeError, match="version 99"):
        kind(tmp_path / "t.db")


def test_what_a_lost_scheduler_had_taken_is_due_again(store: Any) -> None:
    for number in range(3):
        follow(store, url=f"http://a/{number}")
    lost = store.turn("lost", [], 2, 30_000, NOW)["due"]
    kept = store.turn("kept", [], 2, 30_000, NOW)["due"]
    store.turn("lost", [result(lost[0])], 0, 1, NOW)
    assert store.release("lost", NOW + 1) == 1
    (row,) = due(store, NOW + 2)
    assert row["source"] == lost[1]["source"]
    assert row["source"] not in {r["source"] for r in kept}


def test_answers_fit_into_a_message_whatever_was_published(store: Any) -> None:
    source = follow(store)
    long = [["p", {}, ["ж" * 7_900]]]
    items = [item(str(n), summary="ж" * 600, content=long, date=1_000 + n) for n in range(100)]
    store.add(source, feed(*items), NOW)
    seen: list[str] = []
    before: dict[str, Any] = {}
    while True:
        page = store.timeline("ada", {"limit": 100, **before})
        assert len(json.dumps(page)) < 4 << 20
        seen += titles(page)
        if not page["more"]:
            break
        before = {"before": [page["items"][-1]["at_ms"], page["items"][-1]["seq"]]}
    assert sorted(seen) == sorted(f"title {n}" for n in range(100))
    missed = store.after("ada", 0, 100)
    assert missed["gap"]
    assert missed["items"][-1]["seq"] == 100
    assert len(json.dumps(store.search("ada", "title", False, 100))) < 4 << 20


def test_what_stands_in_a_document_for_ever_is_new_once(store: Any) -> None:
    source = follow(store)
    sticky = [item("rules", date=1), item("welcome", date=2)]
    assert store.add(source, feed(*sticky), NOW)["added"] == 2
    for turn in range(60):
        news = [item(f"{turn}-{n}", date=1_000 + turn) for n in range(5)]
        found = store.add(source, feed(*news, *sticky), NOW + turn)
        assert found["added"] == 5
    assert store.statistics()["items"] == 200
    assert "title rules" not in titles(store.timeline("ada", {"limit": 100}))


def test_a_backlog_in_parts_is_one(store: Any) -> None:
    source = follow(store, alert="mail")
    first = store.add(source, feed(item("1"), item("2")), NOW)
    second = store.add(source, {**feed(item("3")), "backlog": first["backlog"]}, NOW)
    assert second["backlog"]
    assert store.take_alerts(9, 1, NOW) == []
