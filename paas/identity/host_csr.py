"""Certificate requests for host names, for the authorities of others (RFC 8555 §7.4).

Unlike the requests of agents (csr.py) these name no subject: the host names are the extension that
such authorities read.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from paas.identity.keys import PrivateKey


def make(hosts: Sequence[str], key: PrivateKey) -> bytes:
    """A request for these host names (A-labels, `*.` allowed), DER."""
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def stand_in(key: PrivateKey, now_s: float, life_s: int) -> bytes:
    """A certificate that nobody believes, to be shown until there is a real one; PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not yet certified")])
    now = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    builder = x509.CertificateBuilder(
        subject_name=name,
        issuer_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now,
        not_valid_after=now + datetime.timedelta(seconds=life_s),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
