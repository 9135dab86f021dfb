"""What a hub does for machines that want to join: tokens, the join listener, certificates (io).

    operator ── cluster.create_token ──> command of the log ──> the token, told once
             ── cluster.revoke_token ──> command of the log
    machine  ── join listener ──> JoinService ── token used (log), node added (log)
                                      └─ certify: this node's manager, or the hub of the node that
                                         has the cluster's key (cluster.certify)

Every node listens; the one with the key of the cluster's authority has to be reached only for the
moment of the certificate.  A node's own authority is renewed the same way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from typing import Any, Protocol

import trio

from paas import __version__
from paas.assembly.address_book import AddressBook
from paas.assembly.mesh_network import split_address
from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock, Entropy
from paas.certificates import messages
from paas.certificates.client import authority, certify_node, keep_node_authority
from paas.certificates.join_state import (
    Entry,
    JoinTokenState,
    RevokeJoinToken,
    UseJoinToken,
    new_token,
    state_for_people,
)
from paas.certificates.joining import JoinService
from paas.certificates.limits import JOIN_TOKEN_LIFE_S_MAX
from paas.certificates.server import serve_joining
from paas.hub.routes import Links
from paas.identity import csr, join_tokens
from paas.identity.keys import Malformed, fingerprint
from paas.identity.tls import Identity, join_server_context
from paas.node.lifecycle import NodeState
from paas.node.state import AddNode, NodeRegister
from paas.rpc.dispatch import Context, Dispatcher, Rule
from paas.telemetry.log import Logger

CERTIFY_TIMEOUT_S = 5.0
_TOKEN_ID_MAX = 64
_AWAY = ("unavailable", "not-available", "unknown-outcome", "timeout")

POLICY = {
    "cluster.create_token": Rule(frozenset({"operator"})),
    "cluster.revoke_token": Rule(frozenset({"operator"})),
    "cluster.tokens": Rule(frozenset({"operator"})),
    "cluster.certify": Rule(frozenset({"hub"})),
}


class Log(Protocol):
    """The replicated log."""

    async def propose(self, command: Any, *, timeout_s: float = 10.0) -> Any: ...

    async def barrier(self) -> None:
        """Afterwards the state here is no older than the call."""
        ...


class JoiningFace:
    """See the module's text.  `identity()` is the hub's present certificate."""

    def __init__(
        self,
        *,
        cluster: str,
        listen: str,
        authority_socket: str,
        log: Log,
        links: Links,
        register: NodeRegister,
        tokens: JoinTokenState,
        book: AddressBook,
        own_address: tuple[str, str],
        clock: Clock,
        entropy: Entropy,
        logger: Logger,
        identity: Callable[[], Identity],
    ) -> None:
        self._listen = listen
        self._socket = authority_socket
        self._log = log
        self._links = links
        self._register = register
        self._tokens = tokens
        self._book = book
        self._own = own_address
        self._clock = clock
        self._entropy = entropy
        self._logger = logger
        self._identity = identity
        self._service = JoinService(
            cluster,
            propose=self._propose,
            certify=self._certify,
            peers=self._peers,
            check=self._check,
            clock=clock,
            notice=self._notice,
            version=__version__,
        )

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.CREATE_TOKEN, self.create_token)
        dispatcher.task(messages.REVOKE_TOKEN, self.revoke_token)
        dispatcher.plain(messages.LIST_TOKENS, self.tokens)
        dispatcher.task(messages.CERTIFY, self.certify_here)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen for machines that join, and keep this node's authority renewed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            if self._listen:
                listener = _listener(self._listen)
                await nursery.start(self._serve, listener)
            task_status.started()

    async def _serve(
        self,
        listener: socket.socket,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await serve_joining(
            listener,
            lambda: join_server_context(self._identity()),
            self._service,
            clock=self._clock,
            notice=self._notice,
            task_status=task_status,
        )

    async def _renew(self) -> None:
        def failed(error: PlatformError) -> None:
            self._logger.warning("certificate.renewal_failed", error=str(error))

        async def certify(request: str) -> str:
            return await self._certify(request, self._own[0])

        await keep_node_authority(self._socket, certify, on_failure=failed)

    def _notice(self, event: str, **fields: Any) -> None:
        self._logger.info("certificates.notice", what=event, **fields)

    # -- tokens ----------------------------------------------------------------------------------

    async def create_token(
        self, params: messages.CreateToken, context: Context
    ) -> messages.CreatedToken:
        if not 1 <= params.ttl <= JOIN_TOKEN_LIFE_S_MAX:
            raise invalid("ttl", f"expected 1 to {JOIN_TOKEN_LIFE_S_MAX} seconds", param="ttl")
        if not self._listen:
            raise PlatformError(
                "unsupported",
                "this cluster has no network: its node was started without an address",
                hint="begin one that others can join: paas cluster init --listen ADDRESS:PORT",
            )
        described = await authority(self._socket)
        now_ms = self._clock.now_ms()
        text, command = new_token(
            self._entropy.bytes(join_tokens.ENTROPY_BYTES),
            described.fingerprint,
            now_ms=now_ms,
            life_s=int(params.ttl),
        )
        await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.CreatedToken(
            token=text,
            expires=now_ms / 1_000 + params.ttl,
            address=self._listen,
            id=command.token_id,
        )

    async def revoke_token(
        self, params: messages.RevokeToken, context: Context
    ) -> messages.TokenInfo:
        whole = join_tokens.parse(params.token)
        token_id = params.token.strip()[:_TOKEN_ID_MAX] if whole is None else whole.id
        command = RevokeJoinToken(token_id=token_id)
        await self._log.propose(command, timeout_s=context.timeout_s)
        entry = self._tokens.get(token_id)
        if entry is None:  # it was revoked, and is forgotten by now
            return messages.TokenInfo(id=token_id, state="revoked", expires=0.0)
        return self._token_info(entry)

    def tokens(self, _params: messages.ListTokens, _context: Context) -> messages.Tokens:
        return messages.Tokens(tokens=[self._token_info(one) for one in self._tokens.tokens()])

    def _token_info(self, entry: Entry) -> messages.TokenInfo:
        return messages.TokenInfo(
            id=entry.id,
            state=state_for_people(entry, self._clock.now_ms()),
            expires=entry.expires_ms / 1_000,
            node=entry.node,
        )

    # -- joining ---------------------------------------------------------------------------------

    async def _propose(self, command: Any) -> Any:
        """Once a token is used, everybody knows of the node that used it."""
        result = await self._log.propose(command)
        if isinstance(command, UseJoinToken) and not command.check_only:
            await self._log.propose(AddNode(node=command.node, address=command.address))
        return result

    def _peers(self) -> dict[str, str]:
        return {**self._book.addresses(), self._own[0]: self._own[1]}

    def _check(self, node: str, _key: str, address: str) -> None:
        """May a machine have this name and address?  The one that asked before may ask again."""
        if self._register.removed(node):
            raise _taken(node, "was removed from this cluster, and its name with it")
        known = self._register.get(node)
        if known is not None and not (
            known.state is NodeState.PREPARING and known.address == address
        ):
            going = known.state is NodeState.DESTROYING
            raise _taken(node, f"is {'being removed from' if going else 'in'} this cluster already")
        for other in self._register.nodes():
            if other.address == address and other.name != node:
                raise PlatformError("conflict", f"{address} is the address of node {other.name}")

    # -- certificates of nodes -------------------------------------------------------------------

    async def certify_here(
        self, params: messages.CertifyNode, context: Context
    ) -> messages.NodeCertified:
        """For another hub: its own node's authority, or that of a node that was let in."""
        if params.node != context.peer.info.get("node"):
            await self._check_invited(params)
        chain = await certify_node(self._socket, params.request, params.node)
        return messages.NodeCertified(chain=chain)

    async def _check_invited(self, params: messages.CertifyNode) -> None:
        """The log knows who was let in with which key; this replica may lag behind it."""
        try:
            key = fingerprint(csr.read_node(params.request.encode()).key)
        except Malformed as exc:
            raise invalid("request", str(exc)) from None
        if not self._tokens.invited(params.node, key):
            await self._log.barrier()
        if not self._tokens.invited(params.node, key):
            raise PlatformError("denied", f"no node {params.node!r} with this key was let in")

    async def _certify(self, request: str, node: str) -> str:
        try:
            return await certify_node(self._socket, request, node)
        except PlatformError as exc:
            if exc.code != "unsupported":
                raise
        return await self._certify_elsewhere(request, node, self._links.connected())

    async def _certify_elsewhere(self, request: str, node: str, others: Collection[str]) -> str:
        params = messages.CertifyNode(request=request, node=node)
        for other in others:
            peer = self._links.peer(other)
            if peer is None:
                continue
            try:
                answer = await peer.call(messages.CERTIFY, params, timeout_s=CERTIFY_TIMEOUT_S)
            except PlatformError as exc:
                if exc.code != "unsupported" and exc.code not in _AWAY:
                    raise
            else:
                return answer.chain
        raise PlatformError(
            "unavailable",
            "the node that holds the key of the cluster's authority cannot be reached",
            hint="bring the node back that began the cluster; joining needs it",
        )


def _taken(node: str, why: str) -> PlatformError:
    return PlatformError(
        "conflict", f"node {node!r} {why}", hint="join under another name: --name NAME", node=node
    )


def _listener(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise PlatformError(
            "unavailable", f"cannot listen for joining nodes at {address}: {exc.strerror or exc}"
        ) from None
    return listener
