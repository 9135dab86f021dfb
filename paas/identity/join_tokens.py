"""Join tokens: what an operator carries from the cluster to a machine that is to become a node.

    paas1-<16 hex: public part>-<32 hex: secret>-<64 hex: fingerprint of the cluster's authority>

The fingerprint tells the joining node whom it talks to before it says anything; the secret tells
the cluster that this node was invited.  A token has one text form, one line; white space around it,
as it comes with copying, is not part of it.  Who keeps tokens keeps a hash of them only.

Here is what a token is; that it works once and how long is `certificates.join_state`'s.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from paas.identity.limits import JOIN_TOKEN_ID_BYTES, JOIN_TOKEN_SECRET_BYTES

ENTROPY_BYTES = JOIN_TOKEN_ID_BYTES + JOIN_TOKEN_SECRET_BYTES
TEXT_CHARACTERS_MAX = 256
FINGERPRINT_DIGITS = 64

_PREFIX = b"paas join token 1\0"
_text = re.compile(
    rf"paas1-([0-9a-f]{{{2 * JOIN_TOKEN_ID_BYTES}}})"
    rf"-([0-9a-f]{{{2 * JOIN_TOKEN_SECRET_BYTES}}})"
    rf"-([0-9a-f]{{{FINGERPRINT_DIGITS}}})"
)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token in clear.  `repr` does not show the secret."""

    id: str
    secret: str = field(repr=False)
    authority: str
    """Fingerprint of the public key of the cluster's authority (`keys.fingerprint`)."""

    def reveal(self) -> str:
        """The text to hand over."""
        return f"paas1-{self.id}-{self.secret}-{self.authority}"

    def digest(self) -> str:
        """What may be kept and sent to the log."""
        return hashlib.sha256(_PREFIX + f"{self.id}-{self.secret}".encode()).hexdigest()


def make(entropy: bytes, authority: str) -> JoinToken:
    """A new token from `ENTROPY_BYTES` bytes that the caller drew."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a join token takes {ENTROPY_BYTES} bytes of entropy")
    if len(authority) != FINGERPRINT_DIGITS:
        raise ValueError("the fingerprint of an authority has 64 digits")
    identity, secret = entropy[:JOIN_TOKEN_ID_BYTES].hex(), entropy[JOIN_TOKEN_ID_BYTES:].hex()
    return JoinToken(identity, secret, authority)


def parse(text: str) -> JoinToken | None:
    """The token that somebody typed or sent, or None when the text is not one."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return None
    match = _text.fullmatch(text.strip())
    return None if match is None else JoinToken(match[1], match[2], match[3])
