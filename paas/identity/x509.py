"""Certificates and requests as bytes: made here, read here; the only import of cryptography.x509.

    authority   self-signed, P-256, CA with path length 1, signs certificates (and lists) only;
                name constraints: URIs and host names of its own cluster
    node        signed by the authority, P-256, CA with path length 0, the node's URI; name
    authority   constraints: URIs of its cluster, host names of its own node
    leaf        signed by a node authority, P-256, digital signature, server and client, the name
                in subject, URI and DNS, capabilities in a private extension

What was read becomes `Facts`, plain values about which `verify` decides; nothing here decides.

Source: platform document §4.9.4; RFC 5280 §4.1-4.2; X.509-SVID §3-5.
"""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from paas.identity import capabilities as words
from paas.identity.keys import Malformed, PrivateKey, PublicKey
from paas.identity.limits import BEGIN_EARLY_S, CERTIFICATE_BYTES_MAX, CHAIN_CERTIFICATES_MAX
from paas.identity.names import AgentName, check_cluster, check_node, node_uri

Certificate = x509.Certificate
Request = x509.CertificateSigningRequest
Subject = x509.Name
RequestBuilder = x509.CertificateSigningRequestBuilder
load_request = x509.load_pem_x509_csr

CAPABILITIES_OID = x509.ObjectIdentifier("2.25.105157203692303720243565073597832914311")
"""Ours for good, from the arc for UUIDs (ITU-T X.667); the content is one UTF8String."""

AUTHORITY_COMMON_NAME = "cluster authority"
NODE_AUTHORITY_COMMON_NAME = "node authority"

_KNOWN_CRITICAL = (x509.BasicConstraints.oid, x509.KeyUsage.oid)
_KNOWN_CRITICAL_OF_AUTHORITIES = (*_KNOWN_CRITICAL, x509.NameConstraints.oid)
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"
_BROKEN = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority, the cluster's or a node's: its certificate, and the key that never leaves its
    process.
    """

    certificate: Certificate
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a certificate says, believed by nobody yet.  Times in milliseconds since the epoch."""

    subject: tuple[tuple[str, str], ...]
    uris: tuple[str, ...]
    dns: tuple[str, ...]
    other_names: int
    begin_ms: int
    end_ms: int
    serial: int
    authority: bool
    path_length: int | None
    signs_data: bool
    signs_certificates: bool
    server: bool
    client: bool
    p256: bool
    ecdsa_sha256: bool
    unknown_critical: tuple[str, ...]
    capabilities: frozenset[str]


# -- making --------------------------------------------------------------------------------------


def make_authority(
    cluster: str, key: PrivateKey, *, serial: int, now_ms: int, life_s: int
) -> Certificate:
    """The self-signed certificate of a cluster's authority."""
    check_cluster(cluster)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_COMMON_NAME),
        ]
    )
    builder = _builder(name, name, key.public_key(), serial, now_ms, life_s)
    return _signing(builder, 1, cluster, cluster, key.public_key()).sign(key, hashes.SHA256())


def make_node_authority(
    authority: Authority,
    cluster: str,
    node: str,
    key: PublicKey,
    *,
    serial: int,
    now_ms: int,
    life_s: int,
) -> Certificate:
    """The certificate with which one node certifies its own agents.

    The constraint on host names is what any TLS library enforces; since names of nodes may contain
    dots, a node `b` could still speak for a node `a.b` there, which `verify` refuses.
    """
    check_node(node)
    name = node_subject(cluster, node)
    builder = _builder(name, authority.certificate.subject, key, serial, now_ms, life_s)
    issuer_key = authority.key.public_key()
    return (
        _signing(builder, 0, cluster, f"{node}.{cluster}", issuer_key)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(node_uri(cluster, node))]),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )


def make_leaf(
    authority: Authority,
    name: AgentName,
    key: PublicKey,
    *,
    serial: int,
    now_ms: int,
    life_s: int,
    capabilities: frozenset[str],
) -> Certificate:
    """An agent's certificate."""
    sans = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(name.uri), x509.DNSName(name.dns)]
    )
    usages = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    issuer_key = authority.key.public_key()
    builder = (
        _builder(subject(name), authority.certificate.subject, key, serial, now_ms, life_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(sans, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )
    if capabilities:
        text = _utf8_string(words.to_text(capabilities))
        builder = builder.add_extension(
            x509.UnrecognizedExtension(CAPABILITIES_OID, text), critical=False
        )
    return builder.sign(authority.key, hashes.SHA256())


def subject(name: AgentName) -> x509.Name:
    """The distinguished name of an agent (platform document §4.9.4)."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, name.cluster),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name.subsystem),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name.node),
            x509.NameAttribute(NameOID.USER_ID, name.id),
        ]
    )


def node_subject(cluster: str, node: str) -> x509.Name:
    """The distinguished name of a node's authority."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, cluster),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, node),
            x509.NameAttribute(NameOID.COMMON_NAME, NODE_AUTHORITY_COMMON_NAME),
        ]
    )


def subject_texts(name: x509.Name) -> tuple[tuple[str, str], ...]:
    """A distinguished name as (attribute, value), in order; unknown attributes show as OIDs."""
    short = {
        NameOID.DOMAIN_COMPONENT: "DC",
        NameOID.ORGANIZATION_NAME: "O",
        NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
        NameOID.USER_ID: "UID",
        NameOID.COMMON_NAME: "CN",
    }
    return tuple((short.get(a.oid, a.oid.dotted_string), str(a.value)) for a in name)


def expected_subject(name: AgentName) -> tuple[tuple[str, str], ...]:
    """What `subject_texts` gives for this agent's certificate."""
    return (("DC", name.cluster), ("O", name.subsystem), ("OU", name.node), ("UID", name.id))


# -- reading -------------------------------------------------------------------------------------


def certificate_pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_der(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def read_certificate(data: bytes) -> Certificate:
    """One certificate, PEM or DER; raises Malformed."""
    if len(data) > 2 * CERTIFICATE_BYTES_MAX:
        raise Malformed("a certificate above the size limit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the library finds odd, `verify` judges
            if data.lstrip().startswith(b"-----BEGIN"):
                return x509.load_pem_x509_certificate(data)
            return x509.load_der_x509_certificate(data)
    except _BROKEN:
        raise Malformed("not a certificate") from None


def read_chain(data: bytes) -> list[Certificate]:
    """A certificate and, in PEM, those that follow it; raises Malformed.  Never empty."""
    if len(data) > 2 * CHAIN_CERTIFICATES_MAX * CERTIFICATE_BYTES_MAX:
        raise Malformed("a chain above the size limit")
    begin = data.find(_PEM_BEGIN)
    if begin < 0 or data[:begin].strip():
        return [read_certificate(data)]
    pieces = data[begin:].split(_PEM_BEGIN)[1:]
    if len(pieces) > CHAIN_CERTIFICATES_MAX:
        raise Malformed(f"a chain of more than {CHAIN_CERTIFICATES_MAX} certificates")
    return [read_certificate(_PEM_BEGIN + piece) for piece in pieces]


def public_key(certificate: Certificate | Request) -> PublicKey:
    """The P-256 key that is certified; raises Malformed."""
    try:
        key = certificate.public_key()
    except _BROKEN:
        raise Malformed("a key of an unknown kind") from None
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("not a P-256 key")
    return key


def signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    """Is the issuer's name on it, and does the issuer's key verify its signature?"""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_BROKEN):
        return False
    return True


def facts(certificate: Certificate) -> Facts:
    """Everything that `verify` needs to know about a certificate; raises Malformed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _facts(certificate)
    except Malformed:
        raise
    except Exception as exc:  # the library's parsers raise many kinds; the input is a stranger's
        raise Malformed(f"an unreadable part: {type(exc).__name__}") from None


def _facts(certificate: Certificate) -> Facts:
    extensions = {e.oid: e for e in certificate.extensions}
    values = {oid: e.value for oid, e in extensions.items()}
    basic = values.get(x509.BasicConstraints.oid)
    usage = values.get(x509.KeyUsage.oid)
    extended = values.get(x509.ExtendedKeyUsage.oid)
    sans = values.get(x509.SubjectAlternativeName.oid)
    # No basic constraints at all says nothing: count it as an authority, which no leaf may be.
    authority = basic.ca if isinstance(basic, x509.BasicConstraints) else True
    known = _KNOWN_CRITICAL_OF_AUTHORITIES if authority else _KNOWN_CRITICAL
    names = list(sans) if isinstance(sans, x509.SubjectAlternativeName) else []
    purposes = list(extended) if isinstance(extended, x509.ExtendedKeyUsage) else []
    uris = tuple(n.value for n in names if isinstance(n, x509.UniformResourceIdentifier))
    dns = tuple(n.value for n in names if isinstance(n, x509.DNSName))
    critical = {oid for oid, e in extensions.items() if e.critical}
    try:
        public_key(certificate)
        p256 = True
    except Malformed:
        p256 = False
    return Facts(
        subject=subject_texts(certificate.subject),
        uris=uris,
        dns=dns,
        other_names=len(names) - len(uris) - len(dns),
        begin_ms=_milliseconds(certificate.not_valid_before_utc),
        end_ms=_milliseconds(certificate.not_valid_after_utc),
        serial=certificate.serial_number,
        authority=authority,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        signs_data=isinstance(usage, x509.KeyUsage) and usage.digital_signature,
        signs_certificates=isinstance(usage, x509.KeyUsage)
        and (usage.key_cert_sign or usage.crl_sign),
        server=ExtendedKeyUsageOID.SERVER_AUTH in purposes,
        client=ExtendedKeyUsageOID.CLIENT_AUTH in purposes,
        p256=p256,
        ecdsa_sha256=certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        unknown_critical=tuple(sorted(o.dotted_string for o in critical if o not in known)),
        capabilities=_capabilities(values.get(CAPABILITIES_OID)),
    )


def _capabilities(value: x509.ExtensionType | None) -> frozenset[str]:
    if not isinstance(value, x509.UnrecognizedExtension):
        return frozenset()
    return words.from_text(_read_utf8_string(value.value))


def _builder(
    name: x509.Name, issuer: x509.Name, key: PublicKey, serial: int, now_ms: int, life_s: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.fromtimestamp(now_ms // 1_000, datetime.UTC)
    return x509.CertificateBuilder(
        subject_name=name,
        issuer_name=issuer,
        public_key=key,
        serial_number=serial,
        not_valid_before=now - datetime.timedelta(seconds=BEGIN_EARLY_S),
        not_valid_after=now + datetime.timedelta(seconds=life_s),
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _signing(
    builder: x509.CertificateBuilder, below: int, cluster: str, hosts: str, issuer: PublicKey
) -> x509.CertificateBuilder:
    """What every authority's certificate says; `below` is how many authorities may follow it."""
    constraints = x509.NameConstraints(
        [x509.UniformResourceIdentifier(cluster), x509.DNSName(hosts)], None
    )
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(constraints, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * 1_000


def _utf8_string(text: str) -> bytes:
    """DER of a UTF8String."""
    body = text.encode()
    if len(body) < 0x80:
        return bytes([0x0C, len(body)]) + body
    length = len(body).to_bytes(2, "big").lstrip(b"\0")
    return bytes([0x0C, 0x80 | len(length)]) + length + body


def _read_utf8_string(data: bytes) -> str:
    """The text of a UTF8String in DER; raises Malformed unless it is in its one form."""
    header = 2 if len(data) > 1 and data[1] < 0x80 else 2 + (data[1] & 0x7F if len(data) > 1 else 0)
    try:
        text = data[header:].decode()
    except UnicodeDecodeError:
        raise Malformed("capabilities that are not text") from None
    if len(text.encode()) >= 1 << 16 or _utf8_string(text) != data:
        raise Malformed("capabilities that are not a UTF8String")
    return text
