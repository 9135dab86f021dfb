"""The life-cycles of this sub-system: spawn tokens and issued certificates."""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class Token(enum.StrEnum):
    """States of a spawn token."""

    MINTED = "minted"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


class TokenEvent(enum.StrEnum):
    """What happens to a spawn token."""

    REDEEM = "redeem"
    EXPIRE = "expire"


TOKEN = Table(
    "spawn-token",
    Token,
    Token.MINTED,
    {
        Token.MINTED: {TokenEvent.REDEEM: Token.REDEEMED, TokenEvent.EXPIRE: Token.EXPIRED},
        # Until it expires, a redeemed token answers its one key with the same certificate again.
        Token.REDEEMED: {TokenEvent.EXPIRE: Token.EXPIRED},
        Token.EXPIRED: {},
    },
)


class Certificate(enum.StrEnum):
    """States of a certificate that was issued."""

    VALID = "valid"
    RENEWED = "renewed"
    EXPIRED = "expired"


class CertificateEvent(enum.StrEnum):
    """What happens to a certificate that was issued."""

    RENEW = "renew"
    EXPIRE = "expire"


CERTIFICATE = Table(
    "certificate",
    Certificate,
    Certificate.VALID,
    {
        Certificate.VALID: {
            CertificateEvent.RENEW: Certificate.RENEWED,
            CertificateEvent.EXPIRE: Certificate.EXPIRED,
        },
        # Still believed until its end, and may be renewed again: the first answer may be lost.
        Certificate.RENEWED: {
            CertificateEvent.RENEW: Certificate.RENEWED,
            CertificateEvent.EXPIRE: Certificate.EXPIRED,
        },
        Certificate.EXPIRED: {},
    },
)
