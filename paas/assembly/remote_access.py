"""Access from outside, put together: the listener, its certificate, who is let in (io).

    TCP ─ TLS 1.3 (certificate `api.NODE.CLUSTER`) ─ HttpServer ─ RpcOverHttp ─ the hub's Dispatcher

The certificate is signed by the node's authority like an agent's, so callers need to trust the
cluster's authority only.  A caller shows a bearer token, or an operator's certificate of the same
authority; a token goes before a certificate, so that a program can ask for less than it could have.

A port that was found once is kept over restarts of the hub, if it is free.  A port that cannot be
had is reported and tried again: components do not wait for callers from outside.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio

from paas.assembly.mesh_network import split_address
from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy, Files
from paas.certificates.client import certify_access, keep_renewed, obtain_access
from paas.hub import openrpc
from paas.hub.access import AccessApi, Server, check_channel
from paas.hub.access_state import AccessTokenRevoked, AccessTokenState
from paas.identity import x509
from paas.identity.names import OPERATOR, AgentName
from paas.identity.tls import Context, Identity, access_server_context, authenticate
from paas.identity.verify import Trust, trust
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.http_answers import HttpProblem
from paas.rpc.http_limits import HANDSHAKE_S
from paas.rpc.http_rpc import Admitted, RpcOverHttp, unauthorised
from paas.rpc.http_server import HttpServer
from paas.rpc.peer import Peer, Sweeper
from paas.telemetry.log import Logger

OFF = "off"
PORT_FILE = "api.port"
LISTEN_PAUSE_S = 5.0
GOODBYE_S = 1.0
_BACKLOG = 256


class Log(Protocol):
    """The replicated log."""

    async def propose(self, command: Any, *, timeout_s: float = 10.0) -> Any: ...


class RemoteAccess:
    """See the module's text."""

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        listen: str,
        authority_socket: str,
        tokens: AccessTokenState,
        log: Log,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        logger: Logger,
        sweeper: Sweeper,
        on_close: Callable[[Peer], None],
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._listen = listen
        self._socket = authority_socket
        self._tokens = tokens
        self._files = files
        self._clock = clock
        self._entropy = entropy
        self._logger = logger
        self._sweeper = sweeper
        self._on_close = on_close
        self._peers: dict[Peer, None] = {}
        self._context: Context | None = None
        self._trust: Trust | None = None
        self._server = Server()
        self._host = self._authority = ""
        self.http: HttpServer | None = None
        self.api = AccessApi(
            tokens,
            log,
            clock=clock,
            entropy=entropy,
            certify=self._certify,
            server=lambda: self._server,
        )

    @property
    def url(self) -> str:
        """Where programs outside are answered; empty while they are not."""
        return self._server.url

    def register(self, dispatcher: Dispatcher) -> None:
        self.api.register(dispatcher)

    async def _certify(self, request: str, life_s: int) -> str:
        return (await certify_access(self._socket, request, life_s)).certificate

    # -- the life of the server ------------------------------------------------------------------

    async def run(
        self,
        dispatcher: Dispatcher,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer callers from outside until cancelled; started when the first attempt is over."""
        if self._listen == OFF:
            task_status.started()
            return
        identity, name = await obtain_access(
            self._socket, self._cluster, self._node, clock=self._clock
        )
        self._use(identity)
        self._authority = identity.authority_pem.decode()
        self._host = name.dns
        listener = self._try_to_listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_renewed, identity, name)
            nursery.start_soon(self._serve, listener, dispatcher)
            task_status.started()

    async def _serve(self, listener: socket.socket | None, dispatcher: Dispatcher) -> None:
        while listener is None:
            await trio.sleep(LISTEN_PAUSE_S)
            listener = self._try_to_listen()
        self.http = HttpServer(self._rpc(dispatcher))
        await self.http.serve(listener, self._open)

    def _try_to_listen(self) -> socket.socket | None:
        """A listener at the port of the settings, or the one of last time, or any."""
        host, port = split_address(self._listen)
        ports = [port] if port else [self._last_port(), 0]
        error: OSError | None = None
        for wanted in ports:
            try:
                listener = _listener(host, wanted)
            except OSError as exc:
                error = exc
                continue
            self._listening(listener, keep=not port)
            return listener
        text = f"{self._listen}: {error}"
        self._logger.warning("hub.access_unavailable", error=text)
        return None

    def _listening(self, listener: socket.socket, *, keep: bool) -> None:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"https://{shown}:{port}/rpc"
        self._server = Server(url=url, host=self._host, authority=self._authority)
        if keep and port != self._last_port():
            self._keep_port(port)

    def _last_port(self) -> int:
        """A hint: what cannot be read is no port."""
        try:
            file = self._files.open(PORT_FILE)
            try:
                text = file.read(0, min(file.size(), 8))
            finally:
                file.close()
            return int(text) if int(text) < 1 << 16 else 0
        except (OSError, ValueError):
            return 0

    def _keep_port(self, port: int) -> None:
        try:
            file = self._files.open(PORT_FILE, create=True)
            try:
                file.truncate(0)
                file.write(0, str(port).encode())
            finally:
                file.close()
        except OSError as exc:
            self._logger.warning("hub.access_unavailable", error=f"{PORT_FILE}: {exc}")

    def _rpc(self, dispatcher: Dispatcher) -> RpcOverHttp:
        def on_request(peer: Peer, request: Request) -> None:
            try:
                check_channel(request.method, "one_answer" in peer.info)
            except PlatformError as exc:
                peer.fail(request, exc)
            else:
                dispatcher(peer, request)

        return RpcOverHttp(
            on_request,
            self._sweeper,
            self.admit,
            openrpc.document,
            on_open=self._opened,
            on_close=self._closed,
        )

    def _use(self, identity: Identity) -> None:
        self._context = access_server_context(identity)
        self._trust = trust(self._cluster, [identity.authority_pem])

    async def _keep_renewed(self, identity: Identity, name: AgentName) -> None:
        def failed(error: PlatformError) -> None:
            self._logger.warning("certificate.renewal_failed", error=str(error))

        await keep_renewed(
            self._socket,
            identity,
            name,
            clock=self._clock,
            entropy=self._entropy,
            on_renewed=self._use,
            on_failure=failed,
        )

    # -- connections -----------------------------------------------------------------------------

    async def _open(self, sock: socket.socket) -> tuple[trio.abc.Stream, dict[str, Any]]:
        """TLS on an accepted socket, and who it is if it showed a certificate."""
        assert self._context is not None, "listening begins with a certificate"
        sock.setblocking(False)
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        stream = trio.SSLStream(plain, self._context, server_side=True, https_compatible=True)
        with trio.move_on_after(HANDSHAKE_S) as scope:
            await stream.do_handshake()
        if scope.cancelled_caught:
            raise TimeoutError("the handshake took too long")
        return stream, self._judged(stream)

    def _judged(self, stream: trio.SSLStream[trio.SocketStream]) -> dict[str, Any]:
        assert self._trust is not None
        shown = stream.getpeercert(binary_form=True)
        if not shown:
            return {}
        try:
            name, _ = authenticate(stream, self._trust, self._clock.now_ms(), {OPERATOR})
        except PlatformError as exc:
            self._logger.warning("hub.access_refused", error=str(exc))
            return {"refused": True}
        return {"operator": name, "until_ms": x509.facts(x509.read_certificate(shown)).end_ms}

    def admit(self, info: dict[str, Any], token: str | None) -> Admitted:
        """`http_rpc.Admit`: a token goes before a certificate."""
        now_ms = self._clock.now_ms()
        if token is not None:
            entry = self._tokens.check(token, now_ms)
            if entry is None:
                raise unauthorised("this token is not good: it is unknown, revoked or expired")
            found = {"roles": frozenset({entry.role}), "token": entry.id}
            return Admitted(found, _until_s(entry.expires_ms - now_ms))
        if "operator" in info and now_ms < info["until_ms"]:
            operator = {"roles": frozenset({OPERATOR}), "operator": str(info["operator"])}
            return Admitted(operator, _until_s(info["until_ms"] - now_ms))
        if "operator" in info or info.get("refused"):
            raise HttpProblem(403, "this certificate is not an operator's, or has ended")
        raise unauthorised("show a token (Authorization: Bearer) or an operator's certificate")

    def _opened(self, peer: Peer) -> None:
        self._peers[peer] = None

    def _closed(self, peer: Peer) -> None:
        self._peers.pop(peer, None)
        self._on_close(peer)

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the log: what a revoked token has opened ends."""
        if not any(isinstance(event, AccessTokenRevoked | StateReplaced) for event in events):
            return
        good = {entry.id for entry in self._tokens.tokens()}
        for peer in list(self._peers):
            if "token" in peer.info and peer.info["token"] not in good:
                peer.close()

    async def drain(self) -> None:
        """Say goodbye to those who are connected, before this node's hub ends; soon."""
        if self.http is not None:
            with trio.move_on_after(GOODBYE_S):
                await self.http.drain()

    def statistics(self) -> dict[str, int]:
        if self.http is None:
            return {}
        return {"http_connections": self.http.connections, **self.http.statistics}


def _until_s(left_ms: int) -> float:
    """On trio's clock."""
    return trio.current_time() + left_ms / 1_000


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
