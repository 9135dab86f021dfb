"""What an authority answers, checked: nothing of it is believed because of who said it.

URLs in answers have to be of the directory's own origin, or an answer could aim signed requests at
anything; tokens have to be base64url, or one would be a path; states have to be those of the RFC.
Unknown fields are ignored.

Source: RFC 8555 §7.1 (objects), §8 (challenges).
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from paas.base.errors import PlatformError
from paas.gateway.acme import limits

OrderState = Literal["pending", "ready", "processing", "valid", "invalid"]
AuthorizationState = Literal["pending", "valid", "invalid", "deactivated", "expired", "revoked"]
ChallengeState = Literal["pending", "processing", "valid", "invalid"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
_NAME = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+\Z"
)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 7807; RFC 8555 §6.7)."""

    type: str = "about:blank"
    detail: str = ""
    subproblems: list[Any] = []


class Directory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    new_nonce: str
    new_account: str
    new_order: str


class Identifier(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    value: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    status: OrderState
    authorizations: list[str]
    finalize: str
    identifiers: list[Identifier] = []
    certificate: str = ""
    error: Problem | None = None


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    url: str
    status: ChallengeState = "pending"
    token: str = ""
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    status: AuthorizationState
    identifier: Identifier
    challenges: list[Challenge]
    wildcard: bool = False


T = TypeVar("T")


def wrong(message: str, **data: Any) -> PlatformError:
    """The authority said what it may not say."""
    return PlatformError(
        "failed", f"the certificate authority {message}", reason="authority", **data
    )


def read(body: bytes, kind: type[T]) -> T:
    """An object of this kind.  Raises PlatformError `failed`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise wrong(f"sent no {kind.__name__.lower()}: {str(exc)[:100]}") from None


def problem(body: bytes) -> Problem:
    """What an error answer says; an empty one if it says nothing that can be read."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem()


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host, port.  Raises PlatformError `invalid`."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        host = parts.hostname or ""
    except (ValueError, KeyError):
        raise PlatformError("invalid", "directory: expected a URL", field="directory") from None
    if parts.scheme != "https" and host not in _LOOPBACK:
        raise PlatformError("invalid", "directory: expected https://", field="directory")
    return parts.scheme, host, port


def same_origin(directory: str, url: str) -> str:
    """The URL, if it is of the directory's origin.  Raises PlatformError `failed`."""
    try:
        same = origin(directory) == origin(url)
    except PlatformError:
        same = False
    if not same or len(url) > 2048 or not url.isascii() or not url.isprintable():
        raise wrong("names a URL that is not its own")
    return url


def token(challenge: Challenge) -> str:
    """Its token, which is one (RFC 8555 §8.3: base64url, so no path)."""
    if not _TOKEN.match(challenge.token):
        raise wrong("sent a token that is none")
    return challenge.token


def names(texts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Host names for one certificate, in lower case, each once.  Raises PlatformError `invalid`."""
    found = tuple(dict.fromkeys(text.lower().rstrip(".") for text in texts))
    if not 0 < len(found) <= limits.NAMES_MAX:
        raise PlatformError("invalid", f"names: 1 to {limits.NAMES_MAX}", field="names")
    for name in found:
        if len(name) > limits.NAME_MAX or not _NAME.match(name):
            raise PlatformError(
                "invalid", f"names: {name[:64]!r} is no host name in the DNS", field="names"
            )
    return found


def chosen(authorization: Authorization, kind: str, asked: frozenset[str]) -> Challenge:
    """The challenge of this kind, of an authorisation for a name that was asked for."""
    value = authorization.identifier.value.lower()
    name = f"*.{value}" if authorization.wildcard else value
    if authorization.identifier.type != "dns" or name not in asked:
        raise wrong("wants a name authorised that was not asked for")
    for challenge in authorization.challenges[:16]:
        if challenge.type == kind:
            return challenge
    raise wrong(
        f"offers no {kind} for {name}",
        hint="wildcards need dns-01" if authorization.wildcard else "choose the other challenge",
    )
