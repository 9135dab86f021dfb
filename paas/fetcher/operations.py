"""The operation `fetch` between the platform's plain values and the fetcher: shapes only.  Pure.

inputs:  {url, method, headers: [[name, value]…], conditional: {etag, last_modified}, credential,
         timeout_s, body_max, redirects, retries, idempotent}; only `url` is needed.  A request's
         body is the attachment `body`.
outputs: {status, headers, final_url, moved_to, hops, attempts, retry_after_s, etag, last_modified,
         elapsed_s, size}, and the attachment `body` with the type that the server said.

An answer with any status is an answer; what went wrong is an error with `reason` in its data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paas.fetcher.request import Answer, Request, request_of

BODY = "body"
_TYPE = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}")
MARGIN_S = 0.25
"""So much before the caller's deadline a fetch is given up, so that it hears why."""


def wanted(inputs: Any, bodies: Sequence[bytes], remaining_s: float) -> Request:
    """The request of a call that has so long.  Raises PlatformError `invalid`, or `request`."""
    plain = inputs if isinstance(inputs, Mapping) else {}
    request = request_of(plain, bodies[0] if bodies else b"")
    left_s = max(remaining_s - MARGIN_S, 0.001)
    return replace(request, timeout_s=min(request.timeout_s, left_s))


def told(answer: Answer) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Outputs and, if there is a body, its attachment."""
    outputs = {
        **answer.to_plain(),
        "elapsed_s": round(answer.elapsed_s, 4),
        "size": len(answer.body),
    }
    if not answer.body:
        return outputs, None
    found = _TYPE.match(answer.header("content-type"))
    kind = found[0].lower() if found else "application/octet-stream"
    return outputs, {"name": BODY, "type": kind, "data": answer.body}
