"""The desk where watches are opened, resumed and told: `hub.watch` and what follows from it.

    the log ──> History ──> Desk ──component.event──> watchers
    volatile attributes, signals ──> Desk              (signals.py brings those of other hubs)

No gap, no repetition: what comes from the log is told by index (sights.py), to a watch that was
opened again from the history, else after a snapshot.  What has no index, volatile attributes and
signals, may be lost with a link or a hub; the watcher is told so: `resumed` with a new snapshot, or
`gap`.

A watcher that does not read costs nothing but its own events: beyond `WATCH_BYTES_MAX` queued bytes
they are dropped and counted, and when half of that has left it gets `resumed`, or `gap` with their
number.  Nothing here waits; `sweep` is called while `busy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.limits import FRAME_BYTES_MAX
from paas.base.ports import Clock
from paas.controller.messages import ComponentEnded
from paas.harness.messages import Event
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import INTEREST, Topic
from paas.hub.attributes import AttributeState, check_name
from paas.hub.gathering import Gathering
from paas.hub.history import History, Record
from paas.hub.interest import Interests
from paas.hub.messages import Member, Unwatch, Watch, WatchResult
from paas.hub.routes import Links
from paas.hub.sights import (
    ATTRIBUTES,
    COMPONENTS,
    GROUP,
    GROUP_PREFIX,
    NOT_YET,
    OF_LOG,
    SIGNALS,
    Events,
    Sight,
    merged,
    volatile_event,
)
from paas.hub.state import GroupState, MemberJoined
from paas.hub.volatile import Change, VolatileAttributes
from paas.hub.watches import Watches
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Context, remaining_s
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire import codec
from paas.wire.registry import Nothing, decode


class Cluster(Protocol):
    """What is asked about the cluster's state."""

    def resolve(self, target: str) -> str: ...

    def node(self, component: str) -> str: ...

    def member(self, component: str) -> Member: ...


Permit = Callable[[Peer, str, str], None]
"""May this peer do that (`attributes`, `signals`) with that target?  Raises `denied`."""


def check_group(group: str) -> None:
    if not 0 < len(group) <= 128 or not group.isprintable() or ":" in group:
        text = "a group name has 1 to 128 printable characters and no colon"
        raise invalid("groups", text, param="groups")


class Desk:
    """See the module's text.  `applied` is the log index that the state here is of."""

    def __init__(
        self,
        *,
        node: str,
        clock: Clock,
        applied: Callable[[], int],
        groups: GroupState,
        cluster: Cluster,
        attributes: AttributeState,
        history: History,
        links: Links,
        wake: Callable[[], None],
    ) -> None:
        self._node = node
        self._clock = clock
        self._applied = applied
        self._groups = groups
        self._cluster = cluster
        self._attributes = attributes
        self._history = history
        self._links = links
        self.wake = wake
        self._events = Events(self._member, attributes.of)
        self._lagging: dict[Sight, None] = {}
        self.watches = Watches(self._dropped)
        self.interests = Interests()
        self.volatile = VolatileAttributes()
        self.permit: Permit = lambda peer, target, operation: None
        self.own_values: Callable[[str], Mapping[str, bytes]] = lambda component: {}
        """Attributes that the hub itself knows of a component: their names begin with `hub.`."""
        self.dropped_events = 0

    # -- opening ---------------------------------------------------------------------------------

    def watch(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.watch`; of attributes on other nodes the answer comes later."""
        params = decode(request.params, Watch)
        remaining_s(params, self._clock)
        sight = self._sight(peer, params)
        if sight.interest is not None:
            topic = self.interests.add(sight.interest)
            try:
                sight.number = self.watches.open(peer, sight.kind, sight.key, sight)
            except PlatformError:
                self.interests.remove(sight.interest)
                raise
            self._tell_interest(topic)
        else:
            sight.number = self.watches.open(peer, sight.kind, sight.key, sight)
        if not self._continue(sight, params, request):
            self._show(sight, lambda shown: self._opened(sight, request, shown))

    def _sight(self, peer: Peer, params: Watch) -> Sight:
        """What is asked for.  Raises `invalid`, `no-such-target`, `denied`."""
        given = (params.group, params.components, params.attributes, params.signals)
        if sum(one is not None for one in given) != 1 or params.components is False:
            raise invalid("group", "give exactly one thing to watch", param="group")
        if params.group is not None:
            check_group(params.group)
            return Sight(GROUP, params.group, peer)
        if params.attributes is not None:
            wanted = params.attributes
            check_name("object", wanted.object, empty=True)
            key = self._target(wanted.target)
            self.permit(peer, key, "attributes")
            sight = Sight(ATTRIBUTES, key, peer, object=wanted.object, only=wanted.kind or "")
            if wanted.names is not None:
                sight.names = tuple(dict.fromkeys(wanted.names))
            if wanted.kind != "durable":
                sight.interest = (ATTRIBUTES, key, wanted.object, "")
            return sight
        if params.signals is not None:
            said = params.signals
            check_name("object", said.object, empty=True)
            check_name("signal", said.signal, empty=True)
            key = self._target(said.target)
            self.permit(peer, key, "signals")
            sight = Sight(SIGNALS, key, peer, object=said.object, signal=said.signal)
            sight.interest = (SIGNALS, key, said.object, said.signal)
            return sight
        return Sight(COMPONENTS, "", peer)

    def _target(self, target: str) -> str:
        if target.startswith(GROUP_PREFIX):
            check_group(target[len(GROUP_PREFIX) :])
            return target
        return self._cluster.resolve(target)

    def _continue(self, sight: Sight, params: Watch, request: Request) -> bool:
        """Go on where the watcher was; False if that is forgotten here."""
        since = params.since
        if since is None or sight.kind == SIGNALS:
            return False
        if sight.only == "volatile":
            return False
        records = self._history.after((sight.kind, sight.key), since)
        if records is None:
            return False
        sight.since, sight.skip = since, max(0, params.seen)
        index = max(self._applied(), since)
        result = WatchResult(watch=sight.number, snapshot=[], index=index, resumed=True)
        sight.peer.reply(request, result)
        for record in records:
            self._tell(sight, record)
        if self._applied() > since:
            sight.since, sight.skip = self._applied(), 0
        if sight.interest is not None:
            self._show_volatile(sight, self._sources(sight))
        return True

    def _opened(self, sight: Sight, request: Request, shown: _Shown) -> None:
        result = WatchResult(
            watch=sight.number,
            snapshot=shown.snapshot,
            index=shown.index,
            volatile=sight.volatile if sight.kind == ATTRIBUTES else msgspec.UNSET,
            missing=shown.missing or msgspec.UNSET,
        )
        body = codec.pack(result)
        if len(body) > FRAME_BYTES_MAX * 3 // 4:
            self.watches.close(sight.peer, sight.number)
            text = f"the snapshot has {len(body)} bytes"
            hint = "watch fewer names, or the members one by one"
            sight.peer.fail(request, PlatformError("limit-exceeded", text, hint=hint))
            return
        sight.peer.reply(request, body)

    def unwatch(self, params: Unwatch, context: Context) -> Nothing:
        """Handler of `hub.unwatch`, for watches of all kinds."""
        self.watches.close(context.peer, params.watch)
        return Nothing()

    def _dropped(self, detail: Any) -> None:
        """A watch has ended."""
        if not isinstance(detail, Sight):
            return
        detail.gathering = None
        self._lagging.pop(detail, None)
        if detail.interest is not None:
            self._tell_interest(self.interests.remove(detail.interest))

    def _tell_interest(self, topic: Topic) -> None:
        for node in self._links.connected():
            peer, said = self._links.peer(node), self.interests.change(node, topic)
            if peer is not None and said is not None:
                peer.notify(INTEREST, said)

    # -- showing the state -----------------------------------------------------------------------

    def _sources(self, sight: Sight) -> list[str]:
        """The components that it is about now."""
        return self._groups.members(sight.group) if sight.group else [sight.key]

    def _show(self, sight: Sight, done: Callable[[_Shown], None]) -> None:
        """Put the state together and go on from there; nothing is told meanwhile."""
        if sight.kind != ATTRIBUTES:
            done(self._shown(sight, [], None))
            return
        sources = self._sources(sight)

        def gathered(gathering: Gathering) -> None:
            if sight.gathering is not gathering:
                return  # it has ended, or is shown anew
            sight.gathering = None
            done(self._shown(sight, self._sources(sight), gathering))
            if sight.again:
                sight.again = False
                self.refresh(sight)

        gathering = sight.gathering = Gathering(gathered)
        sight.since = NOT_YET
        gathering.start(self._links, self._far(sight, sources), sight.object, sight.names)

    def _far(self, sight: Sight, components: Sequence[str]) -> dict[str, str]:
        """Which of these components are on which other node, if volatile attributes matter."""
        if sight.only == "durable":
            return {}
        places = ((component, self._cluster.node(component)) for component in components)
        return {c: node for c, node in places if node not in ("", self._node)}

    def _shown(self, sight: Sight, sources: Sequence[str], found: Gathering | None) -> _Shown:
        sight.since, sight.skip = self._applied(), 0
        missing: dict[str, str] = {}
        if sight.kind == GROUP:
            snapshot: Any = self._members(sight.key)
        elif sight.kind == ATTRIBUTES and found is not None:
            missing = found.missing
            for component in missing:
                self._break(sight, self._cluster.node(component))
            shown = {c: self._attributes_of(sight, c, found) for c in sources}
            snapshot = shown if sight.group else shown.get(sight.key, {})
        else:
            snapshot = []
        return _Shown(snapshot=snapshot, index=sight.since, missing=missing)

    def _attributes_of(self, sight: Sight, component: str, found: Gathering) -> dict[str, Any]:
        kinds: list[Mapping[str, bytes]] = []
        if sight.only != "volatile":
            kinds.append(self._attributes.of(component, sight.object))
        if sight.only != "durable":
            local = self.volatile.of(component, sight.object)
            kinds += [local, found.values.get(component, {})]
            if sight.wanted(local) or sight.wanted(found.values.get(component, {})):
                sight.volatile = True
        return merged(kinds, sight)

    def _members(self, group: str) -> list[Any]:
        return [msgspec.to_builtins(self._member(c)) for c in self._groups.members(group)]

    def _member(self, component: str) -> Member:
        """By the time that events are told the component may be forgotten altogether."""
        try:
            return self._cluster.member(component)
        except PlatformError:
            return Member(component=component, name="", node="", state="destroyed")

    def _show_volatile(self, sight: Sight, components: Sequence[str]) -> None:
        """Tell the volatile attributes of these components, which have come into its view."""
        for component in components:
            local = sight.wanted(self.volatile.of(component, sight.object))
            self._tell_volatile(sight, component, local)

        def gathered(gathering: Gathering) -> None:
            if sight.number not in self.watches.of_peer(sight.peer):
                return
            for component in gathering.missing:
                self._break(sight, self._cluster.node(component))
            for component, values in gathering.values.items():
                self._tell_volatile(sight, component, sight.wanted(values))

        places = self._far(sight, components)
        if places:
            Gathering(gathered).start(self._links, places, sight.object, sight.names)

    def refresh(self, sight: Sight) -> None:
        """Something was not told: show the state as it is now, or say that there is a gap."""
        if sight.kind == SIGNALS:
            self.gap(sight, "slow")
            return
        if sight.gathering is not None:
            sight.again = True
            return

        def done(shown: _Shown) -> None:
            data = {"snapshot": shown.snapshot, "index": shown.index}
            if shown.missing:
                data["missing"] = shown.missing
            event = Event(watch=0, index=shown.index, event="resumed", data=data)
            if sight.kind == ATTRIBUTES and sight.volatile:
                event = msgspec.structs.replace(event, kind="volatile")
            self._emit(sight, event)

        self._show(sight, done)

    def gap(self, sight: Sight, reason: str, dropped: int = 0) -> None:
        """Say that signals are missing; `dropped`: how many, if that is known."""
        dropped, sight.dropped = dropped + sight.dropped, 0
        data = {"dropped": dropped}
        self._emit(sight, Event(watch=0, index=0, event="gap", reason=reason, data=data))

    def refresh_log(self) -> None:
        """Events were passed over: every watch of the log's is shown the state."""
        for kind in OF_LOG:
            for _key, _peer, _number, sight in self.watches.of_kind(kind):
                self.refresh(sight)

    # -- telling ---------------------------------------------------------------------------------

    def state_changed(self, index: int, events: Sequence[object]) -> None:
        """Subscriber of the replicated log."""
        for event in events:
            if isinstance(event, StateReplaced):
                self._history.begin(event.index)
                self.refresh_log()
                return
        if self._history.floor is None:
            self._history.begin(index - 1)
        records = self._history.at(index)
        if records is None:
            self.refresh_log()
        else:
            for record in records:
                for kind, key in record.topics:
                    for sight in self._sights(kind, key):
                        self._tell(sight, record)
        for event in events:
            if isinstance(event, ComponentEnded):
                self._ended(event.component)

    def _tell(self, sight: Sight, record: Record) -> None:
        """An event of the log, unless it is known already."""
        if record.index <= sight.since:
            return
        event = self._events.of(sight, record)
        if event is None:
            return
        if sight.skip:
            sight.skip -= 1
            return
        self._emit(sight, event)
        if sight.kind == ATTRIBUTES and isinstance(record.event, MemberJoined):
            self._show_volatile(sight, [record.event.component])

    def sights(self, kind: str, component: str, groups: Sequence[str]) -> Iterator[Sight]:
        """Who watches this of a component: as itself, or as a member of a group."""
        for key in (component, *(f"{GROUP_PREFIX}{group}" for group in groups)):
            yield from self._sights(kind, key)

    def _sights(self, kind: str, key: str) -> Iterator[Sight]:
        for _peer, _number, sight in self.watches.watchers(kind, key):
            yield sight

    def tell_change(self, change: Change, groups: Sequence[str], node: str = "") -> None:
        """Volatile attributes have changed, here or on another node."""
        for sight in self.sights(ATTRIBUTES, change.component, groups):
            if sight.object != change.object or sight.only == "durable":
                continue
            changed = sight.wanted(change.attributes)
            if sight.gathering is None:
                self._tell_volatile(sight, change.component, changed)
            elif node:
                sight.gathering.change(node, change.component, changed)

    def _tell_volatile(self, sight: Sight, component: str, changed: Mapping[str, Any]) -> None:
        if changed:
            sight.volatile = True
            name = self._member(component).name
            self._emit(sight, volatile_event(sight, component, name, changed))

    def tell(self, sight: Sight, event: Event) -> None:
        """An event of another kind: a signal."""
        self._emit(sight, event)

    def _emit(self, sight: Sight, event: Event) -> None:
        if sight.lagging or sight.peer.link.queued_bytes > limits.WATCH_BYTES_MAX:
            sight.lagging = True
            sight.dropped += 1
            self.dropped_events += 1
            self._lagging[sight] = None
            self.wake()
            return
        try:
            self.watches.emit(sight.peer, sight.number, event)
        except PlatformError as exc:  # too large for a frame, or without a form in its codec
            lost = Event(watch=0, index=event.index, event="lost", reason=exc.message)
            self.watches.emit(sight.peer, sight.number, lost)
            self.watches.close(sight.peer, sight.number)

    # -- ends, links, time -----------------------------------------------------------------------

    def _ended(self, component: str) -> None:
        """An incarnation is over: what was on a lost node is gone with it."""
        for kind in (ATTRIBUTES, SIGNALS):
            for sight in list(self.sights(kind, component, self._groups.groups_of(component))):
                if sight.broken and self._cluster.node(component) in ("", *sight.broken):
                    self._mend(sight, "the component ended")

    def _break(self, sight: Sight, node: str) -> None:
        if node and node not in sight.broken:
            sight.broken.append(node)

    def _mend(self, sight: Sight, reason: str) -> None:
        if sight.kind == SIGNALS:
            self.gap(sight, reason)
        elif sight.volatile:
            self.refresh(sight)
        elif sight.gathering is None:
            self._show_volatile(sight, self._sources(sight))

    def relevant(self, node: str) -> list[Sight]:
        """Watches of attributes and signals with sources on this node."""
        places: dict[str, bool] = {}
        found = []
        for kind in (ATTRIBUTES, SIGNALS):
            for key, _peer, _number, sight in self.watches.of_kind(kind):
                if sight.interest is None:
                    continue
                if key not in places:
                    sources = self._sources(sight)
                    places[key] = any(self._cluster.node(c) == node for c in sources)
                if places[key]:
                    found.append(sight)
        return found

    def node_down(self, node: str) -> None:
        """The link to its hub is gone, with what was on its way."""
        self.interests.forget(node)
        for sight in self.relevant(node):
            self._break(sight, node)

    def node_up(self, node: str, peer: Peer) -> None:
        """There is a link: say what is wanted here, then repair what was broken."""
        for said in self.interests.whole(node):
            peer.notify(INTEREST, said)
        for kind in (ATTRIBUTES, SIGNALS):
            for _key, _peer, _number, sight in self.watches.of_kind(kind):
                if node in sight.broken:
                    sight.broken.remove(node)
                    self._mend(sight, f"the link to node {node} was lost")

    @property
    def busy(self) -> bool:
        return bool(self._lagging)

    def sweep(self) -> None:
        """Those who have read again get what they missed."""
        for sight in list(self._lagging):
            if sight.peer.closed:
                self._lagging.pop(sight, None)
            elif sight.peer.link.queued_bytes <= limits.WATCH_BYTES_MAX // 2:
                self._lagging.pop(sight, None)
                sight.lagging = False
                self.refresh(sight)

    def statistics(self) -> dict[str, Any]:
        return {
            "watches": len(self.watches),
            "slow_watches": len(self._lagging),
            "dropped_events": self.dropped_events,
            "interests": len(self.interests),
            "history": len(self._history),
        }


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a watch begins with."""

    snapshot: Any
    index: int
    missing: dict[str, str]
