"""The certificate of a node's authority together with the cluster's: read, and judged.

    node_chain.read     bytes that somebody sent ──> two certificates
    node_chain.check    are they for this node and key, of this cluster, and valid now?

Used where a node joins, where its authority is renewed, and where it is found on disk.  The
cluster's authority is known by the fingerprint of its key: its certificate may be made anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.base.errors import PlatformError
from paas.identity import x509
from paas.identity.keys import Malformed, PublicKey, fingerprint, public_bytes
from paas.identity.verify import Trust, node_authority


@dataclass(frozen=True, slots=True)
class NodeChain:
    """The node's authority and the cluster's."""

    certificate: x509.Certificate
    root: x509.Certificate

    def pem(self) -> bytes:
        return x509.certificate_pem(self.certificate) + x509.certificate_pem(self.root)


def read(pem: bytes) -> NodeChain:
    """Two certificates in PEM, of which the second is self-signed; raises `untrusted`."""
    try:
        certificates = x509.read_chain(pem)
    except Malformed as exc:
        raise untrusted(str(exc)) from None
    if len(certificates) != 2:
        raise untrusted(f"expected 2 certificates, got {len(certificates)}")
    certificate, root = certificates
    if not x509.signed_by(root, root):
        raise untrusted("the authority of the cluster is not signed by itself")
    return NodeChain(certificate, root)


def check(
    chain: NodeChain, *, cluster: str, node: str, key: PublicKey, authority: str, now_ms: int
) -> None:
    """Raise `untrusted`, with the reason, unless a node may sign with this.

    `authority` is the fingerprint of the cluster's authority.
    """
    try:
        if fingerprint(x509.public_key(chain.root)) != authority:
            raise untrusted("the authority of the cluster is another one")
        certified = public_bytes(x509.public_key(chain.certificate))
    except Malformed as exc:
        raise untrusted(str(exc)) from None
    if certified != public_bytes(key):
        raise untrusted("it is for another key")
    try:
        stated = node_authority(chain.certificate, Trust(cluster, (chain.root,)), now_ms)
    except PlatformError as exc:
        raise untrusted(str(exc.data["reason"])) from None
    if stated != node:
        raise untrusted(f"it is for the node {stated}")


def untrusted(reason: str) -> PlatformError:
    return PlatformError(
        "untrusted",
        f"the certificate of the node's authority is refused: {reason}",
        hint="check that the address is that of a node of the right cluster",
        reason=reason,
    )
