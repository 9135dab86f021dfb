"""URLs, read one way only.

What two parsers read differently is refused, or a check of one would not hold for the other: blanks
and control characters, backslashes, user names, hosts that are neither a name nor an address.
Names with other letters than ASCII become their A-labels (RFC 5891); a path with such letters is
percent-encoded as UTF-8 (RFC 3987 §3.1).  Fragments stay with the caller.

Source: RFC 3986; the refusals: "A New Era of SSRF" (Orange Tsai, 2017).
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import idna

from paas.fetcher.limits import URL_MAX
from paas.fetcher.trouble import trouble

PORTS = {"http": 80, "https": 443}

_STRANGE = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KEPT = "%/:?#[]@!$&'()*+,;=~-._"
_HOST_MAX = 253


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute http or https URL."""

    scheme: str
    host: str
    """Lower-case A-labels, or an address without brackets."""
    port: int
    target: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        """For the header `host`, and for URLs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(text: str, field: str = "url") -> Url:
    """Read a URL.  Raises PlatformError `invalid`, which names the field."""
    if len(text) > URL_MAX:
        raise trouble("url", f"{field}: a URL has at most {URL_MAX} characters", field=field)
    if not text or _STRANGE.search(text):
        raise trouble(
            "url", f"{field}: expected a URL without blanks or control characters", field=field
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise trouble("url", f"{field}: this is not a URL", field=field) from None
    if parts.scheme not in PORTS:
        raise trouble("url", f"{field}: expected http:// or https://", field=field)
    if "@" in parts.netloc:
        raise trouble(
            "url", f"{field}: no user or password in URLs: name a credential", field=field
        )
    host = _host(parts.hostname or "", field)
    if port == 0:
        raise trouble("url", f"{field}: 0 is no port", field=field)
    target = quote(parts.path or "/", safe=_KEPT)
    if parts.query:
        target += "?" + quote(parts.query, safe=_KEPT)
    if not target.startswith("/"):
        raise trouble("url", f"{field}: this is not a URL", field=field)
    return Url(parts.scheme, host, port or PORTS[parts.scheme], target)


def join(base: Url, location: str) -> Url:
    """What a `Location` means that came from `base` (RFC 9110 §10.2.2)."""
    if len(location) > URL_MAX:
        raise trouble("redirect-invalid", "the server redirects to a URL that is too long")
    with suppress(UnicodeError):
        # Headers are bytes; servers send UTF-8 in them where only ASCII is allowed.
        location = location.encode("latin-1").decode("utf-8")
    location = quote(location.strip(" \t"), safe=_KEPT)
    try:
        # With a scheme it is read as it stands: `http:x` and `http:///x` mean different things to
        # different readers, and nothing to this one.
        whole = location if _SCHEME.match(location) else urljoin(str(base), location)
        return parse(whole, "location")
    except ValueError:
        raise trouble("redirect-invalid", "the server redirects to what is no URL") from None


def _host(host: str, field: str) -> str:
    host = host.rstrip(".") if host.endswith(".") and not host.endswith("..") else host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise trouble("url", f"{field}: this host has no valid name", field=field) from None
    labels = host.split(".")
    if len(host) > _HOST_MAX or not all(_LABEL.match(label) for label in labels):
        raise trouble("url", f"{field}: this host has no valid name", field=field)
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        # `127.1`, `2130706433`, `0x7f.1`: addresses to some resolvers (WHATWG URL, §3.5).
        raise trouble("url", f"{field}: write an address as four numbers", field=field)
    return host
