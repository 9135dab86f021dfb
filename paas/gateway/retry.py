"""Whether a request that failed may be sent again: only where that cannot do a thing twice.

| what happened | safe or idempotent method, or the route says so | other methods |
|---|---|---|
| no connection to the member | again | again |
| a kept connection ended without a word | once more, to the same member | 502 |
| sent, nothing of an answer passed on | again | 502: it may have been done |
| part of the answer was passed on | cut off | cut off |

In every case the body must still be there whole: what was streamed on is not kept.  The route's
`retries` counts members beyond the first.  Source: RFC 9110 §9.2.1, §9.2.2.
"""

from __future__ import annotations

from paas.gateway.messages import Route

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


def repeatable(route: Route, method: str) -> bool:
    """May it be done twice?"""
    return method in IDEMPOTENT or route.idempotent


def may_retry(
    route: Route, method: str, *, sent: bool, passed_on: bool, body_kept: bool, tries: int
) -> bool:
    """After `tries` members failed, may another one be asked?

    `sent`: the last of them may have seen some of the request.
    """
    if passed_on or not body_kept or tries > route.retries:
        return False
    return not sent or repeatable(route, method)
