"""Requests of the component on their way to the hub, and events of the hub on their way back.

A request travels with its method name and parameters unchanged; the component's id stays here, the
hub gets one of the harness's own.  Names that are not on the list do not exist.  Watches are the
exception: their numbers are the harness's, so that they survive a hub (`watches.py`).
"""

from __future__ import annotations

from functools import partial

import msgspec

from paas.base.errors import PlatformError
from paas.harness import limits
from paas.harness.channel import Channel
from paas.harness.messages import EVENT, Event
from paas.harness.reconnect import Uplink
from paas.harness.watches import CLOSING, OPENING, Watch, WatchBook
from paas.hub.messages import Unwatch
from paas.rpc.envelope import EMPTY_BODY, Request
from paas.wire import codec
from paas.wire.registry import decode

RELAYED = (
    *("hub.", "controller.", "log.", "resource.", "metrics.", "credentials.", "blob."),
    *("gateway.", "dns."),
)
DISCOVER = "rpc.discover"


class Relay:
    """`channels` are those that are open, by number; the owner keeps them."""

    def __init__(self, uplink: Uplink, channels: dict[int, Channel]) -> None:
        self.watches = WatchBook()
        self.uplink = uplink
        self.channels = channels
        self._behind: dict[Watch, None] = {}

    def request(self, channel: Channel, request: Request) -> None:
        """Hand a request on; its answer goes to the channel.  Raises PlatformError."""
        method = request.method
        if not method.startswith(RELAYED) and method != DISCOVER:
            shown = method if len(method) <= 64 else method[:64] + "…"
            raise PlatformError("no-such-method", f"no method is called {shown!r}")
        params = request.params
        if len(params) > limits.BODY_BYTES_MAX:
            raise PlatformError("limit-exceeded", f"params of {len(params)} bytes are too large")
        if request.notification:
            self.uplink.notify(request.method, params)
            return
        if len(self.channels) > 1:
            waiting = sum(c.outstanding for c in self.channels.values())
            if waiting > limits.REQUESTS_MAX:
                raise PlatformError("limit-exceeded", f"{waiting} requests wait already")
        if request.method in OPENING:
            self._open_watch(channel, request)
        elif request.method == CLOSING:
            self._unwatch(channel, request)
        else:
            sent = self.uplink.request(method, params, lambda v: channel.answer(request, v))
            request.on_cancel = partial(self.uplink.abandon, sent)

    def _open_watch(self, channel: Channel, request: Request) -> None:
        watch = self.watches.open(channel.number, request.method, request.params)

        def answer(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError):
                self.watches.close(watch.number)
                channel.answer(request, value)
                return
            channel.answer(request, codec.pack(self.watches.opened(watch, value)))
            if channel.closed or request.cancelled:
                self.close(watch)

        try:
            self.uplink.request(request.method, request.params, answer)
        except PlatformError:
            self.watches.close(watch.number)
            raise

    def _unwatch(self, channel: Channel, request: Request) -> None:
        watch = self.watches.close(decode(request.params, Unwatch).watch)
        if watch is None:
            raise PlatformError("invalid", "watch: no such watch", field="watch", param="watch")
        self.close(watch)
        channel.answer(request, EMPTY_BODY)

    def close(self, watch: Watch) -> None:
        self.watches.close(watch.number)
        if watch.hub_number is not None:
            self.uplink.notify(CLOSING, codec.pack({"watch": watch.hub_number}))

    def event(self, params: bytes) -> None:
        """An event of the hub, for whoever watches."""
        found = self.watches.event(params)
        if found is None:
            return
        watch, event = found
        if watch.missed:
            self._count_missed(watch)
        elif self._deliver(watch.channel, codec.pack(event)):
            watch.delivered(event.get("index"), event.get("event"), event.get("kind"))
        else:
            self._missed(watch)

    def _count_missed(self, watch: Watch) -> None:
        channel = self.channels.get(watch.channel)
        if channel is not None:
            channel.dropped_events += 1

    def _missed(self, watch: Watch) -> None:
        if watch.renewable:
            watch.missed = True
            self._behind[watch] = None

    def catch_up(self) -> None:
        """Components that read again get what they missed: their watches are opened anew."""
        for watch in list(self._behind):
            channel = self.channels.get(watch.channel)
            if not watch.missed or channel is None:
                del self._behind[watch]
            elif channel.outbox.bytes <= limits.CHANNEL_OUTBOX_BYTES_MAX // 2 and (
                self.uplink.attached and watch.hub_number is not None
            ):
                number = self.watches.detach(watch)
                self.uplink.notify(CLOSING, codec.pack({"watch": number}))
                self._resume(watch)

    @property
    def behind(self) -> bool:
        """Are there watches that missed events?"""
        return bool(self._behind)

    def hub_attached(self) -> None:
        """A hub is there, perhaps another one: open the watches again."""
        for watch in self.watches.all():
            if watch.established and watch.hub_number is None:
                self._resume(watch)

    def channel_closed(self, number: int) -> None:
        """Nobody is left to hear of its watches."""
        for watch in self.watches.of_channel(number):
            self.close(watch)

    def _deliver(self, number: int, params: bytes) -> bool:
        """An event for a connection; one that does not read loses events, which is counted."""
        channel = self.channels.get(number)
        return channel is not None and send_notification(channel, EVENT.name, params)

    def _resume(self, watch: Watch) -> None:
        """Open a watch again at a new hub; the component learns what the new hub knows."""

        def answer(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError):
                if value.code == "unknown-outcome":
                    return  # this hub is lost too; the next one is asked again
                self.watches.close(watch.number)
                event = Event(watch=watch.number, index=0, event="lost", reason=value.message)
            else:
                data = self.watches.opened(watch, value)
                word = watch.interruption(data)
                if not word:
                    return
                index = data.get("index")
                event = Event(
                    watch=watch.number,
                    index=index if isinstance(index, int) else 0,
                    event=word,
                    reason="the hub was lost" if word == "gap" else "",
                    data=data,
                )
            if not self._deliver(watch.channel, codec.pack(event)):
                self._missed(watch)
                watch.since = None

        try:
            self.uplink.request(watch.method, watch.request(), answer)
        except PlatformError as exc:
            answer(exc)


def send_notification(channel: Channel, method: str, params: bytes) -> bool:
    """Tell the component; False: it does not read and misses this, or cannot be told in JSON."""
    if channel.outbox.bytes > limits.CHANNEL_OUTBOX_BYTES_MAX:
        channel.dropped_events += 1
        return False
    try:
        channel.outbox.add(channel.notify(method, params))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        channel.dropped_events += 1
    return True
