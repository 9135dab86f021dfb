"""The runtime API of HAProxy, through the master's socket: order after order.  (io)

Orders go to a worker by its process id (`@!pid`), so that after a new configuration none reaches
the wrong one.  Names in orders are our own (names.py), addresses were parsed; an order with
anything that could end it is a bug and is not sent.

Source: HAProxy management guide §9.3, §9.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import TracebackType

import trio

from paas.base.errors import LocalError, PlatformError
from paas.gateway.haproxy import limits

_PROMPT = re.compile(rb"(?:^|\n)(?:master|[0-9]+)(?:\[[^\]\n]*\])?> \Z")
_ORDER = re.compile(r"[ -:<-~]{1,4096}\Z")
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class Master:
    """A conversation with the master; `async with Master(path) as master`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream: trio.SocketStream | None = None

    async def __aenter__(self) -> Master:
        """Raises PlatformError `unavailable`."""
        try:
            with trio.fail_after(limits.COMMAND_S):
                self._stream = await trio.open_unix_socket(self._path)
                await self._exchange("prompt")
        except _GONE as exc:
            await self._leave()
            raise _unavailable(exc) from None
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)

    async def ask(self, order: str, worker: int = 0) -> str:
        """The answer to one order, of the master itself or of a worker.

        Raises PlatformError `unavailable`.
        """
        if not _ORDER.match(order):
            raise LocalError("this is no single order for haproxy")
        try:
            with trio.fail_after(limits.COMMAND_S):
                return await self._exchange(f"@!{worker} {order}" if worker else order)
        except _GONE as exc:
            raise _unavailable(exc) from None

    async def ask_all(self, orders: Iterable[str], worker: int) -> Sequence[tuple[str, str]]:
        """Each order with its answer."""
        return [(order, await self.ask(order, worker)) for order in orders]

    async def _exchange(self, line: str) -> str:
        assert self._stream is not None
        await self._stream.send_all(line.encode("ascii") + b"\n")
        answer = bytearray()
        while not (prompt := _PROMPT.search(answer, max(0, len(answer) - 64))):
            data = await self._stream.receive_some(65_536)
            if not data:
                raise trio.BrokenResourceError("the master closed the conversation")
            answer += data
            if len(answer) > limits.ANSWER_BYTES_MAX:
                raise trio.BrokenResourceError("an answer without end")
        return bytes(answer[: prompt.start()]).decode("utf-8", "replace").strip("\n")


def _unavailable(exc: BaseException) -> PlatformError:
    return PlatformError("unavailable", f"haproxy does not answer: {type(exc).__name__}")
