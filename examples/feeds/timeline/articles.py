"""Items: kept once, and read in several ways (io: SQL)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from database import Database
from query import question
from store import Row, StoreError

ITEMS_A_SOURCE_MAX = 200
KEYS_A_SOURCE_MAX = 2_000
BACKLOG_ANNOUNCED = 20
LIMIT_MAX = 100
ANSWER_BYTES_MAX = 2 << 20
"""Of items in one answer: a message of the platform has 4 MiB at most."""

FEW_SUBSCRIPTIONS = 60
"""Up to here it is quicker to sort all items of the sources than to walk through all items."""

_SHOWN = (
    "i.seq, i.source, i.title, i.link, i.author, i.at_ms, i.found_ms, i.summary, i.content, "
    "s.title AS source_title, s.url AS source_url"
)
_UNREAD = "coalesce(m.unread, i.seq > u.read_seq)"
_MINE = (
    "JOIN subscriptions u ON u.source = i.source AND u.user = :user "
    "JOIN sources s ON s.id = i.source "
    "LEFT JOIN marks m ON m.user = :user AND m.seq = i.seq"
)


def add(db: sqlite3.Connection, source: int, feed: Row, now_ms: int) -> Row:
    """Keep what is new of a document; what was new, oldest first."""
    row = db.execute(
        "SELECT id, items, title, url, merged_into FROM sources WHERE id = ?", (source,)
    ).fetchone()
    if row is None:
        raise StoreError("source", f"there is no source {source}")
    source = row["merged_into"] or row["id"]
    backlog = row["items"] == 0 or bool(feed.get("backlog"))
    before = last_seq(db)
    new = unseen(db, source, feed["items"], now_ms)
    added = [add_one(db, source, item, now_ms) for item in reversed(new)]
    title = feed.get("title") or row["title"] or row["url"]
    db.execute(
        "UPDATE sources SET title = ?, link = ?, format = ?, items = items + ? WHERE id = ?",
        (title, feed.get("link", ""), feed.get("format", ""), len(added), source),
    )
    if added:
        prune(db, source)
        if not backlog:
            alert(db, source, added, now_ms)
    return {
        "items": announced(db, added[-BACKLOG_ANNOUNCED:]),
        "backlog": backlog,
        "added": len(added),
        "before": before,
        "seq": last_seq(db),
    }


def unseen(db: sqlite3.Connection, source: int, items: list[Row], now_ms: int) -> list[Row]:
    """Those that the source has not had before; all of them are known from now on."""
    found = {str(item["key"]): item for item in items}
    marks = ",".join("?" * len(found))
    known = db.execute(
        f"SELECT key FROM seen WHERE source = ? AND key IN ({marks})", (source, *found)
    )
    known_keys = {row[0] for row in known}
    db.executemany(
        "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_ms = excluded.last_ms",
        [(source, key, now_ms) for key in found],
    )
    return [item for key, item in found.items() if key not in known_keys]


def add_one(db: sqlite3.Connection, source: int, item: Row, now_ms: int) -> int:
    date_ms = round(float(item.get("date") or 0) * 1000)
    row = db.execute(
        "INSERT INTO items (source, key, title, link, author, at_ms, found_ms, summary, content) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        (
            source,
            item["key"],
            item["title"],
            item.get("link", ""),
            item.get("author", ""),
            min(date_ms, now_ms) if date_ms > 0 else now_ms,
            now_ms,
            item.get("summary", ""),
            json.dumps(item.get("content") or [], ensure_ascii=False, separators=(",", ":")),
        ),
    ).fetchone()
    return int(row[0])


def prune(db: sqlite3.Connection, source: int) -> None:
    """Beyond ITEMS_A_SOURCE_MAX the oldest go; and keys that the document has not had for long."""
    db.execute(
        "DELETE FROM seen WHERE source = :source AND last_ms < (SELECT last_ms FROM seen "
        "WHERE source = :source ORDER BY last_ms DESC LIMIT 1 OFFSET :most)",
        {"source": source, "most": KEYS_A_SOURCE_MAX},
    )
    old = db.execute(
        "SELECT seq FROM items WHERE source = ? ORDER BY at_ms DESC, seq DESC LIMIT -1 OFFSET ?",
        (source, ITEMS_A_SOURCE_MAX),
    ).fetchall()
    for (seq,) in old:
        db.execute("DELETE FROM items WHERE seq = ?", (seq,))
        db.execute("DELETE FROM marks WHERE seq = ?", (seq,))


def alert(db: sqlite3.Connection, source: int, added: list[int], now_ms: int) -> None:
    """Alerts are in the same transaction as their items: neither is there without the other."""
    db.executemany(
        "INSERT OR IGNORE INTO alerts (kind, user, seq, due_ms) "
        "SELECT alert, user, ?, ? FROM subscriptions WHERE source = ? AND alert <> 'none'",
        [(seq, now_ms, source) for seq in added],
    )


def announced(db: sqlite3.Connection, seqs: list[int]) -> list[Row]:
    marks = ",".join("?" * len(seqs))
    words = (
        f"SELECT {_SHOWN} FROM items i JOIN sources s ON s.id = i.source "
        f"WHERE i.seq IN ({marks}) ORDER BY i.seq"
    )
    return [shown(row) for row in db.execute(words, seqs)]


def shown(row: sqlite3.Row) -> Row:
    found = dict(row)
    found["content"] = json.loads(found["content"])
    if "unread" in found:
        found["unread"] = bool(found["unread"])
    return found


def fitting(rows: Iterable[sqlite3.Row]) -> tuple[list[Row], bool]:
    """As many of these as fit into one answer; are there more?"""
    found: list[Row] = []
    size = 0
    for row in rows:
        size += weight(row["content"]) + weight(row["summary"]) + 2_000
        if size > ANSWER_BYTES_MAX:
            return found, True
        found.append(shown(row))
    return found, False


def weight(text: str) -> int:
    """Bytes as JSON, in which what is not ASCII may take six."""
    return len(text) if text.isascii() else 6 * len(text)


def timeline(database: Database, user: str, wanted: Row) -> Row:
    """Newest first, from before a place in time (`before`: [at_ms, seq])."""
    limit = min(int(wanted.get("limit", 50)), LIMIT_MAX)
    db = database.reading()
    many = db.execute("SELECT count(*) FROM subscriptions WHERE user = ?", (user,)).fetchone()[0]
    values: dict[str, Any] = {"user": user, "limit": limit + 1}
    where = ["1"]
    if wanted.get("before"):
        values["at_ms"], values["seq"] = (int(n) for n in wanted["before"])
        where.append("(i.at_ms, i.seq) < (:at_ms, :seq)")
    if wanted.get("source"):
        values["source"] = int(wanted["source"])
        where.append("u.source = :source")
    if wanted.get("unread"):
        where.append(_UNREAD)
    walk = (
        "i INDEXED BY items_in_time"
        if many > FEW_SUBSCRIPTIONS and not wanted.get("source")
        else "i"
    )
    words = (
        f"SELECT {_SHOWN}, {_UNREAD} AS unread FROM items {walk} {_MINE} "
        f"WHERE {' AND '.join(where)} ORDER BY i.at_ms DESC, i.seq DESC LIMIT :limit"
    )
    rows, cut = fitting(db.execute(words, values))
    return {"items": rows[:limit], "more": cut or len(rows) > limit, "seq": last_seq(db)}


def after(database: Database, user: str, seq: int, limit: int) -> Row:
    """What came while nobody listened, oldest first."""
    db = database.reading()
    values = {"user": user, "seq": seq, "limit": min(limit, LIMIT_MAX) + 1}
    words = (
        f"SELECT {_SHOWN}, {_UNREAD} AS unread FROM items i {_MINE} WHERE i.seq > :seq "
        "ORDER BY i.seq DESC LIMIT :limit"
    )
    last = last_seq(db)
    rows, cut = fitting(db.execute(words, values))
    gap = cut or len(rows) >= values["limit"]
    return {"items": rows[::-1][-(values["limit"] - 1) :], "gap": gap, "seq": last}


def search(database: Database, user: str, text: str, everywhere: bool, limit: int) -> list[Row]:
    """Best first; of what somebody follows, or of everything that is kept."""
    asked = question(text)
    if not asked:
        return []
    join = (
        _MINE
        if not everywhere
        else (
            "JOIN sources s ON s.id = i.source "
            "LEFT JOIN subscriptions u ON u.source = i.source AND u.user = :user "
            "LEFT JOIN marks m ON m.user = :user AND m.seq = i.seq"
        )
    )
    words = (
        f"SELECT {_SHOWN}, coalesce({_UNREAD}, 0) AS unread FROM words w "
        f"JOIN items i ON i.seq = w.rowid {join} WHERE words MATCH :asked "
        "ORDER BY bm25(words, 4.0, 1.0, 2.0), i.seq DESC LIMIT :limit"
    )
    values = {"user": user, "asked": asked, "limit": min(limit, LIMIT_MAX)}
    return fitting(database.reading().execute(words, values))[0]


def last_seq(db: sqlite3.Connection) -> int:
    """The number of the last item that was found, also if it is gone since."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
    return 0 if row is None else int(row[0])
