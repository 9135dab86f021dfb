"""Words of HAProxy's configuration, so that no value can be anything but a value.

Strong quotes: between them nothing has a meaning but the quote itself, which is written outside of
them (configuration manual §2.2).  In formats a percent sign is doubled (§8.2.4).  Control
characters have no place in any value here; one is an error of the caller, who has checked before.
"""

from __future__ import annotations

import re

from paas.base.errors import LocalError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = re.compile(r"[A-Za-z0-9._:/@*=+-]+\Z")


def word(text: str) -> str:
    """One argument."""
    if _CONTROL.search(text):
        raise LocalError("a value of the configuration has a control character")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise LocalError("a value of the configuration has no place in a header") from None
    if _BARE.match(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def formatted(text: str) -> str:
    """One argument that is a format (§8.2.4), meaning this text."""
    return word(text.replace("%", "%%"))


def matching(pattern: str, text: str, what: str) -> str:
    """The text, which has this form: what stands in the configuration without quotes."""
    if not re.fullmatch(pattern, text):
        raise LocalError(f"this is no {what} for the configuration")
    return text
