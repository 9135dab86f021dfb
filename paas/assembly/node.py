"""The node controller's process: settings from the state directory, signals, readiness, the end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio

from paas.assembly.container_network import KEPT_FILE
from paas.assembly.node_settings import settings_of
from paas.base.errors import PlatformError
from paas.base.supervisor import RestartIntensityExceeded
from paas.certificates.client import mint_token
from paas.identity.names import AgentName
from paas.node.agent import NodeAgent, remove_runtime
from paas.node.settings import NodeSettings
from paas.real.entropy import SystemEntropy
from paas.real.kernel_orphans import adopt_orphans, reap_orphans
from paas.telemetry.log import Logger

READY_FD_VARIABLE = "PAAS_READY_FD"


def run(state: str) -> int:
    """Run a node until SIGTERM or SIGINT; the exit status."""
    if os.geteuid() != 0:
        say("error: the node controller needs root: it makes namespaces, mounts and links")
        return 1
    try:
        settings = settings_of(state)
        _keep_network(settings)
        return trio.run(_main, settings)
    except* (PlatformError, RestartIntensityExceeded) as group:
        error = group.exceptions[0]
        text = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        say(f"error: {text}")
        sys.stderr.write(f"error: {text}\n")
    return 1


def _keep_network(settings: NodeSettings) -> None:
    """The network that was dealt to this node's containers, where the choice is looked up."""
    kept = Path(settings.state, "containers", KEPT_FILE)
    if settings.container_network and not kept.exists():
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        kept.write_text(settings.container_network)


async def _main(settings: NodeSettings) -> int:
    log = Logger(agent="node", node=settings.node)

    async def mint(role: str, identity: str, uid: int) -> str:
        name = AgentName(settings.cluster, settings.node, role, identity)
        return (await mint_token(settings.authority_socket, name, uid=uid)).token

    node = NodeAgent(
        settings, log, mint_token=mint, jitter=SystemEntropy().fraction, reap=reap_orphans
    )
    adopt_orphans()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, node, nursery.cancel_scope)
            await node.run(task_status=_Ready(log, settings.state))
            nursery.cancel_scope.cancel()
    remove_runtime(settings)
    return 0


async def _stop_on_signal(signals: Any, node: NodeAgent, everything: trio.CancelScope) -> None:
    """The first signal asks for an orderly end, the second for an end."""
    async for _ in signals:
        break
    node.stop()
    async for _ in signals:
        break
    everything.cancel()


class _Ready:
    """What the agents report to: passes the good news on, once."""

    def __init__(self, log: Logger, state: str) -> None:
        self._log = log
        self._state = state

    def started(self, _value: object = None) -> None:
        say("ready")
        self._log.info("node.ready", state=self._state)


def say(text: str) -> None:
    """Tell whoever started us, on the descriptor it named."""
    descriptor = os.environ.pop(READY_FD_VARIABLE, "")
    if descriptor:
        os.write(int(descriptor), text.encode() + b"\n")
        os.close(int(descriptor))
