"""Who somebody is: the name in a cookie.  Pure.

This is a demonstration: who says a name is that person, there are no passwords (the README says so,
and so does the page).  The cookie is not sent with requests of other sites (SameSite=Strict), and
no script can read it.  A WebSocket is opened only by pages of the same host (RFC 6455 §10.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

COOKIE = "feeds_user"
YEAR_S = 31_536_000

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")


def name_of(text: str) -> str:
    """A name as it is kept; empty when it is none."""
    found = text.strip().lower()
    return found if _NAME.fullmatch(found) else ""


def user_of(headers: Mapping[str, str]) -> str:
    """Who asks; empty when nobody is known."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return name_of(value)
    return ""


def cookie(user: str, secure: bool) -> str:
    """The header Set-Cookie; without a name, it ends the session (RFC 6265 §4.1)."""
    age = YEAR_S if user else 0
    words = f"{COOKIE}={user}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return f"{words}; Secure" if secure else words


def is_secure(headers: Mapping[str, str]) -> bool:
    """Did the browser come by TLS?  The gateway says so."""
    forwarded = headers.get("forwarded", "").lower()
    return "proto=https" in forwarded or headers.get("x-forwarded-proto", "").lower() == "https"


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Was this asked by a page of ours?  Programs that are no browsers send no Origin."""
    origin = headers.get("origin")
    if origin is None:
        return True
    hosts = {headers.get("host", "").lower(), headers.get("x-forwarded-host", "").lower()} - {""}
    return urlsplit(origin).netloc.lower() in hosts
