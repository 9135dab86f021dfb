"""The name service at work on one node: sockets, questions, notices, announcements.  (io)

    serial changed ──> secondaries are told (RFC 1996), until they say that they heard
    started, settings ──> AnnounceAgents: where this node's agents listen, what it signs with
    names.sock ──> questions of containers, with the component that asks

A component that asks for a group which its manifest requires gets the way there opened before it
gets the answer (`Paths`): so programs that know nothing of the platform reach what they need by its
name, as others do by `resource.resolve`, and nobody reaches anything else.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.dns import limits, transfer, tsig
from paas.dns.client import COMPONENT_BYTES
from paas.dns.names import Labels, below
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from paas.dns.state import AnnounceAgents, DnsState
from paas.dns.transfer import Secondary
from paas.dns.zone import Zone

_TAG_BYTES = 4


class Log(Protocol):
    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...


class Paths(Protocol):
    """The ways of components."""

    def wanted(self, component: str, labels: Labels, /) -> str:
        """The requirement that this name of the zone is about, if its way is not open yet."""
        ...

    async def open(self, component: str, requirement: str, /) -> None: ...


class NoPaths:
    """Where there are none."""

    def wanted(self, _component: str, _labels: Labels, /) -> str:
        return ""

    async def open(self, _component: str, _requirement: str, /) -> None:
        raise PlatformError("unsupported", "no paths are opened here")


@dataclass(slots=True, kw_only=True)
class DnsAgent:
    """See the module's text.  `agents`: host and port by sub-system, as they are now."""

    node: str
    log: Log
    state: DnsState
    zone: Zone
    server: Server
    containers: Face
    """How it looks from containers."""
    agents: Callable[[], dict[str, tuple[str, int]]]
    key: bytes = b""
    keys: dict[Labels, bytes] = field(default_factory=dict)
    paths: Paths = field(default_factory=NoPaths)
    random: Callable[[int], bytes]
    on_trouble: Callable[[str, PlatformError], None]
    address: tuple[str, int] | None = None
    """Where it listens, once it does."""
    notices: dict[str, str] = field(default_factory=dict)
    """Secondary to what became of the last notice."""
    _changed: trio.Event = field(default_factory=trio.Event)
    _told: int = -1

    @property
    def responder(self) -> Responder:
        return self.server.responder

    async def run(
        self,
        where: tuple[str, int] | None,
        containers: socket.socket | None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen there, and for containers on this listener of messages, until cancelled.

        Raises `conflict` when another program listens there.
        """
        bound = None if where is None else await self._bind(where)
        async with trio.open_nursery() as nursery:
            if bound is not None:
                await nursery.start(self.server.serve_udp, bound[0])
                await nursery.start(self.server.serve_tcp, bound[1])
            if containers is not None:
                nursery.start_soon(self._accept, trio.socket.from_stdlib_socket(containers))
            unsubscribe = self.log.subscribe(self.state_changed)
            try:
                nursery.start_soon(self._announce)
                if self.responder.secondaries:
                    nursery.start_soon(self._notify)
                task_status.started()
                await trio.sleep_forever()
            finally:
                unsubscribe()

    async def _bind(self, where: tuple[str, int]) -> tuple[socket.socket, trio.SocketListener]:
        host, port = where
        try:
            udp, tcp = await bind_both(host, port)
        except OSError as exc:
            raise PlatformError(
                "conflict",
                f"names cannot be answered at {host}:{port}: {exc.strerror}",
                hint='choose another address: "dns": {"listen": "host:port"} in node.json',
            ) from exc
        self.address = (host, udp.getsockname()[1])
        return udp, tcp

    def state_changed(self, _index: int, _events: Sequence[Any]) -> None:
        """Subscriber of the log; called for every command, so it looks briefly."""
        if self.state.serial != self._told:
            self._told = self.state.serial
            self._changed.set()
            self._changed = trio.Event()

    # -- announcements ---------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Until the cluster state says of this node what is so."""
        while True:
            changed = self._changed
            wanted = self.agents()
            same = self.state.agents.get(self.node) == wanted
            if same and self.state.keys.get(self.node, b"") == self.key:
                await changed.wait()
                continue
            try:
                await self.log.propose(
                    AnnounceAgents(node=self.node, agents=wanted, key=self.key),
                    timeout_s=limits.CALL_TIMEOUT_S,
                )
            except PlatformError as exc:
                if exc.code != "no-such-target":  # it is told before the node has joined
                    self.on_trouble("dns.not_announced", exc)
                with trio.move_on_after(limits.ANNOUNCE_RETRY_S):
                    await changed.wait()

    # -- secondaries -----------------------------------------------------------------------------

    async def _notify(self) -> None:
        while True:
            changed = self._changed
            await trio.sleep(limits.NOTIFY_DELAY_S)
            async with trio.open_nursery() as nursery:
                for secondary in self.responder.secondaries:
                    nursery.start_soon(self._tell, secondary)
            await changed.wait()

    async def _tell(self, secondary: Secondary) -> None:
        """One notice, repeated until it was heard, some times (RFC 1996 §3.6)."""
        name = f"{secondary.host}:{secondary.port}"
        serial = self.zone.serial
        family = socket.AF_INET6 if ":" in secondary.host else socket.AF_INET
        for attempt in range(limits.NOTIFY_ATTEMPTS):
            number = int.from_bytes(self.random(2), "big")
            with contextlib.suppress(OSError), trio.socket.socket(family, socket.SOCK_DGRAM) as udp:
                await udp.connect((secondary.host, secondary.port))
                await udp.send(self._notice(number, secondary))
                with trio.move_on_after(limits.NOTIFY_RETRY_S * (attempt + 1)):
                    while True:
                        if transfer.is_heard(await udp.recv(limits.FORWARD_BYTES_MAX), number):
                            self.notices[name] = f"heard of {serial}"
                            return
            await trio.sleep(limits.NOTIFY_DELAY_S)
        self.notices[name] = f"did not answer to {serial}"

    def _notice(self, number: int, secondary: Secondary) -> bytes:
        plain = transfer.notice(number, self.zone)
        secret = self.keys.get(secondary.key) if secondary.key else None
        if secret is None:
            return plain
        return tsig.Signer(secondary.key, secret).sign(plain, int(self.server.wall_s()))

    # -- containers ------------------------------------------------------------------------------

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sock, _ = await listener.accept()
                nursery.start_soon(self._serve_containers, sock)

    async def _serve_containers(self, sock: trio.socket.SocketType) -> None:
        """Questions of the containers of this node, as its container controller hands them on."""
        with sock:
            async with trio.open_nursery() as nursery:
                with contextlib.suppress(OSError):
                    while data := await sock.recv(limits.QUERY_BYTES_MAX + 64):
                        await self._container_asks(sock, data, nursery)
                nursery.cancel_scope.cancel()

    async def _container_asks(
        self, sock: trio.socket.SocketType, data: bytes, nursery: trio.Nursery
    ) -> None:
        tag, question = data[:_TAG_BYTES], data[_TAG_BYTES + COMPONENT_BYTES :]
        component = data[_TAG_BYTES : _TAG_BYTES + COMPONENT_BYTES].hex()
        labels = _asked_name(question)
        relative = None if labels is None else below(labels, self.zone.origin)
        wanted = self.paths.wanted(component, relative) if relative else ""
        if wanted:
            nursery.start_soon(self._open_and_answer, sock, tag, question, component, wanted)
        else:
            await self._answer(sock, tag, question)

    async def _open_and_answer(
        self,
        sock: trio.socket.SocketType,
        tag: bytes,
        question: bytes,
        component: str,
        requirement: str,
    ) -> None:
        try:
            with trio.move_on_after(limits.ZONE_QUESTION_S * 0.8):
                await self.paths.open(component, requirement)
        except PlatformError as exc:  # the name is answered all the same; the way is not there
            self.on_trouble("dns.path_not_opened", exc)
        with contextlib.suppress(OSError):
            await self._answer(sock, tag, question)

    async def _answer(self, sock: trio.socket.SocketType, tag: bytes, question: bytes) -> None:
        tcp = bool(tag[0] & 0x80)
        face = self.containers
        face.refresh()
        answer = None if tcp else self.responder.ready(question, face)
        if answer is None:
            reply = self.responder.respond(question, "", face, tcp=tcp)
            answer = reply if isinstance(reply, bytes) else b""
        await sock.send(tag + answer)


def _asked_name(question: bytes) -> Labels | None:
    """The name in a message, as far as it can be read; the responder judges."""
    labels: list[bytes] = []
    at = limits.HEADER_BYTES
    while at < len(question):
        length = question[at]
        if not length:
            return tuple(labels)
        if length > limits.LABEL_BYTES_MAX:
            return None
        labels.append(question[at + 1 : at + 1 + length].lower())
        at += 1 + length
    return None
