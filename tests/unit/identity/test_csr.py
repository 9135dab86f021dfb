from __future__ import annotations

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from paas.identity import csr, keys, x509
from paas.identity.keys import Malformed
from paas.identity.names import AgentName

NAME = AgentName("c1", "n1", "hub", "a1")
KEY = keys.make_key()
REQUEST = csr.make(NAME, KEY)
PEM = serialization.Encoding.PEM


def test_a_request_says_who_and_for_which_key() -> None:
    asked = csr.read(csr.make(NAME, KEY))
    assert asked.name == NAME
    assert keys.fingerprint(asked.key) == keys.fingerprint(KEY.public_key())


def test_a_request_for_extensions_is_refused() -> None:
    builder = library.CertificateSigningRequestBuilder(x509.subject(NAME))
    builder = builder.add_extension(library.BasicConstraints(ca=True, path_length=None), True)
    with pytest.raises(Malformed, match="extensions"):
        csr.read(builder.sign(KEY, hashes.SHA256()).public_bytes(PEM))


def test_a_key_of_another_kind_is_refused() -> None:
    builder = library.CertificateSigningRequestBuilder(x509.subject(NAME))
    weak = builder.sign(ec.generate_private_key(ec.SECP192R1()), hashes.SHA256())
    with pytest.raises(Malformed, match="P-256"):
        csr.read(weak.public_bytes(PEM))


def test_a_request_signed_by_another_key_is_refused() -> None:
    good = library.load_pem_x509_csr(csr.make(NAME, KEY))
    der = good.public_bytes(serialization.Encoding.DER)
    other = keys.public_bytes(keys.make_key().public_key())
    mixed = der.replace(keys.public_bytes(KEY.public_key()), other)
    pem = library.load_der_x509_csr(mixed).public_bytes(PEM)
    with pytest.raises(Malformed, match="not signed by the key"):
        csr.read(pem)


def test_a_subject_that_is_not_the_name_of_an_agent_is_refused() -> None:
    attribute = library.NameAttribute(library.oid.NameOID.COMMON_NAME, "hub")
    builder = library.CertificateSigningRequestBuilder(library.Name([attribute]))
    with pytest.raises(Malformed, match="subject"):
        csr.read(builder.sign(KEY, hashes.SHA256()).public_bytes(PEM))


def test_attributes_with_bad_values_are_no_name() -> None:
    assert csr.name_of((("DC", "C 1"), ("O", "hub"), ("OU", "n1"), ("UID", "a1"))) is None
    assert csr.name_of((("O", "hub"), ("DC", "c1"), ("OU", "n1"), ("UID", "a1"))) is None


def test_an_oversized_request_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Malformed, match="4096"):
        csr.read(csr.make(NAME, KEY) + b"\n" * 5_000)


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Malformed):
        csr.read(data)


@given(st.data())
def test_a_damaged_request_is_malformed_or_unchanged(data: st.DataObject) -> None:
    pem = bytearray(REQUEST)
    place = data.draw(st.integers(0, len(pem) - 1))
    pem[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        asked = csr.read(bytes(pem))
    except Malformed:
        return
    assert (asked.name, keys.public_bytes(asked.key)) == (NAME, keys.public_bytes(KEY.public_key()))
