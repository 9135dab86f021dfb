"""What an HTTP server says: answers, refusals, and the budget whose end is one.

A refusal is a problem document (RFC 9457): a status, its phrase, and a text for people that names
what was expected and nothing that is ours.  It ends the connection, since what follows it on the
wire may be the rest of what was refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus

from paas.wire import codec

Headers = list[tuple[str, str]]


class HttpProblem(Exception):
    """A refusal: a status, a text for people, headers that go with it (RFC 9457)."""

    def __init__(self, status: int, detail: str, headers: Headers | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = headers or []

    def response(self) -> Response:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        headers = [("content-type", "application/problem+json"), *self.headers]
        return Response(self.status, codec.to_json(body), headers, close=True)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.  A body that is not bytes leaves in chunks as it is made."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: Headers = field(default_factory=list)
    close: bool = False


class ByteBudget:
    """Bytes of unfinished input that a server holds for all its callers."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self.held = 0

    def take(self, count: int) -> None:
        if self.held + count > self._max:
            raise HttpProblem(503, "the server is busy with other requests", [("retry-after", "1")])
        self.held += count

    def give_back(self, count: int) -> None:
        self.held -= count
