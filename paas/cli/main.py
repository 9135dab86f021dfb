"""From the words of a command line to an exit status (io).

    words ── global options taken out ── row found in the table ── parsed ── function ── status

Help needs the table alone, so it appears before anything else is imported.  Every end is an exit
status of `base.errors.Exit`: an error of the catalogue is printed as message, hint and trace;
Ctrl-C is 130; a reader that has gone away (`paas ps | head -1`) ends the command quietly; anything
else is our own fault, said in one line with where the details are, never a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from paas.base.errors import Exit, PlatformError
from paas.cli import commands
from paas.cli.rows import GLOBAL_OPTIONS, Command, Option

if TYPE_CHECKING:
    from paas.cli.session import Session

_FLAGS: dict[str, Option] = {flag: o for o in GLOBAL_OPTIONS for flag in o.flags}
DEBUG_VARIABLE = "PAAS_DEBUG"


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; the exit status.  `sys.exit` is the caller's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A signal that was ignored for us (nohup, a shell's background job) stays ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return int(Exit.DONE)


def _run(words: list[str]) -> int:
    try:
        given, rest = split_globals(words)
    except PlatformError as exc:
        return _fail(exc, words)
    if not rest or rest[0] in ("--help", "-h"):
        from paas.cli.manual import overview

        sys.stdout.write(overview())
        return int(Exit.DONE)
    if rest[0] in ("--version", "-V"):
        rest = ["version"]
    row = commands.find(rest)
    if row is None:
        return _fail(_unknown(rest), words)
    tail = rest[len(row.words) :]
    if asks_for_help(tail):
        from paas.cli.manual import page

        sys.stdout.write(page(row))
        return int(Exit.DONE)
    return _command(row, tail, given)


def split_globals(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Global options before the command, and the rest beginning with the command."""
    given: dict[str, str] = {}
    at = 0
    while at < len(words) and words[at].startswith("-"):
        flag, equals, value = words[at].partition("=")
        if flag not in _FLAGS and flag[:2] in _FLAGS and not flag.startswith("--"):
            flag, value, equals = flag[:2], words[at][2:], "="  # -ojson
        option = _FLAGS.get(flag)
        if option is None:
            break
        if not equals:
            at += 1
            if at == len(words):
                raise PlatformError("invalid", f"{flag} needs a value", hint="see: paas --help")
            value = words[at]
        if option.choices and value not in option.choices:
            raise PlatformError(
                "invalid",
                f"{flag}: expected one of {', '.join(option.choices)}, not {value!r}",
                hint="see: paas help formatting",
            )
        given[option.keyword] = value
        at += 1
    return given, words[at:]


def asks_for_help(words: list[str]) -> bool:
    """Is --help there, before a `--`?"""
    own = words[: words.index("--")] if "--" in words else words
    return "--help" in own or "-h" in own


def _command(row: Command, words: list[str], given: dict[str, str]) -> int:
    from paas.cli.parser import parse
    from paas.cli.session import Session

    try:
        values, after = parse(row, words)
        session = Session(**{**given, **after})
    except PlatformError as exc:
        return _fail(exc, [*(f"--output={v}" for k, v in given.items() if k == "output"), *words])
    with session:
        return call(row, session, values)


def call(row: Command, session: Session, values: dict[str, Any]) -> int:
    """Import and call the row's function; its errors become exit statuses."""
    import importlib

    module, _, name = row.run.partition(":")
    try:
        function = getattr(importlib.import_module(f"paas.cli.{module}"), name)
        status = function(session, **values)
        return int(Exit.DONE) if status is None else int(status)
    except PlatformError as exc:
        from paas.cli import suggest

        return session.output.error(suggest.improve(session, exc), session.trace)
    except KeyboardInterrupt:
        session.output.end_line()
        raise
    except BrokenPipeError:
        raise
    except Exception as exc:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        text = f"{type(exc).__name__}: {exc}"
        error = PlatformError(
            "internal", text, hint=f"report it with the output of {DEBUG_VARIABLE}=1"
        )
        return session.output.error(error, session.trace)


def _unknown(words: list[str]) -> PlatformError:
    import difflib

    names = sorted({row.words[0] for row in commands.COMMANDS if not row.hidden})
    close = difflib.get_close_matches(words[0], names, n=1)
    hint = f"did you mean 'paas {close[0]}'?  see: paas --help" if close else "see: paas --help"
    kind = "option" if words[0].startswith("-") else "command"
    return PlatformError("invalid", f"paas has no {kind} {words[0]!r}", hint=hint)


def _fail(exc: PlatformError, words: list[str]) -> int:
    """An error before there is a session: the wanted format is looked for in the raw words."""
    from paas.cli.output import Output

    wanted = "table"
    for at, word in enumerate(words):
        if word in ("-o", "--output") and at + 1 < len(words):
            wanted = words[at + 1]
        elif word.startswith("--output=") or (word.startswith("-o") and len(word) > 2):
            wanted = word.partition("=")[2] or word[2:]
    return Output(wanted if wanted in ("json", "jsonl") else "table").error(exc, "")


if __name__ == "__main__":
    sys.exit(main())
