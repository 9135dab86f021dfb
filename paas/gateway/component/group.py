"""What gateways of one group tell each other about certificates (io).

    gateway.challenge {token, text}   answer this challenge from now on; without a text: no more
    gateway.certificate {names}       the certificate for these names, with its key

The names of a certificate lead to all gateways of a group, and any of them may be asked by the
authority, so every one answers; and one certificate serves all of them.  The hub lets only
components of the gateways' own application call this; operators are refused here, for a key is
nobody's but the gateways'.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.gateway.acme import documents
from paas.gateway.acme.limits import CHAIN_BYTES_MAX, CHALLENGES_MAX
from paas.gateway.acme.store import Store
from paas.gateway.component.channel import Channel, Invocation
from paas.gateway.edge import Edge

logger = logging.getLogger(__name__)

CHALLENGE = "gateway.challenge"
CERTIFICATE = "gateway.certificate"
ASK_S = 5.0
JOIN_S = 15.0
_TEXT_MAX = 1024

Invoked = Callable[[Any, Invocation], None]


class _Challenge(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    text: str = ""


class _Names(msgspec.Struct, frozen=True, kw_only=True):
    names: list[str]


class _Certificate(msgspec.Struct, frozen=True, kw_only=True):
    pem: str = ""


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    component: str = ""
    outputs: msgspec.Raw = msgspec.Raw(b"\x80")


class _Replies(msgspec.Struct, frozen=True, kw_only=True):
    replies: list[_Reply] = []


class GroupCertificates:
    """`Challenges`, `Lease` and `Peers` of the ACME client, and the operations behind them."""

    def __init__(self, channel: Channel, edge: Edge, group: str, certificates: str) -> None:
        self._channel = channel
        self._edge = edge
        self._group = group
        self._store = Store(Path(certificates), Path(certificates))

    # -- what others ask -------------------------------------------------------------------------

    def answering(self, otherwise: Invoked) -> Invoked:
        """The handler of invocations: ours, and else this one."""

        def invoked(identity: Any, call: Invocation) -> None:
            if call.operation not in (CHALLENGE, CERTIFICATE) or call.object:
                otherwise(identity, call)
                return
            try:
                self._channel.answer(identity, self._answer(call))
            except PlatformError as exc:
                self._channel.fail(identity, exc)
            except msgspec.MsgspecError as exc:
                self._channel.fail(identity, PlatformError("invalid", f"inputs: {exc}"))

        return invoked

    def _answer(self, call: Invocation) -> dict[str, Any]:
        if not call.from_:
            raise PlatformError("denied", "only gateways ask this of each other")
        if call.operation == CHALLENGE:
            told = msgspec.msgpack.decode(call.inputs, type=_Challenge)
            if told.text and len(told.token) + len(told.text) <= _TEXT_MAX:
                if len(self._edge.challenges) >= CHALLENGES_MAX:
                    raise PlatformError("limit-exceeded", "too many challenges at a time")
                self._edge.challenges[told.token] = told.text
            else:
                self._edge.challenges.pop(told.token, None)
            return {}
        names = documents.names(msgspec.msgpack.decode(call.inputs, type=_Names).names)
        kept = self._store.certificate(names)
        return {"pem": kept.pem.decode("ascii") if kept is not None else ""}

    # -- what the ACME client asks ---------------------------------------------------------------

    async def show(self, token: str, text: str) -> None:
        """Every gateway answers it; one that does not hear of it in time does not count."""
        self._edge.challenges[token] = text
        await self._tell({"token": token, "text": text})

    async def hide(self, token: str) -> None:
        self._edge.challenges.pop(token, None)
        await self._tell({"token": token})

    async def _tell(self, inputs: dict[str, Any]) -> None:
        await self._ask_all(CHALLENGE, inputs)

    async def certificate(self, names: tuple[str, ...]) -> bytes | None:
        """The one that ends last."""
        found: list[tuple[float, bytes]] = []
        for reply in await self._ask_all(CERTIFICATE, {"names": list(names)}):
            with suppress(msgspec.MsgspecError, UnicodeEncodeError):
                pem = msgspec.msgpack.decode(reply.outputs, type=_Certificate).pem.encode("ascii")
                if pem and len(pem) <= CHAIN_BYTES_MAX:
                    found.append((self._store.end_of(pem, names), pem))
        return max(found)[1] if found else None

    async def _ask_all(self, operation: str, inputs: dict[str, Any]) -> list[_Reply]:
        if not self._group:
            return []
        params = {
            "target": f"group:{self._group}",
            "operation": operation,
            "inputs": inputs,
            "selector": "all",
            "timeout": ASK_S,
        }
        try:
            answer = await self._channel.ask("hub.call", params, _Replies, timeout_s=ASK_S)
        except PlatformError as exc:
            logger.warning("the other gateways were not reached: %s", exc)
            return []
        return answer.replies

    def held(self) -> AbstractAsyncContextManager[bool]:
        """The lease: to be the unique member of a group."""
        return self._held()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[bool]:
        if not self._group:
            yield True
            return
        params: dict[str, Any] = {"groups": [f"{self._group}.acme"], "timeout": JOIN_S}
        try:
            await self._channel.ask("hub.join", {**params, "unique": True}, dict, timeout_s=JOIN_S)
        except PlatformError as exc:
            if exc.code != "conflict":
                raise
            yield False
            return
        try:
            yield True
        finally:
            with trio.move_on_after(JOIN_S, shield=True), suppress(PlatformError):
                await self._channel.ask("hub.leave", params, dict, timeout_s=JOIN_S)
