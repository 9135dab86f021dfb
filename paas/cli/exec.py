"""`paas exec` and `paas shell`: commands beside a component, in its container (io).

Standard input, output and errors are the command's own; its exit code is ours, a signal that ended
it is 128 + its number, as in a shell.  Ctrl-C goes to the command; three of them end ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from paas.base.errors import PlatformError, invalid
from paas.cli.session import Session
from paas.cli.streaming import INTERRUPTS_MAX, Channel, Streams, Wakes, carry

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
_SIGNALS_FROM = 128


def exec_(
    session: Session,
    *,
    target: str,
    command: tuple[str, ...],
    terminal: bool,
    root: bool,
    env: tuple[str, ...],
    cwd: str,
    timeout: float | None,
) -> int:
    """Run it and end as it ends."""
    if not command:
        raise invalid("command", "expected what to run: paas exec TARGET -- COMMAND")
    return _run(session, target, command, terminal, root, _variables(env), cwd, timeout)


def shell(session: Session, *, target: str, root: bool, timeout: float | None) -> int:
    """A shell: on a terminal where there is one here, else fed from standard input."""
    terminal = os.isatty(0) and os.isatty(1)
    return _run(session, target, SHELL, terminal, root, {}, "", timeout)


def _run(
    session: Session,
    target: str,
    command: tuple[str, ...],
    terminal: bool,
    root: bool,
    environment: dict[str, str],
    cwd: str,
    timeout_s: float | None,
) -> int:
    streams = Streams(session)
    params = {
        "component": session.component_id(target),
        "command": list(command),
        "environment": environment,
        "cwd": cwd,
        "root": root,
    }
    if terminal:
        rows, columns = _size()
        params |= {"terminal": True, "rows": rows, "columns": columns}
        params["environment"] = {"TERM": os.environ.get("TERM", "xterm"), **environment}
    channel = streams.open("controller.exec", params, timeout_s)
    try:
        with Wakes(_handlers(streams, channel, terminal=terminal)) as wakes, _raw(terminal):
            result = carry(streams, channel, wakes, source=0, sinks={1: 1, 2: 2})
    except BaseException:
        channel.break_off()
        raise
    return _status(session, result)


def _variables(words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise invalid("env", f"expected NAME=VALUE, not {word!r}")
        found[name] = value
    return found


def _handlers(
    streams: Streams, channel: Channel, *, terminal: bool
) -> dict[int, Callable[[], None]]:
    """What signals to us do."""
    said = {"interrupts": 0}

    def tell(**what: object) -> None:
        streams.connection.notify("controller.terminal", {"stream": channel.number, **what})

    def interrupt() -> None:
        said["interrupts"] += 1
        if said["interrupts"] >= INTERRUPTS_MAX:
            raise KeyboardInterrupt
        tell(signal="INT")

    def resize() -> None:
        rows, columns = _size()
        tell(rows=rows, columns=columns)

    found: dict[int, Callable[[], None]] = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: lambda: tell(signal="TERM"),
    }
    return {**found, signal.SIGWINCH: resize} if terminal else found


def _size() -> tuple[int, int]:
    for descriptor in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            if size.lines and size.columns:
                return size.lines, size.columns
    return 24, 80


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """Every key goes over there as it is; the terminal is put back whatever happens."""
    if not terminal or not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _status(session: Session, result: object) -> int:
    if not isinstance(result, dict):
        raise PlatformError("failed", "the command's end was not told")
    if "error" in result:
        sys.stderr.write(f"error: {result['error']}\n")
    if "number" in result:
        return _SIGNALS_FROM + int(result["number"])
    return int(result.get("code", 1))
