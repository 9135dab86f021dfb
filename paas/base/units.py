"""Quantities that people write (sizes, processor shares, durations), read to one unit each.

    "64M" -> 67108864 bytes        "500m" -> 0.5 cores        "90s" -> 90.0 seconds

K, M, G, T and P mean powers of 1024, as the kernel's control groups read them; `Ki` and `KiB` are
the same; `kB`, `MB`, `GB` are powers of 1000.  One number and one unit, nothing else: no "1h30m".
The functions raise ValueError whose text says what was expected; naming the field is the caller's.
Amounts are computed exactly (no binary fractions), so every machine canonicalises alike.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)")

_BYTE_UNITS: dict[str, int] = {"": 1, "B": 1, "kB": 1000}
for _power, _letter in enumerate("KMGTP", start=1):
    for _suffix in ("", "i", "iB"):
        _BYTE_UNITS[_letter + _suffix] = 1024**_power
    if _letter != "K":
        _BYTE_UNITS[_letter + "B"] = 1000**_power

_CORE_UNITS: dict[str, Fraction] = {"": Fraction(1), "m": Fraction(1, 1000)}

_SECOND_UNITS: dict[str, Fraction] = {
    "": Fraction(1),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}

BYTES_EXPECTED = 'a size such as 67108864, "64M" or "1.5G"'
CORES_EXPECTED = 'a number of cores such as 0.5, "1.5" or "500m"'
SECONDS_EXPECTED = 'a duration such as 90, "90s", "500ms" or "2h"'


def to_bytes(value: object) -> int:
    """A size in bytes; fractions of a byte are an error, not rounded away."""
    amount = _amount(value, _BYTE_UNITS, BYTES_EXPECTED)
    if amount.denominator != 1:
        raise ValueError(BYTES_EXPECTED)
    return amount.numerator


def to_cores(value: object) -> float:
    """A processor share in cores."""
    return float(_amount(value, _CORE_UNITS, CORES_EXPECTED))


def to_seconds(value: object) -> float:
    """A duration in seconds."""
    return float(_amount(value, _SECOND_UNITS, SECONDS_EXPECTED))


def format_bytes(count: int) -> str:
    """The shortest exact form that `to_bytes` reads back: 67108864 is "64M"."""
    for power in range(5, 0, -1):
        unit = 1024**power
        if count >= unit and count % unit == 0:
            return f"{count // unit}{'KMGTP'[power - 1]}"
    return str(count)


def _amount(value: object, units: dict[str, int] | dict[str, Fraction], expected: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    # repr of a float is its shortest decimal form: 0.1 means one tenth, as it was written.
    text = value if isinstance(value, str) else f"{value:.9f}" if _tiny(value) else repr(value)
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in units or not text.isascii():
        raise ValueError(expected)
    return Fraction(match[1]) * units[match[2]]


def _tiny(value: int | float) -> bool:
    """Would repr write this in scientific notation?"""
    return isinstance(value, float) and 0 < value < 1e-4
