"""What is asked of the fetcher, and what it answers: plain data, checked once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paas.fetcher import limits
from paas.fetcher.redirects import Hop
from paas.fetcher.trouble import trouble

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\Z")
OURS = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade"),
        *("expect", "keep-alive", "accept-encoding", "proxy-authorization", "proxy-connection"),
        *("if-none-match", "if-modified-since", "http2-settings"),
    }
)
"""Headers that say what the fetcher decides."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One fetch.  Times in seconds, sizes in bytes."""

    url: str
    method: str = "GET"
    headers: Headers = ()
    body: bytes = b""
    etag: str = ""
    last_modified: str = ""
    """Of the copy that the caller has: the answer is 304 while it is the present one (RFC 9110
    §13.1); GET and HEAD only."""
    credential: str = ""
    timeout_s: float = limits.TIMEOUT_S
    """For everything: waiting for one's turn, redirects, attempts, the body."""
    body_max: int = limits.BODY_MAX
    redirects: int = limits.REDIRECTS
    retries: int = limits.RETRIES
    idempotent: bool = False
    """May be repeated although its method does not say so."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise _wrong("method", f"expected one of {', '.join(sorted(METHODS))}")
        _check_headers(self.headers)
        for name, value in (("etag", self.etag), ("last_modified", self.last_modified)):
            if len(value) > 512 or not _VALUE.match(value):
                raise _wrong(name, "expected what a server said in such a header")
        if (self.etag or self.last_modified) and self.method not in ("GET", "HEAD"):
            raise _wrong("method", "only GET and HEAD can be conditional")
        if len(self.body) > limits.REQUEST_BODY_MAX:
            raise _wrong("body", f"at most {limits.REQUEST_BODY_MAX} bytes")
        if self.body and self.method in ("GET", "HEAD"):
            raise _wrong("body", f"{self.method} has no body")
        for name, number, least, most in (
            ("timeout_s", self.timeout_s, 0.001, limits.TIMEOUT_MOST_S),
            ("body_max", self.body_max, 0, limits.BODY_MOST),
            ("redirects", self.redirects, 0, limits.REDIRECTS_MOST),
            ("retries", self.retries, 0, limits.RETRIES_MOST),
        ):
            if not least <= number <= most:
                raise _wrong(name, f"expected {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Headers
    """Names in lower case, as often as they came."""
    final_url: str
    moved_to: str = ""
    """The URL to ask from now on: where permanent redirects, from the first one on, led."""
    hops: tuple[Hop, ...] = ()
    attempts: int = 1
    retry_after_s: float | None = None

    def header(self, name: str) -> str:
        """The first value of a header, or nothing.  `name` in lower case."""
        return next((value for known, value in self.headers if known == name), "")

    @property
    def etag(self) -> str:
        return self.header("etag")

    @property
    def last_modified(self) -> str:
        return self.header("last-modified")

    @property
    def not_modified(self) -> bool:
        return self.status == 304

    def to_plain(self) -> dict[str, Any]:
        """As the operation `fetch` answers."""
        return {
            "status": self.status,
            "headers": [list(pair) for pair in self.headers],
            "final_url": self.final_url,
            "moved_to": self.moved_to,
            "hops": [{"status": hop.status, "url": hop.url} for hop in self.hops],
            "attempts": self.attempts,
            "retry_after_s": self.retry_after_s,
            "etag": self.etag,
            "last_modified": self.last_modified,
        }


@dataclass(frozen=True, kw_only=True)
class Answer(Head):
    """A whole answer; the body is decoded."""

    body: bytes = b""
    elapsed_s: float = 0.0


def request_of(inputs: Mapping[str, Any], body: bytes = b"") -> Request:
    """Read the inputs of the operation `fetch`; `conditional` holds `etag` and `last_modified`.

    Raises PlatformError `invalid`, which names the field; unknown fields are ignored.
    """
    kinds: dict[str, Any] = {
        **dict.fromkeys(("url", "method", "credential"), str),
        **dict.fromkeys(("body_max", "redirects", "retries"), int),
        "timeout_s": (int, float),
        "idempotent": bool,
    }
    given: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name not in inputs:
            continue
        value = inputs[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _wrong(name, "this is of another kind")
        given[name] = value
    if "url" not in given:
        raise _wrong("url", "expected the URL to fetch")
    conditional = inputs.get("conditional")
    conditional = {} if conditional is None else conditional
    if not isinstance(conditional, Mapping):
        raise _wrong("conditional", "expected {etag, last_modified}")
    for name in ("etag", "last_modified"):
        value = conditional.get(name) or ""
        if not isinstance(value, str):
            raise _wrong(f"conditional.{name}", "expected text")
        given[name] = value
    return Request(**given, headers=_headers_of(inputs.get("headers")), body=body)


def _headers_of(value: Any) -> Headers:
    """A table, or a list of pairs."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value or []
    if not isinstance(pairs, list | tuple):
        raise _wrong("headers", "expected a list of [name, value]")
    for pair in pairs:
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(word, str) for word in pair)
        ):
            raise _wrong("headers", "expected a list of [name, value]")
    return tuple((name, text) for name, text in pairs)


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    size, count = 0, 0
    for name, value in headers:
        count, size = count + 1, size + len(name) + len(value)
        if not _NAME.match(name) or not _VALUE.match(value):
            # Neither is repeated: it may be a secret.
            raise _wrong("headers", f"the header number {count} is not one")
        if name.lower() in OURS:
            raise _wrong("headers", f"{name.lower()} is set by the fetcher")
    if count > limits.HEADERS_MAX or size > limits.HEADER_BYTES_MAX:
        raise _wrong(
            "headers", f"at most {limits.HEADERS_MAX}, of {limits.HEADER_BYTES_MAX} bytes together"
        )


def _wrong(field: str, expected: str) -> Exception:
    return trouble("request", f"{field}: {expected}", field=field)
