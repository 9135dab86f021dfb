"""Inputs typed on a command line: one JSON object, or words `k=v`.  Pure.

In `k=v` the value is JSON when it can be read as JSON (numbers, true, lists, quoted text), else the
text itself: `limit=5 name=Ada flag=true`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from paas.base.errors import PlatformError

_HINT = """give one JSON object, '{"name": "Ada"}', or words: name=Ada limit=5"""


def read(words: Sequence[str]) -> dict[str, Any]:
    """The inputs; raises `invalid` with what was expected."""
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return read_object(words[0], "inputs")
    return read_pairs(words, "inputs")


def read_object(text: str, field: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PlatformError(
            "invalid", f"{field}: not JSON: {exc}", hint=_HINT, field=field
        ) from None
    if not isinstance(value, dict):
        raise PlatformError("invalid", f"{field}: expected a JSON object", hint=_HINT, field=field)
    return value


def read_pairs(words: Sequence[str], field: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise PlatformError(
                "invalid", f"{field}: expected k=v, not {word!r}", hint=_HINT, field=field
            )
        pairs[key] = _value(text)
    return pairs


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(text: str) -> Any:
    """NaN and Infinity are not JSON."""
    raise ValueError(text)
