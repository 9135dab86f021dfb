"""Runs attempts and says how each ended; with the base's Python and nothing else.

The argument: JSON {"wanted": [names], "calls": {name: [number, arguments...]},
"facts": {...}}.  Prints a JSON list of the outcomes in the order wanted: "ok" (it worked), the name
of an errno, "signal:NAME" (it ended the process), or a word of the attempt's own.

Every attempt runs in a child of its own (for a control, with mounts of its own), so that none can
spoil the next.  Attempts are functions
of the modules `attempts_*`, or plain system calls: integers and strings are passed as they are,
null as no pointer, "@zero" as 4,096 zero bytes, "@64" as as many.
"""

# ruff: noqa: T201

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
ATTEMPTS: dict[str, Callable[[], Any]] = {}
FACTS: dict[str, Any] = {}
NUMBERS: dict[str, int] = {}
TIME_OUT_S = 20


def attempt(function: Callable[[], Any]) -> Callable[[], Any]:
    """Register a function under its name."""
    ATTEMPTS[function.__name__] = function
    return function


def call(name: str | int, *arguments: Any) -> int:
    """A raw system call, by number or by a name of NUMBERS."""
    number = NUMBERS[name] if isinstance(name, str) else name
    widened = [_argument(a) for a in arguments]
    result = int(LIBC.syscall(ctypes.c_long(number), *widened))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _argument(value: Any) -> Any:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, str):
        if value.startswith("@"):
            size = 4096 if value == "@zero" else int(value[1:])
            return ctypes.create_string_buffer(size)
        return value.encode()
    return value


def refuse(name: str) -> OSError:
    """What an attempt raises that found by itself that it did not work."""
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


def outcome(function: Callable[[], Any]) -> str:
    """Run in a child, within bounded time."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(TIME_OUT_S)
        if FACTS.get("own_mounts"):
            LIBC.unshare(0x20000)
        try:
            found = function()
            answer = found if isinstance(found, str) else "ok"
        except OSError as exc:
            answer = errno.errorcode.get(exc.errno or 0, repr(exc))
        except BaseException as exc:
            answer = repr(exc)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    answer = os.read(read, 1000).decode()
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and not answer:
        return f"signal:{signal.Signals(os.WTERMSIG(status)).name}"
    return answer


def main() -> int:
    order = json.loads(sys.argv[1])
    FACTS.update(order["facts"])
    NUMBERS.update(order["numbers"])
    for name, words in order["calls"].items():
        ATTEMPTS[name] = lambda words=words: call(*words)
    for name in ("attempts_kernel", "attempts_files", "attempts_world"):
        importlib.import_module(name)
    outcomes = [outcome(ATTEMPTS[name]) for name in order["wanted"]]
    print(json.dumps(outcomes, separators=(",", ":")))  # only the end of a long log is kept
    return 0


if __name__ == "__main__":
    # The attempts register themselves in this module, not in a second one of its name.
    sys.modules["inside"] = sys.modules["__main__"]
    sys.exit(main())
