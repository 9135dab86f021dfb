"""What an answer of a web site means for a source, and what is asked in the first place.  Pure.

| answer | outcome |
|---|---|
| 304, or 200 with the bytes of last time | `unchanged` |
| 200 with a feed | `changed` (the indexer decides if it is one) |
| 200 with `text/event-stream` | `stream` |
| 410 | `gone` |
| 429, 503 with Retry-After | `failed`, and not before then |
| anything else | `failed` |

Validators are kept only after the items have been taken over: a crash in between costs a second
download, never an item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

USER_AGENT = "paas-feeds/1.0"
ACCEPT = (
    "application/atom+xml, application/rss+xml, application/rdf+xml;q=0.9, "
    "application/xml;q=0.8, text/xml;q=0.8, text/event-stream;q=0.7, */*;q=0.1"
)
VALIDATOR_CHARS_MAX = 500
MAX_AGE_S_MAX = 86_400


def request_headers(authority: str, etag: str, modified: str) -> dict[str, str]:
    """A conditional request when there is something to compare with (RFC 9110 §13)."""
    headers = {
        "host": authority,
        "user-agent": USER_AGENT,
        "accept": ACCEPT,
        "accept-encoding": "gzip, deflate",
        "connection": "close",
    }
    if etag:
        headers["if-none-match"] = etag
    if modified:
        headers["if-modified-since"] = modified
    return headers


def validators(headers: Mapping[str, str]) -> dict[str, str]:
    """ETag and Last-Modified, if they are of a size and kind that can be sent back."""
    found = {
        "etag": headers.get("etag", ""),
        "modified": headers.get("last-modified", ""),
    }
    return {name: value if _is_sendable(value) else "" for name, value in found.items()}


def _is_sendable(value: str) -> bool:
    return len(value) <= VALIDATOR_CHARS_MAX and value.isascii() and value.isprintable()


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float:
    """Seconds, from a number or a date (RFC 9110 §10.2.3); 0 when nothing sensible is there."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def max_age_s(headers: Mapping[str, str]) -> float:
    """For how long the answer says that it is fresh (RFC 9111 §5.2.2.1), within a day."""
    found = re.search(r"(?:^|[,\s])max-age=([0-9]{1,9})", headers.get("cache-control", "").lower())
    return float(min(int(found[1]), MAX_AGE_S_MAX)) if found else 0.0


def is_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").lower().partition(";")[0].strip() == "text/event-stream"


def failure(status: int, headers: Mapping[str, str], now_s: float) -> dict[str, Any]:
    """The outcome of an answer that brings no document."""
    outcome = "gone" if status == 410 else "failed"
    found: dict[str, Any] = {"outcome": outcome, "error": f"the source answered {status}"}
    wait_s = retry_after_s(headers, now_s)
    if wait_s and status in (429, 503):
        found["retry_after_s"] = wait_s
    return found
