"""What the log has told lately, by what it is about: watches resume from here without a gap.

A watch that is opened again says what it has seen: everything up to an index, and so many of the
later events.  If nothing after that index has been forgotten here, exactly the rest follows;
otherwise the watcher must be shown the whole state.

    floor          every event after this index is here, and none of this index or before
    topics         ("group", g) · ("components", "") · ("attributes", id) · ("attributes",
                   "group:" + g), found when the event happens: the groups of a component are
                   those that it is in then
    order          that of the log; equal on all replicas, so another hub can go on

It is a section of the state machine only to hear of events while a log is replayed, which no
subscriber does; it has no state of its own and reads groups after those have reacted.  Bounded in
events and bytes: the oldest indices are forgotten, each as a whole, and never the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paas.controller.messages import ComponentChanged
from paas.hub import attribute_limits as limits
from paas.hub.attributes import AttributesChanged
from paas.hub.state import MemberJoined, MemberLeft
from paas.raft.machine import Context

_MEMBERS = (MemberJoined, MemberLeft)

Topic = tuple[str, str]

_RECORD_BYTES = 300
_EMPTY: deque[Record] = deque()


@dataclass(frozen=True, slots=True)
class Record:
    """One event of the log, and what it is about."""

    index: int
    event: MemberJoined | MemberLeft | ComponentChanged | AttributesChanged
    topics: tuple[Topic, ...]
    bytes: int


class History:
    """See the module's text.  `groups_of` are those that a component is in now."""

    name = "history"
    commands: Mapping[Any, Any] = {}

    def __init__(self, groups_of: Callable[[str], list[str]]) -> None:
        self._groups_of = groups_of
        self._floor: int | None = 0
        self._records: deque[Record] = deque()
        self._topics: dict[Topic, deque[Record]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def floor(self) -> int | None:
        """None: it is not known yet what is missing."""
        return self._floor

    # -- reading ---------------------------------------------------------------------------------

    def at(self, index: int) -> list[Record] | None:
        """What happened at this index; None: that is forgotten."""
        if self._floor is None or index <= self._floor:
            return None
        found: list[Record] = []
        for record in reversed(self._records):
            if record.index < index:
                break
            if record.index == index:
                found.append(record)
        found.reverse()
        return found

    def after(self, topic: Topic, since: int) -> list[Record] | None:
        """Everything about this after an index; None: some of it is forgotten."""
        if self._floor is None or since < self._floor:
            return None
        found: list[Record] = []
        for record in reversed(self._topics.get(topic, _EMPTY)):
            if record.index <= since:
                break
            found.append(record)
        found.reverse()
        return found

    # -- writing ---------------------------------------------------------------------------------

    def begin(self, index: int) -> None:
        """The state was taken over as it was at this index."""
        if self._floor is None:
            self._floor = index

    def react(self, event: object, ctx: Context) -> None:
        topics, size = self._about(event)
        if not topics:
            return
        record = Record(ctx.index, event, topics, size)  # type: ignore[arg-type]
        self._records.append(record)
        for topic in topics:
            self._topics.setdefault(topic, deque()).append(record)
        self._bytes += size
        while len(self._records) > limits.HISTORY_EVENTS_MAX or (
            self._bytes > limits.HISTORY_BYTES_MAX
        ):
            if self._records[0].index == ctx.index:
                break
            self._forget(self._records[0].index)

    def _about(self, event: object) -> tuple[tuple[Topic, ...], int]:
        if isinstance(event, _MEMBERS):
            group = event.group
            return (("group", group), ("attributes", f"group:{group}")), _RECORD_BYTES
        if isinstance(event, ComponentChanged):
            groups = self._groups_of(event.component)
            topics = (("components", ""), *(("group", group) for group in groups))
            return topics, _RECORD_BYTES + 8 * len(topics)
        if isinstance(event, AttributesChanged):
            of_groups = (f"group:{group}" for group in self._groups_of(event.component))
            topics = tuple(("attributes", key) for key in (event.component, *of_groups))
            size = sum(len(name) + len(value or b"") for name, value in event.attributes.items())
            return topics, _RECORD_BYTES + size + 8 * len(topics)
        return (), 0

    def _forget(self, index: int) -> None:
        while self._records and self._records[0].index == index:
            record = self._records.popleft()
            self._bytes -= record.bytes
            for topic in record.topics:
                of_topic = self._topics[topic]
                of_topic.popleft()
                if not of_topic:
                    del self._topics[topic]
        if self._floor is not None:
            self._floor = index

    # -- as a section ----------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return None

    def restore(self, plain: Any) -> None:
        """Another state than the one that these events led to."""
        self._floor = None
        self._records.clear()
        self._topics.clear()
        self._bytes = 0
