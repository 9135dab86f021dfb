"""Access from outside: the tokens' commands, and who is let in by a token or a certificate.

    POST, WebSocket ─ bearer token ──> AccessTokenState.check ──> role
                    └ certificate ───> identity.tls.authenticate ──> role operator

What a reader may call is one table here (`READABLE`): methods that change nothing.  A method that
is not in it is for operators, so a new method is closed to readers until somebody opens it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock, Entropy
from paas.hub import access_messages as messages
from paas.hub.access_limits import ACCESS_TOKEN_LIFE_S_MAX
from paas.hub.access_state import AccessTokenState, CreateAccessToken, RevokeAccessToken
from paas.identity import access_tokens
from paas.rpc.dispatch import Context, Dispatcher, Rule

_OPERATOR = Rule(frozenset({access_tokens.OPERATOR}))

POLICY = {
    "access.create_token": _OPERATOR,
    "access.list_tokens": _OPERATOR,
    "access.revoke_token": _OPERATOR,
    "access.certify": _OPERATOR,
}

READABLE = frozenset(
    {
        *("rpc.discover", "hub.members", "hub.groups", "hub.await", "hub.watch", "hub.unwatch"),
        *("hub.get_attributes", "hub.group", "hub.dead_letters", "hub.top", "hub.allow"),
        *("controller.types", "controller.type", "controller.components", "controller.component"),
        *("controller.why", "controller.plan", "controller.monitor"),
        *("cluster.status", "cluster.members", "nodes.list", "nodes.show"),
        *("log.query", "log.follow", "bundle.list", "trace.query", "image.list", "image.show"),
        *("dns.list", "dns.status"),
        *("gateway.routes", "gateway.route", "gateway.status"),
        *("application.list", "application.status"),
    }
)

CHANNEL = frozenset(
    {
        *("hub.watch", "controller.monitor", "log.follow"),
        *("controller.exec", "controller.connect", "controller.files"),
    }
)
"""Methods that are pointless for a caller who hears one answer only."""


class Log(Protocol):
    """The replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


@dataclass(frozen=True, slots=True)
class Server:
    """Where this node's server for callers from outside is; empty where there is none."""

    url: str = ""
    host: str = ""
    authority: str = ""


Certify = Callable[[str, int], Awaitable[str]]
"""The certificate (PEM) for a request (PEM) and a life in seconds."""


def with_readers(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules, with the role `reader` allowed what is readable."""
    return {
        name: Rule(rule.roles | {access_tokens.READER}) if name in READABLE else rule
        for name, rule in rules.items()
    }


class AccessApi:
    """The handlers of `access_messages`."""

    def __init__(
        self,
        state: AccessTokenState,
        log: Log,
        *,
        clock: Clock,
        entropy: Entropy,
        certify: Certify,
        server: Callable[[], Server],
    ) -> None:
        self._state = state
        self._log = log
        self._clock = clock
        self._entropy = entropy
        self._certify = certify
        self._server = server

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.CREATE_ACCESS_TOKEN, self.create)
        dispatcher.plain(messages.LIST_ACCESS_TOKENS, self.list)
        dispatcher.task(messages.REVOKE_ACCESS_TOKEN, self.revoke)
        dispatcher.task(messages.CERTIFY_OPERATOR, self.certify)

    async def create(
        self, params: messages.CreateAccessToken, context: Context
    ) -> messages.CreatedAccessToken:
        life_s = _life_s(params.ttl, ACCESS_TOKEN_LIFE_S_MAX)
        if params.role not in access_tokens.ROLES:
            expected = f"expected one of {', '.join(access_tokens.ROLES)}"
            raise invalid("role", expected, param="role")
        token = access_tokens.make(self._entropy.bytes(access_tokens.ENTROPY_BYTES))
        expires_ms = self._clock.now_ms() + life_s * 1_000
        command = CreateAccessToken(
            token_id=token.id,
            digest=token.digest(),
            role=params.role,
            expires_ms=expires_ms,
            note=params.note,
        )
        await self._log.propose(command, timeout_s=context.timeout_s)
        server = self._server()
        return messages.CreatedAccessToken(
            token=token.reveal(),
            id=token.id,
            role=params.role,
            expires=expires_ms / 1_000,
            url=server.url,
            host=server.host,
            authority=server.authority,
        )

    def list(self, _params: messages.ListAccessTokens, _context: Context) -> messages.AccessTokens:
        now_ms = self._clock.now_ms()
        good = [entry for entry in self._state.tokens() if now_ms < entry.expires_ms]
        return messages.AccessTokens(
            tokens=[
                messages.AccessTokenInfo(
                    id=entry.id,
                    role=entry.role,
                    created=entry.created_ms / 1_000,
                    expires=entry.expires_ms / 1_000,
                    note=entry.note,
                )
                for entry in good
            ]
        )

    async def revoke(
        self, params: messages.RevokeAccessToken, context: Context
    ) -> messages.RevokedAccessToken:
        command = RevokeAccessToken(token_id=params.id)
        await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.RevokedAccessToken(id=params.id)

    async def certify(
        self, params: messages.CertifyOperator, _context: Context
    ) -> messages.OperatorCertified:
        server = self._server()
        certificate = await self._certify(params.request, _life_s(params.ttl, 7 * 86_400))
        return messages.OperatorCertified(
            certificate=certificate,
            authority=server.authority,
            url=server.url,
            host=server.host,
        )


def check_channel(method: str, one_answer: bool) -> None:
    """Refuse, on a channel that ends with the answer, what tells more later."""
    if one_answer and method in CHANNEL:
        raise PlatformError(
            "unsupported",
            f"{method} tells what happens later, which one HTTP answer cannot",
            hint="use the WebSocket at the same address",
        )


def _life_s(ttl: float, life_s_max: int) -> int:
    if not 1 <= ttl <= life_s_max:
        raise invalid("ttl", f"expected 1 to {life_s_max} seconds", param="ttl")
    return int(ttl)
