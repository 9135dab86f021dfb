"""Signatures on answers, made when they are asked for (RFC 4034, RFC 4035).  Pure.

One key a node, P-256 (algorithm 13, RFC 6605), which signs everything that this node answers.  The
zone's DNSKEY set has the keys of all nodes that sign, so a resolver may ask any of them: it trusts
the keys that it was given as anchors, one for each node (RFC 8901, the model with several signers).

What is not there is denied with one NSEC, made for the question: at the name that was asked, the
next name right behind it, and no kind, or NXNAME (RFC 9824, "compact denial").  So nobody can walk
the zone by its denials, and none has to be sorted.  A transfer has an ordinary chain of NSEC.

A signature is remembered until half of its life is over; its times are rounded to hours, so equal
answers are equal bytes on one node.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from paas.dns import limits, names, records
from paas.dns.answer import Signing
from paas.dns.names import Labels
from paas.dns.transfer import bitmap
from paas.dns.zone import Set, Sets, Zone

ALGORITHM = 13
_KEY_FLAGS = 257
"""A zone key that is an entry point (RFC 4034 §2.1.1): one key for both purposes."""
_DIGEST_SHA256 = 2
_ROUND_S = 3_600

PrivateKey = ec.EllipticCurvePrivateKey


def key_data(key: PrivateKey) -> bytes:
    """The data of the DNSKEY record."""
    numbers = key.public_key().public_numbers()
    public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return struct.pack("!HBB", _KEY_FLAGS, 3, ALGORITHM) + public


def key_tag(data: bytes) -> int:
    """RFC 4034, appendix B."""
    total = sum(byte << (0 if i & 1 else 8) for i, byte in enumerate(data))
    return (total + (total >> 16 & 0xFFFF)) & 0xFFFF


def ds_text(origin: Labels, data: bytes) -> str:
    """The DS record that stands for a key: what a resolver is told to trust (RFC 4509)."""
    digest = hashlib.sha256(names.wire(origin) + data).hexdigest()
    tag = key_tag(data)
    return f"{names.text(origin)} IN DS {tag} {ALGORITHM} {_DIGEST_SHA256} {digest}"


class Signer:
    """The key of this node at work.  `now_s`: seconds since the Unix epoch."""

    def __init__(self, origin: Labels, key: PrivateKey, now_s: Callable[[], float]) -> None:
        self._origin = origin
        self._key = key
        self._now_s = now_s
        self.data = key_data(key)
        self._tag = key_tag(self.data)
        self._kept: dict[tuple[Labels, int, int, frozenset[bytes]], tuple[float, bytes]] = {}

    def signing(self, zone: Zone) -> Signing:
        """How this zone is signed."""
        del zone  # every zone here has the one origin
        return Signing(self.sign, self.deny)

    def sign(self, owner: Labels, kind: int, found: Set) -> bytes:
        """The data of the RRSIG over a set."""
        key = (owner, kind, found.ttl_s, frozenset(found.all))
        now_s = self._now_s()
        known = self._kept.get(key)
        if known is not None and now_s < known[0]:
            return known[1]
        data = self._sign(owner, kind, found, int(now_s))
        if len(self._kept) >= limits.SIGNATURES_KEPT_MAX:
            self._kept.clear()
        self._kept[key] = (now_s + limits.SIGNATURE_LIFE_S / 2, data)
        return data

    def _sign(self, owner: Labels, kind: int, found: Set, now_s: int) -> bytes:
        begin_s = (now_s - limits.SIGNATURE_BACK_S) // _ROUND_S * _ROUND_S
        end_s = begin_s + limits.SIGNATURE_BACK_S + limits.SIGNATURE_LIFE_S
        head = struct.pack(
            "!HBBIIIH",
            *(kind, ALGORITHM, len(owner), found.ttl_s),
            *(end_s & 0xFFFF_FFFF, begin_s & 0xFFFF_FFFF, self._tag),
        )
        head += names.wire(self._origin)
        name = names.wire(owner)
        fixed = name + struct.pack("!HHI", kind, records.IN, found.ttl_s)
        # RFC 4034 §6.3: each record once, in the order of its data.
        parts = [fixed + len(d).to_bytes(2, "big") + d for d in sorted(set(found.all))]
        der = self._key.sign(head + b"".join(parts), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return head + r.to_bytes(32, "big") + s.to_bytes(32, "big")

    @staticmethod
    def deny(owner: Labels, kinds: Sets | None) -> Set:
        """The NSEC at a name; `kinds` None: there is no such name."""
        there = {records.NXNAME} if kinds is None else set(kinds)
        following = names.wire((b"\0", *owner))
        if len(following) > limits.NAME_BYTES_MAX:
            following = names.wire(owner)
        data = following + bitmap(there | {records.RRSIG, records.NSEC})
        return Set(limits.TTL_NEGATIVE_S, (data,))
