"""Is this certificate to be believed?  One function, one answer, with a reason.

    readable → signed by an authority we trust → that authority is one, and in its time
             → in its own time → a leaf and nothing more → P-256 and SHA-256
             → one name, the same in subject, URI and DNS → of our cluster → of an allowed role

The first step that fails is the reason.  Reasons are for our log: they go to nobody who failed to
prove who it is.  There are no intermediate authorities (path length 0), so a chain has two links
and nothing is searched.  Both ends of a life are widened by `CLOCK_SKEW_S`.

Not decided here: revocation (lists come with the revocation service) and capabilities for single
methods (`capabilities.require`).  Source: platform document §4.9.4; RFC 5280 §6; X.509-SVID §5.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from paas.base.errors import PlatformError
from paas.identity import x509
from paas.identity.keys import Malformed
from paas.identity.limits import AUTHORITIES_MAX, CLOCK_SKEW_S
from paas.identity.names import AgentName, from_uri

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
    certificate: bytes, trusted: Trust, now_ms: int, allowed: AbstractSet[str] | None = None
) -> Verdict:
    """Judge a certificate (DER or PEM).  `allowed` are the roles that will do; None: all."""
    try:
        leaf = x509.read_certificate(certificate)
        facts = x509.facts(leaf)
        _check_chain(leaf, trusted, now_ms)
        _check_time("the certificate", facts, now_ms)
        name = leaf_name(facts)
        if name.cluster != trusted.cluster:
            raise _Refused(f"of the cluster {name.cluster}, not of {trusted.cluster}")
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


def _check_chain(leaf: x509.Certificate, trusted: Trust, now_ms: int) -> None:
    issuers = [a for a in trusted.authorities if x509.signed_by(leaf, a)]
    if not issuers:
        raise _Refused("not signed by the authority of this cluster")
    facts = x509.facts(issuers[0])
    if not facts.authority or not facts.signs_certificates:
        raise _Refused("signed by something that is no authority")
    _check_time("the authority", facts, now_ms)


def _check_time(what: str, facts: x509.Facts, now_ms: int) -> None:
    if now_ms < facts.begin_ms - _SKEW_MS:
        raise _Refused(f"{what} is not valid yet")
    if now_ms > facts.end_ms + _SKEW_MS:
        raise _Refused(f"{what} has expired")


def _any_of(roles: AbstractSet[str]) -> str:
    return " or ".join(sorted(roles)) or "any that is allowed here"
