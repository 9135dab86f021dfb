"""Kinds of records, their data in messages, and how people write it.  Pure.

Data is bytes as in messages (RFC 1035 §3.3, 3596, 2782), names in it never compressed (RFC 3597 §4
forbids it for kinds that came later; so a record can be moved from message to message as it is).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable

from paas.base.errors import PlatformError, invalid
from paas.dns import limits, names
from paas.dns.names import Labels

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33
OPT, DS, RRSIG, NSEC, DNSKEY, NXNAME, TSIG, IXFR, AXFR, ANY = (
    *(41, 43, 46, 47, 48, 128, 250, 251, 252, 255),
)
CAA = 257
IN, CLASS_ANY = 1, 255

KINDS = {
    "A": A,
    "NS": NS,
    "CNAME": CNAME,
    "SOA": SOA,
    "PTR": PTR,
    "HINFO": HINFO,
    "MX": MX,
    "TXT": TXT,
    "AAAA": AAAA,
    "SRV": SRV,
    "DS": DS,
    "RRSIG": RRSIG,
    "NSEC": NSEC,
    "DNSKEY": DNSKEY,
    "CAA": CAA,
    "IXFR": IXFR,
    "AXFR": AXFR,
    "ANY": ANY,
}
NAMES_OF_KINDS = {number: name for name, number in KINDS.items()}

PUBLISHABLE = ("A", "AAAA", "SRV", "TXT", "CNAME", "MX")
"""What may be published; the others are the zone's own."""


def kind_name(kind: int) -> str:
    """`A`, or `TYPE123` for what has no name here (RFC 3597 §5)."""
    return NAMES_OF_KINDS.get(kind, f"TYPE{kind}")


def address(host: str) -> tuple[int, bytes]:
    """Kind and data of an address; raises ValueError."""
    parsed = ipaddress.ip_address(host)
    return (A if parsed.version == 4 else AAAA), parsed.packed


def txt(*strings: bytes) -> bytes:
    """Character strings of at most 255 bytes each; longer ones are cut."""
    cut = (string[: limits.TEXT_BYTES_MAX] for string in strings or (b"",))
    return b"".join(bytes((len(string),)) + string for string in cut)


def srv(priority: int, weight: int, port: int, target: Labels) -> bytes:
    """RFC 2782."""
    return struct.pack("!HHH", priority, weight, port) + names.wire(target)


def soa(primary: Labels, mailbox: Labels, serial: int, negative_s: int) -> bytes:
    """RFC 1035 §3.3.13; the last number is how long "there is none" may be kept (RFC 2308)."""
    numbers = (serial & 0xFFFF_FFFF, limits.REFRESH_S, limits.RETRY_S, limits.EXPIRE_S, negative_s)
    return names.wire(primary) + names.wire(mailbox) + struct.pack("!5I", *numbers)


# -- what people write -----------------------------------------------------------------------------


def from_text(kind: str, data: str, origin: Labels) -> bytes:
    """Data of a record to be published; raises `invalid`.  Names without a dot at the end are
    within the zone, as in its master file (RFC 1035 §5.1).
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise invalid("kind", f"one of {', '.join(PUBLISHABLE)}")
    try:
        return reader(data, origin)
    except (ValueError, IndexError):
        raise invalid("data", _EXPECTED[kind]) from None


def _a(data: str, _origin: Labels) -> bytes:
    return ipaddress.IPv4Address(data).packed


def _aaaa(data: str, _origin: Labels) -> bytes:
    return ipaddress.IPv6Address(data).packed


def _target(word: str, origin: Labels) -> Labels:
    labels = names.split(word)
    if labels is None:
        raise ValueError(word)
    whole = labels if word.endswith(".") else labels + origin
    if len(names.wire(whole)) > limits.NAME_BYTES_MAX:
        raise ValueError(word)
    return whole


def _cname(data: str, origin: Labels) -> bytes:
    return names.wire(_target(data, origin))


def _number(word: str) -> int:
    number = int(word)
    if not (word.isdigit() and 0 <= number < 1 << 16):
        raise ValueError(word)
    return number


def _srv(data: str, origin: Labels) -> bytes:
    priority, weight, port, target = data.split()
    return srv(_number(priority), _number(weight), _number(port), _target(target, origin))


def _mx(data: str, origin: Labels) -> bytes:
    preference, exchange = data.split()
    return struct.pack("!H", _number(preference)) + names.wire(_target(exchange, origin))


def _txt(data: str, _origin: Labels) -> bytes:
    raw = data.encode()
    if len(raw) > 4 * limits.TEXT_BYTES_MAX:
        raise ValueError(data)
    size = limits.TEXT_BYTES_MAX
    return txt(*(raw[i : i + size] for i in range(0, len(raw), size)))


_READERS: dict[str, Callable[[str, Labels], bytes]] = {
    "A": _a,
    "AAAA": _aaaa,
    "SRV": _srv,
    "TXT": _txt,
    "CNAME": _cname,
    "MX": _mx,
}
_EXPECTED = {
    "A": "an IPv4 address",
    "AAAA": "an IPv6 address",
    "SRV": "PRIORITY WEIGHT PORT TARGET, numbers to 65535 and a name",
    "TXT": "a text of 1,020 bytes at most",
    "CNAME": "a name; with a dot at its end if it is not within the zone",
    "MX": "PREFERENCE NAME",
}


def to_text(kind: int, data: bytes) -> str:
    """Data for people, as `dig` writes it."""
    try:
        return _WRITERS.get(kind, _unknown_text)(data)
    except (ValueError, IndexError, struct.error, PlatformError):
        return _unknown_text(data)


def _unknown_text(data: bytes) -> str:
    return f"\\# {len(data)} {data.hex()}".rstrip()


def _address_text(data: bytes) -> str:
    return str(ipaddress.ip_address(data))


def read_name(data: bytes, at: int = 0) -> tuple[Labels, int]:
    """An uncompressed name in data of ours, and where it ends."""
    labels = []
    while (length := data[at]) != 0:
        if length > limits.LABEL_BYTES_MAX or at + 1 + length >= len(data):
            raise ValueError("no name")
        labels.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels), at + 1


def _name_text(data: bytes) -> str:
    return names.text(read_name(data)[0])


def _srv_text(data: bytes) -> str:
    priority, weight, port = struct.unpack_from("!HHH", data)
    return f"{priority} {weight} {port} {names.text(read_name(data, 6)[0])}"


def _mx_text(data: bytes) -> str:
    return f"{struct.unpack_from('!H', data)[0]} {names.text(read_name(data, 2)[0])}"


def _txt_text(data: bytes) -> str:
    shown, at = [], 0
    while at < len(data):
        string = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        quoted = string.decode("ascii", "backslashreplace")
        shown.append('"' + quoted.replace('"', '\\"') + '"')
    return " ".join(shown)


def _soa_text(data: bytes) -> str:
    primary, at = read_name(data)
    mailbox, at = read_name(data, at)
    numbers = " ".join(str(n) for n in struct.unpack_from("!5I", data, at))
    return f"{names.text(primary)} {names.text(mailbox)} {numbers}"


_WRITERS: dict[int, Callable[[bytes], str]] = {
    A: _address_text,
    AAAA: _address_text,
    CNAME: _name_text,
    NS: _name_text,
    PTR: _name_text,
    SRV: _srv_text,
    MX: _mx_text,
    TXT: _txt_text,
    SOA: _soa_text,
}
