"""Access tokens in the cluster state: which there are, with which role, until when.

    create ──> good ──┬── revoke ──────────────> gone
                      └── the time of expiry ──> refused; gone with the next create

An entry exists as long as its token is good, so there is no state to keep: who is not here is not
let in.  Only hashes are here.  Every hub checks with its own replica and its own clock, so a token
that is revoked is refused by a hub as soon as that has heard of it; `AccessTokenRevoked` lets it
end what the token has opened.

Source: component API, "Transports" (bearer tokens); RFC 6750 §5.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.hub.access_limits import (
    ACCESS_TOKEN_LIFE_S_MAX,
    ACCESS_TOKEN_NOTE_CHARACTERS_MAX,
    ACCESS_TOKENS_MAX,
)
from paas.identity import access_tokens
from paas.identity.limits import CLOCK_SKEW_S
from paas.raft.command import command
from paas.raft.machine import Context


@command(150)
class CreateAccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token is good from now on; `digest` is of its text, `note` is for people."""

    token_id: str
    digest: str
    role: str
    expires_ms: int
    note: str = ""


@command(151)
class RevokeAccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token is good no more."""

    token_id: str


class AccessTokenRevoked(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: connections of this token are to end."""

    token: str


class AccessEntry(msgspec.Struct, kw_only=True):
    """One token."""

    id: str
    digest: str
    role: str
    created_ms: int
    expires_ms: int
    note: str = ""


class AccessTokenState:
    """The section "access-tokens" of the cluster state."""

    name = "access-tokens"
    hears: tuple[type, ...] = ()

    def __init__(self) -> None:
        self._entries: dict[str, AccessEntry] = {}  # in order of creation
        self.commands = {CreateAccessToken: self._create, RevokeAccessToken: self._revoke}

    def tokens(self) -> list[AccessEntry]:
        """What there is, oldest first; never to be changed."""
        return list(self._entries.values())

    def check(self, text: str, now_ms: int) -> AccessEntry | None:
        """The entry of a token that somebody shows, if it is good now."""
        token = access_tokens.parse(text)
        entry = None if token is None else self._entries.get(token.id)
        if token is None or entry is None or not access_tokens.matches(token, entry.digest):
            return None
        return entry if now_ms < entry.expires_ms else None

    def _create(self, cmd: CreateAccessToken, ctx: Context) -> dict[str, Any]:
        now_ms = ctx.stamp.time_ms
        life_ms = cmd.expires_ms - now_ms
        if not 0 < life_ms <= (ACCESS_TOKEN_LIFE_S_MAX + CLOCK_SKEW_S) * 1_000:
            text = f"expected a life of 1 to {ACCESS_TOKEN_LIFE_S_MAX} seconds"
            raise invalid("expires_ms", text)
        if cmd.role not in access_tokens.ROLES:
            raise invalid("role", f"expected one of {', '.join(access_tokens.ROLES)}")
        if len(cmd.note) > ACCESS_TOKEN_NOTE_CHARACTERS_MAX or not cmd.note.isprintable():
            text = f"expected at most {ACCESS_TOKEN_NOTE_CHARACTERS_MAX} printable characters"
            raise invalid("note", text)
        if cmd.token_id in self._entries:
            raise PlatformError("conflict", f"there is an access token {cmd.token_id} already")
        live = {k: e for k, e in self._entries.items() if now_ms < e.expires_ms}
        if len(live) >= ACCESS_TOKENS_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"there are {ACCESS_TOKENS_MAX} access tokens already",
                hint="revoke some: paas token list",
            )
        self._entries = live
        self._entries[cmd.token_id] = AccessEntry(
            id=cmd.token_id,
            digest=cmd.digest,
            role=cmd.role,
            created_ms=now_ms,
            expires_ms=cmd.expires_ms,
            note=cmd.note,
        )
        return {"id": cmd.token_id}

    def _revoke(self, cmd: RevokeAccessToken, ctx: Context) -> dict[str, Any]:
        entry = self._entries.pop(cmd.token_id, None)
        if entry is None:
            raise PlatformError(
                "no-such-target",
                f"there is no access token {cmd.token_id}",
                hint="list them: paas token list",
            )
        ctx.emit(AccessTokenRevoked(token=entry.id))
        return {"id": entry.id}

    def react(self, event: object, ctx: Context) -> None:
        """Nothing that happens elsewhere changes a token."""

    def snapshot(self) -> Any:
        return [msgspec.to_builtins(entry) for entry in self._entries.values()]

    def restore(self, plain: Any) -> None:
        entries = msgspec.convert(plain, list[AccessEntry])
        self._entries = {entry.id: entry for entry in entries}
