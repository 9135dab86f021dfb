"""The tables of the built-in store.

`sources.claim` is the number of the poll that is under way: what an older one brings is not taken.
`owner` is the scheduler that has it, until its result is kept.  `seen` has the keys of items longer
than the items: what was dropped because it is old, and stands in the document still, is not new
again.  `items.seq` grows with every item that was found, `items.at_ms` says where it stands in a
timeline: when it was published, or found if that is unknown or in the future.  What somebody has
read is `subscriptions.read_seq` (everything up to it) with exceptions in `marks`.
"""

VERSION = 1

SCHEMA = """
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL DEFAULT '',
    link TEXT NOT NULL DEFAULT '',
    format TEXT NOT NULL DEFAULT '',
    kind TEXT NOT NULL DEFAULT 'feed',
    state TEXT NOT NULL DEFAULT 'new',
    merged_into INTEGER,
    etag TEXT NOT NULL DEFAULT '',
    modified TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    subscribers INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,
    claim INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    claimed_ms INTEGER NOT NULL DEFAULT 0,
    interval_s REAL NOT NULL DEFAULT 0,
    gap_s REAL NOT NULL DEFAULT 0,
    polled_ms INTEGER NOT NULL DEFAULT 0,
    ok_ms INTEGER NOT NULL DEFAULT 0,
    new_ms INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    polls INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    items INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sources_of_owner ON sources (owner) WHERE owner <> '';
CREATE INDEX sources_due ON sources (due_ms) WHERE subscribers > 0 AND merged_into IS NULL;
CREATE TABLE aliases (url TEXT PRIMARY KEY, source INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL,
    key TEXT NOT NULL,
    title TEXT NOT NULL,
    link TEXT NOT NULL,
    author TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    found_ms INTEGER NOT NULL,
    summary TEXT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (source, key)
);
CREATE TABLE seen (
    source INTEGER NOT NULL,
    key TEXT NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (source, key)
) WITHOUT ROWID;
CREATE INDEX items_of_source ON items (source, at_ms, seq);
CREATE INDEX items_in_time ON items (at_ms, seq);
CREATE VIRTUAL TABLE words USING fts5 (
    title, summary, author, content='items', content_rowid='seq',
    tokenize='unicode61 remove_diacritics 2'
);
CREATE TRIGGER items_added AFTER INSERT ON items BEGIN
    INSERT INTO words (rowid, title, summary, author)
        VALUES (new.seq, new.title, new.summary, new.author);
END;
CREATE TRIGGER items_removed AFTER DELETE ON items BEGIN
    INSERT INTO words (words, rowid, title, summary, author)
        VALUES ('delete', old.seq, old.title, old.summary, old.author);
END;

CREATE TABLE users (name TEXT PRIMARY KEY, email TEXT NOT NULL, since_ms INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE subscriptions (
    user TEXT NOT NULL,
    source INTEGER NOT NULL,
    alert TEXT NOT NULL,
    read_seq INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (user, source)
) WITHOUT ROWID;
CREATE INDEX subscriptions_of_source ON subscriptions (source, alert);
CREATE TABLE marks (
    user TEXT NOT NULL,
    seq INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    PRIMARY KEY (user, seq)
) WITHOUT ROWID;
CREATE INDEX marks_of_item ON marks (seq);
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    user TEXT NOT NULL,
    seq INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, seq)
);
CREATE INDEX alerts_due ON alerts (due_ms);
"""
