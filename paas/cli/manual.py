"""Help texts from the table of commands: pure, and quick enough to need no parser.

Each `--help` begins with two examples (cli: rule 15); the wide columns are the table's own words.
"""

from __future__ import annotations

from paas.cli.commands import COMMANDS
from paas.cli.rows import GLOBAL_OPTIONS, SECTIONS, Command, Option

WIDTH = 16

_INTRODUCTION = """\
paas: every program is a supervised actor.

Examples
  paas dev --detach                            a cluster on this machine
  paas push examples/hello                     build, sign and store a bundle
  paas create hello --count 3 --group greeters
  paas call group:greeters greet name=Ada
"""

_CLOSING = """\
Help topics: paas help environment | formatting | exit-codes | addressing
About a command: paas COMMAND --help
"""


def overview() -> str:
    """What `paas --help` prints."""
    parts = [_INTRODUCTION]
    for section in SECTIONS:
        rows = [row for row in COMMANDS if row.section == section and not row.hidden]
        lines = [f"  {row.path:<{WIDTH}} {row.text}" for row in rows]
        parts.append("\n".join([section, *lines]) + "\n")
    parts.append("Everywhere\n" + "\n".join(option_lines(GLOBAL_OPTIONS)) + "\n")
    parts.append(_CLOSING)
    return "\n".join(parts)


def page(row: Command) -> str:
    """What `paas COMMAND --help` prints."""
    width = max(len(arguments) for arguments, _ in row.examples) + 2
    lines = [f"paas {row.path}: {row.text}", "", "Examples"]
    lines += [f"  paas {arguments:<{width}} {does}" for arguments, does in row.examples]
    lines += ["", f"Usage: {usage(row)}"]
    if row.more:
        lines += ["", row.more]
    if row.arguments:
        lines += ["", "Arguments"]
        lines += [f"  {a.name.upper():<{WIDTH + 10}} {a.text}" for a in row.arguments]
    options = [o for o in row.options if not o.hidden]
    if options:
        lines += ["", "Options", *option_lines(options)]
    lines += ["", "Everywhere", *option_lines(GLOBAL_OPTIONS)]
    return "\n".join(lines) + "\n"


def usage(row: Command) -> str:
    words = ["paas", *row.words]
    for argument in row.arguments:
        text = argument.name.upper() + ("..." if argument.many else "")
        words.append(text if argument.required else f"[{text}]")
    return " ".join([*words, "[OPTIONS]"])


def option_lines(options: tuple[Option, ...] | list[Option]) -> list[str]:
    """One line an option: its flags with what they take, and what it means."""
    lines = []
    for option in options:
        flags = ", ".join(sorted(option.flags, key=len))
        takes = value_text(option)
        left = f"{flags} {takes}".rstrip()
        text = option.text
        if option.many:
            text += " (may be repeated)"
        if option.default not in (None, "", False, 0):
            text += f" (default: {option.default})"
        if len(left) > WIDTH + 10:
            lines += [f"  {left}", " " * (WIDTH + 13) + text]
        else:
            lines.append(f"  {left:<{WIDTH + 10}} {text}")
    return lines


def value_text(option: Option) -> str:
    """What stands after the flag."""
    if option.kind == "flag":
        return ""
    if option.choices:
        return "|".join(option.choices)
    return option.metavar or option.kind.upper()
