"""Access tokens: what a program outside the cluster shows to use the API without a certificate.

    paasat1-<16 hex: public part>-<64 hex: secret>

The public part finds the entry, the secret proves the right; 256 random bits cannot be guessed, so
a fast hash is enough to keep.  A token has one text form.  Bearer tokens say nothing about who
shows them: they have a role, they expire, and they can be revoked.

Here is what a token is; which there are and how long is `hub.access_state`'s.  Source: RFC 6750.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from paas.identity.limits import TOKEN_ID_BYTES, TOKEN_SECRET_BYTES

ENTROPY_BYTES = TOKEN_ID_BYTES + TOKEN_SECRET_BYTES
TEXT_CHARACTERS = len("paasat1-") + 2 * TOKEN_ID_BYTES + 1 + 2 * TOKEN_SECRET_BYTES

OPERATOR = "operator"
READER = "reader"
ROLES = (OPERATOR, READER)
"""An operator may do everything, a reader may look."""

_PREFIX = b"paas access token 1\0"
_text = re.compile(
    rf"paasat1-([0-9a-f]{{{2 * TOKEN_ID_BYTES}}})-([0-9a-f]{{{2 * TOKEN_SECRET_BYTES}}})"
)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token in clear.  `repr` does not show the secret."""

    id: str
    secret: str = field(repr=False)

    def reveal(self) -> str:
        """The text to hand over."""
        return f"paasat1-{self.id}-{self.secret}"

    def digest(self) -> str:
        """What may be kept and sent to the log."""
        return hashlib.sha256(_PREFIX + self.reveal().encode()).hexdigest()


def make(entropy: bytes) -> AccessToken:
    """A new token from `ENTROPY_BYTES` bytes that the caller drew."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"an access token takes {ENTROPY_BYTES} bytes of entropy")
    return AccessToken(entropy[:TOKEN_ID_BYTES].hex(), entropy[TOKEN_ID_BYTES:].hex())


def parse(text: str) -> AccessToken | None:
    """The token that a stranger showed, or None when the text is not one."""
    match = _text.fullmatch(text) if len(text) == TEXT_CHARACTERS else None
    return None if match is None else AccessToken(match[1], match[2])


def matches(token: AccessToken, digest: str) -> bool:
    """Is this the token that was hashed?  Takes equally long whatever the answer."""
    return hmac.compare_digest(token.digest(), digest)
