"""Certificate requests: an agent, or a node, names itself and proves that it holds the key.

A request carries the subject and nothing else.  What the certificate will say beyond that (URI,
host name, purposes, capabilities, life) is the authority's decision, so a request that asks for
extensions is refused rather than half obeyed.

Source: RFC 2986; platform document §4.9.6 ("Signing").
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization

from paas.base.errors import PlatformError
from paas.identity import x509
from paas.identity.keys import Malformed, PrivateKey, PublicKey
from paas.identity.limits import REQUEST_BYTES_MAX
from paas.identity.names import AgentName, check_cluster, check_node


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose signature is good: who wants a certificate, for which key."""

    name: AgentName
    key: PublicKey
    der: bytes


@dataclass(frozen=True, slots=True)
class NodeAsked:
    """A request for a node's authority whose signature is good."""

    cluster: str
    node: str
    key: PublicKey


def make(name: AgentName, key: PrivateKey) -> bytes:
    """A request, PEM."""
    return _make(x509.subject(name), key)


def make_node(cluster: str, node: str, key: PrivateKey) -> bytes:
    """A request for the authority of a node, PEM."""
    return _make(x509.node_subject(cluster, node), key)


def read(pem: bytes) -> Asked:
    """What a stranger asks for; raises Malformed with the reason."""
    request, key, subject = _read(pem)
    name = name_of(subject)
    if name is None:
        raise Malformed("the subject of the request is not the name of an agent")
    return Asked(name, key, request.public_bytes(serialization.Encoding.DER))


def read_node(pem: bytes) -> NodeAsked:
    """What a node asks for; raises Malformed with the reason."""
    _, key, subject = _read(pem)
    if [attribute for attribute, _ in subject] != ["DC", "OU", "CN"]:
        raise Malformed("the subject of the request is not the name of a node")
    cluster, node, common_name = (value for _, value in subject)
    try:
        check_cluster(cluster)
        check_node(node)
    except PlatformError as exc:
        raise Malformed(str(exc)) from None
    if common_name != x509.NODE_AUTHORITY_COMMON_NAME:
        raise Malformed("the subject of the request is not the name of a node's authority")
    return NodeAsked(cluster, node, key)


def _make(subject: x509.Subject, key: PrivateKey) -> bytes:
    builder = x509.RequestBuilder(subject_name=subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _read(pem: bytes) -> tuple[x509.Request, PublicKey, tuple[tuple[str, str], ...]]:
    """The request, its key, its subject; raises Malformed."""
    if len(pem) > REQUEST_BYTES_MAX:
        raise Malformed(f"a request of more than {REQUEST_BYTES_MAX} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_request(pem)
            if not request.is_signature_valid:
                raise Malformed("the request is not signed by the key it names")
            if len(request.extensions):
                raise Malformed("the request asks for extensions")
            return request, x509.public_key(request), x509.subject_texts(request.subject)
    except Malformed:
        raise
    except Exception as exc:  # the library's parsers raise many kinds; the input is a stranger's
        raise Malformed(f"not a certificate request: {type(exc).__name__}") from None


def name_of(subject: tuple[tuple[str, str], ...]) -> AgentName | None:
    """The name in a subject of exactly our four attributes, in our order; else None."""
    if [attribute for attribute, _ in subject] != ["DC", "O", "OU", "UID"]:
        return None
    cluster, subsystem, node, identity = (value for _, value in subject)
    try:
        return AgentName(cluster, node, subsystem, identity)
    except PlatformError:
        return None
