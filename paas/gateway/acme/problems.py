"""What follows an error of the authority: again at once, later, or not before a person has acted.

Source: RFC 8555 §6.5 (badNonce), §6.6 (rate limits), §6.7 (types).
"""

from __future__ import annotations

import enum

from paas.base.errors import PlatformError
from paas.gateway.acme import limits
from paas.gateway.acme.documents import Problem

_PREFIX = "urn:ietf:params:acme:error:"


class After(enum.StrEnum):
    """When to try again."""

    AT_ONCE = "at once"
    LATER = "later"
    NEVER = "never"
    """The same request can never succeed: settings have to change."""


_NEVER = frozenset(
    {
        *("accountDoesNotExist", "externalAccountRequired", "invalidContact", "malformed"),
        *("rejectedIdentifier", "unauthorized", "unsupportedContact", "unsupportedIdentifier"),
        *("userActionRequired", "badPublicKey", "badCSR", "badSignatureAlgorithm", "caa"),
    }
)
_OF_CHALLENGES = frozenset({"unauthorized", "caa"})
"""Of an authorisation: the world may have changed by the next attempt."""


def word(problem: Problem) -> str:
    """The type without its prefix."""
    return problem.type.removeprefix(_PREFIX) if problem.type.startswith(_PREFIX) else ""


def after(status: int, problem: Problem, *, challenge: bool = False) -> After:
    """What to do about an error answer, or the error of a challenge."""
    kind = word(problem)
    if kind == "badNonce":
        return After.AT_ONCE
    if kind in _NEVER and not (challenge and kind in _OF_CHALLENGES):
        return After.NEVER
    return After.LATER


def error(
    status: int, problem: Problem, retry_after_s: float | None = None, *, challenge: bool = False
) -> PlatformError:
    """The error for people, with what follows in its data: `after`, `retry_after_s`."""
    kind = word(problem) or f"status {status}"
    detail = "".join(c for c in problem.detail if c.isprintable())[: limits.DETAIL_MAX]
    what = after(status, problem, challenge=challenge)
    if kind == "rateLimited":
        return PlatformError(
            "limit-exceeded",
            f"the certificate authority takes no more requests for now: {detail}",
            reason=kind,
            after=what.value,
            retry_after_s=retry_after_s or limits.RATE_LIMITED_S,
        )
    return PlatformError(
        "denied" if what is After.NEVER else "failed",
        f"the certificate authority refuses: {kind}: {detail}",
        hint="see the settings of [acme]" if what is After.NEVER else "",
        reason=kind,
        after=what.value,
        retry_after_s=retry_after_s,
    )
