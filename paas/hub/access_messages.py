"""Messages about who may use the API from outside.  Numbers 160-163."""

from __future__ import annotations

from paas.hub.access_limits import ACCESS_TOKEN_LIFE_S
from paas.identity.access_tokens import OPERATOR
from paas.wire.registry import Message, Params, method


class CreateAccessToken(Params, frozen=True, kw_only=True):
    """Make a token with which a program outside may use the API over HTTPS and WebSocket.

    `role` is `operator` (everything) or `reader` (may look); good for `ttl` seconds.  The cluster
    keeps a hash of it only.
    """

    role: str = OPERATOR
    ttl: float = ACCESS_TOKEN_LIFE_S
    note: str = ""


class CreatedAccessToken(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The token, which is told this once; where to use it, and the authority (PEM) to trust there.

    `host` is the name in the server's certificate.
    """

    token: str
    id: str
    role: str
    expires: float
    url: str = ""
    host: str = ""
    authority: str = ""


class ListAccessTokens(Params, frozen=True, kw_only=True):
    """The tokens that are good, without their secrets."""


class AccessTokenInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One token; times in seconds since the epoch."""

    id: str
    role: str
    created: float
    expires: float
    note: str = ""


class AccessTokens(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All of them, oldest first."""

    tokens: list[AccessTokenInfo]


class RevokeAccessToken(Params, frozen=True, kw_only=True):
    """A token is good no more; connections that were opened with it end."""

    id: str


class RevokedAccessToken(Message, frozen=True, kw_only=True, omit_defaults=False):
    """It is gone."""

    id: str


class CertifyOperator(Params, frozen=True, kw_only=True):
    """Certify the key of an operator's program: a request (PEM) that names `operator-NAME`."""

    request: str
    ttl: float = 86_400.0


class OperatorCertified(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The certificate, followed by that of the node; the cluster's authority; where to use it."""

    certificate: str
    authority: str
    url: str = ""
    host: str = ""


CREATE_ACCESS_TOKEN = method(160, "access.create_token", CreateAccessToken, CreatedAccessToken)
LIST_ACCESS_TOKENS = method(161, "access.list_tokens", ListAccessTokens, AccessTokens)
REVOKE_ACCESS_TOKEN = method(162, "access.revoke_token", RevokeAccessToken, RevokedAccessToken)
CERTIFY_OPERATOR = method(163, "access.certify", CertifyOperator, OperatorCertified)
