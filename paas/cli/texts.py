"""Short texts of times and sizes, in tables relative and in JSON absolute.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def age(seconds: float) -> str:
    """ "3m", "4h12m", "2d5h": two units at most, the second one only below ten of the first."""
    left = max(0, int(seconds))
    for place, (unit, letter) in enumerate(_STEPS):
        if left >= unit:
            count, rest = divmod(left, unit)
            if place < len(_STEPS) - 1 and count < 10:
                smaller, small_letter = _STEPS[place + 1]
                if rest // smaller:
                    return f"{count}{letter}{rest // smaller}{small_letter}"
            return f"{count}{letter}"
    return "0s"


def size(count: float | None) -> str:
    """ "38M": a binary unit and at most three digits; "-" when it is not known."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("", "K", "M", "G", "T"):
        if amount < 1000 or unit == "T":
            return f"{amount:.0f}{unit}" if amount >= 10 or not unit else f"{amount:.1f}{unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def moment(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    stamp = datetime.fromtimestamp(seconds, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(seconds: float) -> str:
    """The time of day here, for log lines that people read."""
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]


def fields(values: dict[str, object]) -> str:
    """Structured fields as k=v words."""
    words = []
    for key, value in values.items():
        text = str(value)
        words.append(f'{key}="{text}"' if " " in text else f"{key}={text}")
    return " ".join(words)
