"""The container controller's process: the engine, the unpacked bundles, the socket for the hub.

It keeps the template process that harnesses are forked from, so it must be started by root; what it
needs of root is named in `CAPABILITIES`, the rest is given up.
"""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

import trio

from paas.assembly.container_network import choose_network, local_prefix, tunnel_number
from paas.assembly.process import Agent
from paas.assembly.transport import secure_transport
from paas.assembly.unpacking import BlobReader, Unpacking
from paas.container.agent import ContainerAgent
from paas.container.base_face import BaseFace
from paas.container.engine import Engine
from paas.container.entering import Entering
from paas.container.entering_face import EnteringFace
from paas.container.living_face import LivingFace
from paas.container.messages import Exited
from paas.container.network_face import NetworkFace
from paas.container.policy import POLICY as CONTAINER_POLICY
from paas.container.settings import ContainerSettings
from paas.container.snapshot_face import SnapshotFace
from paas.container.snapshots import Snapshots
from paas.container.volume_face import VolumeFace
from paas.dns import settings as dns_settings
from paas.layers.trees import StoredLayers, Trees
from paas.node import messages
from paas.node.settings import NodeSettings, short_name
from paas.oci.documents import chain_id
from paas.real.kernel_capabilities import drop_bounding_set, keep_capabilities
from paas.real.kernel_open import open_in_root
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.envelope import Form
from paas.rpc.link import Link
from paas.rpc.server import listen_unix, serve
from paas.rpc.transport import SecureTransport

CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
    "CAP_SETFCAP": 31,
    "CAP_SYSLOG": 34,
}
"""What mounts, namespaces, links, id maps, reading another user's /proc and the kernel's word about
whom it ended for want of memory need; no more."""

CONNECTIONS_MAX = 16
ALLOWED = frozenset({"hub", "node"})


def container_settings(node: NodeSettings) -> ContainerSettings:
    """The settings of a node's container controller, all derived from the state directory."""
    short = short_name(node.state)
    directory, bridge = f"{node.state}/containers", f"pb{short}"
    return ContainerSettings(
        cluster=short,
        state_dir=directory,
        bridge=bridge,
        link_prefix=f"pv{short[:6]}",
        network=choose_network(directory, bridge, short),
        tunnel_id=tunnel_number(node.cluster),
        lease=f"{node.runtime}/lease",
        volumes=f"{node.state}/volumes",
        backend=node.backend,
        filesystem=node.filesystem,
        ipv6=node.ipv6,
        zone=dns_settings.read(node.dns).zone,
        names_socket=node.names_socket,
        prefix6=local_prefix(node.cluster),
    )


async def body(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the engine and answer on `containers.sock`."""
    drop_bounding_set(keep=CAPABILITIES.values())
    keep_capabilities(tuple(CAPABILITIES.values()))
    node = _settings_of(agent.start)
    face: ContainerAgent | None = None

    def on_exit(exited: Exited) -> None:
        agent.log.info("container.exited", component=exited.component, reason=exited.reason)
        if face is not None:
            face.container_exited(exited)

    def release(component: str) -> None:
        unpacking.release(component)
        bases.release(component)

    engine = Engine(container_settings(node), clock=agent.clock, on_exit=on_exit)
    unpacking = Unpacking(
        Path(node.state) / "containers" / "bundles", BlobReader(Path(node.state) / "blobs")
    )
    bases = BaseFace(engine, _trees(node), chain_id)
    agent.teardown = engine.teardown_node
    transport = await secure_transport(agent)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        snapshots = Snapshots(engine, agent.clock)
        await snapshots.open()
        unpacking.retain([info.component for info in engine.list()])
        bases.retain([info.component for info in engine.list()])
        face = ContainerAgent(
            engine,
            hub_directory=node.harness_directory,
            unpack=unpacking.acquire,
            release=release,
        )
        dispatcher = Dispatcher(
            nursery, agent.clock, authorise=face.authorise, on_bug=agent.report_bug
        )
        for part in (face, LivingFace(engine.living), NetworkFace(engine.between, engine.paths)):
            part.register(dispatcher)
        entering = Entering(engine)
        await nursery.start(entering.run)
        EnteringFace(entering, nursery).register(dispatcher)
        VolumeFace(engine).register(dispatcher)
        bases.register(dispatcher)
        SnapshotFace(snapshots).register(dispatcher)
        check_policy(dispatcher.methods(), CONTAINER_POLICY)
        await nursery.start(
            partial(
                serve,
                listen_unix(node.containers_socket, 0o666),
                dispatcher,
                agent.sweeper,
                form=Form.COMPACT,
                connections_max=CONNECTIONS_MAX,
                open_link=_open_link(transport),
                on_open=face.peer_opened,
                on_close=face.peer_closed,
            )
        )
        task_status.started()


def _settings_of(start: messages.Start) -> NodeSettings:
    return NodeSettings(
        state=start.settings["state"],
        cluster=start.cluster,
        node=start.node,
        backend=start.settings.get("backend", "namespaces"),
        filesystem=start.settings.get("filesystem", "auto"),
        ipv6=start.settings.get("ipv6", "off"),
        dns=start.settings.get("dns", {}),
    )


def _trees(node: NodeSettings) -> Trees:
    """Images laid out for containers, from what the hub's process has stored."""
    stored = StoredLayers(Path(node.state) / "blobs" / "images")
    return Trees(Path(node.state) / "containers" / "bases", stored, open_in_root)


def _open_link(transport: SecureTransport) -> Any:
    async def open_link(sock: socket.socket, nursery: trio.Nursery) -> tuple[Link, dict[str, Any]]:
        link, name = await transport.accept(sock, nursery, ALLOWED)
        return link, {"role": name.subsystem, "name": str(name)}

    return open_link
