"""A node for each way of making files; Btrfs in a file that the test makes and mounts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.system.container.filesystems.files_tools import DISK_BYTES, KINDS


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Which file system; a test may choose fewer of them."""
    return str(request.param)


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Iterator[Path]:
    """Where the node's state is: on Btrfs for that kind."""
    if kind != "btrfs":
        yield tmp_path
        return
    image, disk = tmp_path / "btrfs.img", tmp_path / "disk"
    disk.mkdir(mode=0o755)
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
async def files_node(kind: str, place: Path, fresh_node: Any) -> Any:
    """A node of this kind, whose engine does not run yet."""
    fresh_node.settings = replace(
        fresh_node.settings, state_dir=str(place / "state"), **KINDS[kind]
    )
    return fresh_node
