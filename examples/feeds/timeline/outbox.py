"""Alerts that wait to be sent (io: SQL).

Written with the items that they are about, taken under a lease, removed when they were sent: each
is sent at least once, and twice only if an alerter ends between sending and saying so.
"""

from __future__ import annotations

import sqlite3

from store import Row

ATTEMPTS_MAX = 8
BACKOFF_MS = 5_000

_TAKE = """
UPDATE alerts SET due_ms = :lease_ms, attempts = attempts + 1
WHERE id IN (SELECT id FROM alerts WHERE due_ms <= :now_ms ORDER BY due_ms, id LIMIT :limit)
RETURNING id
"""
_SHOWN = """
SELECT a.id, a.kind, a.user, a.attempts, u.email, i.seq, i.source, i.title, i.link, i.summary,
    i.at_ms, s.title AS source_title, s.url AS source_url
FROM alerts a LEFT JOIN users u ON u.name = a.user
JOIN items i ON i.seq = a.seq JOIN sources s ON s.id = i.source
WHERE a.id IN (%s) ORDER BY a.user, a.id
"""


def take(db: sqlite3.Connection, limit: int, lease_ms: int, now_ms: int) -> list[Row]:
    values = {"lease_ms": now_ms + lease_ms, "now_ms": now_ms, "limit": limit}
    taken = [int(row[0]) for row in db.execute(_TAKE, values).fetchall()]
    found = [dict(row) for row in db.execute(_SHOWN % ",".join("?" * len(taken)), taken)]
    lost = set(taken) - {row["id"] for row in found}  # their items were too old to be kept
    db.executemany("DELETE FROM alerts WHERE id = ?", [(one,) for one in lost])
    return found


def end(db: sqlite3.Connection, done: list[int], failed: list[Row], now_ms: int) -> None:
    """`failed`: `{"id", "attempts", "for_good": bool}` each; they wait twice as long each time."""
    gone = [(int(one),) for one in done]
    for one in failed:
        attempts = int(one["attempts"])
        if one.get("for_good") or attempts >= ATTEMPTS_MAX:
            gone.append((int(one["id"]),))
        else:
            due_ms = now_ms + BACKOFF_MS * 2 ** (attempts - 1)
            db.execute("UPDATE alerts SET due_ms = ? WHERE id = ?", (due_ms, int(one["id"])))
    db.executemany("DELETE FROM alerts WHERE id = ?", gone)
