"""Settings: what an operator may change, declared once as a typed class: default, unit, text.

    class HubSettings(Settings, frozen=True):
        '''Settings of the hub.'''
        listen: Annotated[str, setting("Address for other nodes.")] = "0.0.0.0:7400"
        flush_s: Annotated[float, setting("Between two disk syncs.", unit="s", ge=0)] = 0.01

A value comes from the environment (`PAAS_HUB_FLUSH_S`), else from the file (`[hub]`, `flush_s`),
else it is the default.  Whatever is wrong is refused with file, line, key, what was expected and,
for an unknown key, the nearest name; nothing is guessed or ignored.  The reference documentation
is made from `describe`.

Pure: the text of the file and the environment are given.  Constants that nobody should change are
in `limits.py` of each package.  Source: architecture, rule 9; cli, rule 10 (precedence).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from paas.base.errors import LocalError, PlatformError, invalid

PREFIX = "PAAS"

_TYPE_NAMES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "NoneType": "nothing",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings classes: immutable and keyword-only; unknown keys are errors."""


S = TypeVar("S", bound=Settings)


def setting(text: str, *, unit: str = "", **bounds: Any) -> msgspec.Meta:
    """What a field means; `bounds` as msgspec has them: ge, gt, le, lt, pattern, min_length, …"""
    return msgspec.Meta(description=text, extra={"unit": unit}, **bounds)


@dataclass(frozen=True, slots=True)
class Description:
    """One setting for the reference documentation; `default` None means that it is required."""

    key: str
    kind: str
    default: str | None
    unit: str
    text: str
    variable: str


def read(
    kind: type[S],
    *,
    section: str,
    text: str = "",
    source: str = "paas.toml",
    environ: Mapping[str, str] | None = None,
) -> S:
    """The settings of one section.  Raises `invalid` with file or variable, key, what was expected.

    `text` is the whole file, of which other sections are not looked at (see `check_sections`).
    """
    table = _parse(text, source).get(section, {})
    if not isinstance(table, dict):
        raise invalid(section, f"{source}: [{section}] is a table of settings")
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{source}{_line(text, section, key)}: [{section}] {key}"
        if key not in fields:
            raise invalid(key, f"{where}: no such setting{_nearest(key, fields)}", source=source)
        values[key] = _convert(value, fields[key].type, key, where, strict=True)
    for name, word in (environ or {}).items():
        mine = f"{PREFIX}_{section.upper()}_"
        if not name.startswith(mine):
            continue
        key = name.removeprefix(mine).lower()
        if key not in fields:
            known = [_variable(section, k) for k in fields]
            raise invalid(key, f"{name}: no such setting{_nearest(name, known)}", source=name)
        values[key] = _convert(_split(word, fields[key].type), fields[key].type, key, name)
    for key, field in fields.items():
        if key not in values and field.required:
            raise invalid(key, f"{source}: [{section}] {key}: is required", source=source)
    return kind(**values)


def check_sections(
    text: str, known: Mapping[str, type[Settings]], source: str = "paas.toml"
) -> None:
    """Refuse a file with a section that belongs to nobody, or with settings outside of any."""
    for name, value in _parse(text, source).items():
        if name not in known:
            what = f"section [{name}]" if isinstance(value, dict) else f"setting {name}"
            raise invalid(name, f"{source}: no such {what}{_nearest(name, known)}", source=source)


def describe(kind: type[Settings], section: str) -> list[Description]:
    """Every setting of a class, in the order of declaration; one without a text is a bug."""
    hints = get_type_hints(kind, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(kind):
        meta = next((a for a in get_args(hints[field.name]) if isinstance(a, msgspec.Meta)), None)
        if meta is None or not meta.description:
            raise LocalError(f"{kind.__name__}.{field.name} has no text")
        default: Any = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        rows.append(
            Description(
                key=field.name,
                kind=_type_name(field.type),
                default=None if default is msgspec.NODEFAULT else _show(default),
                unit=(meta.extra or {}).get("unit", ""),
                text=meta.description,
                variable=_variable(section, field.name),
            )
        )
    return rows


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise PlatformError(
            "invalid", f"{source}: not TOML: {exc}", field=source, source=source
        ) from None


def _convert(value: Any, kind: Any, key: str, where: str, *, strict: bool = False) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise invalid(key, f"{where}: {exc}", source=where) from None


def _split(word: str, kind: Any) -> Any:
    """A list in the environment is written with commas."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) in (list, tuple):
        return [part.strip() for part in word.split(",") if part.strip()]
    return word


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}_{section.upper()}_{key.upper()}"


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _line(text: str, section: str, key: str) -> str:
    """`:12`, the line of the key, where the section is written as `[section]`; else nothing."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            inside = line.strip().split("#")[0].strip() == f"[{section}]"
        elif inside and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
            return f":{number}"
    return ""


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    arguments = [_type_name(a) for a in get_args(kind) if a is not Ellipsis]
    if get_origin(kind) in (list, tuple):
        return f"list of {arguments[0]}"
    if arguments:
        return " or ".join(arguments)
    return _TYPE_NAMES.get(getattr(kind, "__name__", ""), str(kind))


def _show(value: Any) -> str:
    return msgspec.json.encode(value).decode()
