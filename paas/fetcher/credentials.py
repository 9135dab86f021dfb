"""Credentials by name: a header whose value stands in a file, for some hosts only.

A request names a credential; which header it is, where its value comes from and which hosts may see
it is in the settings of the fetcher, never in a request.  The value is read when it is sent, so a
replaced file counts at once; it is in no log, no error, no answer and no representation.  To a host
that is not listed it is not sent: asked for directly that is refused, after a redirect the request
goes without.  Over plain HTTP only where the settings say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paas.fetcher.limits import CREDENTIAL_BYTES_MAX
from paas.fetcher.trouble import trouble
from paas.fetcher.urls import Url

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
_VALUE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_.:\[\]-]{1,253}\Z")


@dataclass(frozen=True, slots=True)
class Credential:
    """One row of the settings."""

    name: str
    file: str
    hosts: tuple[str, ...]
    """`name`, `name:port` or `*.name`; a port that is not given is the scheme's own."""
    header: str = "authorization"
    prefix: str = field(default="", repr=False)
    """Before what stands in the file: `Bearer `."""
    plain: bool = False
    """May be sent without TLS."""

    def is_for(self, url: Url) -> bool:
        """May this URL's server see it?"""
        if not url.secure and not self.plain:
            return False
        return any(_matches(pattern, url) for pattern in self.hosts)

    def check(self, url: Url) -> None:
        """Raises PlatformError `denied` when a request to this URL may not name it."""
        if not self.is_for(url):
            what = "hosts" if url.secure or self.plain else "https"
            raise trouble(
                "credential",
                f"the credential {self.name!r} is not for {url.scheme}://{url.authority}",
                hint=f"see its {what} in the settings of the fetcher",
                field="credential",
            )

    def value(self, content: bytes) -> str:
        """The header's value, of what the file holds.  Raises PlatformError `denied`."""
        text = content.strip(b" \t\r\n")
        if len(text) > CREDENTIAL_BYTES_MAX or not _VALUE.match(text):
            raise trouble(
                "credential",
                f"the file of the credential {self.name!r} does not hold one line of text",
                field="credential",
            )
        return self.prefix + text.decode("ascii")


def credential(name: str, row: Any) -> Credential:
    """A row of settings.  Raises ValueError, which names the field."""
    if not isinstance(row, Mapping):
        raise ValueError(f"credentials.{name}: expected a table")
    known = {"file", "hosts", "header", "prefix", "plain"}
    if unknown := set(row) - known:
        raise ValueError(f"credentials.{name}: there is no {sorted(unknown)[0]!r}")
    file, hosts = row.get("file"), row.get("hosts")
    if not isinstance(file, str) or not file.startswith("/"):
        raise ValueError(f"credentials.{name}.file: expected an absolute path")
    if not isinstance(hosts, list | tuple) or not hosts:
        raise ValueError(f"credentials.{name}.hosts: expected host names")
    if not all(isinstance(host, str) and _HOST.match(host) for host in hosts):
        raise ValueError(f"credentials.{name}.hosts: expected `name`, `name:port` or `*.name`")
    header, prefix = row.get("header", "authorization"), row.get("prefix", "")
    if not isinstance(header, str) or not _TOKEN.match(header):
        raise ValueError(f"credentials.{name}.header: expected the name of a header")
    if not isinstance(prefix, str) or (prefix and not re.match(r"[\x20-\x7e]{1,64}\Z", prefix)):
        raise ValueError(f"credentials.{name}.prefix: expected plain text")
    return Credential(name, file, tuple(hosts), header.lower(), prefix, bool(row.get("plain")))


def _matches(pattern: str, url: Url) -> bool:
    if pattern.startswith("*."):
        return url.host.endswith(pattern[1:]) and url.authority == url.host
    return pattern == url.authority
