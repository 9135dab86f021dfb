"""Routes of kind `operation`: the request as the inputs of a call, its answer as an answer.

What a member says is checked as if a stranger had said it: a status that exists, names of headers
that are names, values without line ends; else a member could write a second answer into the first
(response splitting).  Framing is the gateway's, so fields about it are dropped.

Source: docs/internals/world/gateway.md (the envelope); RFC 9110 §5.1, §5.5.
"""

from __future__ import annotations

import re

from paas.gateway.http import forwarded
from paas.gateway.http.exchange import Exchange
from paas.gateway.http.head import CONNECTION_FIELDS, Headers
from paas.gateway.http.problem import Problem
from paas.gateway.limits import HEADERS_MAX
from paas.gateway.messages import HttpAnswer, HttpRequest, Route
from paas.gateway.router import member_target

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_NOT_TOLD = CONNECTION_FIELDS | {"host", "content-length", "expect"} | forwarded.FIELDS
_NOT_PASSED_BACK = CONNECTION_FIELDS | {"content-length", "x-request-id"}
ANSWER_HEADERS_MAX = 3 * HEADERS_MAX


def request(exchange: Exchange, route: Route, connection: str) -> HttpRequest:
    """The inputs of the call."""
    head = exchange.head
    path = member_target(route, head.path, "") if route.strip_prefix else head.path
    return HttpRequest(
        method=head.method,
        path=path,
        query=head.query,
        headers=[
            (n, v) for n, v in head.headers if n not in _NOT_TOLD and n not in head.connection
        ],
        host=head.authority,
        scheme="https" if exchange.scheme == "https" else "http",
        remote=exchange.remote,
        request_id=exchange.request_id,
        route=route.name,
        connection=connection,
    )


def headers(answer: HttpAnswer, exchange: Exchange, route: Route) -> Headers:
    """The fields to send.  Raises Problem (502) for what cannot be sent."""
    if not 200 <= answer.status <= 599:
        raise Problem(502, "the operation's answer has no status that can be sent")
    if len(answer.headers) > ANSWER_HEADERS_MAX:
        raise Problem(502, f"the operation's answer has more than {ANSWER_HEADERS_MAX} headers")
    told: Headers = []
    for name, value in answer.headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Problem(502, "the operation's answer has a header that cannot be sent")
        if name.lower() not in _NOT_PASSED_BACK:
            told.append((name.lower(), value.strip(" \t")))
    told.append(("x-request-id", exchange.request_id))
    told += [(name.lower(), value) for name, value in route.headers.items()]
    return told
