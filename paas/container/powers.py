"""Capabilities that a component may be given, and why not the others.

Pure.  A container's user namespace owns nothing but its users: mounts, links, names and queues
belong to the host's (`launch.py`), so most capabilities would count for nothing in it.  Four of
these count for files that belong to users of the container; the fifth opens the ports below 1024
of the container's own network, which the kernel does by a setting of that network.

Refused for good, although the kernel would honour them inside:

    KILL, SETUID, SETGID, SYS_PTRACE, SETPCAP   reach pid 1, which is the platform's, by its user
    SYS_ADMIN, SYS_CHROOT                       widen what the kernel can be asked to do
    DAC_READ_SEARCH                             opens files by handle ("shocker")
    SETFCAP                                     means nothing under no_new_privs

Source: capabilities(7), user_namespaces(7).
"""

from __future__ import annotations

from collections.abc import Iterable

from paas.base.errors import invalid

NET_BIND_SERVICE = "NET_BIND_SERVICE"

GRANTABLE: dict[str, int] = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    NET_BIND_SERVICE: 10,
}
"""Name to the kernel's number."""


def check(names: Iterable[str]) -> None:
    """Raise `invalid` unless every name may be given, each once."""
    given = list(names)
    if len(set(given)) != len(given) or not set(given) <= GRANTABLE.keys():
        raise invalid("capabilities", f"some of {', '.join(GRANTABLE)}, each at most once")


def numbers(names: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted(GRANTABLE[name] for name in names))
