"""The name service of a hub's process: the zone over the cluster state, its sockets, its API.

    cluster state ──> StateCluster ──> ClusterZone (here · elsewhere) ──> Responder ──> Server
                          │ dns.publish, …                                ├─ UDP, TCP: the node
                          └─ AnnounceAgents: where its agents listen      └─ names.sock: containers

Containers ask at the address of their bridge, where the container controller answers, which knows
who asks; it hands on what is about the cluster's zone (`paas.container.names`).

Who asks from this machine sees what is near, and may ask for names elsewhere; everybody else gets
the zone only, at a limited rate: this is no resolver for strangers (RFC 5358).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import trio

from paas.assembly.dns_view import StateCluster
from paas.assembly.process import Agent
from paas.base.errors import PlatformError
from paas.base.ports import Files
from paas.container.names import host_servers
from paas.controller.resources import Resources
from paas.controller.state import ControllerState
from paas.dns import limits, messages, settings
from paas.dns.agent import DnsAgent, Log
from paas.dns.answer import Signing
from paas.dns.api import DnsApi
from paas.dns.client import Forwarder
from paas.dns.cluster import GROUP, PROTOCOLS, ClusterZone
from paas.dns.dnssec import Signer, ds_text
from paas.dns.names import Labels
from paas.dns.rates import Rates
from paas.dns.responder import Face, Responder
from paas.dns.server import Server
from paas.dns.state import DnsState
from paas.dns.tsig import parse_keys
from paas.dns.zone import Zone
from paas.hub.state import GroupState
from paas.identity.keys import PrivateKey, key_pem, make_key, read_key
from paas.node.settings import NodeSettings
from paas.node.state import NodeRegister
from paas.rpc.dispatch import Dispatcher

KEY_FILE = "dns.key"
_FILE_BYTES_MAX = 1 << 16
_OPENED_MAX = 10_000


class GroupPaths:
    """Implements `dns.agent.Paths`: the ways to the members of groups that a manifest requires.

    A way is opened again when the zone has changed: members come and go with its serial.
    """

    def __init__(self, controller: ControllerState, resources: Resources, dns: DnsState) -> None:
        self._controller = controller
        self._resources = resources
        self._dns = dns
        self._opened: dict[tuple[str, str], tuple[int, int]] = {}

    def wanted(self, component: str, labels: Labels, /) -> str:
        if labels[-1] != GROUP or len(labels) < 2:
            return ""
        group = labels[:-1]
        if len(group) > 2 and group[1] in PROTOCOLS:
            group = group[2:]
        try:
            name = self._resources.requirement(component, b".".join(group).decode("latin-1"))
        except PlatformError:  # its type is forgotten already
            return ""
        return name if name and self._opened.get((component, name)) != self._now(component) else ""

    async def open(self, component: str, requirement: str, /) -> None:
        now = self._now(component)
        await self._resources.open(component, requirement)
        if len(self._opened) >= _OPENED_MAX:
            self._opened.clear()
        self._opened[component, requirement] = now

    def _now(self, component: str) -> tuple[int, int]:
        instance = self._controller.instances.get(component)
        return (0 if instance is None else instance.incarnation), self._dns.serial


class DnsPart:
    """See the module's text."""

    def __init__(
        self,
        agent: Agent,
        node: NodeSettings,
        *,
        controller: ControllerState,
        groups: GroupState,
        nodes: NodeRegister,
        state: DnsState,
        resources: Resources,
        log: Log,
        files: Files,
        url: Callable[[], str],
    ) -> None:
        self._log = agent.log
        self._node = node
        self._url = url
        self._state = state
        self.settings = settings.read(node.dns)
        origin = self.settings.origin
        cluster = StateCluster(
            node=node.node, controller=controller, groups=groups, nodes=nodes, dns=state
        )
        here, elsewhere = (ClusterZone(origin, cluster, local=local) for local in (True, False))
        self._own = {"127.0.0.1", "::1", _host(node.listen)}
        self._here = Face(here, recursion=True)
        self._elsewhere = Face(elsewhere, rates=Rates(self.settings.rate))
        self._trouble = ""
        keys = self._keys(files)
        self._forwarder = Forwarder(self._servers, random=agent.entropy.bytes)
        signer = self._signer(files, origin, lambda: agent.clock.now_ms() / 1_000)
        self.server = Server(
            responder=Responder(
                now_s=lambda: agent.clock.now_ms() / 1_000,
                keys=keys,
                secondaries=self.settings.secondaries,
                signing=_unsigned if signer is None else signer.signing,
                on_bug=agent.report_bug,
            ),
            face_of=self._face_of,
            now_s=agent.clock.monotonic_s,
            wall_s=lambda: agent.clock.now_ms() / 1_000,
            ask=self._forwarder.reply,
        )
        self.agent = DnsAgent(
            node=node.node,
            log=log,
            state=state,
            zone=elsewhere,
            server=self.server,
            containers=Face(here),
            agents=self._agents,
            key=b"" if signer is None else signer.data,
            keys=keys,
            paths=GroupPaths(controller, resources, state),
            random=agent.entropy.bytes,
            on_trouble=self._on_trouble,
        )
        self._api = DnsApi(
            origin=origin,
            state=state,
            zone=here,
            log=log,
            publishers=cluster,
            status=self._status,
        )
        self._origin = origin

    def _signer(self, files: Files, origin: Labels, now_s: Callable[[], float]) -> Signer | None:
        return Signer(origin, _kept_key(files), now_s) if self.settings.sign else None

    def _keys(self, files: Files) -> dict[Labels, bytes]:
        try:
            return parse_keys(_text(files, settings.KEYS_FILE))
        except (PlatformError, ValueError) as exc:  # without it nobody gets the zone by a key
            self._log.warning("dns.keys_not_read", file=settings.KEYS_FILE, error=str(exc))
            return {}

    def register(self, dispatcher: Dispatcher) -> None:
        self._api.register(dispatcher)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; where that cannot be, containers are answered all the same."""
        where = settings.address_of(self.settings, self._node.listen)
        listener = listen_messages(self._node.names_socket)
        try:
            await self.agent.run(where, listener, task_status=task_status)
        except PlatformError as exc:
            self._on_trouble("dns.not_listening", exc)
            await self.agent.run(None, listener, task_status=task_status)

    def statistics(self) -> dict[str, Any]:
        cache = self._forwarder.cache
        return {
            **self.server.statistics(),
            "cache": {"entries": len(cache), "hits": cache.hits, "misses": cache.misses},
            "wrong": self._forwarder.wrong,
        }

    # -- what the parts ask ----------------------------------------------------------------------

    def _face_of(self, source: str) -> Face:
        mine = source in self._own or source.startswith("127.")
        return self._here if mine else self._elsewhere

    def _servers(self) -> list[tuple[str, int]]:
        """Not this server itself, which would ask in a circle."""
        listed = list(self.settings.forwarders) or host_servers()
        port = 0 if self.agent.address is None else self.agent.address[1]
        mine = {*self._own, "" if self.agent.address is None else self.agent.address[0]}
        return [(host, at) for host, at in listed if at != port or host not in mine]

    def _agents(self) -> dict[str, tuple[str, int]]:
        """Where the agents of this node listen that others may look for."""
        told = {
            "hub": self._node.listen,
            "join": self._node.join_listen,
            "api": self._url().partition("//")[2].partition("/")[0],
            "dns": self._listening(),
        }
        return {name: at for name, text in told.items() if (at := _address(text))}

    def _status(self) -> messages.Status:
        return messages.Status(
            zone=self.settings.zone,
            serial=self._state.serial,
            address=self._listening(),
            figures=self.server.statistics(),
            keys=[ds_text(self._origin, key) for _, key in sorted(self._state.keys.items())],
            secondaries=dict(self.agent.notices),
        )

    def _listening(self) -> str:
        """Where it answers, as host:port; empty: nowhere."""
        if self.agent.address is None:
            return ""
        host, port = self.agent.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _on_trouble(self, key: str, error: PlatformError) -> None:
        """A trouble is told when it begins, not each time."""
        if str(error) != self._trouble:
            self._log.warning(key, error=str(error))
        self._trouble = str(error)


def _unsigned(_zone: Zone) -> Signing | None:
    return None


def _host(address: str) -> str:
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def _address(text: str) -> tuple[str, int] | None:
    """Of host:port, if the host is an address that others can use."""
    host, port = _host(text), text.rpartition(":")[2]
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return None
    usable = host not in ("0.0.0.0", "::") and port.isdigit()
    return (host, int(port)) if usable else None


def _text(files: Files, name: str) -> str:
    """A small file of the hub's; empty where there is none."""
    if not files.exists(name):
        return ""
    file = files.open(name)
    try:
        return file.read(0, min(file.size(), _FILE_BYTES_MAX)).decode()
    finally:
        file.close()


def _kept_key(files: Files) -> PrivateKey:
    """The key that this node signs with; made when it is needed first."""
    if known := _text(files, KEY_FILE):
        return read_key(known.encode())
    key = make_key()
    file = files.open(f"{KEY_FILE}.new", create=True)
    try:
        file.write(0, key_pem(key))
        file.sync()
    finally:
        file.close()
    files.rename(f"{KEY_FILE}.new", KEY_FILE)
    files.sync_dir()
    return key


def listen_messages(path: str) -> socket.socket:
    """A listening UNIX socket of messages, replacing what a dead process left there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    temporary = f"{path}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    listener.bind(temporary)
    os.chmod(temporary, 0o600)
    listener.listen(limits.TRANSFERS_MAX)
    os.rename(temporary, path)
    listener.setblocking(False)
    return listener
