"""What the tests of file systems share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from paas.container.snapshots import Snapshots
from paas.real.clock import SystemClock

DISK_BYTES = 400 << 20

KINDS = {
    "overlay-image": {"filesystem": "overlay", "disk": "image"},
    "overlay-memory": {"filesystem": "overlay", "disk": "memory"},
    "btrfs": {"filesystem": "btrfs"},
    "binds-memory": {"filesystem": "binds", "disk": "memory"},
    "binds-image": {"filesystem": "binds", "disk": "image"},
}
KEEPING = ("overlay-image", "btrfs", "binds-image")
"""Those of which snapshots can be made."""


def snapshots_of(node: Any) -> Snapshots:
    """What the container controller's process adds to its engine."""
    return Snapshots(node.engine, SystemClock())


async def wait_log(node: Any, component: str, word: str) -> None:
    """Until the component has said so."""
    path = Path(node.settings.state_dir, "containers", component, "harness.log")
    with trio.fail_after(30):
        while word not in read(path):  # noqa: ASYNC110  (a file tells nobody)
            await trio.sleep(0.02)


def read(path: Path) -> str:
    """What is in it; nothing when it is not there (yet)."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
