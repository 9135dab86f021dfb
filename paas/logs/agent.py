"""The log store's face: records come in from harnesses and components, others read and follow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.harness.messages import EVENT, Event, LogRecord
from paas.harness.messages import Records as HarnessRecords
from paas.hub.client import WatchBook
from paas.logs import limits, messages
from paas.logs.far import TOPIC, FarLogs
from paas.logs.store import LogStore, matches
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing

CUT_MARK = " […]"


class Names(Protocol):
    """What the log store asks about components."""

    def resolve(self, target: str) -> str: ...

    def name_and_type(self, component: str) -> tuple[str, str]: ...

    def members(self, group: str) -> Collection[str]: ...


class Logs:
    """Handlers of `log.*`, and the sink of the harnesses' batches."""

    def __init__(
        self,
        store: LogStore,
        names: Names,
        watches: WatchBook,
        clock: Clock,
        far: FarLogs | None = None,
    ) -> None:
        self.store = store
        self._far = far
        self._names = names
        self._watches = watches
        self._clock = clock

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.WRITE, self.write)
        dispatcher.task(messages.QUERY, self.query, while_connected=True)
        dispatcher.plain(messages.FOLLOW, self.follow)
        if self._far is not None:
            dispatcher.raw(EVENT, self._far.event)

    def receive(self, component: str, batch: HarnessRecords) -> None:
        """A batch of a harness."""
        name, kind = self._names.name_and_type(component)
        dropped = batch.dropped
        made: list[messages.Record] = []
        for item in batch.records:
            made.append(_record(component, name, kind, item, dropped))
            dropped = 0
        self._keep(made)

    def write(self, params: messages.Write, context: Context) -> Nothing:
        component = context.peer.info.get("component")
        if component is None:
            raise PlatformError("denied", "only components write log records")
        name, kind = self._names.name_and_type(component)
        item = LogRecord(
            sequence=0,
            time_ms=self._clock.now_ms(),
            stream="log",
            level=params.level,
            message=params.message,
            fields=params.fields,
        )
        self._keep([_record(component, name, kind, item, 0)])
        return Nothing()

    def _keep(self, records: list[messages.Record]) -> None:
        for record in self.store.append(records):
            for peer, number, wanted in self._watches.watchers(*TOPIC):
                if wanted(record):
                    data = msgspec.to_builtins(record)
                    event = Event(
                        watch=number,
                        index=record.sequence,
                        event="record",
                        component=record.component,
                        name=record.name,
                        time=record.time,
                        data=data,
                    )
                    self._watches.emit(peer, number, event)

    async def query(self, params: messages.Query, context: Context) -> messages.Records:
        records = self._find(params)
        if self._far is not None and not _is_hub(context):
            found = await self._far.query(params)
            if found:
                records = sorted([*records, *found], key=_order)[-max(params.limit, 1) :]
        return messages.Records(records=records)

    def _find(self, params: messages.Query | messages.Follow) -> list[messages.Record]:
        if not 0 <= params.limit <= limits.QUERY_RECORDS_MAX:
            raise invalid("limit", f"expected 0 to {limits.QUERY_RECORDS_MAX}", param="limit")
        return self.store.query(
            self._chooser(params),
            since=params.since,
            level=params.level,
            grep=params.grep,
            limit=params.limit,
        )

    def _chooser(
        self, params: messages.Query | messages.Follow
    ) -> Callable[[messages.Record], bool]:
        """Which components are meant; a group's members are looked up at each record."""
        given = [f for f in ("component", "type", "group") if getattr(params, f)]
        if len(given) > 1:
            raise invalid(given[1], f"give only one of {', '.join(given)}", param=given[1])
        if params.component:
            component = self._names.resolve(params.component)
            return lambda record: record.component == component
        if params.type:
            kind = params.type
            return lambda record: record.type == kind or record.type.partition("@")[0] == kind
        if params.group:
            group = params.group
            seen: set[str] = set()

            def in_group(record: messages.Record) -> bool:
                seen.update(self._names.members(group))
                return record.component in seen

            return in_group
        return lambda record: True

    def follow(self, params: messages.Follow, context: Context) -> messages.FollowResult:
        records = self._find(params)
        chosen = self._chooser(params)

        def wanted(record: messages.Record) -> bool:
            plain = matches(record, since=params.since, level=params.level, grep=params.grep)
            return plain and chosen(record)

        watch = self._watches.open(context.peer, *TOPIC, wanted)
        if self._far is not None and not _is_hub(context):
            self._far.follow(params, context.peer, watch)
        return messages.FollowResult(watch=watch, records=records)


def _is_hub(context: Context) -> bool:
    return "hub" in context.peer.info.get("roles", ())


def _order(record: messages.Record) -> tuple[float, str, int]:
    return record.time, record.component, record.sequence


def _record(component: str, name: str, kind: str, item: LogRecord, dropped: int) -> messages.Record:
    text = item.message
    if 4 * len(text) > limits.MESSAGE_BYTES_MAX:  # only then it may be too long
        body = text.encode()
        if len(body) > limits.MESSAGE_BYTES_MAX:
            text = body[: limits.MESSAGE_BYTES_MAX].decode(errors="ignore") + CUT_MARK
    return messages.Record(
        component=component,
        name=name,
        type=kind,
        sequence=item.sequence,
        time=item.time_ms / 1000,
        stream=item.stream,
        level=item.level,
        message=text,
        fields=item.fields,
        dropped=dropped,
    )
