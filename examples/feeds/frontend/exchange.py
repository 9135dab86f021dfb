"""A request and its reply, whoever carried them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

BODY_BYTES_MAX = 65_536
JSON_DEPTH_MAX = 8


class Refusal(Exception):
    """What was asked for is not done; `status` is that of HTTP."""

    def __init__(self, status: int, text: str, field: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` by lower-case names; of several with one name, the last."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def option(self, name: str, default: str = "") -> str:
        """One parameter of the query."""
        return parse_qs(self.query, max_num_fields=20).get(name, [default])[-1]

    def number(self, name: str, default: int, most: int = 2**53) -> int:
        text = self.option(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most):
            raise Refusal(400, f"expected a whole number up to {most}", name)
        return int(text)

    def json(self) -> dict[str, Any]:
        """The body.  Only `application/json` is read: a form of another site cannot send that."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "expected content-type: application/json", "content-type")
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is no JSON", "body") from None
        if not isinstance(found, dict):
            raise Refusal(400, "expected an object", "body")
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def json_reply(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    kind = (("content-type", "application/json"), ("cache-control", "no-store"))
    return Reply(status, kind + headers, body)


def refusal_reply(refusal: Refusal) -> Reply:
    value = {"error": {"message": str(refusal), "field": refusal.field}}
    return json_reply(value, refusal.status)
