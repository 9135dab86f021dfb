"""Hubs with real connections: TCP on one machine, TLS with certificates of an authority made here.

    authority = Authority("c1")
    hub = Hub(authority, "n1"); await nursery.start(hub.mesh.run); hub.port
    meet([hub, other])

For tests and measurements of the mesh alone: there is no platform behind these hubs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import trio

from paas.assembly.mesh_network import TcpMeshNetwork
from paas.identity import capabilities, keys, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import Trust
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.rpc.envelope import Request
from paas.rpc.mesh import Mesh
from paas.rpc.peer import Peer
from paas.rpc.transport import SecureTransport

DAY_S = 86_400


class Authority:
    """The authority of a cluster; makes whatever identity a test asks for."""

    def __init__(self, cluster: str, *, saved: tuple[bytes, bytes] | None = None) -> None:
        self.cluster = cluster
        self._now_ms = int(time.time()) * 1_000
        if saved is None:
            key = keys.make_key()
            began_ms = self._now_ms - 15 * DAY_S * 1_000
            certificate = x509.make_authority(
                cluster, key, serial=1, now_ms=began_ms, life_s=30 * DAY_S
            )
        else:
            certificate, key = x509.read_certificate(saved[0]), keys.read_key(saved[1])
        self._authority = x509.Authority(certificate, key)
        self._serial = 10

    def save(self) -> tuple[bytes, bytes]:
        """Certificate and key, for another process of the same test."""
        own = self._authority
        return x509.certificate_pem(own.certificate), keys.key_pem(own.key)

    @property
    def trust(self) -> Trust:
        return Trust(self.cluster, (self._authority.certificate,))

    def identity(
        self, node: str, role: str = "hub", *, begins_in_s: int = 0, life_s: int = DAY_S
    ) -> Identity:
        self._serial += 1
        key = keys.make_key()
        leaf = x509.make_leaf(
            self._authority,
            AgentName(self.cluster, node, role, "a1"),
            key.public_key(),
            serial=self._serial,
            now_ms=self._now_ms + begins_in_s * 1_000,
            life_s=life_s,
            capabilities=capabilities.OF_ROLE.get(role, frozenset()),
        )
        pem = x509.certificate_pem(self._authority.certificate)
        return Identity(x509.certificate_pem(leaf), keys.key_pem(key), pem)

    def expired(self, node: str) -> Identity:
        return self.identity(node, begins_in_s=-3_600, life_s=1_800)


class Frames:
    """A receiver of the channel of the log: what came, and from where."""

    def __init__(self) -> None:
        self.epochs: dict[str, list[int]] = {}
        self.connected: dict[str, int] = {}
        self.messages: list[tuple[str, bytes]] = []

    def on_connected(self, peer: str, epoch: int) -> None:
        self.connected[peer] = epoch
        self.epochs.setdefault(peer, []).append(epoch)

    def on_disconnected(self, peer: str, epoch: int) -> None:
        del self.connected[peer]

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        self.messages.append((peer, data))


class Hub:
    """A mesh on a port of its own; requests called "echo" are answered with their params."""

    def __init__(
        self,
        authority: Authority,
        node: str,
        *,
        identity: Identity | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        on_request: Callable[[Peer, Request], None] | None = None,
        versions: tuple[int, ...] = (1,),
    ) -> None:
        self.node = node
        self.host = host
        self.troubles: list[tuple[str, str]] = []
        self.frames = Frames()
        self.requests: list[Request] = []
        clock = SystemClock()
        self.transport = SecureTransport(
            identity or authority.identity(node), authority.trust, clock
        )
        listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.network = TcpMeshNetwork(
            self.transport, listen=listen, clock=clock, on_trouble=self._note
        )
        self.mesh = Mesh(
            node=node,
            network=self.network,
            sweeper=None,
            entropy=SystemEntropy(),
            clock=clock,
            on_request=on_request or self._on_request,
            on_trouble=self._note,
            cluster=authority.cluster,
            versions=versions,
        )
        self.mesh.raft().attach(self.frames)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.network.port}"

    def _note(self, party: str, text: str) -> None:
        self.troubles.append((party, text))

    def _on_request(self, peer: Peer, request: Request) -> None:
        self.requests.append(request)
        if request.method == "echo":
            peer.reply(request, request.params)

    def trouble(self, word: str) -> list[str]:
        """What was told and contains this."""
        return [f"{party}: {text}" for party, text in self.troubles if word in text]

    def peer(self, node: str) -> Peer:
        peer = self.mesh.peer(node)
        assert peer is not None, f"{self.node} is not connected to {node}"
        return peer


def meet(hubs: Iterable[Hub]) -> None:
    """Make these known to each other."""
    everybody = list(hubs)
    for hub in everybody:
        hub.mesh.set_peers({h.node: h.address for h in everybody})


async def until(condition: Callable[[], Any], within_s: float = 30.0) -> None:
    """Wait for something that has no event."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def complete(hubs: Iterable[Hub], within_s: float = 30.0) -> None:
    """Wait until all of these are connected with both channels."""
    everybody = list(hubs)
    links = 2 * (len(everybody) - 1)
    await until(
        lambda: all(len(h.mesh.statistics()["connections"]) == links for h in everybody), within_s
    )
