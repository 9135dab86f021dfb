"""What the certificate manager can be asked.  Numbers 1000-1099."""

from __future__ import annotations

from paas.wire.registry import Message, Params, method


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
    """A certificate and the authority that signed it, PEM."""

    certificate: str
    authority: str


class DescribeAuthority(Params, frozen=True, kw_only=True):
    """Tell the authority of this cluster; it is public."""


class AuthorityInfo(Message, frozen=True, kw_only=True):
    """The authority, PEM; when it ends; certificates on record; tokens not yet redeemed."""

    cluster: str
    authority: str
    end_ms: int
    certificates: int
    tokens: int


MINT_TOKEN = method(1000, "certificates.mint_token", MintToken, MintedToken, public=False)
REDEEM = method(1001, "certificates.redeem", Redeem, Issued, public=False)
RENEW = method(1002, "certificates.renew", Renew, Issued, public=False)
AUTHORITY = method(1003, "certificates.authority", DescribeAuthority, AuthorityInfo, public=False)


def renewal_proof_text(request_der: bytes) -> bytes:
    """What the old key signs; the first words keep the signature from meaning anything else."""
    return b"paas certificate renewal 1\0" + request_der
