"""A SQLite data base with one writer and many readers (io).

Write-ahead log, synced at every commit: what was answered survives the loss of power, and readers
never wait for the writer.  Every thread that reads has a connection of its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schema import SCHEMA, VERSION

BUSY_MS = 5_000
CACHE_KIB = 8_192
CHECKPOINT_PAGES = 500


class Database:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._local = threading.local()
        self._writer = self._connect()
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            script = f"BEGIN;{SCHEMA};PRAGMA user_version = {VERSION};COMMIT;"
            self._writer.executescript(script)
        elif version != VERSION:
            raise RuntimeError(f"{path} is of version {version}; this program reads {VERSION}")

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        made.row_factory = sqlite3.Row
        for words in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"busy_timeout = {BUSY_MS}",
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            "temp_store = MEMORY",
        ):
            made.execute(f"PRAGMA {words}")
        return made

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing when an exception leaves it."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def reading(self) -> sqlite3.Connection:
        """This thread's connection; it sees what is committed."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self._connect()
            found.execute("PRAGMA query_only = ON")
        return found

    def rows(self, words: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self.reading().execute(words, values)]

    def close(self) -> None:
        with self._lock:
            self._writer.close()
