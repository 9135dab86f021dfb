"""The built-in store: SQLite in a file of the volume (io)."""

from __future__ import annotations

from pathlib import Path

import articles
import outbox
import people
import polls
from database import Database
from store import Row


class SqliteStore:
    """The interface of `store.Store`."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path)

    def turn(self, owner: str, results: list[Row], limit: int, lease_ms: int, now_ms: int) -> Row:
        with self._db.writing() as db:
            kept = sum(polls.keep(db, result, now_ms) for result in results)
            due = polls.take(db, owner, limit, lease_ms, now_ms) if limit else []
            return {"due": due, "next_ms": polls.next_ms(db, now_ms), "kept": kept}

    def release(self, owner: str, now_ms: int) -> int:
        with self._db.writing() as db:
            return polls.release(db, owner, now_ms)

    def poke(self, source: int, now_ms: int) -> bool:
        with self._db.writing() as db:
            done = db.execute(
                "UPDATE sources SET due_ms = ? WHERE id = ? AND due_ms > ? "
                "AND (polled_ms >= claimed_ms OR kind = 'stream')",
                (now_ms, source, now_ms),
            )
            return done.rowcount > 0

    def add(self, source: int, feed: Row, now_ms: int) -> Row:
        with self._db.writing() as db:
            return articles.add(db, source, feed, now_ms)

    def timeline(self, user: str, wanted: Row) -> Row:
        return articles.timeline(self._db, user, wanted)

    def search(self, user: str, text: str, everywhere: bool, limit: int) -> list[Row]:
        return articles.search(self._db, user, text, everywhere, limit)

    def after(self, user: str, seq: int, limit: int) -> Row:
        return articles.after(self._db, user, seq, limit)

    def last_seq(self) -> int:
        return articles.last_seq(self._db.reading())

    def account(self, user: str, now_ms: int) -> Row:
        found = self._db.rows("SELECT * FROM users WHERE name = ?", user)
        if found:
            return found[0]
        with self._db.writing() as db:
            return people.account(db, user, now_ms)

    def set_account(self, user: str, email: str) -> Row:
        with self._db.writing() as db:
            return people.set_email(db, user, email)

    def subscribe(self, user: str, url: str, alert: str, now_ms: int) -> Row:
        with self._db.writing() as db:
            return people.subscribe(db, user, url, alert, now_ms)

    def unsubscribe(self, user: str, source: int) -> bool:
        with self._db.writing() as db:
            return people.unsubscribe(db, user, source)

    def set_alert(self, user: str, source: int, alert: str) -> bool:
        with self._db.writing() as db:
            return people.set_alert(db, user, source, alert)

    def subscriptions(self, user: str) -> list[Row]:
        return people.subscriptions(self._db, user)

    def mark(self, user: str, wanted: Row) -> Row:
        with self._db.writing() as db:
            return people.mark(db, user, wanted)

    def take_alerts(self, limit: int, lease_ms: int, now_ms: int) -> list[Row]:
        if not self._db.rows("SELECT 1 FROM alerts WHERE due_ms <= ? LIMIT 1", now_ms):
            return []
        with self._db.writing() as db:
            return outbox.take(db, limit, lease_ms, now_ms)

    def end_alerts(self, done: list[int], failed: list[Row], now_ms: int) -> None:
        with self._db.writing() as db:
            outbox.end(db, done, failed, now_ms)

    def statistics(self) -> Row:
        tables = ("sources", "items", "users", "subscriptions", "alerts")
        words = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
        polled = "(SELECT coalesce(sum(polls), 0) FROM sources) AS polls"
        return self._db.rows(f"SELECT {words}, {polled}")[0]

    def close(self) -> None:
        self._db.close()
