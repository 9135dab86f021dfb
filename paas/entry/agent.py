"""The hub's part in going into components: finds where one runs, joins two streams (io).

    caller ── stream ──> hub ── stream ──> hub of its node ── stream ──> container controller

A hub holds a window a direction of each stream and no more.  Whatever ends one of the two streams
ends the other: a caller that goes away, a hub that is lost, a component that moves.  A hub that is
asked by a hub passes nothing on: if the component is not there any more, it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.entry import messages
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.peer import Peer
from paas.rpc.stream_messages import Opened, Opening
from paas.rpc.streams import Stream, Streams, relay
from paas.wire.registry import Method, Nothing

ANSWER_MARGIN_S = 0.5
"""The answer comes at least so long before the deadline of who asked."""


class Placed(Protocol):
    """A component, as far as going into it is concerned."""

    @property
    def id(self) -> str: ...
    @property
    def short(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def ended(self) -> bool: ...


class Directory(Protocol):
    """Where components are."""

    async def find(self, target: str, *, timeout_s: float) -> Placed:
        """By id, prefix or name; raises `no-such-target`."""
        ...


class Containers(Protocol):
    """The container controller of this node."""

    async def enter(self, params: Opening, *, timeout_s: float) -> Stream:
        """`params` name the component by its id."""
        ...

    async def terminal(self, stream: Stream, params: messages.Terminal) -> None: ...


class Links(Protocol):
    """Connections to the other hubs."""

    def peer(self, node: str) -> Peer | None: ...


@dataclass(slots=True)
class _Onward:
    """The second half of a way in."""

    stream: Stream
    here: bool


class Entry:
    """Handlers; see the module's text.  `nursery` lives as long as the hub."""

    def __init__(
        self,
        *,
        node: str,
        directory: Directory,
        containers: Containers,
        links: Links,
        streams: Streams,
        nursery: trio.Nursery,
        entered: Callable[[str, str, str], None],
    ) -> None:
        """`entered(component, what, who)` is for the log of the process."""
        self._node = node
        self._directory = directory
        self._containers = containers
        self._links = links
        self._streams = streams
        self._nursery = nursery
        self._entered = entered
        self._onward: dict[Stream, _Onward] = {}

    def register(self, dispatcher: Dispatcher) -> None:
        self._streams.register(dispatcher)
        for method in (messages.EXEC, messages.CONNECT, messages.FILES):
            dispatcher.task(method, self._opener(method))
        dispatcher.task(messages.TERMINAL, self._terminal)

    def _opener(self, method: Method[Any, Any]) -> Any:
        async def open_way(params: Any, context: Context) -> Opened:
            placed = await self._directory.find(params.component, timeout_s=context.timeout_s)
            self._check(placed, context.peer)
            stream = self._streams.accept(context.peer, params)
            try:
                timeout_s = max(context.timeout_s - ANSWER_MARGIN_S, context.timeout_s / 2)
                onward = await self._go_on(method, params, placed, timeout_s)
            except BaseException:
                stream.reset(PlatformError("cancelled"))
                raise
            self._onward[stream] = onward
            self._nursery.start_soon(self._join, stream, onward)
            if "node" not in context.peer.info:  # else the hub that asks has told its log
                self._entered(placed.id, method.name, _who(context.peer))
            return Opened(window=stream.window)

        return open_way

    def _check(self, placed: Placed, peer: Peer) -> None:
        if placed.ended or not placed.node:
            raise PlatformError("not-available", f"{placed.short} does not run on any node")
        if "hub" in peer.info["roles"] and placed.node != self._node:
            raise PlatformError("not-available", f"{placed.short} is not on this node any more")

    async def _go_on(
        self, method: Method[Any, Any], params: Any, placed: Placed, timeout_s: float
    ) -> _Onward:
        params = replace(params, component=placed.id, timeout=None, deadline=None)
        if placed.node == self._node:
            stream = await self._containers.enter(params, timeout_s=timeout_s)
            return _Onward(stream, here=True)
        peer = self._links.peer(placed.node)
        if peer is None:
            text = f"node {placed.node}, where {placed.short} runs, cannot be reached"
            raise PlatformError("not-available", text, node=placed.node)
        params = replace(params, timeout=timeout_s)
        try:
            stream, _ = await self._streams.open(peer, method, params, timeout_s=timeout_s)
        except PlatformError as exc:
            if exc.code != "unknown-outcome":
                raise
            text = f"the connection to node {placed.node} broke; what had begun there has ended"
            raise PlatformError("not-available", text, node=placed.node) from None
        return _Onward(stream, here=False)

    async def _join(self, stream: Stream, onward: _Onward) -> None:
        try:
            async with stream, onward.stream:
                await relay(stream, onward.stream)
        finally:
            self._onward.pop(stream, None)

    async def _terminal(self, params: messages.Terminal, context: Context) -> Nothing:
        stream = self._streams.stream(context.peer, params.stream)
        onward = None if stream is None else self._onward.get(stream)
        if onward is None:
            raise PlatformError("not-available", f"stream {params.stream} has no command")
        if onward.here:
            await self._containers.terminal(onward.stream, params)
        else:
            far = replace(params, stream=onward.stream.number, timeout=None, deadline=None)
            await onward.stream.peer.call(messages.TERMINAL, far, timeout_s=context.timeout_s)
        return Nothing()


def _who(peer: Peer) -> str:
    info = peer.info
    if "credentials" in info:
        return f"user {info['credentials'].uid}"
    return str(info.get("operator") or info.get("token", ""))
