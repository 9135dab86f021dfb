"""Giving up power for good: capabilities, secure bits, no_new_privs, filters, limits, keyrings.

Order matters and is the caller's business (`container/launch.py`): bounding set and secure bits
need CAP_SETPCAP and come before `keep_capabilities`; the filter comes after `no_new_privileges`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
from collections.abc import Collection

from paas.real.kernel_calls import SYS_CAPSET, SYS_KEYCTL, call, prctl, system_call

CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7

_CAP_LAST_POSSIBLE = 63
_CAPABILITY_VERSION_3 = 0x20080522
_WORD = 0xFFFFFFFF
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_KEYCTL_JOIN_SESSION_KEYRING = 1
# NOROOT, NO_CAP_AMBIENT_RAISE and KEEP_CAPS off, each locked: uid 0 means nothing at execve, and
# nothing can be made to mean something.  NO_SETUID_FIXUP stays off on purpose: pid 1's child loses
# what is left of its capabilities by becoming the component's user.
_SECURE_BITS = 0b1 | 0b10 | 0b1000 | 0b100000 | 0b1000000 | 0b10000000
# Where the component is to have capabilities: uid 0 still means nothing, but what pid 1 keeps for
# its child can be kept over the change of user (KEEP_CAPS) and handed over at execve (ambient).
_SECURE_BITS_GRANTS = 0b1 | 0b10 | 0b1000


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def drop_bounding_set(keep: Collection[int] = ()) -> None:
    """No execve below this process can ever gain a capability that is not in `keep`."""
    prctl(_PR_CAP_AMBIENT, "clear ambient capabilities", _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in sorted(set(range(_CAP_LAST_POSSIBLE + 1)) - set(keep)):
        try:
            prctl(_PR_CAPBSET_DROP, f"drop capability {number}", number)
        except OSError as exc:
            if exc.errno == errno.EINVAL:  # beyond the last one this kernel knows
                return
            raise


def lock_secure_bits(*, grants: bool = False) -> None:
    """`grants`: a child may be given some of what this process keeps."""
    bits = _SECURE_BITS_GRANTS if grants else _SECURE_BITS
    prctl(_PR_SET_SECUREBITS, "lock the secure bits", bits)


def keep_capabilities(numbers: Collection[int], permitted: Collection[int] = ()) -> None:
    """Keep `numbers` in force and `permitted` in reserve, none as inheritable; drop all others."""
    force, reserve = _mask(numbers), _mask(permitted)
    _set_capabilities(force, force | reserve, 0)


def hand_over(numbers: Collection[int]) -> None:
    """After the change of user: have exactly these, and keep them over execve."""
    mask = _mask(numbers)
    _set_capabilities(mask, mask, mask)
    for number in numbers:
        what = f"hand over capability {number}"
        prctl(_PR_CAP_AMBIENT, what, _PR_CAP_AMBIENT_RAISE, number)


def _mask(numbers: Collection[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(
        *(
            _Data(effective >> at & _WORD, permitted >> at & _WORD, inheritable >> at & _WORD)
            for at in (0, 32)
        )
    )
    system_call(SYS_CAPSET, "set capabilities", ctypes.byref(header), ctypes.byref(data))


def no_new_privileges() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, "set no_new_privs", 1)


def undumpable() -> None:
    """No core file, no tracing by a process without capabilities over us."""
    prctl(_PR_SET_DUMPABLE, "become undumpable", 0)


def install_filter(program: bytes) -> None:
    """Install a compiled BPF program as system-call filter of this process and its descendants."""
    if not program or len(program) % 8:
        raise ValueError("a filter program is a whole number of 8-byte instructions")
    buffer = ctypes.create_string_buffer(program, len(program))
    structure = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_char_p))
    address = ctypes.cast(ctypes.byref(structure), ctypes.c_void_p)
    prctl(_PR_SET_SECCOMP, "install the system-call filter", _SECCOMP_MODE_FILTER, address)


def limit(kind: int, soft: int, hard: int) -> None:
    """Set a resource limit; where raising is not allowed, keep as much as there is."""
    _, now_hard = resource.getrlimit(kind)
    try:
        resource.setrlimit(kind, (soft, hard))
    except (PermissionError, ValueError):
        reachable = hard if now_hard == resource.RLIM_INFINITY else min(hard, now_hard)
        resource.setrlimit(kind, (min(soft, reachable), reachable))


def leave_keyrings() -> None:
    """Join a new, empty session keyring, so that none of the host's keys can be found."""
    with contextlib.suppress(OSError):  # a kernel without keyrings has nothing to leave
        system_call(SYS_KEYCTL, "join a keyring", _KEYCTL_JOIN_SESSION_KEYRING, 0)


def become(uid: int, gid: int, capabilities: Collection[int] = ()) -> None:
    """Be this user and nobody else; supplementary groups are given up.

    Capabilities end with the change from user 0 to another, but those given, of what this process
    has in reserve.
    """
    if capabilities:
        prctl(_PR_SET_KEEPCAPS, "keep capabilities over the change of user", 1)
    call("setgroups", "give up groups", ctypes.c_size_t(0), None)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if capabilities:
        hand_over(capabilities)
