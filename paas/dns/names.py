"""Names of the DNS: labels, text, bytes.  Pure.

A name is a tuple of labels, the most specific first, in lower case: `("n1", "node")` with the zone
left out, or whole.  In messages a name is length, label, length, label, …, 0 (RFC 1035 §3.1); case
is kept there as it was asked (RFC 4343), and compared without.

Names of components and groups are wider than labels: what a label cannot carry is not in the zone.
"""

from __future__ import annotations

import re

from paas.base.errors import invalid
from paas.dns.limits import LABEL_BYTES_MAX, NAME_BYTES_MAX

Labels = tuple[bytes, ...]

_LABEL = re.compile(rb"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")


def wire(labels: Labels) -> bytes:
    """The name as it stands in a message, without compression."""
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"


def text(labels: Labels) -> str:
    """For people: with a dot at its end; bytes that are no letters are escaped (RFC 1035 §5.1)."""
    if not labels:
        return "."
    return "".join(_escaped(label) + "." for label in labels)


def _escaped(label: bytes) -> str:
    shown = []
    for byte in label:
        if byte in b'."\\;()@$':
            shown.append("\\" + chr(byte))
        elif 0x21 <= byte <= 0x7E:
            shown.append(chr(byte))
        else:
            shown.append(f"\\{byte:03d}")
    return "".join(shown)


def split(name: str) -> Labels | None:
    """The labels of a name as our own parts write it; None for what no host name could be."""
    try:
        raw = name.lower().rstrip(".").encode("ascii")
    except UnicodeEncodeError:
        return None
    labels = tuple(raw.split(b"."))
    if len(raw) + 2 > NAME_BYTES_MAX or not all(is_label(label) for label in labels):
        return None
    return labels


def is_label(label: bytes) -> bool:
    """Letters, digits, `-` and `_` (RFC 952 with the underscore of RFC 8552), 1 to 63 of them."""
    return len(label) <= LABEL_BYTES_MAX and _LABEL.fullmatch(label) is not None


def parse(name: str, field: str = "name") -> Labels:
    """The labels of a name that somebody gave; raises `invalid` for this field."""
    labels = split(name)
    if labels is None:
        raise invalid(
            field,
            "a host name: labels of 1 to 63 letters, digits, - and _ with dots between them,"
            " 253 characters at most",
        )
    return labels


def below(labels: Labels, origin: Labels) -> Labels | None:
    """What is left of a name without the zone; None if it is not within the zone."""
    count = len(labels) - len(origin)
    if count < 0 or labels[count:] != origin:
        return None
    return labels[:count]


def canonical(labels: Labels) -> Labels:
    """To sort by: the order of RFC 4034 §6.1, most significant label first."""
    return labels[::-1]
