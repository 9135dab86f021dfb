"""The certificate manager: who may have which certificate, on this node.

    node controller                manager                      new agent
         │ mint_token(role, id) ──>│                                │
         │<── token ───────────────│                                │
         │ ── starts, hands over the token ────────────────────────>│ makes its key
         │                         │<── redeem(token, request) ─────│
         │                         │── certificate, authority ─────>│
         │                         │<── renew(certificate, …) ──────│ at half of the life

A token is for one role, identity and node, lives a minute, and certifies exactly one key: the first
that is shown with it.  The same key may ask again while the token lives (the answer may have been
lost) and gets the same certificate; another key is refused.  Tokens are in memory only: after a
restart they are unknown, the new agent fails, and its parent starts it with a new one.

A renewal needs the older certificate, still valid and on record, and a signature with its key.

Certificates of agents are signed by the node's own authority; the hub fetches the certificate of
that one, and its successors, from the node that holds the cluster's key (`certify_node` there,
`node_request` and `install_node` here).

Nothing here waits, so requests are decided one after the other and a race has one winner.  Whoever
is refused hears `denied` and no reason; the reason goes to the log (`Notice`).
Source: platform document §4.9.6 ("Signing", "Subsequent handoff").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock, Entropy
from paas.certificates import messages
from paas.certificates.authority import Authority, refusal
from paas.certificates.lifecycle import TOKEN, Token, TokenEvent
from paas.certificates.limits import OPERATOR_LIFE_S_MAX, TOKENS_MAX
from paas.certificates.policy import SPAWNER, role_of
from paas.certificates.settings import Settings
from paas.identity import capabilities, csr, keys, names, tokens, x509
from paas.identity.keys import Malformed, fingerprint
from paas.identity.names import AgentName
from paas.identity.verify import verify
from paas.rpc.link import PeerCredentials
from paas.wire.registry import Message, Nothing


class Notice(Protocol):
    """Where events of this sub-system go: an audit line, a log."""

    def __call__(self, event: str, **fields: object) -> None: ...


class Refused(Exception):
    """The text is the reason, for the log only."""


@dataclass(slots=True)
class SpawnToken:
    """A token on the books; its secret is not here."""

    digest: bytes
    name: AgentName
    uid: int | None
    expires_s: float
    state: Token = TOKEN.initial
    key: str = ""
    certificate: str = ""


class SpawnTokens:
    """The tokens that are alive."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._entries: dict[str, SpawnToken] = {}

    @property
    def waiting(self) -> int:
        """Tokens that were not redeemed yet."""
        return sum(1 for entry in self._entries.values() if entry.state is Token.MINTED)

    def mint(self, name: AgentName, uid: int | None, life_s: int) -> tokens.Token:
        self._sweep()
        if len(self._entries) >= TOKENS_MAX:
            raise PlatformError("limit-exceeded", f"{TOKENS_MAX} spawn tokens are alive")
        token = tokens.make(self._entropy.bytes(tokens.ENTROPY_BYTES))
        expires_s = self._clock.monotonic_s() + life_s
        self._entries[token.id] = SpawnToken(token.digest(), name, uid, expires_s)
        return token

    def find(self, text: str) -> SpawnToken:
        """The entry of a token that somebody showed; raises Refused."""
        token = tokens.parse(text)
        if token is None:
            raise Refused("not a token")
        entry = self._entries.get(token.id)
        if entry is None:
            raise Refused("an unknown token")
        if not tokens.matches(token, entry.digest):
            raise Refused("a token with a wrong secret")
        if tokens.expired(self._clock.monotonic_s(), entry.expires_s):
            raise Refused("an expired token")
        return entry

    def _sweep(self) -> None:
        now_s = self._clock.monotonic_s()
        for key, entry in list(self._entries.items()):
            if tokens.expired(now_s, entry.expires_s):
                entry.state = TOKEN.next(entry.state, TokenEvent.EXPIRE)
                del self._entries[key]


class CertificateService:
    """The requests of `messages`, from peers that the kernel has named."""

    def __init__(
        self,
        settings: Settings,
        authority: Authority,
        *,
        clock: Clock,
        entropy: Entropy,
        notice: Notice,
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._clock = clock
        self._notice = notice
        self._tokens = SpawnTokens(clock, entropy)

    def mint_token(self, params: messages.MintToken, peer: PeerCredentials) -> messages.MintedToken:
        """A token for an agent of this node.  Raises `denied`, `invalid`, `limit-exceeded`."""
        settings = self._settings
        if role_of(peer, settings) != SPAWNER:
            reason = "is not the node controller"
            self._notice("token-refused", reason=reason, pid=peer.pid, uid=peer.uid)
            raise PlatformError("denied", "only the node controller may have agents started")
        name = AgentName(settings.cluster, params.node, params.subsystem, params.id)
        if params.node != settings.node:
            raise invalid("node", f"expected this node, {settings.node}")
        if params.subsystem not in capabilities.OF_ROLE:
            raise invalid("subsystem", f"expected one of {', '.join(capabilities.OF_ROLE)}")
        token = self._tokens.mint(name, params.uid, settings.token_life_s)
        self._notice("token-minted", token=token.id, name=name.uri, pid=peer.pid)
        return messages.MintedToken(token=token.reveal(), life_s=settings.token_life_s)

    def redeem(self, params: messages.Redeem, peer: PeerCredentials) -> messages.Issued:
        """The certificate for a token.  Raises `denied`, `limit-exceeded`, `storage-full`."""
        try:
            return self._redeem(params, peer)
        except (Refused, Malformed) as exc:
            raise self._refuse("redeem-refused", str(exc), peer) from None

    def _redeem(self, params: messages.Redeem, peer: PeerCredentials) -> messages.Issued:
        entry = self._tokens.find(params.token)
        if entry.uid is not None and entry.uid != peer.uid:
            raise Refused(f"user {peer.uid} shows a token for user {entry.uid}")
        asked = csr.read(params.request.encode())
        if reason := refusal(entry.name, asked):
            raise Refused(reason)
        key = fingerprint(asked.key)
        if entry.state is Token.REDEEMED:
            if entry.key != key:
                raise Refused("the token was redeemed for another key")
            self._notice("certificate-repeated", name=entry.name.uri, pid=peer.pid)
        else:
            state = TOKEN.next(entry.state, TokenEvent.REDEEM)
            life_s = self._settings.leaf_life_s
            entry.certificate = self._authority.issue(entry.name, asked, life_s=life_s)
            entry.key, entry.state = key, state
            self._notice("certificate-issued", name=entry.name.uri, key=key, pid=peer.pid)
        return messages.Issued(certificate=entry.certificate, authority=self._authority.pem)

    def renew(self, params: messages.Renew, peer: PeerCredentials) -> messages.Issued:
        """The successor of a certificate.  Raises `denied`, `limit-exceeded`, `storage-full`."""
        try:
            return self._renew(params, peer)
        except (Refused, Malformed) as exc:
            raise self._refuse("renewal-refused", str(exc), peer) from None

    def _renew(self, params: messages.Renew, peer: PeerCredentials) -> messages.Issued:
        pem = params.certificate.encode()
        verdict = verify(pem, self._authority.trust, self._clock.now_ms())
        if verdict.name is None:
            raise Refused(verdict.reason)
        old = x509.read_certificate(pem)
        if not self._authority.knows(old.serial_number):
            raise Refused("the certificate is not on record")
        asked = csr.read(params.request.encode())
        if reason := refusal(verdict.name, asked):
            raise Refused(reason)
        text = messages.renewal_proof_text(asked.der)
        if not keys.signature_valid(x509.public_key(old), _hex(params.proof), text):
            raise Refused("the request is not signed with the key of the older certificate")
        certificate = self._authority.issue(
            verdict.name, asked, life_s=self._settings.leaf_life_s, renews=old.serial_number
        )
        self._notice("certificate-renewed", name=verdict.name.uri, pid=peer.pid)
        return messages.Issued(certificate=certificate, authority=self._authority.pem)

    def authority(
        self, _params: messages.DescribeAuthority, _peer: PeerCredentials
    ) -> messages.AuthorityInfo:
        return self.describe()

    def describe(self) -> messages.AuthorityInfo:
        """The authority and what is on the books."""
        authority = self._authority
        return messages.AuthorityInfo(
            cluster=self._settings.cluster,
            authority=authority.pem,
            end_ms=authority.facts.end_ms,
            certificates=authority.certificates,
            tokens=self._tokens.waiting,
            holder=authority.holder,
            fingerprint=authority.fingerprint,
            node_authority=authority.node_pem,
            node_end_ms=authority.node_facts.end_ms,
        )

    # -- authorities of nodes, asked for by the hub ----------------------------------------------

    def certify_node(
        self, params: messages.CertifyNode, peer: PeerCredentials
    ) -> messages.NodeCertified:
        """The certificate of a node's authority.

        Raises `unsupported` where the cluster's key is not, `denied` for a request that is not that
        node's, `conflict`, `limit-exceeded`, `storage-full`.
        """
        try:
            asked = csr.read_node(params.request.encode())
            if (asked.cluster, asked.node) != (self._settings.cluster, params.node):
                raise Refused(f"a request of {asked.node} of {asked.cluster} for {params.node}")
        except (Refused, Malformed) as exc:
            raise self._refuse("node-refused", str(exc), peer) from None
        chain = self._authority.certify_node(asked)
        self._notice("node-certified", node=asked.node, key=fingerprint(asked.key), pid=peer.pid)
        return messages.NodeCertified(chain=chain)

    def node_request(
        self, _params: messages.DescribeNodeRequest, _peer: PeerCredentials
    ) -> messages.NodeRequest:
        """The request that the hub carries to the holder of the key."""
        authority = self._authority
        return messages.NodeRequest(
            node=authority.node,
            request=authority.node_request(),
            due=not authority.holder and authority.renewal_due,
        )

    def install_node(self, params: messages.InstallNode, peer: PeerCredentials) -> Nothing:
        """Take over the certificate that the hub brought back.  Raises `untrusted`."""
        self._authority.install(params.chain)
        self._notice("node-renewed", end_ms=self._authority.node_facts.end_ms, pid=peer.pid)
        return Nothing()

    def certify_access(
        self, params: messages.CertifyAccess, peer: PeerCredentials
    ) -> messages.Issued:
        """A certificate for the server of callers from outside, or for an operator's program."""
        try:
            asked = csr.read(params.request.encode())
            if reason := access_refusal(asked.name, self._settings):
                raise Refused(reason)
        except (Refused, Malformed) as exc:
            raise self._refuse("access-refused", str(exc), peer) from None
        if not 1 <= params.life_s <= OPERATOR_LIFE_S_MAX:
            raise invalid("life_s", f"expected 1 to {OPERATOR_LIFE_S_MAX} seconds")
        certificate = self._authority.issue(asked.name, asked, life_s=params.life_s)
        self._notice("access-certified", name=asked.name.uri, key=fingerprint(asked.key))
        return messages.Issued(certificate=certificate, authority=self._authority.pem)

    def _refuse(self, event: str, reason: str, peer: PeerCredentials) -> PlatformError:
        self._notice(event, reason=reason, pid=peer.pid, uid=peer.uid)
        return PlatformError(
            "denied",
            "the certificate manager refuses",
            hint="the reason is in the log of the certificate manager",
        )


def access_refusal(name: AgentName, settings: Settings) -> str:
    """Why this name is not one for access from outside; empty: it is."""
    if (name.cluster, name.node) != (settings.cluster, settings.node):
        return f"asks for a name on {name.node} of {name.cluster}"
    if (name.subsystem, name.id) == (names.API, names.API_ID):
        return ""
    if name.subsystem == names.OPERATOR and name.id.startswith(names.OPERATOR_ID_PREFIX):
        return ""
    return f"{name.subsystem} {name.id} is neither the server nor an operator"


Handler = Callable[[Any, PeerCredentials], Message]


def methods(service: CertificateService) -> dict[str, Handler]:
    """Every method of `messages` and what answers it."""
    return {
        messages.MINT_TOKEN.name: service.mint_token,
        messages.REDEEM.name: service.redeem,
        messages.RENEW.name: service.renew,
        messages.AUTHORITY.name: service.authority,
        messages.CERTIFY_NODE.name: service.certify_node,
        messages.NODE_REQUEST.name: service.node_request,
        messages.INSTALL_NODE.name: service.install_node,
        messages.CERTIFY_ACCESS.name: service.certify_access,
    }


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Refused("a proof that is not hexadecimal") from None
