from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from paas.identity import keys
from paas.identity.keys import Malformed


def test_a_key_comes_back_from_its_text() -> None:
    key = keys.make_key()
    again = keys.read_key(keys.key_pem(key))
    assert keys.fingerprint(again.public_key()) == keys.fingerprint(key.public_key())
    assert len(keys.fingerprint(key.public_key())) == 64


def test_a_signature_is_good_for_its_key_and_text_only() -> None:
    key, other = keys.make_key(), keys.make_key()
    signature = keys.sign(key, b"text")
    assert keys.signature_valid(key.public_key(), signature, b"text")
    assert not keys.signature_valid(key.public_key(), signature, b"test")
    assert not keys.signature_valid(other.public_key(), signature, b"text")
    assert not keys.signature_valid(key.public_key(), b"", b"text")


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_other_kinds_of_keys_are_refused(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(Malformed, match="P-256"):
        keys.read_key(pem)


def test_a_torn_key_is_refused() -> None:
    pem = keys.key_pem(keys.make_key())
    for end in (0, 10, len(pem) // 2, len(pem) - 30):
        with pytest.raises(Malformed):
            keys.read_key(pem[:end])
