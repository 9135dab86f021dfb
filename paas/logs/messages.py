"""Messages about log records (component API, "resources, logs, metrics").  Numbers 600-619."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from paas.wire.registry import Message, Nothing, Params, method

Level = Literal["debug", "info", "warning", "error"]


class Write(Params, frozen=True, kw_only=True):
    """Write one structured record, as the calling component; may be a notification."""

    message: str
    level: Level = "info"
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Query(Params, frozen=True, kw_only=True):
    """Read kept records, oldest first; the newest `limit` of those that match (fewer if large).

    Give one of `component` (id, prefix or name), `type` or `group`; or none, for all.  `since` in
    seconds since the Unix epoch; `level` is the least severe wanted; `grep` is a plain substring.
    """

    component: str = ""
    type: str = ""
    group: str = ""
    since: float = 0.0
    level: Level = "debug"
    grep: str = ""
    limit: int = 1_000


class Record(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One kept record.  `time` in seconds since the Unix epoch; `dropped` lost just before it."""

    component: str
    name: str
    type: str
    sequence: int
    time: float
    stream: str
    level: str
    message: str
    fields: dict[str, Any]
    dropped: int = 0


class Records(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The records that match."""

    records: list[Record]


class Follow(Params, frozen=True, kw_only=True):
    """Like `log.query`, then every new record on a watch, as a `component.event` named `record`."""

    component: str = ""
    type: str = ""
    group: str = ""
    since: float = 0.0
    level: Level = "debug"
    grep: str = ""
    limit: int = 10


class FollowResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The watch, and the records that were there already."""

    watch: int
    records: list[Record]


WRITE = method(600, "log.write", Write, Nothing)
QUERY = method(601, "log.query", Query, Records)
FOLLOW = method(602, "log.follow", Follow, FollowResult)
