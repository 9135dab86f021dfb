"""What one row of the table of commands is made of: plain data, no behaviour.

A row's `run` names a function, `module:function` below `paas.cli`, imported only when the command
is used.  It is called with the session and one keyword argument for each argument and option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "flag", "int", "float", "duration"]
"""What an option takes: nothing (flag), or a value; a `duration` is like 90, 90s or 2m."""

Names = Literal["", "node", "target", "component", "type", "group", "topic", "application"]
"""Which live names complete an argument."""


RUN, DEVELOP, LOOK, OPERATE, MISC = (
    "A cluster on this machine",
    "Components",
    "Looking",
    "Operating",
    "More",
)
SECTIONS = (RUN, DEVELOP, LOOK, OPERATE, MISC)
"""Headings of the overview, in their order."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A word that the command takes.  `many`: any number of words, given as a tuple."""

    name: str
    text: str
    required: bool = True
    many: bool = False
    names: Names = ""


@dataclass(frozen=True, slots=True)
class Option:
    """An option; the function's keyword is the first long name with `_` for `-` (see parser)."""

    flags: tuple[str, ...]
    text: str
    kind: Kind = "text"
    default: object = None
    choices: tuple[str, ...] = ()
    many: bool = False
    metavar: str = ""
    hidden: bool = False

    @property
    def keyword(self) -> str:
        long = next(flag for flag in self.flags if flag.startswith("--"))
        return long[2:].replace("-", "_")


@dataclass(frozen=True, slots=True)
class Command:
    """One row: what a person types, what it means, what runs.

    `examples` are pairs of (arguments after `paas`, what it does); each row has at least two.
    """

    words: tuple[str, ...]
    section: str
    text: str
    run: str
    examples: tuple[tuple[str, str], ...]
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    more: str = ""
    hidden: bool = False

    @property
    def path(self) -> str:
        return " ".join(self.words)


GLOBAL_OPTIONS = (
    Option(
        ("--output", "-o"),
        "how to print results",
        choices=("table", "wide", "json", "jsonl", "name"),
    ),
    Option(("--query",), "pick from the JSON result (JMESPath)", metavar="EXPRESSION"),
    Option(("--state",), "the cluster whose state is in this directory", metavar="DIR"),
    Option(("--context",), "the cluster of this context (see: paas context)", metavar="NAME"),
    Option(("--node",), "ask this node of several (default: any)", metavar="NAME"),
    Option(("--url",), "a cluster elsewhere: https://HOST:PORT/rpc", metavar="URL"),
    Option(("--token-file",), "(with --url) your token", metavar="FILE"),
    Option(("--cert-file",), "(with --url) your certificate", metavar="FILE"),
    Option(("--key-file",), "(with --url) its key", metavar="FILE"),
    Option(("--authority-file",), "(with --url) the authority to trust", metavar="FILE"),
    Option(("--color",), "when to use colour", choices=("auto", "always", "never")),
)
"""Accepted before and after every command."""

WATCH = Option(("--watch", "-w"), "print again whenever it changes, until Ctrl-C", kind="flag")
YES = Option(("--yes", "-y"), "do not ask", kind="flag", default=False)
DRY_RUN = Option(("--dry-run",), "only say what would be done", kind="flag", default=False)
REQUEST_ID = Option(
    ("--request-id",), "repeat a request with its id: it is done once", metavar="ID"
)
TIMEOUT = Option(("--timeout",), "how long to wait for the answer", kind="duration", metavar="TIME")
