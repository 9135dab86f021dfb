"""Is this certificate to be believed?  One function, one answer, with a reason.

    readable → signed by the authority of a node, that one by an authority we trust (or by the
               latter directly) → each of them is one, and in its time
             → in its own time → a leaf and nothing more → P-256 and SHA-256
             → one name, the same in subject, URI and DNS → of our cluster
             → of the node whose authority signed it → of an allowed role

The first step that fails is the reason.  Reasons are for our log: they go to nobody who failed to
prove who it is.  A chain has at most three links, of which the holder brings all but the last, and
nothing is searched.  That an authority speaks for its own node only is checked here by the whole
name of the node; what a TLS library checks by itself (name constraints) is a subset of it.
Both ends of a life are widened by `CLOCK_SKEW_S`.

Not decided here: revocation (lists come with the revocation service) and capabilities for single
methods (`capabilities.require`).  Source: platform document §4.9.4; RFC 5280 §6; X.509-SVID §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from paas.base.errors import PlatformError
from paas.identity import x509
from paas.identity.keys import Malformed
from paas.identity.limits import AUTHORITIES_MAX, CHAIN_CERTIFICATES_MAX, CLOCK_SKEW_S
from paas.identity.names import AgentName, from_uri, node_from_uri, node_uri

_SKEW_MS = CLOCK_SKEW_S * 1_000


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom an agent believes: its cluster, and the authorities of that cluster."""

    cluster: str
    authorities: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.  Either `name` is there, or `reason` says why the certificate is refused."""

    name: AgentName | None
    reason: str = ""
    capabilities: frozenset[str] = frozenset()

    @property
    def accepted(self) -> bool:
        return self.name is not None


class _Refused(Exception):
    """A step failed; the text is the reason."""


def trust(cluster: str, authorities_pem: Iterable[bytes]) -> Trust:
    """The trust of an agent; raises `invalid` when a certificate of an authority is unreadable."""
    try:
        read = tuple(x509.read_certificate(pem) for pem in authorities_pem)
    except Malformed as exc:
        raise PlatformError("invalid", f"authority: {exc}", field="authority") from None
    if not 1 <= len(read) <= AUTHORITIES_MAX:
        raise PlatformError(
            "invalid", f"authority: expected 1 to {AUTHORITIES_MAX} certificates", field="authority"
        )
    return Trust(cluster, read)


def verify(
    certificate: bytes,
    trusted: Trust,
    now_ms: int,
    allowed: AbstractSet[str] | None = None,
    *,
    chain: Sequence[bytes] = (),
) -> Verdict:
    """Judge a certificate (DER or PEM).  `allowed` are the roles that will do; None: all.

    The certificate of the node's authority follows in the same PEM, or comes in `chain`.
    """
    try:
        leaf, *above = x509.read_chain(certificate)
        above += [x509.read_certificate(one) for one in chain[:CHAIN_CERTIFICATES_MAX]]
        facts = x509.facts(leaf)
        node = _check_chain(leaf, above, trusted, now_ms)
        _check_time("the certificate", facts, now_ms)
        name = leaf_name(facts)
        if name.cluster != trusted.cluster:
            raise _Refused(f"of the cluster {name.cluster}, not of {trusted.cluster}")
        if node not in (None, name.node):
            raise _Refused(
                f"for an agent of the node {name.node}, signed by the authority of the node {node}"
            )
        if allowed is not None and name.subsystem not in allowed:
            raise _Refused(f"has the role {name.subsystem}, not {_any_of(allowed)}")
    except (_Refused, Malformed) as exc:
        return Verdict(None, str(exc))
    except PlatformError as exc:
        return Verdict(None, str(exc.data["reason"]))
    return Verdict(name, capabilities=facts.capabilities)


def leaf_name(facts: x509.Facts) -> AgentName:
    """The name that an agent's certificate states; raises when it is not one of an agent.

    Checks everything that needs neither an authority nor a clock, and nothing else: use `verify`
    or a TLS handshake for those.
    """
    _check_leaf(facts)
    if len(facts.uris) != 1 or len(facts.dns) != 1 or facts.other_names:
        raise denied("expected one URI and one host name as alternative names")
    name = from_uri(facts.uris[0])
    if name is None:
        raise denied("the URI is not the name of an agent")
    if facts.dns[0] != name.dns:
        raise denied("the host name and the URI differ")
    if facts.subject != x509.expected_subject(name):
        raise denied("the subject and the URI differ")
    return name


def node_authority(certificate: x509.Certificate, trusted: Trust, now_ms: int) -> str:
    """The node whose agents this certificate may sign; raises `denied` with the reason."""
    try:
        return _check_node_authority(certificate, trusted, now_ms)
    except (_Refused, Malformed) as exc:
        raise denied(str(exc)) from None


def node_of(facts: x509.Facts) -> tuple[str, str]:
    """Cluster and node of a node's authority; raises when the certificate is not one of those.

    Checks everything that needs neither the cluster's authority nor a clock, and nothing else.
    """
    if not facts.authority or not facts.signs_certificates or facts.signs_data:
        raise denied("signed by something that is no authority")
    if facts.path_length != 0:
        raise denied("signed by an authority that may make authorities")
    if facts.unknown_critical:
        raise denied(f"unknown critical extension {facts.unknown_critical[0]} of the authority")
    if not facts.p256 or not facts.ecdsa_sha256:
        raise denied("the authority of the node is not P-256 with SHA-256")
    stated = node_from_uri(facts.uris[0]) if len(facts.uris) == 1 else None
    if stated is None or facts.dns or facts.other_names:
        raise denied("the authority that signed it names no node")
    cluster, node = stated
    common_name = x509.NODE_AUTHORITY_COMMON_NAME
    if facts.subject != (("DC", cluster), ("OU", node), ("CN", common_name)):
        raise denied(f"the authority of {node_uri(cluster, node)} has another subject")
    return stated


def denied(reason: str) -> PlatformError:
    """A refusal for our own side: it carries the reason and is not to be sent to the peer."""
    return PlatformError("denied", f"the peer's certificate is refused: {reason}", reason=reason)


def _check_leaf(facts: x509.Facts) -> None:
    if facts.authority or facts.signs_certificates:
        raise denied("the certificate of an authority is not the certificate of an agent")
    if facts.unknown_critical:
        raise denied(f"unknown critical extension {facts.unknown_critical[0]}")
    if not facts.signs_data or not facts.server or not facts.client:
        raise denied("not made for both ends of a connection")
    if not facts.p256:
        raise denied("the key is not a P-256 key")
    if not facts.ecdsa_sha256:
        raise denied("not signed with ECDSA and SHA-256")


def _check_chain(
    leaf: x509.Certificate, above: Sequence[x509.Certificate], trusted: Trust, now_ms: int
) -> str | None:
    """The node whose authority signed; None: the cluster's authority did so itself."""
    if _check_authority(leaf, trusted, now_ms) is not None:
        return None
    for candidate in above:
        if x509.signed_by(leaf, candidate):
            return _check_node_authority(candidate, trusted, now_ms)
    raise _Refused("not signed by the authority of this cluster")


def _check_authority(
    certificate: x509.Certificate, trusted: Trust, now_ms: int
) -> x509.Facts | None:
    """The trusted authority that signed; None when none did."""
    issuers = [a for a in trusted.authorities if x509.signed_by(certificate, a)]
    if not issuers:
        return None
    facts = x509.facts(issuers[0])
    if not facts.authority or not facts.signs_certificates:
        raise _Refused("signed by something that is no authority")
    _check_time("the authority", facts, now_ms)
    return facts


def _check_node_authority(certificate: x509.Certificate, trusted: Trust, now_ms: int) -> str:
    facts = x509.facts(certificate)
    cluster, node = node_of(facts)
    authority = _check_authority(certificate, trusted, now_ms)
    if authority is None:
        raise _Refused(f"the authority of the node {node} is not signed by that of this cluster")
    if authority.path_length == 0:
        raise _Refused("the authority of this cluster may not make authorities of nodes")
    if cluster != trusted.cluster:
        raise _Refused(f"the authority is of the cluster {cluster}, not of {trusted.cluster}")
    _check_time(f"the authority of the node {node}", facts, now_ms)
    return node


def _check_time(what: str, facts: x509.Facts, now_ms: int) -> None:
    if now_ms < facts.begin_ms - _SKEW_MS:
        raise _Refused(f"{what} is not valid yet")
    if now_ms > facts.end_ms + _SKEW_MS:
        raise _Refused(f"{what} has expired")


def _any_of(roles: AbstractSet[str]) -> str:
    return " or ".join(sorted(roles)) or "any that is allowed here"
