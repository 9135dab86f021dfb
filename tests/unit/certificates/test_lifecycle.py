from __future__ import annotations

import pytest

from paas.base.fsm import IllegalTransition
from paas.certificates.lifecycle import (
    CERTIFICATE,
    TOKEN,
    Certificate,
    CertificateEvent,
    Token,
    TokenEvent,
)


def test_a_token_is_redeemed_at_most_once_and_always_ends() -> None:
    assert set(TOKEN.walk()) == {
        (Token.MINTED, TokenEvent.REDEEM, Token.REDEEMED),
        (Token.MINTED, TokenEvent.EXPIRE, Token.EXPIRED),
        (Token.REDEEMED, TokenEvent.EXPIRE, Token.EXPIRED),
    }
    with pytest.raises(IllegalTransition):
        TOKEN.next(Token.REDEEMED, TokenEvent.REDEEM)
    assert TOKEN.final(Token.EXPIRED)


def test_a_certificate_is_renewed_until_it_expires() -> None:
    renew, expire = CertificateEvent.RENEW, CertificateEvent.EXPIRE
    assert set(CERTIFICATE.walk()) == {
        (Certificate.VALID, renew, Certificate.RENEWED),
        (Certificate.VALID, expire, Certificate.EXPIRED),
        (Certificate.RENEWED, renew, Certificate.RENEWED),
        (Certificate.RENEWED, expire, Certificate.EXPIRED),
    }
    assert CERTIFICATE.final(Certificate.EXPIRED)
