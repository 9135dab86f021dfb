"""Watches of the component, which outlive the hub that they were opened at.

The component sees numbers of the harness's own, which never change; each hub numbers watches as it
likes.  After a reconnect every watch is opened again and the component gets an event `resumed`
with what the new hub answered (its snapshot), so that it can find out what it missed; a watch that
cannot be opened again ends with an event `lost` and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.harness import limits
from paas.wire import codec

OPENING = frozenset({"hub.watch", "controller.monitor", "log.follow"})
CLOSING = "hub.unwatch"
_ONCE = "controller.monitor"


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
        watch.established = True
        if watch.number in self._watches:
            self._by_hub_number[number] = watch
        return {**value, "watch": watch.number}

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

    def event(self, params: bytes) -> tuple[Watch, bytes] | None:
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
        return watch, codec.pack({**value, "watch": watch.number})
