"""What the certificate manager can be asked, and what a node that joins asks the cluster.

Numbers 1000-1099.
"""

from __future__ import annotations

from paas.wire.registry import Message, Nothing, Params, method


class MintToken(Params, frozen=True, kw_only=True):
    """Make a one-time token with which an agent that is about to start gets its certificate."""

    subsystem: str
    id: str
    node: str
    uid: int | None = None
    """If given, only a process of this user can redeem the token."""


class MintedToken(Message, frozen=True, kw_only=True):
    """The token; it goes to the new agent and nowhere else."""

    token: str
    life_s: int


class Redeem(Params, frozen=True, kw_only=True):
    """Trade a token and a certificate request (PEM) for a certificate."""

    token: str
    request: str


class Renew(Params, frozen=True, kw_only=True):
    """Trade a valid certificate and a request (PEM) for a new key for the certificate's successor.

    `proof` is the signature (hex) of the old key over `renewal_proof_text(request)`.
    """

    certificate: str
    request: str
    proof: str


class Issued(Message, frozen=True, kw_only=True):
    """A certificate, followed by that of the node's authority; and the cluster's authority; PEM."""

    certificate: str
    authority: str


class DescribeAuthority(Params, frozen=True, kw_only=True):
    """Tell the authority of this cluster; it is public."""


class AuthorityInfo(Message, frozen=True, kw_only=True):
    """The cluster's authority, PEM; when it ends; certificates of agents on record; tokens not yet
    redeemed.  `holder`: its key is on this node.  `node_end_ms`: when this node's authority ends.
    """

    cluster: str
    authority: str
    end_ms: int
    certificates: int
    tokens: int
    holder: bool = True
    fingerprint: str = ""
    node_authority: str = ""
    node_end_ms: int = 0


class CertifyNode(Params, frozen=True, kw_only=True):
    """Certify the authority of a node, which made the request (PEM).

    Answered where the key of the cluster's authority is.  The caller answers for it that this node
    asks, or was invited.
    """

    request: str
    node: str


class NodeCertified(Message, frozen=True, kw_only=True):
    """The certificate of a node's authority and then the cluster's, PEM."""

    chain: str


class DescribeNodeRequest(Params, frozen=True, kw_only=True):
    """Make the request for the successor of this node's authority."""


class NodeRequest(Message, frozen=True, kw_only=True):
    """The request (PEM), and whether it is time for it: the holder of the key never needs it."""

    node: str
    request: str
    due: bool


class InstallNode(Params, frozen=True, kw_only=True):
    """Take over a successor of this node's authority (as `NodeCertified.chain`)."""

    chain: str


class CertifyAccess(Params, frozen=True, kw_only=True):
    """Certify a key for access from outside: the server's (`api`) or an operator's program.

    The caller, this node's hub, answers for it that the request may be granted.
    """

    request: str
    life_s: int


class Join(Params, frozen=True, kw_only=True):
    """A new node asks to be let in, on a connection without a certificate of its own.

    `request` (PEM) is for the authority of the node, `address` (host:port) is where its hub will
    answer, `time_ms` its clock, `protocol` and `version` what it speaks and is.
    """

    token: str
    node: str
    request: str
    address: str
    time_ms: int
    protocol: int
    version: str = ""


class Joined(Message, frozen=True, kw_only=True):
    """The node is in: its authority (as `NodeCertified.chain`), and where the others are."""

    cluster: str
    chain: str
    peers: dict[str, str]
    time_ms: int
    version: str = ""


class CreateToken(Params, frozen=True, kw_only=True):
    """Make a join token: one use, good for `ttl` seconds.  Whoever has it can join the cluster."""

    ttl: float = 600.0


class CreatedToken(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The token, which is told this once, and until when it is good (seconds since the epoch)."""

    token: str
    expires: float
    address: str
    """Where this node listens for those who join (host:port)."""

    id: str = ""
    """By which it can be listed and revoked; no secret."""


class RevokeToken(Params, frozen=True, kw_only=True):
    """Let nobody in with this join token any more, named by its id or by itself.

    A node that has used it already stays in the cluster.
    """

    token: str


class TokenInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One join token: `state` is `made`, `used`, `revoked`, or `expired` (never used).

    `expires` in seconds since the epoch; `node` is who used it, or empty.
    """

    id: str
    state: str
    expires: float
    node: str = ""


class ListTokens(Params, frozen=True, kw_only=True):
    """List the join tokens that are known: also used, revoked and expired ones, for an hour."""


class Tokens(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Join tokens, oldest first."""

    tokens: list[TokenInfo]


MINT_TOKEN = method(1000, "certificates.mint_token", MintToken, MintedToken, public=False)
REDEEM = method(1001, "certificates.redeem", Redeem, Issued, public=False)
RENEW = method(1002, "certificates.renew", Renew, Issued, public=False)
AUTHORITY = method(1003, "certificates.authority", DescribeAuthority, AuthorityInfo, public=False)

CERTIFY_NODE = method(1010, "certificates.certify_node", CertifyNode, NodeCertified, public=False)
NODE_REQUEST = method(
    1011, "certificates.node_request", DescribeNodeRequest, NodeRequest, public=False
)
INSTALL_NODE = method(1012, "certificates.install_node", InstallNode, Nothing, public=False)
CERTIFY_ACCESS = method(1020, "certificates.certify_access", CertifyAccess, Issued, public=False)
JOIN = method(1040, "cluster.join", Join, Joined, public=False)
CREATE_TOKEN = method(1041, "cluster.create_token", CreateToken, CreatedToken)
CERTIFY = method(1042, "cluster.certify", CertifyNode, NodeCertified, public=False)
REVOKE_TOKEN = method(1043, "cluster.revoke_token", RevokeToken, TokenInfo)
LIST_TOKENS = method(1044, "cluster.tokens", ListTokens, Tokens)


def renewal_proof_text(request_der: bytes) -> bytes:
    """What the old key signs; the first words keep the signature from meaning anything else."""
    return b"paas certificate renewal 1\0" + request_der
