"""One-time tokens: what a parent hands to the child it starts, to be traded for a certificate.

    pst1-<16 hex: public part>-<64 hex: secret>

The public part finds the entry, the secret proves the right.  Who keeps tokens keeps only a hash of
them, compared in constant time, so neither its memory nor the duration of an answer gives one away.
A token has exactly one text form: anything else is not a token.

Here is what a token is; that it works once, for whom and how long is `certificates.manager`'s.
Source: platform document §4.9.6 ("Subsequent handoff").
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from paas.identity.limits import TOKEN_ID_BYTES, TOKEN_SECRET_BYTES

ENTROPY_BYTES = TOKEN_ID_BYTES + TOKEN_SECRET_BYTES

_text = re.compile(
    rf"pst1-([0-9a-f]{{{2 * TOKEN_ID_BYTES}}})-([0-9a-f]{{{2 * TOKEN_SECRET_BYTES}}})"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token in clear.  `repr` shows the public part only."""

    id: str
    secret: str = field(repr=False)

    def reveal(self) -> str:
        """The text to hand over; it goes to the child and nowhere else."""
        return f"pst1-{self.id}-{self.secret}"

    def digest(self) -> bytes:
        """What may be kept."""
        return hashlib.sha256(self.reveal().encode()).digest()


def make(entropy: bytes) -> Token:
    """A new token from `ENTROPY_BYTES` bytes that the caller drew."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a token takes {ENTROPY_BYTES} bytes of entropy")
    return Token(entropy[:TOKEN_ID_BYTES].hex(), entropy[TOKEN_ID_BYTES:].hex())


def parse(text: str) -> Token | None:
    """The token that a stranger sent, or None when the text is not one."""
    match = _text.fullmatch(text)
    return None if match is None else Token(match[1], match[2])


def matches(token: Token, digest: bytes) -> bool:
    """Is this the token that was hashed?  Takes equally long whatever the answer."""
    return hmac.compare_digest(token.digest(), digest)


def expired(now_s: float, expires_s: float) -> bool:
    """A token dies at its expiry, not after it."""
    return now_s >= expires_s
