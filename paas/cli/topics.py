"""Help topics, and the version.  The table of exit statuses is made from `base.errors` itself."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

from paas import __version__
from paas.base.errors import CATALOGUE, Exit, PlatformError
from paas.cli import commands, manual
from paas.cli.session import Session

EXIT_TEXTS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "the remote operation failed, or a comparison found differences",
    Exit.USAGE: "the command line or a value in it is wrong",
    Exit.NOT_FOUND: "what was named does not exist",
    Exit.DENIED: "not logged in, not allowed, or not trusted",
    Exit.CONFLICT: "it contradicts what exists",
    Exit.UNREACHABLE: "the platform cannot be reached, or has no leader",
    Exit.DEADLINE: "the deadline has passed",
    Exit.PENDING: "accepted but not placed, or the outcome is not known",
    Exit.INTERNAL: "an error of the platform itself",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

ENVIRONMENT: dict[str, str] = {
    "PAAS_STATE": "the state directory of the cluster that is meant",
    "PAAS_CONTEXT": "the context that is meant, when PAAS_STATE is not set",
    "PAAS_NODE": "the node of several that is to answer; otherwise any",
    "PAAS_DEBUG": "any value: show the traceback of an internal error of this command",
    "NO_COLOR": "any value: no colour",
    "CLICOLOR_FORCE": "other than 0: colour also where there is no terminal",
    "XDG_CONFIG_HOME": "contexts are in paas/config.toml below it (default ~/.config)",
    "XDG_DATA_HOME": "keys are in paas/keys/ below it (default ~/.local/share)",
    "XDG_CACHE_HOME": "names for completion are in paas/ below it (default ~/.cache)",
    "XDG_STATE_HOME": "state of `paas dev` for other users than root (default ~/.local/state)",
}

COMPONENT_ENVIRONMENT: dict[str, str] = {
    "PAAS_SOCKET": "the UNIX stream socket of its harness (protocol json or msgpack)",
    "PAAS_FD": "the same channel as an open descriptor, for programs that cannot connect",
    "PAAS_COMPONENT_ID": "its identifier",
    "PAAS_ENDPOINT_<NAME>": "host:port to listen on, one for each [endpoints.<name>]",
    "PAAS_ENDPOINT6_<NAME>": "the same by IPv6, [address]:port, where its node has it",
}

FORMATTING = """\
-o table   columns for people (the default); wide has more of them
-o json    one JSON value; an empty list is [] with exit status 0
-o jsonl   one JSON value a line: items of lists, and every stream (logs -f, events, --watch)
-o name    the one word that names each thing: ids, names, name@version

--query EXPRESSION picks from the JSON value first (JMESPath, jmespath.org):
  paas ps --query "components[?state=='available'].id"
Results go to standard output; progress, hints, errors to standard error. With -o json an error is
  {"error": {"code", "message", "hint", "trace_id", "retryable"}}
Times are seconds since 1970 and RFC 3339 text in UTC in JSON, relative ("3m") in tables.
Colour is for terminals only and never alone carries a meaning: --color, NO_COLOR, CLICOLOR_FORCE.
"""

ADDRESSING = """\
Which cluster: --state DIR, then PAAS_STATE, then --context NAME or PAAS_CONTEXT, then the context
chosen with `paas context use NAME`, then the default state directory.

Which node answers: any that runs, unless --node NAME or PAAS_NODE insists on one.

Which component: its id (40 digits), the first 8 or more digits of the id, or its name. `call` and
`cast` also take group:NAME: one available member, or with --selector all every member. `logs` takes
the name of a component, a group or a type, and looks in that order.

Which type: name@version, or name for the newest registration.
"""


def exit_codes() -> str:
    """The table of `paas help exit-codes`: status, meaning, and the errors that end so."""
    lines = []
    for status, text in EXIT_TEXTS.items():
        lines.append(f"{int(status):>4}  {text}")
        codes = [kind.code for kind in CATALOGUE.values() if kind.exit_status is status]
        if codes:
            lines.append(f"      {', '.join(codes)}")
    return "\n".join(lines) + "\n"


def environment() -> str:
    width = max(map(len, ENVIRONMENT)) + 2
    return "\n".join(f"{name:<{width}}{text}" for name, text in ENVIRONMENT.items()) + "\n"


def formatting() -> str:
    return FORMATTING


def addressing() -> str:
    return ADDRESSING


TOPICS: dict[str, Callable[[], str]] = {
    "environment": environment,
    "formatting": formatting,
    "exit-codes": exit_codes,
    "addressing": addressing,
}


def help_(session: Session, *, topic: tuple[str, ...]) -> None:
    """A topic, a command, or the overview."""
    words = list(topic)
    if not words:
        session.output.stdout.write(manual.overview())
    elif words[0] in TOPICS:
        session.output.stdout.write(TOPICS[words[0]]())
    elif row := commands.find(words):
        session.output.stdout.write(manual.page(row))
    else:
        raise PlatformError(
            "invalid",
            f"there is no help about {' '.join(words)!r}",
            hint=f"topics: {', '.join(TOPICS)}; or a command: paas --help",
        )


def version(session: Session) -> None:
    value = {
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
    }
    session.output.value(value, f"paas {__version__}", [__version__])
