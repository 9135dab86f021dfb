"""What the hub's way into components needs of its process: the register, the container controller.

Implements `entry.agent.Directory` and `entry.agent.Containers`.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from paas.base import ids
from paas.base.errors import PlatformError
from paas.container import entering_methods as container
from paas.container.client import ContainersClient
from paas.controller.instances import Instance
from paas.controller.state import ControllerState
from paas.entry import messages
from paas.rpc.stream_messages import Opening
from paas.rpc.streams import Stream, Streams
from paas.wire.registry import Method

TERMINAL_TIMEOUT_S = 5.0

_METHODS: dict[type, tuple[Method[Any, Any], type]] = {
    messages.Exec: (container.EXEC, container.ExecInContainer),
    messages.Connect: (container.CONNECT, container.ConnectInContainer),
    messages.Files: (container.FILES, container.CopyInContainer),
}


class Barrier(Protocol):
    """The replicated log."""

    async def barrier(self, *, timeout_s: float = 10.0) -> None: ...


class EntryDirectory:
    """Components by id, prefix or name, as this replica knows them once it is up to date."""

    def __init__(self, state: ControllerState, log: Barrier) -> None:
        self._state = state
        self._log = log

    async def find(self, target: str, *, timeout_s: float) -> Instance:
        """What is named, and not known here, may be news; a name may have another owner by now."""
        try:
            if ids.is_id(target):
                return self._state.instances.resolve(target)
        except PlatformError as error:
            if error.code != "no-such-target":
                raise
        await self._log.barrier(timeout_s=timeout_s)
        return self._state.instances.resolve(target)


class EntryPort:
    """The container controller of this node."""

    def __init__(self, client: ContainersClient, streams: Streams) -> None:
        self._client = client
        self._streams = streams
        client.streams = streams

    async def enter(self, params: Opening, *, timeout_s: float) -> Stream:
        method, kind = _METHODS[type(params)]
        order = kind(**msgspec.structs.asdict(params))
        peer = await self._client.wait_peer(timeout_s)
        stream, _ = await self._streams.open(peer, method, order, timeout_s=timeout_s)
        return stream

    async def terminal(self, stream: Stream, params: messages.Terminal) -> None:
        order = container.ResizeTerminal(
            stream=stream.number, rows=params.rows, columns=params.columns, signal=params.signal
        )
        await stream.peer.call(container.RESIZE_TERMINAL, order, timeout_s=TERMINAL_TIMEOUT_S)
