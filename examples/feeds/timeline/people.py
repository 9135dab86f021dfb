"""People: what they follow, and what they have read (io: SQL)."""

from __future__ import annotations

import re
import sqlite3

import polls
from articles import last_seq
from database import Database
from store import Row, StoreError

SUBSCRIPTIONS_MAX = 1_000
SOURCES_MAX = 50_000
USERS_MAX = 100_000
MARKS_AT_ONCE_MAX = 500
UNREAD_AT_FIRST = 10
"""Of a source that is known already, so many items are unread for who begins to follow it."""

ALERTS = ("none", "push", "mail")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,250}")


def account(db: sqlite3.Connection, user: str, now_ms: int) -> Row:
    row = db.execute("SELECT * FROM users WHERE name = ?", (user,)).fetchone()
    if row is None:
        if db.execute("SELECT count(*) FROM users").fetchone()[0] >= USERS_MAX:
            raise StoreError("user", f"there are {USERS_MAX} people already", "limit-exceeded")
        db.execute("INSERT INTO users VALUES (?, '', ?)", (user, now_ms))
        row = db.execute("SELECT * FROM users WHERE name = ?", (user,)).fetchone()
    return dict(row)


def set_email(db: sqlite3.Connection, user: str, email: str) -> Row:
    if email and not _EMAIL.fullmatch(email):
        raise StoreError("email", "expected an address as name@example.org, or nothing")
    db.execute("UPDATE users SET email = ? WHERE name = ?", (email, user))
    return {"name": user, "email": email}


def subscribe(db: sqlite3.Connection, user: str, url: str, alert: str, now_ms: int) -> Row:
    """One source for all who follow the same address."""
    check_alert(alert)
    account(db, user, now_ms)
    many = db.execute("SELECT count(*) FROM subscriptions WHERE user = ?", (user,)).fetchone()[0]
    if many >= SUBSCRIPTIONS_MAX:
        text = f"one can follow {SUBSCRIPTIONS_MAX} sources at most"
        raise StoreError("url", text, "limit-exceeded")
    source = polls.find(db, url)
    if source is None:
        if db.execute("SELECT count(*) FROM sources").fetchone()[0] >= SOURCES_MAX:
            raise StoreError("url", f"there are {SOURCES_MAX} sources already", "limit-exceeded")
        row = db.execute(
            "INSERT INTO sources (url, title, due_ms) VALUES (?, '', ?) RETURNING id", (url, now_ms)
        ).fetchone()
        source = int(row[0])
    read_seq = db.execute(
        "SELECT coalesce((SELECT seq FROM items WHERE source = ? ORDER BY seq DESC "
        "LIMIT 1 OFFSET ?), 0)",
        (source, UNREAD_AT_FIRST),
    ).fetchone()[0]
    db.execute(
        "INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET alert = excluded.alert",
        (user, source, alert, read_seq, now_ms),
    )
    polls.count(db, source)
    row = db.execute(
        "UPDATE sources SET due_ms = min(due_ms, CASE WHEN polls = 0 AND claimed_ms = 0 "
        "THEN ? ELSE due_ms END) WHERE id = ? RETURNING polls",
        (now_ms, source),
    ).fetchone()
    return {"source": source, "known": bool(row[0])}


def unsubscribe(db: sqlite3.Connection, user: str, source: int) -> bool:
    done = db.execute("DELETE FROM subscriptions WHERE user = ? AND source = ?", (user, source))
    polls.count(db, source)
    return done.rowcount > 0


def set_alert(db: sqlite3.Connection, user: str, source: int, alert: str) -> bool:
    check_alert(alert)
    words = "UPDATE subscriptions SET alert = ? WHERE user = ? AND source = ?"
    return db.execute(words, (alert, user, source)).rowcount > 0


def check_alert(alert: str) -> None:
    if alert not in ALERTS:
        raise StoreError("alert", f"expected one of {', '.join(ALERTS)}")


_SUBSCRIPTIONS = """
SELECT s.id AS source, s.url, s.title, s.link, s.format, s.kind, s.state, s.due_ms, s.interval_s,
    s.gap_s, s.polled_ms, s.ok_ms, s.new_ms, s.failures, s.error, s.polls, s.unchanged, s.items,
    s.subscribers, u.alert, u.read_seq,
    (SELECT count(*) FROM items i WHERE i.source = s.id AND i.seq > u.read_seq)
    + (SELECT coalesce(sum(
           CASE WHEN m.unread THEN m.seq <= u.read_seq ELSE -(m.seq > u.read_seq) END), 0)
       FROM marks m JOIN items i ON i.seq = m.seq
       WHERE m.user = u.user AND i.source = s.id) AS unread
FROM subscriptions u JOIN sources s ON s.id = u.source
WHERE u.user = ? ORDER BY s.title COLLATE NOCASE, s.url
"""


def subscriptions(database: Database, user: str) -> list[Row]:
    return database.rows(_SUBSCRIPTIONS, user)


def mark(db: sqlite3.Connection, user: str, wanted: Row) -> Row:
    """`{"items": […], "unread": bool}`, or `{"source" or nothing, "up_to": seq}` for all."""
    if "items" in wanted:
        seqs = [int(seq) for seq in wanted["items"][:MARKS_AT_ONCE_MAX]]
        unread = int(bool(wanted.get("unread")))
        db.executemany(
            "INSERT OR REPLACE INTO marks SELECT ?, seq, ? FROM items WHERE seq = ?",
            [(user, unread, seq) for seq in seqs],
        )
        return {"marked": len(seqs)}
    up_to = min(int(wanted.get("up_to") or last_seq(db)), last_seq(db))
    only = "" if not wanted.get("source") else "AND source = :source"
    values = {"user": user, "source": wanted.get("source"), "up_to": up_to}
    done = db.execute(
        f"UPDATE subscriptions SET read_seq = max(read_seq, :up_to) WHERE user = :user {only}",
        values,
    )
    db.execute(
        "DELETE FROM marks WHERE user = :user AND seq <= :up_to AND seq IN "
        f"(SELECT seq FROM items WHERE 1 {only})",
        values,
    )
    return {"sources": done.rowcount}
