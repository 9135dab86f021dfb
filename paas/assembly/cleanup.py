"""Removing what a node left in the kernel when it could not do so itself.

The container controller's own records are the best witness of what it made, so the engine is opened
as after any restart, adopts what it finds, and tears it down; what agents' sockets were there goes
with the runtime directory.  Safe to repeat, and when there is nothing to remove.
"""

from __future__ import annotations

import os
import sys

import trio

from paas.assembly.containers import container_settings
from paas.assembly.node_settings import settings_of
from paas.base.errors import PlatformError
from paas.container.engine import Engine
from paas.node.agent import remove_runtime
from paas.node.settings import NodeSettings
from paas.real.clock import SystemClock


def run(state: str) -> int:
    """Remove everything of the node whose state directory this is; the exit status."""
    if os.geteuid() != 0:
        sys.stderr.write("error: removing namespaces, mounts and links needs root\n")
        return 1
    try:
        settings = settings_of(state)
        if os.path.isdir(f"{settings.state}/containers"):
            trio.run(_tear_down, settings)
    except PlatformError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    remove_runtime(settings)
    return 0


async def _tear_down(settings: NodeSettings) -> None:
    engine = Engine(container_settings(settings), clock=SystemClock(), on_exit=lambda *_: None)
    await engine.teardown_node()
