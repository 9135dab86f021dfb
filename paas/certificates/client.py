"""How agents get certificates: the key is made here, a request goes out, a certificate comes back.

`obtain` trades a spawn token, `renew` the certificate that is about to end, `keep_renewed` does so
for as long as the agent lives.  All check what they
got (for our key, our name, signed by the authority that came with it), since an agent that starts
with a wrong identity fails later and worse.  When an answer is lost they ask again with the same
key, which the manager answers with the same certificate.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.base.retry import Backoff
from paas.certificates import messages
from paas.certificates.limits import (
    OBTAIN_ATTEMPTS,
    OBTAIN_TIMEOUT_S,
    RENEWAL_CHECK_S,
    RENEWAL_RETRY_S,
)
from paas.identity import csr, keys, x509
from paas.identity.names import AgentName
from paas.identity.rotation import renewal_time_ms
from paas.identity.tls import Identity
from paas.identity.verify import trust, verify
from paas.rpc.client import connected_unix
from paas.wire.registry import Method, P, R

_RETRY = Backoff(first_s=0.05, cap_s=1.0)
_RETRYABLE = {"unavailable", "unknown-outcome", "not-available", "timeout", "storage-full"}


async def mint_token(
    socket_path: str, name: AgentName, *, uid: int | None = None
) -> messages.MintedToken:
    """A spawn token for an agent of this node (node controller only).

    Raises `denied`, `invalid`, `limit-exceeded`, `unavailable`.  Not repeated: a token that nobody
    received dies by itself.
    """
    params = messages.MintToken(subsystem=name.subsystem, id=name.id, node=name.node, uid=uid)
    return await _ask(socket_path, messages.MINT_TOKEN, params)


async def authority(socket_path: str) -> messages.AuthorityInfo:
    """The authority of this cluster.  Raises `unavailable`."""
    return await _ask(socket_path, messages.AUTHORITY, messages.DescribeAuthority())


async def obtain(
    socket_path: str,
    token: str,
    name: AgentName,
    *,
    clock: Clock,
    authority_pem: bytes | None = None,
) -> Identity:
    """Trade a spawn token for an identity.

    `authority_pem`, if the parent gave it, must be the authority that signs.  Raises `denied` (the
    token is not, or no longer, good for this name), `untrusted` (what came back is not ours),
    `unavailable`.
    """
    key = keys.make_key()
    params = messages.Redeem(token=token, request=csr.make(name, key).decode())
    issued = await _ask_until_answered(socket_path, messages.REDEEM, params)
    return _accept(issued, key, name, clock, authority_pem)


async def renew(socket_path: str, identity: Identity, name: AgentName, *, clock: Clock) -> Identity:
    """The successor of an identity, with a new key.  Raises as `obtain`."""
    key = keys.make_key()
    request = csr.make(name, key)
    text = messages.renewal_proof_text(csr.read(request).der)
    proof = keys.sign(keys.read_key(identity.key_pem), text)
    params = messages.Renew(
        certificate=identity.certificate_pem.decode(), request=request.decode(), proof=proof.hex()
    )
    issued = await _ask_until_answered(socket_path, messages.RENEW, params)
    return _accept(issued, key, name, clock, identity.authority_pem)


async def keep_renewed(
    socket_path: str,
    identity: Identity,
    name: AgentName,
    *,
    clock: Clock,
    entropy: Entropy,
    on_renewed: Callable[[Identity], None],
    on_failure: Callable[[PlatformError], None],
) -> None:
    """Renew an identity after half of its life, and so on, until cancelled.

    `on_renewed` makes the new identity the one for connections from now on; open ones go on as they
    are.  A renewal that fails is reported and tried again; the older certificate is still good.
    """
    while True:
        facts = x509.facts(x509.read_certificate(identity.certificate_pem))
        due_ms = renewal_time_ms(facts.begin_ms, facts.end_ms, entropy.fraction())
        # Nothing announces that wall time has passed, or that the clock was set.
        while (left_s := (due_ms - clock.now_ms()) / 1_000) > 0:  # noqa: ASYNC110
            await trio.sleep(min(left_s, RENEWAL_CHECK_S))
        try:
            identity = await renew(socket_path, identity, name, clock=clock)
        except PlatformError as exc:
            on_failure(exc)
            await trio.sleep(RENEWAL_RETRY_S)
        else:
            on_renewed(identity)


async def _ask_until_answered(socket_path: str, method: Method[P, R], params: P) -> R:
    """Ask, and again on a new connection while no answer comes."""
    attempt = 1
    while True:
        try:
            return await _ask(socket_path, method, params)
        except PlatformError as exc:
            if exc.code not in _RETRYABLE or attempt >= OBTAIN_ATTEMPTS:
                raise
        await trio.sleep(_RETRY.delay_s(attempt, 0.5))
        attempt += 1


async def _ask(socket_path: str, method: Method[P, R], params: P) -> R:
    """One request on a connection of its own; what goes wrong is one PlatformError."""
    answers: list[R] = []
    failures: list[PlatformError] = []
    try:
        async with connected_unix(socket_path) as peer:
            answers.append(await peer.call(method, params, timeout_s=OBTAIN_TIMEOUT_S))
    except* PlatformError as group:
        failures.append(_first(group))
    if not answers:
        raise failures[0]
    return answers[0]


def _first(group: BaseExceptionGroup[PlatformError]) -> PlatformError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _accept(
    issued: messages.Issued,
    key: keys.PrivateKey,
    name: AgentName,
    clock: Clock,
    pinned: bytes | None,
) -> Identity:
    certificate, signer = issued.certificate.encode(), issued.authority.encode()
    if pinned is not None and _der(pinned) != _der(signer):
        raise _unexpected("it is signed by another authority than expected")
    verdict = verify(certificate, trust(name.cluster, [signer]), clock.now_ms())
    if verdict.name != name:
        raise _unexpected(verdict.reason or f"it is for {verdict.name}")
    certified = keys.public_bytes(x509.public_key(x509.read_certificate(certificate)))
    if certified != keys.public_bytes(key.public_key()):
        raise _unexpected("it is for another key")
    return Identity(certificate, keys.key_pem(key), signer)


def _der(pem: bytes) -> bytes:
    try:
        return x509.certificate_der(x509.read_certificate(pem))
    except keys.Malformed as exc:
        raise _unexpected(f"the authority is {exc}") from None


def _unexpected(why: str) -> PlatformError:
    return PlatformError(
        "untrusted",
        f"the certificate that came back is not ours: {why}",
        hint="check that the certificate manager's socket is the platform's",
    )
