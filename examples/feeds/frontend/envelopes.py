"""Requests that a gateway brings as calls (a route of kind `operation`), and their answers.  Pure.

The envelope is described in docs/internals/world/gateway.md; a body is the attachment `body`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exchange import Reply, Request


def request_of(inputs: Mapping[str, Any], body: bytes) -> Request:
    """The request; `x-forwarded-*` say what the browser asked for, as with an endpoint."""
    headers = {str(name).lower(): str(value) for name, value in inputs.get("headers", [])}
    headers["host"] = str(inputs.get("host", ""))
    headers["x-forwarded-proto"] = str(inputs.get("scheme", "http"))
    return Request(
        str(inputs["method"]), str(inputs["path"]), str(inputs.get("query", "")), headers, body
    )


def outputs_of(reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Outputs and attachments of the answer."""
    headers: Sequence[tuple[str, str]] = reply.headers
    kind = next((value for name, value in headers if name == "content-type"), "")
    attachments = []
    if reply.body:
        attachments.append({"name": "body", "type": kind, "data": reply.body})
    return {"status": reply.status, "headers": [list(pair) for pair in headers]}, attachments
