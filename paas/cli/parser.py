"""From one row of the table to a parser of its words (click), and from words to typed values.

click is used as a parser alone: commands are found in the table, help comes from `manual`, errors
from `output`.  Only the row that is used becomes a click command, so nothing else costs time.
"""

from __future__ import annotations

import builtins
import difflib
import keyword
from typing import Any

import click

from paas.base.errors import PlatformError
from paas.cli.rows import GLOBAL_OPTIONS, Command, Option

GLOBAL_KEYWORDS = tuple(option.keyword for option in GLOBAL_OPTIONS)


class Duration(click.ParamType[float]):
    """Seconds, written as `base.units` reads them: 90, 90s, 500ms, 2m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from paas.base.units import to_seconds

        if isinstance(value, float):
            return value
        try:
            return to_seconds(float(value) if str(value).replace(".", "", 1).isdigit() else value)
        except ValueError as exc:
            self.fail(f"expected {exc}", param, ctx)


_TYPES: dict[str, Any] = {
    "text": click.STRING,
    "int": click.INT,
    "float": click.FLOAT,
    "duration": Duration(),
    "flag": click.BOOL,
}


def parse(row: Command, words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the row's arguments and options, and the global options that were given.

    A keyword that Python or its builtins use has `_` behind it.  Raises PlatformError("invalid")
    with what was expected.
    """
    command = click.Command(
        row.words[-1],
        params=[*_arguments(row), *(_option(o) for o in (*row.options, *GLOBAL_OPTIONS))],
        add_help_option=False,
        context_settings={"allow_interspersed_args": True},
    )
    try:
        context = command.make_context(f"paas {row.path}", list(words))
    except click.UsageError as exc:
        raise _usage(row, exc) from None
    values = dict(context.params)
    given = {word: values.pop(word) for word in GLOBAL_KEYWORDS}
    values = {python_name(word): value for word, value in values.items()}
    return values, {word: value for word, value in given.items() if value is not None}


def python_name(word: str) -> str:
    """`type` is `type_` in Python."""
    return f"{word}_" if keyword.iskeyword(word) or hasattr(builtins, word) else word


def _arguments(row: Command) -> list[click.Argument]:
    return [
        click.Argument([a.name], required=a.required, nargs=-1 if a.many else 1)
        for a in row.arguments
    ]


def _option(option: Option) -> click.Option:
    flag = option.kind == "flag"
    kind = click.Choice(option.choices) if option.choices else _TYPES[option.kind]
    return click.Option(
        [*option.flags, option.keyword],
        type=kind,
        is_flag=flag,
        default=() if option.many else (bool(option.default) if flag else option.default),
        multiple=option.many,
    )


def _usage(row: Command, exc: click.UsageError) -> PlatformError:
    from paas.cli.manual import usage

    message = exc.format_message().rstrip(".")
    hint = f"usage: {usage(row)}"
    if isinstance(exc, click.NoSuchOption):
        flags = [f for o in (*row.options, *GLOBAL_OPTIONS) for f in o.flags]
        close = difflib.get_close_matches(exc.option_name, flags, n=1)
        message = f"paas {row.path} has no option {exc.option_name}"
        hint = f"did you mean {close[0]}?  see: paas {row.path} --help" if close else hint
    return PlatformError("invalid", message, hint=hint)
