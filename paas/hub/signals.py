"""Signals, and changes of volatile attributes, on their way to watchers on all nodes.

    sender's hub ──> its own watchers
                └──hub.publish──> each hub that wants it, once ──> its watchers

A hub knows from the others' interest (interest.py) who wants what.  Between one sender and one
watcher the order is kept; a signal is delivered at most once, and not stored.  A link that does not
drain loses what is for it: the number is counted and told as a gap, when there is room, before
anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.harness.messages import Event
from paas.hub import attribute_limits as limits
from paas.hub.attribute_messages import PUBLISH, Interest, Publish, Signal, SignalResult
from paas.hub.attributes import check_name, too_much
from paas.hub.limits import LINK_BYTES_MAX
from paas.hub.routes import Links
from paas.hub.sights import ATTRIBUTES, GROUP_PREFIX, SIGNALS, packed, raw
from paas.hub.state import GroupState
from paas.hub.volatile import Change
from paas.hub.watching import Desk
from paas.rpc.dispatch import Context
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire.registry import Nothing, decode


class Signals:
    """`may_run`: this node holds its lease; without it its components have no voice."""

    def __init__(
        self,
        *,
        desk: Desk,
        groups: GroupState,
        links: Links,
        may_run: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._groups = groups
        self._links = links
        self._may_run = may_run
        self._wake = wake
        self._gaps: dict[str, int] = {}  # node -> messages that its link did not take
        self.sent = 0
        self.dropped = 0

    # -- what components of this node have to say ------------------------------------------------

    def signal(self, params: Signal, context: Context) -> SignalResult:
        """Handler of `hub.signal`."""
        component = context.peer.info.get("component")
        if not isinstance(component, str):
            raise PlatformError("denied", "only a component, through its harness, may do this")
        if not self._may_run():
            raise PlatformError("not-available", "the lease of this node has ended")
        check_name("signal", params.signal)
        check_name("object", params.object, empty=True)
        if len(params.payload) > limits.VALUE_BYTES_MAX:
            raise too_much("bytes of a signal's payload", limits.VALUE_BYTES_MAX)
        groups = self._groups.groups_of(component)
        self.sent += 1
        message = Publish(
            kind="signal",
            component=component,
            groups=groups,
            object=params.object,
            signal=params.signal,
            payload=params.payload,
        )
        watchers = self._deliver(message)
        keys = [
            (SIGNALS, target, params.object, name)
            for target in _targets(component, groups)
            for name in (params.signal, "")
        ]
        for node, count in self._desk.interests.wanted(keys).items():
            if self._publish(node, message):
                watchers += count
        return SignalResult(watchers=watchers)

    def changed(self, change: Change) -> None:
        """Volatile attributes of a component of this node have changed: whoever wants hears."""
        if not change.attributes:
            return
        groups = self._groups.groups_of(change.component)
        self._desk.tell_change(change, groups)
        targets = _targets(change.component, groups)
        keys = [(ATTRIBUTES, target, change.object, "") for target in targets]
        nodes = self._desk.interests.wanted(keys)
        if nodes:
            message = Publish(
                kind="values",
                component=change.component,
                groups=groups,
                object=change.object,
                attributes=raw(change.attributes),
            )
            for node in nodes:
                self._publish(node, message)

    def _publish(self, node: str, message: Publish) -> bool:
        """False: it is not on its way; if there is a link, its hub will hear of a gap."""
        peer = self._links.peer(node)
        if peer is None or peer.closed:
            return False
        if node in self._gaps or peer.link.queued_bytes > LINK_BYTES_MAX:
            self._gaps[node] = self._gaps.get(node, 0) + 1
            self.dropped += 1
            self._wake()
            return False
        peer.notify(PUBLISH, message)
        return True

    # -- what other hubs say ---------------------------------------------------------------------

    def interest(self, peer: Peer, request: Request) -> None:
        """Handler of `hub.interest`."""
        self._desk.interests.hear(peer.info["node"], decode(request.params, Interest))
        peer.reply(request)

    def published(self, params: Publish, context: Context) -> Nothing:
        """Handler of `hub.publish`."""
        node = context.peer.info["node"]
        if params.kind == "signal":
            self._deliver(params)
        elif params.kind == "values":
            change = Change(params.component, params.object, packed(params.attributes))
            self._desk.tell_change(change, params.groups, node)
        else:
            for sight in self._desk.relevant(node):
                if sight.kind == SIGNALS:
                    self._desk.gap(sight, f"the link to node {node} is slow", params.dropped)
                else:
                    self._desk.refresh(sight)
        return Nothing()

    def _deliver(self, message: Publish) -> int:
        """To the watchers here; how many they are."""
        count = 0
        event = Event(
            watch=0,
            index=0,
            event="signal",
            component=message.component,
            object=message.object,
            signal=message.signal,
            payload=message.payload,
        )
        for sight in self._desk.sights(SIGNALS, message.component, message.groups):
            if sight.object == message.object and sight.signal in ("", message.signal):
                group = sight.group
                said = msgspec.structs.replace(event, group=group) if group else event
                self._desk.tell(sight, said)
                count += 1
        return count

    # -- links and time --------------------------------------------------------------------------

    def node_down(self, node: str) -> None:
        self._gaps.pop(node, None)  # its hub knows that the link was lost

    @property
    def busy(self) -> bool:
        return bool(self._gaps)

    def sweep(self) -> None:
        """Links that take something again are told first what they missed."""
        for node, dropped in list(self._gaps.items()):
            peer = self._links.peer(node)
            if peer is None or peer.closed:
                self._gaps.pop(node, None)
            elif peer.link.queued_bytes <= LINK_BYTES_MAX // 2:
                self._gaps.pop(node, None)
                peer.notify(PUBLISH, Publish(kind="gap", dropped=dropped))

    def statistics(self) -> dict[str, Any]:
        return {"signals": self.sent, "dropped_signals": self.dropped}


def _targets(component: str, groups: Sequence[str]) -> list[str]:
    return [component, *(f"{GROUP_PREFIX}{group}" for group in groups)]
