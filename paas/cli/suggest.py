""" "Did you mean": the hint of a not-found error names the closest thing that exists (io).

Only after a failure, with one more question to the cluster; when that fails too, the error stays as
it is: a suggestion is never worth a second error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from paas.base.errors import PlatformError

if TYPE_CHECKING:
    from paas.cli.session import Session

_QUOTED = re.compile(r"['\"‘“`]([^'\"’”`]+)['\"’”`]")


def improve(session: Session, error: PlatformError) -> PlatformError:
    """The error, with a better hint if there is one."""
    if error.code not in ("no-such-target", "no-such-type", "no-such-method"):
        return error
    wanted = _wanted(error)
    if not wanted or "did you mean" in error.hint:
        return error
    try:
        names = _names(session, error.code)
    except (PlatformError, KeyError, TypeError):
        return error
    import difflib

    close = difflib.get_close_matches(wanted, names, n=1)
    if close:
        error.hint = f"did you mean {close[0]!r}?  {error.hint}"
    return error


def _wanted(error: PlatformError) -> str:
    """What was asked for: in the error's data, or quoted in its message."""
    for key in ("target", "type", "name", "method", "component"):
        value = error.data.get(key)
        if isinstance(value, str):
            return value
    found = _QUOTED.search(error.message)
    return found[1] if found else error.message.rpartition(" ")[2]


def _names(session: Session, code: str) -> list[str]:
    if code == "no-such-method":
        document = session.call("rpc.discover")
        return [m["name"] for m in document["methods"]]
    types = [t["name"] for t in session.call("controller.types")["types"]]
    if code == "no-such-type":
        return sorted(set(types))
    components = session.call("controller.components")["components"]
    groups = session.call("hub.groups")["groups"]
    return sorted({c["name"] for c in components if c["name"]} | set(groups) | set(types))
