"""Landlock: rules on files and scopes that a process lays on itself and its descendants.

    version()      which generation of it the kernel has; 0: none
    make_rules()   a descriptor of rules: what is named may be done below the given paths, nothing
                   else of what the rules handle
    restrict()     puts them on this thread and all it will start; nothing takes them off again

Rules of this kind need no capability, stay in force over execve, and hold whatever the mounts and
permissions say.  A process under any rules can change no mount and trace nobody outside.  A right
that the running kernel does not know is left out; what it knows only in part is never guessed.

Numbers and structures: include/uapi/linux/landlock.h; landlock(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import IntFlag

from paas.real.kernel_calls import system_call

_SYS_CREATE_RULESET = 444
_SYS_ADD_RULE = 445
_SYS_RESTRICT_SELF = 446
_ASK_VERSION = 1
_BELOW_PATH = 1
_QUIET_SUBDOMAINS = 1 << 2

VERSION_MIN = 2
"""The first generation forbids every renaming from one directory to another."""

_VERSION_TRUNCATE = 3
_VERSION_IOCTL = 5
_VERSION_SCOPES = 6
_VERSION_QUIET = 7


class Right(IntFlag):
    """What can be done to a file or below a directory."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_SINCE_FIRST = Right(0x1FFF) | Right.REFER
_TRUNCATE = Right.TRUNCATE
_IOCTL = Right.IOCTL_DEV


class Scope(IntFlag):
    """What a restricted process may not reach outside of its own restriction."""

    ABSTRACT_SOCKETS = 1 << 0
    SIGNALS = 1 << 1


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The generation of Landlock in this kernel; 0 when there is none or it is switched off."""
    try:
        return system_call(_SYS_CREATE_RULESET, "ask for Landlock", None, 0, _ASK_VERSION)
    except OSError as exc:
        if exc.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def known_rights(generation: int) -> Right:
    """All rights on files that a kernel of this generation can withhold."""
    rights = _SINCE_FIRST
    if generation >= _VERSION_TRUNCATE:
        rights |= _TRUNCATE
    if generation >= _VERSION_IOCTL:
        rights |= _IOCTL
    return rights


def make_rules(allowed: Iterable[tuple[str, Right]], scopes: Scope, generation: int) -> int:
    """A descriptor of rules: below each path its rights, elsewhere none; -1 without Landlock.

    A path that is not there is left out: there is nothing below it.
    """
    if generation < VERSION_MIN:
        return -1
    handled = known_rights(generation)
    scoped = scopes if generation >= _VERSION_SCOPES else Scope(0)
    attr = _RulesetAttr(int(handled), 0, int(scoped))
    # Older kernels know a shorter structure and accept a longer one whose rest is zero.
    size = ctypes.sizeof(attr)
    rules = system_call(_SYS_CREATE_RULESET, "make rules", ctypes.byref(attr), size, 0)
    os.set_inheritable(rules, False)
    try:
        for path, rights in allowed:
            if known := rights & handled:  # a rule of nothing is refused
                _add(rules, path, known)
    except BaseException:
        os.close(rules)
        raise
    return rules


def _add(rules: int, path: str, rights: Right) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        attr = _PathBeneathAttr(int(rights), fd)
        what = f"add a rule for {path}"
        system_call(_SYS_ADD_RULE, what, rules, _BELOW_PATH, ctypes.byref(attr), 0)
    finally:
        os.close(fd)


def restrict(rules: int, generation: int) -> None:
    """In force from here on, for this thread and what it starts; needs no_new_privs."""
    # What rules of the component's own refuse later is not told to the host's audit log, which a
    # hostile component could fill.
    quiet = _QUIET_SUBDOMAINS if generation >= _VERSION_QUIET else 0
    system_call(_SYS_RESTRICT_SELF, "restrict this process", rules, quiet)
