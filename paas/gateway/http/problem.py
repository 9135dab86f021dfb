"""Refusals and failures as browsers see them: problem documents (RFC 9457).

Every one names what happened and the request's identifier, which the access log has too.  What a
502 says: which stage failed (connecting, waiting, reading the answer), not which member or where.
"""

from __future__ import annotations

from http import HTTPStatus

from paas.gateway.http.head import Headers
from paas.wire import codec

TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is a problem document; `headers` go with it."""

    def __init__(self, status: int, detail: str, headers: Headers | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = headers or []


def phrase(status: int) -> str:
    """The reason phrase of a status; empty for unknown ones."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def document(status: int, detail: str, request_id: str = "") -> bytes:
    """The body."""
    body = {"type": "about:blank", "title": phrase(status), "status": status, "detail": detail}
    if request_id:
        body["instance"] = f"urn:request:{request_id}"
    return codec.to_json(body)
