"""Valid messages of any declared type, and what becomes of them by accident or malice.

`Seeds(kind)` makes values that satisfy a message's declaration, from the declaration itself, so a
message that is declared tomorrow is tried tomorrow.  `damaged` changes such a value where its
structure is (a field is gone, of another type, too long, nested too deep, there twice), `scrambled`
changes bytes.  Both draw from the generator that they are given: the same seed, the same inputs.
"""

from __future__ import annotations

import base64
import enum
import math
import random
from typing import Any

import msgspec
import msgspec.inspect as inspect

from paas.base.limits import NESTING_MAX

BYTES_MAX = 8_192
"""An input is cut there: lengths are lied about, not reached."""

VARIANTS = 6
"""Valid values of each type that are kept."""

_DEPTH_MAX = 4

Value = Any

WORDS = ("", "a", "group:g", "ü", "x" * 129, "a\nb", "\x00", "hub.call", "\ufeff", "𝄞", "any", "0")
NUMBERS = (0, 1, -1, 255, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS = (0.0, -0.0, 1.5, 1e308, -1e-308, math.inf, -math.inf, math.nan)

BYTES = [
    *(bytes([n]) for n in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA1, 0xC0, 0xC1, 0xC3, 0xFF)),
    *(b"\xc4\xff", b"\xc7\x01\x05x", b"\xc9\xff\xff\xff\xff\x01", b"\xcb\x7f\xf8" + bytes(6)),
    *(b"\xd6\xff" + bytes(4), b"\xdb\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff", b"\xdf\0\1\0\0"),
    *(b"\x91" * 40, b"\x81\xa1a" * 40, b"\x91" * 2_000, b"\xcf" + b"\xff" * 8, b"\xd9\xff"),
    *(b"[" * 40, b'{"a":' * 40, b"[" * 2_000, b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":"),
    *(b"\n", b"1e999", b"-0", b"9" * 400, b"\\ud800", b"\xed\xa0\x80", b"\xf8", b"NaN"),
    *(b"Infinity", b"null", b"true", b'"\\u0000"', b'"id":', b'"method":', b'"params":'),
    *(b'"result":', b'"error":', b'"attachments":', b"\xff\xfe", b"\x00\x00\x00\x00", b"\r\n"),
]
"""What parsers trip over: lengths that lie, nesting, numbers out of range, half characters."""


def nested(depth: int, *, of_maps: bool) -> Value:
    value: Value = 0
    for _ in range(depth):
        value = {"a": value} if of_maps else [value]
    return value


_DEEP = [
    nested(d, of_maps=m) for d in (NESTING_MAX - 1, NESTING_MAX + 2, 300) for m in (False, True)
]


def anything(chance: random.Random) -> Value:
    """A value of any type, mostly small, now and then absurd."""
    kind = chance.randrange(10)
    if kind < 2:
        return chance.choice(WORDS)
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind == 4:
        return chance.choice(FLOATS)
    if kind == 5:
        return chance.choice((None, True, False))
    if kind == 6:
        return bytes(chance.randrange(4))
    if kind == 7:
        return [chance.choice(NUMBERS) for _ in range(chance.randrange(4))]
    if kind == 8:
        return {chance.choice(WORDS): chance.choice(NUMBERS) for _ in range(chance.randrange(4))}
    return chance.choice(_DEEP) if chance.random() < 0.1 else "x" * chance.randrange(600)


class Seeds:
    """Valid values of one type, as msgpack bodies and as plain values to change."""

    def __init__(self, kind: Any, chance: random.Random) -> None:
        self.kind = kind
        info = inspect.type_info(kind)
        self.plain = [value_of(info, chance, 0) for _ in range(VARIANTS)]
        self.packed = [msgspec.msgpack.encode(value) for value in self.plain]

    def fresh(self, chance: random.Random) -> Value:
        """A copy of one of them, to be changed."""
        return msgspec.msgpack.decode(chance.choice(self.packed))


def value_of(info: inspect.Type, chance: random.Random, depth: int) -> Value:
    """A plain value that satisfies a declared type."""
    match info:
        case inspect.StructType():
            return _struct(info, chance, depth)
        case inspect.UnionType():
            wanted = [t for t in info.types if not isinstance(t, inspect.NoneType)]
            if info.includes_none and (depth >= _DEPTH_MAX or chance.random() < 0.4):
                return None
            return value_of(chance.choice(wanted), chance, depth)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            low = info.min_length or 0
            count = low + (0 if depth >= _DEPTH_MAX else chance.randrange(3))
            return [value_of(info.item_type, chance, depth + 1) for _ in range(count)]
        case inspect.TupleType() | inspect.NamedTupleType():
            fields = (
                info.item_types
                if isinstance(info, inspect.TupleType)
                else [f.type for f in info.fields]
            )
            return [value_of(t, chance, depth + 1) for t in fields]
        case inspect.DictType():
            count = 0 if depth >= _DEPTH_MAX else chance.randrange(3)
            return {
                value_of(info.key_type, chance, depth + 1): value_of(
                    info.value_type, chance, depth + 1
                )
                for _ in range(count)
            }
    return _plain(info, chance)


def _plain(info: inspect.Type, chance: random.Random) -> Value:
    match info:
        case inspect.IntType():
            low = info.ge if info.ge is not None else (info.gt + 1 if info.gt is not None else 0)
            high = info.le if info.le is not None else low + 1_000
            high = info.lt - 1 if info.lt is not None else high
            return chance.choice((low, high, chance.randint(low, high)))
        case inspect.FloatType():
            low_s = info.ge if info.ge is not None else (info.gt or 0.0)
            return float(low_s) + (0.5 if info.le is None else 0.0)
        case inspect.StrType():
            text = chance.choice(("a", "g", "ab-c", "0123456789abcdef" * 4))
            text = text[: info.max_length] if info.max_length else text
            return text.ljust(info.min_length or 0, "a")
        case inspect.BytesType() | inspect.ByteArrayType() | inspect.MemoryViewType():
            return b"\1" * max(info.min_length or 0, chance.randrange(40))
        case inspect.BoolType():
            return chance.random() < 0.5
        case inspect.LiteralType():
            return chance.choice(info.values)
        case inspect.EnumType():
            member: enum.Enum = chance.choice(list(info.cls))
            return member.value
        case inspect.NoneType():
            return None
    return chance.choice(({"x": [1, 2.5, None, "ü"]}, 1, "a", [], {}))


def _struct(info: inspect.StructType, chance: random.Random, depth: int) -> Value:
    values: dict[str, Value] = {}
    for field in info.fields:
        if field.required or info.array_like or (depth < _DEPTH_MAX and chance.random() < 0.6):
            values[field.encode_name] = value_of(field.type, chance, depth + 1)
    if info.array_like:
        return [*([] if info.tag is None else [info.tag]), *values.values()]
    if info.tag is not None:
        values[info.tag_field or "type"] = info.tag
    return values


def damaged(value: Value, chance: random.Random) -> Value:
    """The value (which is changed) with one fault in its structure."""
    holder: Value = value
    for _ in range(chance.randrange(4)):
        inner = [v for v in _inside(holder) if isinstance(v, dict | list)]
        if not inner:
            break
        holder = chance.choice(inner)
    kind = chance.randrange(6)
    if isinstance(holder, dict):
        keys = list(holder)
        key = chance.choice(keys) if keys and kind != 5 else chance.choice(WORDS)
        if kind == 0:
            holder.pop(key, None)
        elif kind == 1 and keys:
            holder[chance.choice(WORDS)] = holder.pop(key, None)
        elif kind == 2 and keys:
            holder[key] = [holder.get(key)] * chance.randrange(1, 4)
        else:
            holder[key] = anything(chance)
    elif isinstance(holder, list):
        place = chance.randrange(len(holder) + 1)
        if kind == 0:
            del holder[place : place + 1]
        elif kind == 1:
            holder[place:place] = holder[:place]
        elif kind == 2:
            chance.shuffle(holder)
        else:
            holder[place : place + chance.randrange(2)] = [anything(chance)]
    else:
        return anything(chance)
    return value


def _inside(holder: Value) -> list[Value]:
    if isinstance(holder, dict):
        return list(holder.values())
    return holder if isinstance(holder, list) else []


def scrambled(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """The bytes with a few accidents; `other` is what they may be joined with."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        place = chance.randrange(len(changed) + 1)
        kind = chance.randrange(8)
        if kind == 0 and changed:
            changed[place % len(changed)] = chance.randrange(256)
        elif kind == 1 and changed:
            changed[place % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del changed[place : place + chance.randrange(1, 9)]
        elif kind == 3:
            changed[place:place] = chance.choice(BYTES)
        elif kind == 4:
            changed[place : place + chance.randrange(1, 5)] = chance.choice(BYTES)
        elif kind == 5:
            changed[place:] = other[chance.randrange(len(other) + 1) :]
        elif kind == 6:
            changed[place:place] = changed[max(0, place - chance.randrange(1, 30)) : place]
        else:
            del changed[place:]
    return bytes(changed[:BYTES_MAX])


def in_json(value: Value) -> Value:
    """The value as JSON can say it: bytes in base64, keys as text, no numbers that JSON lacks."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(k): in_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [in_json(v) for v in value]
    return value
