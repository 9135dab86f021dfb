"""The life-cycles of this sub-system: spawn tokens, issued certificates, join tokens."""

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


class JoinToken(enum.StrEnum):
    """States of a join token."""

    MADE = "made"
    USED = "used"
    REVOKED = "revoked"
    FORGOTTEN = "forgotten"


class JoinTokenEvent(enum.StrEnum):
    """What happens to a join token."""

    USE = "use"
    REVOKE = "revoke"
    FORGET = "forget"


JOIN_TOKEN = Table(
    "join-token",
    JoinToken,
    JoinToken.MADE,
    {
        JoinToken.MADE: {
            JoinTokenEvent.USE: JoinToken.USED,
            JoinTokenEvent.REVOKE: JoinToken.REVOKED,
            JoinTokenEvent.FORGET: JoinToken.FORGOTTEN,
        },
        # Until it expires, a used token lets its one node ask again: the answer may be lost.
        JoinToken.USED: {
            JoinTokenEvent.REVOKE: JoinToken.REVOKED,
            JoinTokenEvent.FORGET: JoinToken.FORGOTTEN,
        },
        JoinToken.REVOKED: {JoinTokenEvent.FORGET: JoinToken.FORGOTTEN},
        JoinToken.FORGOTTEN: {},
    },
)
