"""Join tokens in the cluster state: that each lets in one node is decided here, by the log.

    create ──> made ──use(key K, node N)──> used ──use(K, N) again──> used     (a lost answer)
                │                             └────use(another key)──> refused
                └──revoke──> revoked          every state: forgotten an hour after it expired

A token is for one key and one node name: the first that are shown with it.  The same pair may come
again until the token expires.  Two tokens that are alive never let in two keys under one node name.

Expiry is judged by the time in the command's stamp, which is the clock of the hub that was asked;
`CLOCK_SKEW_S` allows for its difference from the clock of the hub that made the token.

Only hashes of secrets are here.  The error that `use` raises carries the reason in its data; it is
for our log, and the one who asked hears one text for all reasons (`joining`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.certificates.lifecycle import JOIN_TOKEN, JoinToken, JoinTokenEvent
from paas.certificates.limits import (
    JOIN_TOKEN_KEPT_S,
    JOIN_TOKEN_LIFE_S_MAX,
    JOIN_TOKENS_MAX,
)
from paas.identity import join_tokens
from paas.identity.limits import CLOCK_SKEW_S
from paas.raft.command import command
from paas.raft.machine import Context

_SKEW_MS = CLOCK_SKEW_S * 1_000


@command(1010)
class CreateJoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token exists from now on; `digest` is of its text, `created_by` is for people."""

    token_id: str
    digest: str
    expires_ms: int
    created_by: str = ""


@command(1011)
class UseJoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A node shows a token: let it in, or raise `denied` or `conflict`.

    With `check_only` nothing changes; the answer tells whether the token would do.
    """

    token_id: str
    digest: str
    node: str
    key: str
    address: str
    check_only: bool = False


@command(1012)
class RevokeJoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token lets nobody in any more; a node that used it already stays."""

    token_id: str


class JoinTokenUsed(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a node was let in.  `key` is the fingerprint of its authority's key."""

    token: str
    node: str
    key: str
    address: str


class Entry(msgspec.Struct, kw_only=True):
    """One token.  `node`, `key` and `address` are empty until it is used."""

    id: str
    digest: str
    expires_ms: int
    created_by: str = ""
    state: JoinToken = JOIN_TOKEN.initial
    node: str = ""
    key: str = ""
    address: str = ""


class JoinTokenState:
    """The section "join-tokens" of the cluster state."""

    name = "join-tokens"
    hears: tuple[type, ...] = ()

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}  # in order of creation
        self.commands = {
            CreateJoinToken: self._create,
            UseJoinToken: self._use,
            RevokeJoinToken: self._revoke,
        }

    def tokens(self) -> list[Entry]:
        """What there is, oldest first; for people, and never to be changed."""
        return list(self._entries.values())

    def get(self, token_id: str) -> Entry | None:
        """The same for one."""
        return self._entries.get(token_id)

    def invited(self, node: str, key: str) -> bool:
        """Did a token that is still known let in this node with this key?

        What the hub at the key of the cluster's authority asks before it has a node certified that
        another hub speaks for.
        """
        return any(
            entry.state is JoinToken.USED and (entry.node, entry.key) == (node, key)
            for entry in self._entries.values()
        )

    # -- commands --------------------------------------------------------------------------------

    def _create(self, cmd: CreateJoinToken, ctx: Context) -> dict[str, Any]:
        now_ms = ctx.stamp.time_ms
        self._sweep(now_ms)
        life_ms = cmd.expires_ms - now_ms
        if not 0 < life_ms <= JOIN_TOKEN_LIFE_S_MAX * 1_000 + _SKEW_MS:
            raise invalid("expires_ms", f"expected a life of 1 to {JOIN_TOKEN_LIFE_S_MAX} seconds")
        if cmd.token_id in self._entries:
            raise PlatformError("conflict", f"there is a join token {cmd.token_id} already")
        if len(self._entries) >= JOIN_TOKENS_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"there are {JOIN_TOKENS_MAX} join tokens already",
                hint="wait until some have expired",
            )
        self._entries[cmd.token_id] = Entry(
            id=cmd.token_id,
            digest=cmd.digest,
            expires_ms=cmd.expires_ms,
            created_by=cmd.created_by,
        )
        return {"token": cmd.token_id, "expires_ms": cmd.expires_ms}

    def _use(self, cmd: UseJoinToken, ctx: Context) -> dict[str, Any]:
        entry = self._entries.get(cmd.token_id)
        if reason := _refusal(entry, cmd, ctx.stamp.time_ms):
            raise PlatformError("denied", f"the join token is refused: {reason}", reason=reason)
        assert entry is not None
        self._check_name(cmd, ctx.stamp.time_ms)
        repeated = entry.state is JoinToken.USED
        if cmd.check_only:
            return {"node": cmd.node, "repeated": repeated}
        if not repeated:
            entry.state = JOIN_TOKEN.next(entry.state, JoinTokenEvent.USE)
            entry.node, entry.key = cmd.node, cmd.key
        entry.address = cmd.address
        ctx.emit(JoinTokenUsed(token=entry.id, node=cmd.node, key=cmd.key, address=cmd.address))
        return {"node": cmd.node, "repeated": repeated}

    def _check_name(self, cmd: UseJoinToken, now_ms: int) -> None:
        for other in self._entries.values():
            taken = other.state is JoinToken.USED and other.node == cmd.node
            if taken and other.key != cmd.key and not _expired(other, now_ms):
                raise PlatformError(
                    "conflict",
                    f"another machine is joining under the name {cmd.node}",
                    hint="choose another name: --name NAME",
                    node=cmd.node,
                )

    def _revoke(self, cmd: RevokeJoinToken, ctx: Context) -> dict[str, Any]:
        self._sweep(ctx.stamp.time_ms)
        entry = self._entries.get(cmd.token_id)
        if entry is None:
            raise PlatformError(
                "no-such-target",
                f"there is no join token {cmd.token_id}",
                hint="list them: paas cluster token --list",
            )
        if entry.state is not JoinToken.REVOKED:
            entry.state = JOIN_TOKEN.next(entry.state, JoinTokenEvent.REVOKE)
        return {"token": entry.id, "node": entry.node}

    def _sweep(self, now_ms: int) -> None:
        for entry in list(self._entries.values()):
            if now_ms > entry.expires_ms + JOIN_TOKEN_KEPT_S * 1_000:
                entry.state = JOIN_TOKEN.next(entry.state, JoinTokenEvent.FORGET)
                del self._entries[entry.id]

    def react(self, event: object, ctx: Context) -> None:
        """Nothing that happens elsewhere changes a token."""

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return [msgspec.to_builtins(entry) for entry in self._entries.values()]

    def restore(self, plain: Any) -> None:
        entries = msgspec.convert(plain, list[Entry])
        self._entries = {entry.id: entry for entry in entries}


def new_token(
    entropy: bytes, authority: str, *, now_ms: int, life_s: int, created_by: str = ""
) -> tuple[str, CreateJoinToken]:
    """A token's text, to be shown once, and the command that makes the cluster know it.

    `entropy`: `join_tokens.ENTROPY_BYTES` random bytes; `authority`: the fingerprint of the
    cluster's authority.  Propose the command before the text is given out.
    """
    if not 1 <= life_s <= JOIN_TOKEN_LIFE_S_MAX:
        raise invalid("life", f"expected 1 to {JOIN_TOKEN_LIFE_S_MAX} seconds")
    token = join_tokens.make(entropy, authority)
    return token.reveal(), CreateJoinToken(
        token_id=token.id,
        digest=token.digest(),
        expires_ms=now_ms + life_s * 1_000,
        created_by=created_by,
    )


def _refusal(entry: Entry | None, cmd: UseJoinToken, now_ms: int) -> str:
    """Why this token does not let this node in; empty: it does."""
    if entry is None:
        return "an unknown token"
    if entry.digest != cmd.digest:
        return "a token with a wrong secret"
    if entry.state is JoinToken.REVOKED:
        return "a revoked token"
    if _expired(entry, now_ms):
        return "an expired token"
    if entry.state is JoinToken.USED and (entry.key, entry.node) != (cmd.key, cmd.node):
        return f"the token was used by the node {entry.node}"
    return ""


def state_for_people(entry: Entry, now_ms: int) -> str:
    """What became of a token; `expired` when nobody used it in time."""
    if entry.state is JoinToken.MADE and now_ms > entry.expires_ms:
        return "expired"
    return str(entry.state)


def _expired(entry: Entry, now_ms: int) -> bool:
    return now_ms > entry.expires_ms + _SKEW_MS
