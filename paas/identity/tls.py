"""TLS contexts for agents, and who is at the other end; the only import of ssl.

TLS 1.3 only, both ends show a certificate of the cluster's authority, no resumption (a resumed
session would outlive the certificate it was opened with), no system trust store, no key log.  The
peer is known by the name in its certificate, not by a host name: after the handshake the caller
asks `authenticate` (everything once more, with our clock and the role) before it sends or believes
a byte.  With TLS 1.3 the dialling side finishes first: it learns that it was refused from its first
read.

(io) for one reason: the ssl module takes keys only from paths.  A key goes to it through a memfd
(anonymous memory, `/proc/self/fd/N`), which is overwritten and closed before the function returns;
no key is ever in a file system.  Nothing here awaits.

A node that joins has no certificate and no authority yet, only a fingerprint: `join_server_context`
and `join_client_context` let it in, and `shown_chain` gives it what the other side showed, to be
judged before a byte is sent (certificates.joining).

Agents show their certificate and that of their node's authority.  The ssl module of Python 3.10 to
3.12 gives the chain through its inner object only, later ones openly; where neither does, chains
are empty and whoever is certified by a node's authority is refused.

OpenSSL judges chain, purpose, name constraints and time (by the machine's clock, without skew; the
certificates begin a skew early instead), so that even a caller who forgets `authenticate` is not
open to strangers.  Source: RFC 8446; platform document §4.9.4, §4.9.6 ("Private key handling").
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from paas.base.errors import PlatformError
from paas.identity import x509
from paas.identity.keys import Malformed
from paas.identity.names import AgentName
from paas.identity.verify import Trust, denied, leaf_name, node_of, verify

Context = ssl.SSLContext
SecurityError = ssl.SSLError
"""What a handshake that fails raises; an OSError."""

_DER = 2
"""The encoding's number in the ssl module's inner object (X509_FILETYPE_ASN1)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an agent holds: its certificate, its key, and the authority it believes.  PEM.

    The certificate is followed by that of the node's authority which signed it.
    """

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    authority_pem: bytes


def server_context(identity: Identity) -> ssl.SSLContext:
    """For the accepting side; refuses callers without a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _hardened(context, identity)


def client_context(identity: Identity) -> ssl.SSLContext:
    """For the dialling side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the SPIFFE ID is the name, checked by `authenticate`
    return _hardened(context, identity)


def access_server_context(identity: Identity) -> ssl.SSLContext:
    """For callers from outside: a certificate of the cluster's authority is welcome, not needed.

    One that is shown and is not good ends the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    _hardened(context, identity)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def access_client_context(
    authority_pem: str, certificate_file: str = "", key_file: str = ""
) -> ssl.SSLContext:
    """For a program outside: believes that authority alone; `peer_identity` tells whom it reached.

    Raises `invalid` for what is no authority, certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _only_tls13(context)
    try:
        context.load_verify_locations(cadata=authority_pem)
        if certificate_file:
            context.load_cert_chain(certificate_file, key_file or None)
    except (OSError, ValueError) as exc:
        raise _unusable(exc) from None
    return context


def join_server_context(identity: Identity) -> ssl.SSLContext:
    """For the listener of nodes that join: shows all up to the authority, asks for nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    _only_tls13(context)
    _show(context, identity.certificate_pem + identity.authority_pem, identity.key_pem)
    return context


def join_client_context() -> ssl.SSLContext:
    """For a node that joins: believes whoever answers, so look at `shown_chain` before speaking."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _only_tls13(context)
    return context


def shown_chain(peer: Any) -> tuple[bytes, ...]:
    """The certificates that the peer of a finished handshake showed, its own first (DER).

    The peer has the key of the first; nothing else about them was judged.
    """
    return _chain(peer, "get_unverified_chain")


def peer_identity(peer: Any) -> AgentName:
    """Who is at the other end of a finished handshake; raises `denied`.

    `peer` is an ssl.SSLObject, ssl.SSLSocket or trio.SSLStream.  The chain and the time were judged
    by the handshake; here the certificate must be one of an agent, with one consistent name, signed
    by the authority of the agent's own node if by that of a node.
    """
    certificate = _peer_certificate(peer)
    try:
        name = leaf_name(x509.facts(x509.read_certificate(certificate)))
        chain = _chain(peer, "get_verified_chain")
        if len(chain) > 2 and node_of(x509.facts(x509.read_certificate(chain[1])))[1] != name.node:
            raise denied("signed by the authority of another node")
    except Malformed as exc:
        raise denied(str(exc)) from None
    return name


def require_role(name: AgentName, allowed: AbstractSet[str]) -> None:
    """Raise `denied`, saying which role was missing."""
    if name.subsystem not in allowed:
        wanted = " or ".join(sorted(allowed))
        raise PlatformError(
            "denied",
            f"{name} has the role {name.subsystem}; the role {wanted} is needed",
            role=name.subsystem,
            missing=sorted(allowed),
        )


def authenticate(
    peer: Any, trusted: Trust, now_ms: int, allowed: AbstractSet[str] | None
) -> tuple[AgentName, frozenset[str]]:
    """Name and capabilities of the peer of a finished handshake; raises `denied` with the reason.

    The error is for our log: close the connection and send nothing.
    """
    certificate = _peer_certificate(peer)
    above = _chain(peer, "get_verified_chain")[1:]
    verdict = verify(certificate, trusted, now_ms, allowed, chain=above)
    if verdict.name is None:
        raise denied(verdict.reason)
    return verdict.name, verdict.capabilities


def _peer_certificate(peer: Any) -> bytes:
    certificate: bytes | None = peer.getpeercert(binary_form=True)
    if not certificate:
        raise denied("the peer showed no certificate")
    return certificate


def _chain(peer: Any, method: str) -> tuple[bytes, ...]:
    inner = getattr(peer, "_ssl_object", peer)
    source = inner if hasattr(inner, method) else getattr(inner, "_sslobj", None)
    get = getattr(source, method, None)
    certificates = (get() or ()) if get is not None else ()
    return tuple(c if isinstance(c, bytes) else c.public_bytes(_DER) for c in certificates)


def _hardened(context: ssl.SSLContext, identity: Identity) -> ssl.SSLContext:
    _only_tls13(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=identity.authority_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as exc:
        raise _unusable(exc) from None
    _show(context, identity.certificate_pem, identity.key_pem)
    return context


def _only_tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION


def _show(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    try:
        with _as_path(chain_pem + key_pem) as path:
            context.load_cert_chain(path)
    except ssl.SSLError as exc:
        raise _unusable(exc) from None


def _unusable(exc: Exception) -> PlatformError:
    reason = getattr(exc, "reason", None) or "not PEM"
    return PlatformError("invalid", f"identity: {reason}", field="identity")


@contextmanager
def _as_path(secret: bytes) -> Iterator[str]:
    """A path that reads `secret`, for the length of the block, without a file."""
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, secret)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.pwrite(descriptor, bytes(len(secret)), 0)
        os.close(descriptor)
