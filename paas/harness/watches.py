"""Watches of the component, which outlive the hub that they were opened at.

The component sees numbers of the harness's own, which never change; each hub numbers watches as it
likes.  After a reconnect every watch is opened again.  For what the cluster's log says, the harness
knows how far the component has seen it: everything up to the index `since`, and `seen` of the later
events.  A hub that remembers the rest sends exactly that; otherwise, and for what no log has, the
component gets an event `resumed` with what the new hub answered (its snapshot), or `gap` for
signals.  A watch that cannot be opened again ends with an event `lost` and the reason.

A component that does not read misses events (`missed`): then none of that watch is told any more,
until it reads again and the watch is opened anew in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.harness import limits
from paas.wire import codec

OPENING = frozenset({"hub.watch", "controller.monitor", "log.follow", "gateway.follow"})
CLOSING = "hub.unwatch"
_ONCE = "controller.monitor"
_RESUMABLE = "hub.watch"
_FOLLOWING = "gateway.follow"


@dataclass(slots=True, eq=False)
class Watch:
    """One watch: how and by which channel it was opened, its number at the present hub.

    `established` once a hub has answered; before, its first request is still on the way.
    """

    number: int
    channel: int
    method: str
    params: bytes
    hub_number: int | None = None
    established: bool = False
    since: int | None = None
    """Everything of the log up to this index was delivered or shown."""
    seen: int = 0
    """And so many of the later events, which all have the next index."""
    volatile: bool = False
    """It has shown what is in no log, so that a snapshot must follow."""
    missed: bool = False

    @property
    def resumable(self) -> bool:
        return self.method == _RESUMABLE

    @property
    def renewable(self) -> bool:
        """Can it be opened anew, to show what was missed?"""
        return self.resumable or self.method == _FOLLOWING

    def shown(self, index: object) -> None:
        """A snapshot as of this index was delivered."""
        if isinstance(index, int):
            self.since, self.seen = index, 0

    def delivered(self, index: object, event: object, kind: object) -> None:
        """An event was delivered."""
        if kind == "volatile":
            self.volatile = True
        if not isinstance(index, int) or index <= 0 or self.since is None:
            return
        if event == "resumed":
            self.shown(index)
        elif index == self.since + 1:
            self.seen += 1
        elif index > self.since:
            self.since, self.seen = index - 1, 1

    def request(self) -> bytes:
        """The params with which it is opened again."""
        if not self.resumable or self.since is None or self.volatile:
            return self.params
        params = codec.unpack_own(self.params)
        return codec.pack({**params, "since": self.since, "seen": self.seen})

    def interruption(self, answer: dict[str, Any]) -> str:
        """How the component hears that it was opened again; empty when it missed nothing."""
        if not self.resumable:
            return "resumed"
        if "signals" in codec.unpack_own(self.params):
            return "gap"
        return "" if answer.get("resumed") is True else "resumed"


class WatchBook:
    """Numbers on both sides."""

    def __init__(self) -> None:
        self._watches: dict[int, Watch] = {}
        self._by_hub_number: dict[int, Watch] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._watches)

    def all(self) -> list[Watch]:
        return list(self._watches.values())

    def open(self, channel: int, method: str, params: bytes) -> Watch:
        """The component asks for a watch; raises `limit-exceeded`."""
        if len(self._watches) >= limits.COMPONENT_WATCHES_MAX:
            raise PlatformError("limit-exceeded", f"{len(self._watches)} watches are open already")
        self._last += 1
        watch = self._watches[self._last] = Watch(self._last, channel, method, params)
        return watch

    def opened(self, watch: Watch, result: bytes) -> dict[str, Any]:
        """The hub's answer, with our number in place of its own."""
        value = codec.unpack_own(result)
        number = value.get("watch") if isinstance(value, dict) else None
        if not isinstance(number, int):
            raise RemoteError(f"{watch.method}: the hub's answer has no watch")
        watch.hub_number = number
        incarnation = value.get("incarnation")
        if isinstance(incarnation, int) and not watch.established:
            # A monitor is about the incarnation that there was when it began, at every hub.
            params = codec.unpack_own(watch.params)
            watch.params = codec.pack({**params, "incarnation": incarnation})
        if watch.resumable:
            self._continued(watch, value)
        else:
            watch.missed = False
        watch.established = True
        if watch.number in self._watches:
            self._by_hub_number[number] = watch
        return {**value, "watch": watch.number}

    @staticmethod
    def _continued(watch: Watch, answer: dict[str, Any]) -> None:
        """How far the component has seen the log, by the hub's answer."""
        watch.missed = False
        if answer.get("volatile") is True:
            watch.volatile = True
        if answer.get("resumed") is not True:
            watch.shown(answer.get("index"))
        elif watch.since is None:  # the component itself has said where it was
            params = codec.unpack_own(watch.params)
            since, seen = params.get("since"), params.get("seen", 0)
            if isinstance(since, int) and isinstance(seen, int):
                watch.since, watch.seen = since, seen

    def detach(self, watch: Watch) -> int | None:
        """It is to be opened anew: its number at the hub counts no more, and is given back."""
        number, watch.hub_number = watch.hub_number, None
        if number is not None:
            self._by_hub_number.pop(number, None)
        return number

    def close(self, number: int) -> Watch | None:
        watch = self._watches.pop(number, None)
        if watch is not None and watch.hub_number is not None:
            self._by_hub_number.pop(watch.hub_number, None)
        return watch

    def hub_lost(self) -> None:
        self._by_hub_number.clear()
        for watch in self._watches.values():
            watch.hub_number = None

    def of_channel(self, channel: int) -> list[Watch]:
        return [w for w in self._watches.values() if w.channel == channel]

    def event(self, params: bytes) -> tuple[Watch, dict[str, Any]] | None:
        """An event of the hub: whose it is, and how its owner sees it."""
        try:
            value = codec.unpack_own(params)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        number = value.get("watch") if isinstance(value, dict) else None
        watch = self._by_hub_number.get(number) if isinstance(number, int) else None
        if watch is None:
            return None
        if watch.method == _ONCE and value.get("event") == "down":
            self.close(watch.number)
        return watch, {**value, "watch": watch.number}
