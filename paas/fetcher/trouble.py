"""Why a fetch failed: one table from reason to the code of the catalogue, and whether it may be
tried again.

Every error carries `reason` in its data; messages name hosts and bounds, never header values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paas.base.errors import PlatformError


@dataclass(frozen=True, slots=True)
class Reason:
    """One row: `sent` says whether the request may have reached the server by then."""

    code: str
    again: bool = False
    sent: bool = True


REASONS: Mapping[str, Reason] = {
    "url": Reason("invalid", sent=False),
    "request": Reason("invalid", sent=False),
    "address-refused": Reason("denied", sent=False),
    "port-refused": Reason("denied", sent=False),
    "plain-refused": Reason("denied", sent=False),
    "credential": Reason("denied", sent=False),
    "downgrade": Reason("denied"),
    "private-redirect": Reason("denied"),
    "redirects": Reason("failed"),
    "redirect-loop": Reason("failed"),
    "redirect-invalid": Reason("failed"),
    "head-too-long": Reason("limit-exceeded"),
    "body-too-long": Reason("limit-exceeded"),
    "chunks": Reason("limit-exceeded"),
    "coding": Reason("failed"),
    "protocol": Reason("failed"),
    "name": Reason("not-available", again=True, sent=False),
    "connect": Reason("not-available", again=True, sent=False),
    "tls": Reason("failed", sent=False),
    "closed": Reason("not-available", again=True),
    "idle": Reason("timeout", again=True),
    "slow": Reason("timeout"),
    "deadline": Reason("timeout"),
    "throttled": Reason("limit-exceeded", sent=False),
}


def trouble(reason: str, message: str, **data: Any) -> PlatformError:
    """The error for a reason of the table."""
    return PlatformError(REASONS[reason].code, message, reason=reason, **data)


def reason_of(error: PlatformError) -> str:
    """The row of an error that this package raised."""
    reason = error.data.get("reason", "")
    return reason if reason in REASONS else "protocol"
