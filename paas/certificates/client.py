"""How agents get certificates: the key is made here, a request goes out, a certificate comes back.

For nodes: `join` makes a machine one of a cluster's (what is decided there is `join_client`'s), and
`keep_node_authority` has a hub renew the authority of its node, of which `certify_node` is the far
end, where the cluster's key is.

For agents: `obtain` trades a spawn token, `renew` the certificate that is about to end,
`keep_renewed` does so for as long as the agent lives.  All check what they got (for our key, our
name, signed by the authority that came with it), since an agent that starts with a wrong identity
fails later and worse.  When an answer is lost they ask again with the same key, which the manager
answers with the same certificate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy, Files
from paas.base.retry import Backoff
from paas.certificates import messages
from paas.certificates.join_client import JoinedCluster, Joiner
from paas.certificates.join_terms import split_address
from paas.certificates.limits import (
    JOIN_ATTEMPTS,
    JOIN_CONNECTION_S,
    LEAF_LIFE_S,
    NODE_RENEWAL_CHECK_S,
    OBTAIN_ATTEMPTS,
    OBTAIN_TIMEOUT_S,
    RENEWAL_CHECK_S,
    RENEWAL_RETRY_S,
)
from paas.identity import csr, keys, x509
from paas.identity.names import API, API_ID, AgentName
from paas.identity.rotation import renewal_time_ms
from paas.identity.tls import Identity, join_client_context, shown_chain
from paas.identity.verify import trust, verify
from paas.rpc.client import connected, connected_unix, refuse_requests
from paas.rpc.envelope import Form
from paas.rpc.link import StreamLink
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


async def certify_node(socket_path: str, request: str, node: str) -> str:
    """The chain (PEM) for a node's request, from the manager of this node (hub only).

    Raises `unsupported` where the cluster's key is not, `denied`, `conflict`, `unavailable`.
    """
    params = messages.CertifyNode(request=request, node=node)
    return (await _ask_until_answered(socket_path, messages.CERTIFY_NODE, params)).chain


async def certify_access(socket_path: str, request: str, life_s: int) -> messages.Issued:
    """A certificate for access from outside (hub only): see `messages.CertifyAccess`.

    Raises `denied`, `invalid`, `limit-exceeded`, `unavailable`.
    """
    params = messages.CertifyAccess(request=request, life_s=life_s)
    return await _ask_until_answered(socket_path, messages.CERTIFY_ACCESS, params)


async def obtain_access(
    socket_path: str, cluster: str, node: str, *, clock: Clock, life_s: int = LEAF_LIFE_S
) -> tuple[Identity, AgentName]:
    """The identity of this node's server for callers from outside (hub only)."""
    name = AgentName(cluster, node, API, API_ID)
    key = keys.make_key()
    issued = await certify_access(socket_path, csr.make(name, key).decode(), life_s)
    return _accept(issued, key, name, clock, None), name


async def renew_node_authority(socket_path: str, certify: Callable[[str], Awaitable[str]]) -> bool:
    """Renew the authority of this node if it is time (hub only); whether it was.

    `certify` carries the request to the holder of the cluster's key and returns the chain.
    """
    asked = await _ask_until_answered(
        socket_path, messages.NODE_REQUEST, messages.DescribeNodeRequest()
    )
    if asked.due:
        chain = await certify(asked.request)
        params = messages.InstallNode(chain=chain)
        await _ask_until_answered(socket_path, messages.INSTALL_NODE, params)
    return asked.due


async def keep_node_authority(
    socket_path: str,
    certify: Callable[[str], Awaitable[str]],
    *,
    on_failure: Callable[[PlatformError], None],
) -> None:
    """Renew the authority of this node for as long as the hub lives."""
    while True:
        try:
            await renew_node_authority(socket_path, certify)
        except PlatformError as exc:
            on_failure(exc)
        await trio.sleep(NODE_RENEWAL_CHECK_S)


async def join(
    address: str,
    token: str,
    *,
    node: str,
    listen_address: str,
    files: Files,
    clock: Clock,
    version: str = "",
) -> JoinedCluster:
    """Make this machine a node of the cluster that the token is of.

    `address` is the join listener of one of its nodes, `listen_address` where the hub of this node
    will answer; `files` is the directory of this node's certificate manager, whose user must own
    what is written there.  Repeat with the same arguments after any failure that is not final.

    Raises `invalid` (an argument), `unavailable` (nobody answers), `untrusted` (another cluster
    than the token's: nothing was sent), `denied` (the token), `conflict` (the name, or the
    directory is in use), `refused` (the clock), `unsupported` (the version), `storage-full`.
    """
    split_address(address)
    joiner = Joiner(
        token, node=node, listen_address=listen_address, files=files, clock=clock, version=version
    )
    attempt = 1
    while True:
        try:
            return joiner.accept(await _ask_to_join(joiner, address))
        except PlatformError as exc:
            if exc.code not in _RETRYABLE or attempt >= JOIN_ATTEMPTS:
                raise
        await trio.sleep(_RETRY.delay_s(attempt, 0.5))
        attempt += 1


async def _ask_to_join(joiner: Joiner, address: str) -> messages.Joined:
    """One request on a connection of its own, sent when it is known who answers."""
    try:
        with trio.fail_after(JOIN_CONNECTION_S):
            stream = await _join_stream(address)
            try:
                joiner.check_server(shown_chain(stream))
                answers: list[messages.Joined] = []
                async with connected(
                    lambda nursery: StreamLink(stream, nursery), refuse_requests, Form.MSGPACK
                ) as peer:
                    params = joiner.request()
                    answers.append(
                        await peer.call(messages.JOIN, params, timeout_s=JOIN_CONNECTION_S)
                    )
                return answers[0]
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise PlatformError(
            "timeout",
            f"{address} did not answer within {JOIN_CONNECTION_S:.0f} s",
            hint="look at the node that was asked, then repeat the command",
        ) from None


async def _join_stream(address: str) -> trio.SSLStream[trio.SocketStream]:
    """TLS with whoever answers; raises `unavailable`."""
    host, port = split_address(address)
    try:
        plain = await trio.open_tcp_stream(host, port)
    except OSError as exc:
        raise _nobody(address, exc) from None
    stream = trio.SSLStream(plain, join_client_context(), https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException as exc:
        await trio.aclose_forcefully(stream)
        if not isinstance(exc, trio.BrokenResourceError | OSError):
            raise
        raise _nobody(address, exc.__cause__ or exc) from None
    return stream


def _nobody(address: str, exc: BaseException) -> PlatformError:
    return PlatformError(
        "unavailable",
        f"no node answers at {address}: {exc}",
        hint="check the address and the port for joining, and that the node there runs",
    )


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
    if pinned is not None and _fingerprint(pinned) != _fingerprint(signer):
        raise _unexpected("it is signed by another authority than expected")
    verdict = verify(certificate, trust(name.cluster, [signer]), clock.now_ms())
    if verdict.name != name:
        raise _unexpected(verdict.reason or f"it is for {verdict.name}")
    certified = keys.public_bytes(x509.public_key(x509.read_certificate(certificate)))
    if certified != keys.public_bytes(key.public_key()):
        raise _unexpected("it is for another key")
    return Identity(certificate, keys.key_pem(key), signer)


def _fingerprint(pem: bytes) -> str:
    """An authority is its key: the certificate may be made anew."""
    try:
        return keys.fingerprint(x509.public_key(x509.read_certificate(pem)))
    except keys.Malformed as exc:
        raise _unexpected(f"the authority is {exc}") from None


def _unexpected(why: str) -> PlatformError:
    return PlatformError(
        "untrusted",
        f"the certificate that came back is not ours: {why}",
        hint="check that the certificate manager's socket is the platform's",
    )
