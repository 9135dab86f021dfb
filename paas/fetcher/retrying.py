"""Whether a request is sent once more, and when.

Repeated is what cannot have been done (the server was never reached), or may be done twice: methods
that are idempotent (RFC 9110 §9.2.2) and what the caller calls so.  An answer 429, 502, 503 or 504
is repeated on the same terms, not before its `Retry-After`; if that is after the deadline, it is
the answer.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from paas.base.errors import PlatformError
from paas.base.retry import Backoff
from paas.fetcher.limits import RETRY_AFTER_MOST_S, RETRY_CAP_S, RETRY_FIRST_S
from paas.fetcher.trouble import REASONS, reason_of

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
REPEATED = frozenset({429, 502, 503, 504})
_DIGITS_MAX = 9


def retry_after_s(value: str, now_unix: float) -> float | None:
    """Seconds that `Retry-After` asks for; None when it says nothing (RFC 9110 §10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        wait = float(value) if len(value) <= _DIGITS_MAX else RETRY_AFTER_MOST_S
        return min(wait, RETRY_AFTER_MOST_S)
    try:
        moment = parsedate_to_datetime(value)
        wait = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now_unix
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(wait, 0.0), RETRY_AFTER_MOST_S)


class Attempts:
    """The repetitions of one request; redirects are none.  Times on the caller's clock."""

    def __init__(self, retries: int, deadline: float) -> None:
        self.repeated = 0
        self._retries = retries
        self._deadline = deadline
        self._backoff = Backoff(first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S)

    def after_error(
        self, error: PlatformError, idempotent: bool, now: float, fraction: float
    ) -> float | None:
        """When to try again, or None: the error is the outcome."""
        reason = REASONS[reason_of(error)]
        if not reason.again or (reason.sent and not idempotent):
            return None
        return self._moment(now, 0.0, fraction)

    def after_status(
        self,
        status: int,
        wait_s: float | None,
        idempotent: bool,
        now: float,
        fraction: float,
    ) -> float | None:
        """When to try again, or None: the answer is the outcome."""
        if status not in REPEATED or not idempotent:
            return None
        return self._moment(now, wait_s or 0.0, fraction)

    def _moment(self, now: float, at_least_s: float, fraction: float) -> float | None:
        if self.repeated >= self._retries:
            return None
        moment = now + max(at_least_s, self._backoff.delay_s(self.repeated + 1, fraction))
        if moment >= self._deadline:
            return None
        self.repeated += 1
        return moment
