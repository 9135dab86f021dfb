"""Where a feed is: addresses checked and taken apart.  Pure.

An address comes from a person or from a redirect, so nothing of it is believed: http and https
only, no user and password, a port in range, bounded in length.  Hosts that end with the name of a
resource of the platform (`quakes.origin`) are reached by `resource.resolve`; all others by the
network, as far as the manifest's `[egress]` opens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

ADDRESS_CHARS_MAX = 2_000
SCHEMES = {"http": 80, "https": 443}


class AddressError(ValueError):
    """This address is not fetched; the text says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """`target` is what is asked for; `host` is in lower case."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host, and the port unless it is the usual one: what the header Host says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == SCHEMES[self.scheme] else f"{name}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(text: str) -> Address:
    """Raises AddressError."""
    if len(text) > ADDRESS_CHARS_MAX:
        raise AddressError(f"an address has at most {ADDRESS_CHARS_MAX} characters")
    if any(ord(c) <= 32 or ord(c) == 127 for c in text):
        raise AddressError("an address has no blanks and no control characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise AddressError(f"this is no address: {exc}") from None
    if parts.scheme not in SCHEMES:
        raise AddressError("expected an address that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise AddressError("addresses with a user name are not fetched")
    if not parts.hostname:
        raise AddressError("the address names no host")
    if port == 0:
        raise AddressError("0 is no port")
    host = _ascii(parts.hostname)
    target = urlunsplit(("", "", _quoted(parts.path) or "/", _quoted(parts.query), ""))
    target = "/" + target.lstrip("/")
    return Address(parts.scheme, host, port or SCHEMES[parts.scheme], target)


def redirected(base: Address, location: str) -> Address:
    """Where a redirect leads (RFC 9110 §10.2.2: relative to what was asked for)."""
    found = parse(urljoin(base.text, location))
    if base.scheme == "https" and found.scheme == "http":
        raise AddressError("a redirect from https to http is not followed")
    return found


def resource_of(host: str, resources: tuple[str, ...]) -> str:
    """The resource that a host belongs to; empty: it is out in the world."""
    return next((r for r in resources if host == r or host.endswith(f".{r}")), "")


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host.lower()
    except UnicodeError:
        raise AddressError("this is no name of a host") from None


def _quoted(text: str) -> str:
    """What is not ASCII, as UTF-8 in percent signs."""
    return "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in text)
