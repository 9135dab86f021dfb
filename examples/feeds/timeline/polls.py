"""Which sources are due, and what their polls have brought (io: SQL).

A source is taken by moving its due time to the end of a lease, in one transaction: of any number of
schedulers, one gets it.  Its poll ends by a result with the number of the claim, which says when it
is due again; without a result, it is due when the lease is over.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from store import Row

MERGEABLE = ("moved",)
RESULT_FIELDS = ("etag", "modified", "digest")
NEXT_MS_MAX = 60_000

_DUE = """
UPDATE sources SET due_ms = :lease_ms, claim = claim + 1, claimed_ms = :now_ms, owner = :owner
WHERE id IN (
    SELECT id FROM sources
    WHERE due_ms <= :now_ms AND subscribers > 0 AND merged_into IS NULL
    ORDER BY due_ms LIMIT :limit
)
RETURNING id AS source, url, kind, etag, modified, digest, claim, subscribers, interval_s, gap_s,
    failures, polled_ms, new_ms, polls
"""


def take(db: sqlite3.Connection, owner: str, limit: int, lease_ms: int, now_ms: int) -> list[Row]:
    values = {"lease_ms": now_ms + lease_ms, "now_ms": now_ms, "limit": limit, "owner": owner}
    return [dict(row) for row in db.execute(_DUE, values).fetchall()]


def release(db: sqlite3.Connection, owner: str, now_ms: int) -> int:
    """What a scheduler had taken is due now: it has ended.  How many sources."""
    words = "UPDATE sources SET due_ms = :now_ms, owner = '' WHERE owner = :owner"
    return db.execute(words, {"now_ms": now_ms, "owner": owner}).rowcount


def next_ms(db: sqlite3.Connection, now_ms: int) -> int:
    """Milliseconds until the next one is due, NEXT_MS_MAX at most."""
    row = db.execute(
        "SELECT min(due_ms) FROM sources WHERE subscribers > 0 AND merged_into IS NULL"
    ).fetchone()
    left = NEXT_MS_MAX if row[0] is None else row[0] - now_ms
    return int(max(0, min(left, NEXT_MS_MAX)))


def keep(db: sqlite3.Connection, result: Row, now_ms: int) -> bool:
    """Keep the result of a poll; False when it is of an older claim."""
    source = int(result["source"])
    row = db.execute("SELECT claim, url FROM sources WHERE id = ?", (source,)).fetchone()
    if row is None or row["claim"] != result["claim"]:
        return False
    outcome = str(result["outcome"])
    fine = outcome in ("changed", "unchanged", "stream")
    fields: dict[str, Any] = {
        "owner": "",
        "due_ms": now_ms + round(float(result["due_s"]) * 1000),
        "interval_s": float(result["interval_s"]),
        "failures": int(result["failures"]),
        "error": str(result.get("error", ""))[:300],
    }
    if outcome != "later":
        fields["polled_ms"] = now_ms
        fields["state"] = outcome if outcome == "gone" else "ok" if fine else "failing"
    if fine:
        fields["ok_ms"] = now_ms
        fields["gap_s"] = float(result["gap_s"])
    if outcome == "stream":
        fields["kind"] = "stream"
    for name in RESULT_FIELDS:
        if name in result and fine:
            fields[name] = str(result[name])[:500]
    if int(result.get("new", 0)):
        fields["new_ms"] = now_ms
    names = ", ".join(f"{name} = :{name}" for name in fields)
    counted = ", polls = polls + :one, unchanged = unchanged + :same"
    fields |= {"id": source, "one": int(outcome != "later"), "same": int(outcome == "unchanged")}
    db.execute(f"UPDATE sources SET {names}{counted} WHERE id = :id", fields)
    if result.get("url") and result["url"] != row["url"]:
        move(db, source, str(row["url"]), str(result["url"]))
    return True


def move(db: sqlite3.Connection, source: int, old: str, new: str) -> None:
    """A source has another address for good; if that is a source already, the two become one."""
    known = find(db, new)
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (old, known or source))
    if known is None or known == source:
        db.execute("UPDATE sources SET url = ? WHERE id = ?", (new, source))
        return
    db.execute("UPDATE sources SET merged_into = ?, subscribers = 0 WHERE id = ?", (known, source))
    db.execute("UPDATE aliases SET source = ? WHERE source = ?", (known, source))
    db.execute("UPDATE OR IGNORE subscriptions SET source = ? WHERE source = ?", (known, source))
    db.execute("DELETE FROM subscriptions WHERE source = ?", (source,))
    count(db, known)


def find(db: sqlite3.Connection, url: str) -> int | None:
    """The source of an address, also of one that it had before."""
    row = db.execute("SELECT source FROM aliases WHERE url = ?", (url,)).fetchone()
    if row is None:
        row = db.execute(
            "SELECT coalesce(merged_into, id) FROM sources WHERE url = ?", (url,)
        ).fetchone()
    return None if row is None else int(row[0])


def count(db: sqlite3.Connection, source: int) -> None:
    """How many follow a source, which decides if it is polled at all."""
    db.execute(
        "UPDATE sources SET subscribers = "
        "(SELECT count(*) FROM subscriptions WHERE source = :id) WHERE id = :id",
        {"id": source},
    )
