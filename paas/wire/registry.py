"""The register of messages: every method of every channel, declared once, typed and numbered.

A sub-system's `messages.py` declares its methods with `method(number, name, params, result)`.  From
the register come validation at every boundary, the compact form between our own processes (the
number in place of the name), the description of the API (`rpc.discover`) and the reference pages.

Numbers are blocks of 100 a sub-system and are never used again: a retired one goes to RETIRED with
the name it had.  Unknown fields are ignored on input, so that a newer peer can say more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from paas.base.errors import LocalError, PlatformError

RETIRED: dict[int, str] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all message bodies: immutable, keyword-only, checked when decoded."""


class Params(Message, frozen=True, kw_only=True):
    """Base of all request parameters: any request may say how long its sender waits, and for what.

    `timeout` in seconds from now, or `deadline` in seconds since the Unix epoch; `trace` is a W3C
    traceparent.  They reach the callee (component API, "Targets").
    """

    timeout: float | None = None
    deadline: float | None = None
    trace: str | None = None


class Nothing(Message, frozen=True):
    """The empty result `{}`."""


P = TypeVar("P", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[P, R]):
    """One declared method.  `public` ones belong to the component API."""

    number: int
    name: str
    params: type[P]
    result: type[R]
    public: bool

    @property
    def text(self) -> str:
        """What the method does: the first paragraph of the documentation of its parameters."""
        return (self.params.__doc__ or "").strip()


BY_NAME: dict[str, Method[Any, Any]] = {}
BY_NUMBER: dict[int, Method[Any, Any]] = {}


def method(
    number: int, name: str, params: type[P], result: type[R], *, public: bool = True
) -> Method[P, R]:
    """Declare a method; a number or name that is taken or retired is a bug and fails at import."""
    if number in BY_NUMBER or number in RETIRED or name in BY_NAME:
        raise LocalError(f"method {name} or number {number} is taken")
    declared = Method(number, name, params, result, public)
    BY_NAME[name] = BY_NUMBER[number] = declared
    return declared


_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def decode(body: bytes, kind: type[P]) -> P:
    """Typed decoding of message parameters; raises `invalid` naming the field."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        if "Expected `bytes`, got `str`" not in str(exc):
            raise _invalid(exc) from None
    except _UNREADABLE:
        raise _not_decodable() from None
    # Said in JSON, where binary data is base64: conversion knows that, decoding does not.
    try:
        value = msgspec.msgpack.decode(body)
    except _UNREADABLE:  # behind the place where decoding with types stopped
        raise _not_decodable() from None
    return convert(value, kind)


def convert(value: Any, kind: type[P]) -> P:
    """The same check for a value that is already decoded."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise _invalid(exc) from None


def _not_decodable() -> PlatformError:
    return PlatformError("invalid", "params: not decodable", field="params", param="params")


def _invalid(exc: msgspec.ValidationError) -> PlatformError:
    """msgspec says "Expected `int`, got `str` - at `$.a.b`"; a missing field is in back-quotes."""
    text = str(exc)
    what, _, where = text.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if "missing required field" in what:
        missing = what.rsplit("`", 2)[-2]
        path = f"{path}.{missing}" if path else missing
        what = "is required"
    field = path or "params"
    return PlatformError("invalid", f"{field}: {what}", field=field, param=field)
